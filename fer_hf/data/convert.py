"""Tables as people share them: a folder of Parquet files and a card, which `datasets.load_dataset(FOLDER)` takes."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict, IterableDatasetDict

from fer_hf.data.audit import audit
from fer_hf.data.audit_report import audit_text
from fer_hf.data.builder import add_content
from fer_hf.errors import DataError
from fer_hf.files import whole_folder, write_text


SHARD_BYTES = 200_000_000  # of images in one file, about
MAX_AUDITED = 100_000  # faces; an audit holds something of every face in memory, some 17 kB with its bytes
_ROWS = 500  # in one row group, which readers load at once


def convert(
    tables: DatasetDict | IterableDatasetDict, folder: str | os.PathLike, name: str, facts: dict[str, Any]
) -> dict:
    """
    Write a data set as `data/<split>-*.parquet` and a card, `README.md`. Faces pass through once, a few hundred at a
    time, so memory does not grow with their number; the audit, which needs all of them, is left out above 100,000.

    Args:
        tables (`DatasetDict` or `IterableDatasetDict`):
            As [`fer_hf.data.load_dataset`] returns it.
        folder (`str` or `os.PathLike`):
            Where the files go: a new or an empty folder. It is there whole, or not at all.
        name (`str`):
            The data set's name, for the audit.
        facts (`dict`):
            For the card: `title`, `about` and `terms`, and as `license` what its metadata says of that, if anything.

    Returns:
        `dict`: `counts` (faces by split and class), `fingerprints` (by split, [`~fer_hf.data.content_fingerprint`])
        and `files` (paths relative to the folder).

    Raises:
        BadInputError: If the folder holds something, or is a file.
    """
    with whole_folder("output_dir", Path(folder).expanduser()) as partial:
        (partial / "data").mkdir()
        splits = {split: _write_split(table, split, partial) for split, table in tables.items()}
        result = {
            key: {split: facts_of[key] for split, facts_of in splits.items()} for key in ("counts", "fingerprints")
        }
        result["files"] = [file for written in splits.values() for file in written["files"]]
        features = next(iter(tables.values())).features
        write_text(partial / "README.md", _card(result, features, facts, _audit(partial, splits, name)))
    return result


def _write_split(table: datasets.Dataset | datasets.IterableDataset, split: str, folder: Path) -> dict:
    """The shards of a split, and what the card says of it: `counts`, `fingerprints` and `files`."""
    names = table.features["label"].names
    counts, digest = dict.fromkeys(names, 0), hashlib.sha256()

    def told(batches: Iterable[pa.Table]) -> Iterator[pa.Table]:
        for batch in batches:
            add_content(digest, batch)
            for label in batch["label"].to_pylist():
                if label is not None and label >= 0:
                    counts[names[label]] += 1
            yield batch

    batches = table.with_format("arrow").iter(batch_size=_ROWS)
    shards = _write_shards(told(batches), table.features.arrow_schema, folder / "data", split)
    files = []
    for index, path in enumerate(shards):
        path = path.rename(path.with_name(f"{split}-{index:05}-of-{len(shards):05}.parquet"))
        files.append(f"data/{path.name}")
    return {"counts": counts, "fingerprints": digest.hexdigest(), "files": files}


def _write_shards(batches: Iterable[pa.Table], schema: pa.Schema, folder: Path, split: str) -> list[Path]:
    paths, writer, written = [], None, 0
    try:
        for batch in batches:
            if writer is None:
                paths.append(folder / f"{split}-{len(paths):05}")
                writer, written = pq.ParquetWriter(paths[-1], schema), 0
            writer.write_table(batch.select(schema.names).cast(schema), row_group_size=_ROWS)
            written += batch.nbytes
            if written >= SHARD_BYTES:
                writer.close()
                writer = None
    finally:
        if writer is not None:
            writer.close()
    if not paths:
        raise DataError(f"{split}: no face to write. Use the complete data set.")
    return paths


def _audit(folder: Path, splits: dict[str, dict], name: str) -> str:
    """What [`audit`] finds in the files just written, or why nothing was looked for."""
    total = sum(sum(written["counts"].values()) for written in splits.values())
    if total > MAX_AUDITED:
        return f"Not audited: {total:,} faces are more than {MAX_AUDITED:,}. `fer-hf audit` does it."
    if "train" not in splits:
        return "Not audited: an audit needs a split called train."
    tables = {
        split: Dataset(pa.concat_tables([pq.read_table(folder / file) for file in written["files"]]))
        for split, written in splits.items()
    }
    return f"```\n{audit_text(audit(DatasetDict(tables), name))}\n```"


def _card(result: dict, features: datasets.Features, facts: dict[str, Any], audited: str) -> str:
    names = features["label"].names
    files = [{"split": split, "path": f"data/{split}-*"} for split in result["counts"]]
    header = {
        "pretty_name": facts["title"],
        "task_categories": ["image-classification"],
        **facts.get("license", {}),
        "configs": [{"config_name": "default", "data_files": files}],
    }
    rows = [["split", *names, "total"], ["---"] * (len(names) + 2)]
    for split, counts in result["counts"].items():
        rows.append([split, *(f"{count:,}" for count in counts.values()), f"{sum(counts.values()):,}"])
    prints = "\n".join(f"- {split}: `{digest}`" for split, digest in result["fingerprints"].items())
    return f"""---
{"".join(f"{key}: {json.dumps(value)}" + chr(10) for key, value in header.items())}---

# {facts["title"]}

{facts["about"]} Written by `fer-hf convert`.

## Terms

{facts["terms"]}

## Splits

{chr(10).join("| " + " | ".join(row) + " |" for row in rows)}

## Columns

{chr(10).join(f"- `{column}`: {_in_words(feature)}" for column, feature in features.items())}

Labels, in their order: {", ".join(f"{index} {name}" for index, name in enumerate(names))}.

## Fingerprints

SHA-256 over the label, the length and the bytes of every encoded image, row by row
(`fer_hf.data.content_fingerprint`):

{prints}

## Audit

{audited}
"""


def _in_words(feature) -> str:
    if isinstance(feature, datasets.ClassLabel):
        return f"class, one of {len(feature.names)}"
    if isinstance(feature, datasets.Image):
        return "image, its file's bytes"
    if isinstance(feature, datasets.List):
        count = f"{feature.length} " if feature.length >= 0 else ""
        return f"list of {count}{_in_words(feature.feature)}"
    return feature.dtype
