"""Your own images in folders, `<split>/<label>/*` or `<label>/*`; splits and labels are recognised by name."""

import json
import logging
import os
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path

from fer_hf.data.folders import entries, fingerprint, images_by_label, make_shards, read
from fer_hf.data.layouts import check_folder
from fer_hf.data.source import Source, face_features
from fer_hf.data.splits import SPLIT_NAMES, LeftOut, carve_validation, nothing
from fer_hf.errors import DataError
from fer_hf.labels import EXPRESSIONS, EXPRESSIONS_WITH_CONTEMPT, canonical_name


logger = logging.getLogger(__name__)

# Part of every fingerprint: raise it when the same files are to give other tables, and old caches are left alone.
FORMAT_VERSION = 1


def source(
    data_dir: str | os.PathLike,
    label_map: Mapping[str, str | None] | None = None,
    validation_fraction: float = 0.1,
    split_seed: int = 42,
    left_out: LeftOut = nothing,
) -> Source:
    """
    Any `<split>/<label>/*`, with splits named as in [`~fer_hf.data.splits.SPLIT_NAMES`], of which one is enough; or
    `<label>/*` without splits, which is read as `train`.

    Images keep their size, and gray ones stay gray; [`fer_hf.data.images`] says what becomes of palettes,
    transparency, animations and the like. Labels are the names of the folders below a split, understood through
    [`~fer_hf.labels.canonical_name`] (`Happiness`, `happy` and `joy` mean the same, and such folders are merged) or
    `label_map`. `label` has the seven expressions, and contempt as the eighth where one of the folders is contempt.
    `row` counts the images of a split's folder from 0, sorted by path. Folders below a label's are searched, too.

    Args:
        data_dir (`str` or `os.PathLike`):
            The folder that holds the splits, or the labels.
        label_map (`Mapping[str, str | None]`, *optional*):
            What folder names mean that are not known: `{"glad": "happy", "blurred": None}`. With `None`, the folder is
            left out, and its images are counted in the log. It goes before what is known.
        validation_fraction (`float`, *optional*, defaults to 0.1):
            Share of the training images that become `validation` (stratified, said in the log) where that folder is
            missing; 0 for no such split.
        split_seed (`int`, *optional*, defaults to 42):
            Decides which.
        left_out ([`~fer_hf.data.splits.LeftOut`], *optional*):
            What [`~fer_hf.data.load_dataset`] leaves out afterwards: validation is carved as if it were not there.

    Returns:
        `Source`: Its fingerprint covers every byte of the images that are read.

    Raises:
        `DataError`: If there is no split, a folder's name is not known (all such are listed), or a file is not what it
            should be.
    """
    folder = Path(data_dir).expanduser().absolute()
    found = {}
    for split, root in _find_splits(folder, label_map).items():
        found[split] = images_by_label(root, above=(folder,) if root != folder else ())
    labels = sorted({label for images in found.values() for label in images})
    meaning = match_labels(labels, label_map, str(folder), "folder")
    names = EXPRESSIONS_WITH_CONTEMPT if "contempt" in meaning.values() else EXPRESSIONS
    faces = {split: _rows(images, meaning, names) for split, images in found.items()}
    for split, rows in faces.items():
        if not rows:
            raise DataError(f"{folder}: no image in {split}. Put images into {split}/<label>, or remove the folder.")
        _report(folder, split, found[split], meaning)

    described = ["imagefolder", FORMAT_VERSION, meaning, validation_fraction, split_seed]
    if "train" in faces and "validation" not in faces and validation_fraction != 0:
        train, ids = faces["train"], left_out(names)
        labels = [row["label"] for row in train]
        kept, carved = carve_validation(labels, validation_fraction, split_seed, str(folder), ids)
        described += [ids] if ids else []
        faces["train"], faces["validation"] = [train[i] for i in kept], [train[i] for i in carved]

    features = face_features(names)
    return Source(
        name="imagefolder",
        fingerprint=fingerprint(
            json.dumps(described), folder, [row["image"] for rows in faces.values() for row in rows]
        ),
        features=features,
        shards={split: make_shards(faces[split], features) for split in SPLIT_NAMES if split in faces},
        read=read,
    )


