"""Writing files whole or not at all: a reader never sees half a file. Imports nothing of the project."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """
    A place beside `path` to write its content to. What was written there gets the name `path` at the end of the
    block; if the block raises, it is deleted, and what stood at `path` stays.

        with whole("model.safetensors") as partial:
            save_file(tensors, partial)

    Args:
        path (`str` or `Path`): The file. Its folder is made if it is missing.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text in UTF-8, whole or not at all."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")


def write_json(path: str | Path, content: dict) -> None:
    """Write JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")
