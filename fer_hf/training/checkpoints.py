"""Which checkpoint a run goes on from: the last whole one, and only with the flags that it was written with."""

import hashlib
import json
import logging
import os
import re
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import nn
from transformers import TrainingArguments

from fer_hf.errors import BadInputError
from fer_hf.scores import with_new_names


logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
_STATE = "trainer_state.json"
# Flags (by the beginning of their names) that a resumed run may change: they leave weights and log as they are, or
# follow from another.
_FREE = (
    "output_dir", "resume_from_checkpoint", "num_processes", "cpu_threads", "data_dir", "cache_dir", "disable_tqdm",
    "log_", "report_to", "run_name", "project", "trackio", "hub_", "push_to_hub", "save_total_limit", "ddp_",
    "dataloader_num_workers", "dataloader_pin", "dataloader_persistent", "dataloader_prefetch", "local_rank",
    "dataloader_multiprocessing", "skip_memory", "do_", "greater_is_better",
)  # fmt: skip


def write_manifest(folder: Path, args: TrainingArguments, faces: str | None = None) -> None:
    """
    Note size and checksum of every file of a checkpoint, the flags of the run, and the fingerprint of its training
    faces if it is known, in `manifest.json`. When that is there, the rest is on disk: a power cut leaves no manifest
    that speaks of files which were never written.
    """
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    for path in files.values():
        _flush(path)
    content = {
        "files": {name: path.stat().st_size for name, path in files.items()},
        "sha256": {name: _sha256(path) for name, path in files.items()},
        "flags": _flags(args),
        "train_faces": faces,
    }
    (folder / MANIFEST).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    _flush(folder / MANIFEST)


