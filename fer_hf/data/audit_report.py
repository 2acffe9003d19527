"""An audit as text for the terminal and as pictures. The numbers are those of [`fer_hf.data.audit`]."""

from pathlib import Path

import numpy as np
from datasets import Dataset, DatasetDict
from PIL.Image import Image

from fer_hf.files import write_json
from fer_hf.plots import plot_class_balance, plot_conflicts, plot_faces
from fer_hf.words import plural


# What a picture of conflicts shows: this many groups, and of each this many copies, every label before a second of it.
MAX_GROUPS, MAX_COPIES = 10, 6
AUDIT_FILES = ("audit.json", "class_balance.png", "samples.png", "conflicts.png")


def audit_text(result: dict) -> str:
    """
    An audit at a glance: counts by split and class, then one line for every finding.

    Args:
        result (`dict`): From [`~fer_hf.data.audit.audit`].

    Returns:
        `str`: Some 20 lines, at most 120 characters wide unless class names are long.
    """
    names = list(result["counts"]["train"])
    widths = [max(len(name), 7) for name in names]
    lines = [f"{result['dataset']}: {plural(result['num_faces'], 'face')}, {result['num_distinct']:,} distinct", ""]
    lines.append(" " * 12 + "".join(f"{n:>{w + 2}}" for n, w in zip(names, widths, strict=True)) + "    total")
    for split, counts in result["counts"].items():
        cells = "".join(f"{c:>{w + 2},}" for c, w in zip(counts.values(), widths, strict=True))
        lines.append(f"{split:<12}{cells}{result['num_rows'][split]:>9,}")
    lines.append("")
    for finding in result["findings"]:
        lines.append(f"{'ok ' if finding['ok'] else '!! '} {finding['check']:<12} {finding['text']}")
    return "\n".join(lines)


def write_audit(result: dict, tables: DatasetDict, folder: str | Path) -> list[Path]:
    """
    Write `audit.json`, `class_balance.png`, `samples.png` and, where labels conflict, `conflicts.png`.

    **The last two show faces of the data set. If these are real people, do not publish the pictures**: the terms of
    FER-2013, RAF-DB and their like do not allow it.

    Args:
        result (`dict`): From [`~fer_hf.data.audit.audit`].
        tables (`DatasetDict`): The tables that were audited.
        folder (`str` or `Path`): Where the files go; made if need be.

    Returns:
        `list[Path]`: The files written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    names = AUDIT_FILES if result["conflicts"]["groups"] else AUDIT_FILES[:-1]
    paths = [folder / name for name in names]
    write_json(paths[0], result)
    plot_class_balance(result["counts"], paths[1], f"{result['dataset']}: classes by split")
    plot_faces(samples(tables["train"]), paths[2])
    if len(paths) > 3:
        title = f"{result['conflicts']['num_groups']:,} groups of identical faces with different labels"
        plot_conflicts(_conflicts(result, tables), paths[3], title)
    return paths


def samples(table: Dataset, per_class: int = 8) -> dict[str, list[Image]]:
    """The first `per_class` images of every expression, by its name."""
    labels = np.array(table["label"][:])
    return {
        name: [table[int(row)]["image"] for row in np.flatnonzero(labels == label)[:per_class]]
        for label, name in enumerate(table.features["label"].names)
    }


def _conflicts(result: dict, tables: DatasetDict) -> list[list[tuple[Image, str]]]:
    """The worst conflicts: for each group of identical faces the image, label, split and row of each copy."""
    return [
        [
            (tables[face["split"]][face["index"]]["image"], f"{face['label']}\n{face['split']} {face['row']}")
            for face in _labels_in_turn(group)[:MAX_COPIES]
        ]
        for group in result["conflicts"]["groups"][:MAX_GROUPS]
    ]


def _labels_in_turn(group: list[dict]) -> list[dict]:
    """The first copy of every label, then the second ones, and so on."""
    seen, turns = {}, []
    for face in group:
        seen[face["label"]] = seen.get(face["label"], -1) + 1
        turns.append(seen[face["label"]])
    return [group[i] for i in np.argsort(turns, kind="stable")]
