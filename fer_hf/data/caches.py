"""Caches that are damaged or cannot be written. The checksums of a cache's files lie beside them."""

import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from fer_hf.errors import DataError
from fer_hf.files import write_json


_CHECKSUMS = "checksums.json"
_BLOCK = 1 << 24


def note_checksums(folder: str | os.PathLike) -> None:
    """Write down the checksums of all Arrow files in a folder."""
    names = sorted(path.name for path in Path(folder).glob("*.arrow"))
    write_json(Path(folder, _CHECKSUMS), {name: _checksum(Path(folder, name)) for name in names})


def is_whole(folder: str | os.PathLike) -> bool:
    """Whether the Arrow files are those of which [`note_checksums`] has written down the checksums."""
    try:
        noted = json.loads(Path(folder, _CHECKSUMS).read_text(encoding="utf-8"))
        json.loads(Path(folder, "dataset_info.json").read_text(encoding="utf-8"))
        return all(_checksum(Path(folder, name)) == checksum for name, checksum in noted.items())
    except (OSError, ValueError):
        return False


def map_whole(table: datasets.Dataset | datasets.IterableDataset, function: Callable, **options) -> Any:
    """
    `table.map`, whose result `datasets` caches; made anew where that cache is damaged.

    Raises:
        `DataError`: If the cache cannot be written; and whatever `function` raises.
    """
    try:
        return table.map(function, **options)
    except (OSError, pa.ArrowInvalid):  # a cache that cannot be read is as damaged as one that can be
        try:
            return table.map(function, **options, load_from_cache_file=False)
        except OSError as error:
            raise unwritable(Path(table.cache_files[0]["filename"]).parent, error) from error


def unwritable(root: str | os.PathLike, error: OSError) -> DataError:
    """The complaint about a cache on a disk that is full, cannot be written, or the like."""
    return DataError(
        f"The tables cannot be written to {root} ({error.strerror or error}). Make room there, or name another place "
        "with `cache_dir` or the variable HF_HOME."
    )


def _checksum(path: Path) -> int:
    checksum = 0
    with open(path, "rb") as file:
        while content := file.read(_BLOCK):
            checksum = zlib.crc32(content, checksum)
    return checksum