def _flush(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flaw(folder: Path) -> str | None:
    """
    What keeps a checkpoint from being whole: every file of its manifest as it was written. `None` for a whole one.
    Manifests once had no checksums, and came before `trainer_state.json`.
    """
    for name in (MANIFEST, _STATE):
        try:
            json.loads((folder / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return f"{name} is missing"
        except ValueError:
            return f"{name} is cut short"
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if not isinstance(manifest, dict) or not all(isinstance(manifest.get(key), dict) for key in ("files", "flags")):
        return f"{MANIFEST} names no files and flags"
    for name, size in manifest["files"].items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if (folder / name).stat().st_size != size:
            return f"{name} has {(folder / name).stat().st_size:,} bytes of {size:,}"
    for name, checksum in manifest.get("sha256", {}).items():
        if _sha256(folder / name) != checksum:
            return f"the bytes of {name} have changed"
    return None


def checkpoints(run: str | Path) -> list[Path]:
    """The folders `checkpoint-<step>` of a run, whole or not, by step."""
    found = [path for path in Path(run).glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted((path for path in found if path.is_dir()), key=step_of)


def resume_run(resume: str | bool | None, output_dir: str | Path) -> Path | None:
    """The run directory that `resume_from_checkpoint` speaks of: `true` means `output_dir`. `None` for no resuming."""
    if resume is None or str(resume).lower() in ("false", ""):
        return None
    if str(resume).lower() == "true":
        return Path(output_dir)
    path = Path(resume)
    path = path.parent if re.fullmatch(r"checkpoint-\d+", path.name) else path
    # As `output_dir` is written: the Trainer compares paths as text when it decides which checkpoints to keep.
    same = path.is_dir() and os.path.isdir(output_dir) and os.path.samefile(path, output_dir)
    return Path(output_dir) if same else path


def resume_point(args: TrainingArguments, resume: str | bool | None, faces: str | None = None) -> Path | None:
    """
    The checkpoint to go on from: the last whole one. What is not whole is skipped, and the log says so.

    Args:
        args (`TrainingArguments`): The run's flags.
        resume (`str` or `bool`, *optional*): A run directory, a `checkpoint-<step>` in one, or `true` for
            `args.output_dir`.
        faces (`str`, *optional*): Fingerprint of the run's training faces.

    Returns:
        `Path` or `None`: `None` to start from the beginning: nothing is to be resumed, or `args.output_dir` holds no
        whole checkpoint yet.

    Raises:
        BadInputError: If a folder is named that does not exist or holds none, if `args.output_dir` holds later ones,
            which the run would mix with its own, or if a flag that changes the result is not the one that the
            checkpoint was written with, or the training faces are others.
    """
    run = resume_run(resume, args.output_dir)
    if run is None:
        return None
    if str(resume).lower() != "true" and not run.is_dir():
        raise BadInputError(f"`resume_from_checkpoint` {resume}: there is no folder {run}.")
    there, asked = checkpoints(run), Path(str(resume))
    if re.fullmatch(r"checkpoint-\d+", asked.name):
        if asked.name not in [path.name for path in there]:
            names = ", ".join(path.name for path in there) or "no checkpoint"
            raise BadInputError(f"`resume_from_checkpoint` {resume}: there is none; {run} holds {names}.")
        there = [path for path in there if step_of(path) <= step_of(asked)]
    point = _last_whole(there)
    if point is None and there == checkpoints(run) and run == Path(args.output_dir):
        logger.warning(f"{run} holds no whole checkpoint: training starts from the beginning")
        return None
    if point is None:
        raise BadInputError(f"`resume_from_checkpoint` {resume}: {run} holds no whole checkpoint to go on from.")
    others = checkpoints(args.output_dir)
    if run == Path(args.output_dir):
        others = [path for path in others if step_of(path) > step_of(point)]
    if in_the_way := [path.name for path in others if flaw(path) is None]:
        raise BadInputError(
            f"Resuming {point} into {args.output_dir}, which holds {in_the_way[-1]}, would mix two runs: "
            "delete what is there, or choose another `output_dir`."
        )
    manifest = json.loads((point / MANIFEST).read_text(encoding="utf-8"))
    _check_flags(point, manifest["flags"], args)
    _check_faces(point, manifest, faces)
    return point


def _last_whole(folders: list[Path]) -> Path | None:
    for folder in reversed(folders):
        if (why := flaw(folder)) is None:
            return folder
        logger.warning(f"{folder} is skipped, it is not whole: {why}")
    return None


def step_of(folder: Path) -> int:
    """The step of a folder `checkpoint-<step>`."""
    return int(folder.name.rpartition("-")[2])


def had_stopped(folder: Path) -> bool:
    """Whether the run had come to its end, by its flags or by early stopping, when it wrote a checkpoint."""
    state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
    return state["stateful_callbacks"]["TrainerControl"]["args"]["should_training_stop"]


def check_weights(folder: Path, model: nn.Module) -> None:
    """
    Whether a checkpoint holds every tensor of `model` by its name, and no other. The Trainer only warns of it.

    Raises:
        BadInputError: If it does not.
    """
    path, tensors = folder / "model.safetensors", model.state_dict()
    if not path.is_file():  # FSDP and DeepSpeed have files of their own
        return
    with safe_open(path, "pt") as file:
        saved = set(file.keys())
    # Of tensors that share their memory one is saved.
    held = {tensor.data_ptr() for name, tensor in tensors.items() if name in saved}
    missing = [name for name, tensor in tensors.items() if name not in saved and tensor.data_ptr() not in held]
    if wrong := [*missing, *sorted(saved - tensors.keys())]:
        raise BadInputError(f"{folder} is a checkpoint of another model: they differ in {', '.join(wrong[:4])}.")


def _flags(args: TrainingArguments) -> dict[str, Any]:
    """All flags that change the result, also those of the recipe beside the Trainer's, as JSON has them."""
    flags = {**args.to_dict(), **getattr(args, "recipe_flags", {}), "world_size": args.world_size}
    kept = {name: _parsed(value) for name, value in flags.items() if not name.startswith(_FREE)}
    return json.loads(json.dumps(kept, default=str))


def _parsed(value: Any) -> Any:
    """Maps are JSON text on a command line."""
    return json.loads(value) if isinstance(value, str) and value.startswith("{") else value


def _check_flags(point: Path, before: dict[str, Any], args: TrainingArguments) -> None:
    before, now = with_new_names(before), _flags(args)
    changed = [
        f"`{name}` {before[name]!r}, now {now[name]!r}"
        for name in sorted(before.keys() & now.keys())
        if before[name] != now[name]
    ]
    if changed:
        raise BadInputError(
            f"{point} was written with other flags: {'; '.join(changed)}. Resume with the same ones, or start a new "
            f"run from its weights: `model_name_or_path` {point} and another `output_dir`."
        )


def _check_faces(point: Path, manifest: dict[str, Any], faces: str | None) -> None:
    before = manifest.get("train_faces")
    if not faces:
        return
    if before and before != faces:
        raise BadInputError(
            f"{point} was trained on other faces than are there now. Resume with the data that the run was begun "
            "with, or start a new one."
        )
    if not before and manifest["flags"].get("max_train_samples"):
        logger.warning(
            f"{point} does not say which faces it was trained on: older versions chose others for `max_train_samples`"
        )
