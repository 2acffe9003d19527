"""A run's record and reports, made up, for tests of what reads them."""

import json
from pathlib import Path

from fer_hf.labels import EXPRESSIONS


def run_record(**changes) -> dict:
    """The content of a `run_record.json`: of a ViT, fine-tuned on FER-2013, without results."""
    splits = ("train", "validation", "test")
    return {
        "fer_hf_version": "0.1.0",
        "date": "2026-11-22T10:00:00+00:00",
        "commit": "abc1234",
        "versions": {"python": "3.11.7", "torch": "2.15.0", "transformers": "5.23.0"},
        "hardware": {"device": "cpu", "processes": 1, "cpu_threads": 2},
        "command": "accelerate launch recipes/train.py --config recipes/configs/tiny.yaml --data_dir DIR",
        "seed": 17,
        "dataset": {
            "name": "fer2013",
            "fingerprints": {split: f"{split:0<64}" for split in splits},
            "counts": {split: {name: 1000 * i + 7 for i, name in enumerate(EXPRESSIONS)} for split in splits[::2]},
        },
        "model": {
            "name_or_path": "google/vit-base-patch16-224-in21k",
            "source": "hub",
            "architecture": "ViTForImageClassification",
            "head": "linear",
            "parameters": 12345,
        },
        "training": {"learning_rate": 3e-05, "optim": "adamw_torch", "sampler": None, "unfreeze_schedule": "a|b"},
        "unfreezing": [
            {"epoch": 0, "thawed": ["classifier"], "trainable_parameters": 5383},
            {"epoch": 2, "thawed": ["vit.layers.1", "vit.layernorm"], "trainable_parameters": 98765},
        ],
        "best": {"metric": "eval_accuracy", "value": 0.54321, "epoch": 3.0, "step": 300},
        "runtime": {"train_seconds": 750.0},
        **changes,
    }


# A name that is mark-up, a template, a table's end, a line of its own, a terminal's command and half a formula.
HOSTILE = "<script>alert(1)</script>|[x](http://a.b)`{{7*7}}\n# h\x1b[31m$"


def change_record(run_dir: Path, change) -> None:
    """Let `change` work on the content of a run's record."""
    path = run_dir / "run_record.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