def match_labels(
    names: Iterable[str], label_map: Mapping[str, str | None] | None, where: str, kind: str
) -> dict[str, str | None]:
    """
    Map the label names of a source to expressions.

    Args:
        names (`Iterable[str]`):
            Their names.
        label_map (`Mapping[str, str | None]`, *optional*):
            The meaning of some, which goes before what is known; `None` for those to leave out.
        where (`str`):
            Begins every error message.
        kind (`str`):
            What carries the names, such as `"folder"`.

    Returns:
        `dict[str, str | None]`: For each name one of [`~fer_hf.labels.EXPRESSIONS_WITH_CONTEMPT`], or `None`.

    Raises:
        `DataError`: If `label_map` is no such mapping or names something that is not there, or if names are not known;
            then they are all listed.
    """
    names = {name: _composed(name) for name in names}
    if label_map is not None and not isinstance(label_map, Mapping):
        raise DataError(f"`label_map` must map names to expressions or null, got {label_map!r}.")
    # YAML reads the name 1 as a number.
    label_map = {_composed(name): meaning for name, meaning in (label_map or {}).items()}
    for name, meaning in label_map.items():
        if meaning is not None and meaning not in EXPRESSIONS_WITH_CONTEMPT:
            accepted = ", ".join(EXPRESSIONS_WITH_CONTEMPT)
            raise DataError(
                f"`label_map` gives {name!r} the meaning {meaning!r}; it must be one of {accepted}, or null."
            )
    if absent := [name for name in label_map if name not in names.values()]:
        raise DataError(
            f"{where}: `label_map` has {', '.join(map(repr, absent))}, but there is no such {kind}; there are "
            f"{', '.join(map(repr, names))}. Names are compared letter by letter."
        )
    matched = {name: label_map.get(form, canonical_name(form)) for name, form in names.items()}
    if unknown := [name for name, meaning in matched.items() if meaning is None and names[name] not in label_map]:
        raise DataError(
            f"{where}: no known expression in {kind} {', '.join(map(repr, unknown))}. Say what each means, such as "
            f"label_map={{{unknown[0]!r}: 'happy'}}; None leaves its images out."
        )
    return matched


def _find_splits(folder: Path, label_map: Mapping[str, str | None] | None) -> dict[str, Path]:
    wanted = "train, validation or test, each with a folder per expression, or these folders themselves"
    check_folder(folder, wanted)
    splits, others = {}, []
    for entry in entries(folder):
        split = next((split for split, names in SPLIT_NAMES.items() if entry.name.lower() in names), None)
        if split is None or not entry.is_dir():
            others.append(entry)
        elif split in splits:
            raise DataError(f"{entry.path}: a second folder for {split} beside {splits[split]}. Merge or remove one.")
        else:
            splits[split] = Path(entry.path)
    names = ", ".join(entry.name for entry in others)
    if not splits and any(entry.is_dir() and _is_label(entry.name, label_map) for entry in others):
        logger.info(f"{folder}: no folder is called train, validation or test, so all images are read as train")
        return {"train": folder}
    if not splits:
        raise DataError(f"{folder} has no folder {wanted}. It holds: {_shortened(names) or 'nothing'}.")
    if others:
        logger.warning(f"{folder}: not read, because it is no split: {names}")
    return splits


def _is_label(name: str, label_map: Mapping[str, str | None] | None) -> bool:
    return canonical_name(name) is not None or _composed(name) in map(_composed, label_map or ())


def _composed(name: object) -> str:
    """One form of letters with accents, which macOS takes apart in the names of files."""
    return unicodedata.normalize("NFC", str(name))


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}..."


def _rows(images: dict[str, list[str]], meaning: dict[str, str | None], names: tuple[str, ...]) -> list[dict]:
    """A split's images that mean something, sorted by path, with class id and place."""
    labels = {path: meaning[label] for label, paths in images.items() for path in paths}
    kept = sorted(path for path, name in labels.items() if name is not None)
    return [{"image": path, "label": names.index(labels[path]), "row": row} for row, path in enumerate(kept)]


def _report(folder: Path, split: str, images: dict[str, list[str]], meaning: dict[str, str | None]):
    for label, paths in images.items():
        if not paths:
            logger.warning(f"{folder}, {split}: no image in the folder {label!r}")
        if meaning[label] is None:
            logger.info(f"{split}: {label!r} is left out, images: {len(paths):,}")
