"""What several test files share."""

import runpy
import sys
from pathlib import Path

import pytest

from fer_hf.cli.launch import run
from fer_hf.runs import finish


def call_recipe(monkeypatch: pytest.MonkeyPatch, recipe: Path, *flags) -> None:
    """Run a recipe in this process, on a CPU: that saves the seconds that imports take."""
    words = [str(recipe), "--use_cpu", "--disable_tqdm", "True", *map(str, flags)]
    monkeypatch.setattr(sys, "argv", words)
    run(runpy.run_path(str(recipe))["main"])


def draw_no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs end without their pictures, which take half a second each."""
    for name in [name for name in vars(finish) if name.startswith("plot_")]:
        monkeypatch.setattr(finish, name, lambda *args: None)
