"""Data sets of faces as Arrow tables with the same columns everywhere: `load_dataset(name, data_dir=...)`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fer_hf.errors import DataError


if TYPE_CHECKING:
    from fer_hf.data.builder import content_fingerprint
    from fer_hf.data.loading import load_dataset

__all__ = ["DataError", "content_fingerprint", "load_dataset"]

_HOMES = {"content_fingerprint": "builder", "load_dataset": "loading"}


def __getattr__(name: str) -> Any:
    # On first use: whoever needs a small module of this folder, such as the pipeline, does not wait for `datasets`.
    if name in _HOMES:
        return getattr(import_module(f"fer_hf.data.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
