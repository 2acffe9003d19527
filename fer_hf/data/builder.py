"""
Turns a `Source` into cached Arrow tables with a `datasets` builder.

Making a `datasets` builder replaces `open`, `os.path` and `pathlib.Path` in the module that defines its class with
versions for remote files. The class therefore stands here, and whatever reads files stands elsewhere.
"""

import hashlib
import logging
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator

import datasets
import pyarrow as pa
from filelock import FileLock

from fer_hf.data.caches import is_whole, note_checksums, unwritable
from fer_hf.data.source import Source
from fer_hf.errors import DataError


logger = logging.getLogger(__name__)


class _SourceBuilder(datasets.ArrowBasedBuilder):
    """Writes the tables of one `Source`; cached under `<cache_dir>/<name>/default/0.0.0/<fingerprint>`."""

    def __init__(self, source: Source, cache_dir: str | None = None):
        self.source = source
        super().__init__(cache_dir=cache_dir, dataset_name=source.name, hash=source.fingerprint)

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(description=self.source.description, features=self.source.features)

    def _split_generators(self, dl_manager) -> list[datasets.SplitGenerator]:
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"shards": shards})
            for split, shards in self.source.shards.items()
        ]

    def _generate_tables(self, shards: list) -> Iterator[tuple[tuple[int, int], pa.Table]]:
        for shard_index, shard in enumerate(shards):
            for table_index, table in enumerate(self.source.read(shard)):
                yield (shard_index, table_index), table

    def _prepare_split_single(self, *args, **kwargs) -> Iterator[tuple]:
        # A DataError is wrapped by the parent, and a process pool then loses what was wrapped; so it is unwrapped
        # here, which runs inside the worker.
        try:
            yield from super()._prepare_split_single(*args, **kwargs)
        except datasets.exceptions.DatasetGenerationError as error:
            if isinstance(error.__cause__, DataError):
                raise error.__cause__ from None
            if isinstance(error.__cause__, OSError):
                raise unwritable(self._cache_dir_root, error.__cause__) from error
            raise

    def _save_info(self) -> None:
        # What ends the writing, while the folder does not have its name yet.
        super()._save_info()
        note_checksums(self._output_dir)


def build(
    source: Source, cache_dir: str | os.PathLike | None = None, num_proc: int | None = None
) -> datasets.DatasetDict:
    """
    The tables of a source, from the cache if they have been written before under the same fingerprint and are whole.

    Progress bars are those of `datasets` (`datasets.disable_progress_bars()` silences them).

    Args:
        source (`Source`):
            What to read, and how.
        cache_dir (`str` or `os.PathLike`, *optional*):
            Where the Arrow files go. Defaults to the cache of `datasets` (`$HF_HOME/datasets`).
        num_proc (`int`, *optional*):
            Number of processes that write, at least 1; no more are started than a split has shards. Defaults to this
            process alone. It has no influence on the tables.

    Returns:
        `datasets.DatasetDict`: One table per split, memory-mapped, in the order of `source.shards`.

    Raises:
        `DataError`: On bad input, as `source.read` raises it, and no table is left in the cache then; or if the cache
            cannot be written.
    """
    if num_proc is not None and num_proc < 1:
        raise DataError(f"`num_proc` must be at least 1, or None for this process alone, got {num_proc}.")
    root = os.path.abspath(os.path.expanduser(cache_dir or datasets.config.HF_DATASETS_CACHE))
    folder = os.path.join(root, source.name, "default", "0.0.0", source.fingerprint)
    try:
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        # Of several processes one writes, and the others wait and find its tables. Lock files stay: another process
        # may have its hand on them.
        with FileLock(f"{folder}.lock"):
            if os.path.isdir(folder) and not is_whole(folder):
                logger.warning(f"{folder}: damaged, or from an older version; its tables are written anew")
                shutil.rmtree(folder)
            builder = _SourceBuilder(source, cache_dir=root)
            builder.download_and_prepare(num_proc=num_proc)
    except DataError as error:
        raise error from None  # drops a process pool's copy of the traceback
    except OSError as error:
        raise unwritable(root, error) from error
    tables = builder.as_dataset()
    return datasets.DatasetDict({split: tables[split] for split in source.shards})


def stream(source: Source) -> datasets.IterableDatasetDict:
    """
    The tables of a source as they are read, without writing anything.

    Args:
        source (`Source`):
            What to read, and how.

    Returns:
        `datasets.IterableDatasetDict`: One iterable per split, in the order of `source.shards`, with as many shards.
        Iterating raises `DataError` on bad input.
    """
    with tempfile.TemporaryDirectory() as folder:  # a builder insists on a cache folder, even if it writes no table
        return _SourceBuilder(source, cache_dir=folder).as_streaming_dataset()


def content_fingerprint(dataset: datasets.Dataset) -> str:
    """
    A digest of what a split holds, which is the same on every machine and wherever the cache lies.

    Args:
        dataset (`datasets.Dataset`):
            A table with the columns `image` (embedded bytes) and `label`; after `.select` or `.shuffle`, the selected
            rows in their order are meant.

    Returns:
        `str`: SHA-256 in hex over the label, the length and the bytes of every encoded image, row by row.

    Raises:
        `ValueError`: If an image is only a path, so that its bytes are not part of the table.
    """
    digest = hashlib.sha256()
    for table in dataset.select_columns(["image", "label"]).with_format("arrow").iter(batch_size=1000):
        add_content(digest, table)
    return digest.hexdigest()


def add_content(digest: "hashlib._Hash", table: pa.Table) -> None:
    """Add the rows of an Arrow table to the digest of [`content_fingerprint`]; its errors, too."""
    images = table["image"].combine_chunks().field("bytes")
    if images.null_count:
        raise ValueError("`dataset` holds images as paths only; its fingerprint needs their bytes in the table.")
    for image, label in zip(images, table["label"].to_pylist(), strict=True):
        buffer = image.as_buffer()
        digest.update(struct.pack("<qq", label, len(buffer)))
        digest.update(buffer)
