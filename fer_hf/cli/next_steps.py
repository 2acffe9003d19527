"""The last lines of a training run: how to use, look at and publish what it left."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from fer_hf.runs.run import Run
from fer_hf.runs.usage import usage


def next_steps(folder: str) -> str:
    """
    What can be done with a finished run, as code and commands that can be pasted; after one on drawn faces, also how
    to train on faces of people.

    Args:
        folder (`str`): The run's output directory.
    """
    fer_hf, run, place = own_command(), Run(folder), shlex.quote(folder)
    is_backbone = "mask_ratio" in run.record.model
    look, config = (f"Look:     {fer_hf} report --run {place}", "fer2013_compact_cnn")
    if is_backbone:
        look, config = (f"Fine-tune: {fer_hf} train --model {place}", "mae_fer2013_compact")
    lines = [f"\nThe model and its records are in {folder}. Use:\n\n{usage(run, folder)}\n", look]
    lines.append(f"Publish:  {fer_hf} push {place} --repo_id owner/name --dry_run")
    if run.record.dataset["name"] == "synthetic":
        lines.append(f"Next, FER-2013, for which a CPU will do: {fer_hf} train {config} --data_dir DIR")
    return "\n".join(lines)


def own_command() -> str:
    """`fer-hf` as the user's shell finds the one of this environment: by its path where that is not activated."""
    script = Path(sys.executable).parent / "fer-hf"
    if shutil.which("fer-hf") == str(script):
        return "fer-hf"
    if not script.is_file():
        return f"{shlex.quote(sys.executable)} -m fer_hf"
    inside = os.path.relpath(script)
    return shlex.quote(str(script) if inside.startswith("..") else inside)
