"""`run_record.json`: everything that is known about a run, written once, from which cards and tables are filled."""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch
from datasets import DatasetDict

import fer_hf
from fer_hf.data import content_fingerprint


_PACKAGES = (
    "torch", "torchvision", "transformers", "datasets", "evaluate", "accelerate", "huggingface_hub", "safetensors",
    "scikit-learn", "numpy", "pillow",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of Python, fer_hf and the packages that can move a number."""
    return {
        "python": platform.python_version(),
        "fer_hf": fer_hf.__version__,
        **{package: version(package) for package in _PACKAGES},
    }


def commit() -> str | None:
    """
    The git commit of the fer_hf that runs, with `-dirty` when its files were changed since; `None` outside git.
    """
    package = Path(fer_hf.__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(package), *words], check=True, capture_output=True, text=True
        ).stdout.strip()

    try:
        # A checkout of something else may surround an installed package: only a repository that tracks us counts.
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


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


def write_json(path: str | Path, content: dict) -> None:
    """Write JSON whole or not at all: a reader never sees half a file."""
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path)
