"""`run_record.json`: everything that is known about a run, written once, from which cards and tables are filled."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import torch
from datasets import DatasetDict

import fer_hf
from fer_hf.data import content_fingerprint
from fer_hf.provenance import commit, versions


def environment(processes: int, device: str) -> dict:
    """What a run needs to be repeated beside its flags: versions, commit, date and hardware."""
    hardware = {"device": device, "processes": processes, "cpu_threads": torch.get_num_threads()}
    if device == "cuda":
        hardware["gpu"] = torch.cuda.get_device_name()
    return {
        "fer_hf_version": fer_hf.__version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "versions": versions(),
        "hardware": hardware,
    }


def describe_dataset(name: str, faces: DatasetDict) -> dict:
    """Name, content fingerprint of every split, and faces by split and class."""
    counts = {}
    for split, table in faces.items():
        names = table.features["label"].names
        labels = table["label"][:]
        counts[split] = {expression: labels.count(i) for i, expression in enumerate(names)}
    return {
        "name": name,
        "fingerprints": {split: content_fingerprint(table) for split, table in faces.items()},
        "counts": counts,
    }


def scoring(dataset: str, split: str, fingerprint: str, tta: str) -> dict:
    """One entry of a record's `test_scored`: that these faces were scored, now."""
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return {"dataset": dataset, "split": split, "fingerprint": fingerprint, "date": date, "tta": tta}


def own_name(name_or_path: str) -> str:
    """What is told of a checkpoint: of a folder elsewhere only its own name."""
    path = Path(name_or_path).expanduser()
    return path.name if path.is_absolute() else name_or_path


def write_json(path: str | Path, content: dict) -> None:
    """Write JSON whole or not at all: a reader never sees half a file."""
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path)
