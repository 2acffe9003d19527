"""The description of a data source from which tables are built, and the columns that every source shares."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import datasets
import pyarrow as pa

from fer_hf.labels import EXPRESSIONS


_ROWS = 500  # rows in one Arrow table


def face_features(names: tuple[str, ...] = EXPRESSIONS, **extra: Any) -> datasets.Features:
    """
    The columns of every table: `image` (`datasets.Image`), `label` (`ClassLabel` in canonical order) and `row`
    (`int64`, the source's own row), then what a source adds.
    """
    return datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=list(names)),
            "row": datasets.Value("int64"),
            **extra,
        }
    )


def face_tables(faces: Iterable[dict], **extra: pa.DataType) -> Iterator[pa.Table]:
    """
    Arrow tables of up to 500 rows each.

    Args:
        faces (`Iterable[dict]`):
            With `image` (the bytes of an encoded image), `label`, `row` and a value for each name in `extra`.
        extra (`pa.DataType`):
            Type of each further column.
    """
    faces = iter(faces)
    types = {"label": pa.int64(), "row": pa.int64(), **extra}
    while batch := list(itertools.islice(faces, _ROWS)):
        columns = {"image": image_column([face["image"] for face in batch])}
        for name, kind in types.items():
            columns[name] = pa.array([face[name] for face in batch], kind)
        yield pa.table(columns)


def image_column(images: list[bytes]) -> pa.StructArray:
    """Encoded images as the column of a table: `bytes`, and a `path` of null."""
    parts = [pa.array(images, pa.binary()), pa.nulls(len(images), pa.string())]
    return pa.StructArray.from_arrays(parts, names=["bytes", "path"])


@dataclass(frozen=True)
class Source:
    """
    A data set on disk (or drawn from a seed), described well enough to build its Arrow tables.

    Attributes:
        name (`str`):
            What `load_dataset` calls it; also the name of its cache folder.
        fingerprint (`str`):
            Hex digest that changes whenever any image, label or option that shapes the tables changes. A cache is
            served only under the same fingerprint.
        features (`datasets.Features`):
            The columns, as [`face_features`] makes them.
        shards (`dict[str, list]`):
            For every split, in the order train, validation, test, a list of picklable pieces of work. `num_proc` and
            streaming divide the list, so a large split has several.
        read (`Callable`):
            Module-level function that turns one shard into Arrow tables of a few hundred to a few thousand rows each,
            with `image` as a struct of `bytes` (an encoded image) and `path` (null). Raises `DataError` on bad input.
        description (`str`):
            What is unusual about the tables, such as faces left out or splits that are not official; kept in their
            `DatasetInfo` and logged. Usually empty.
    """

    name: str
    fingerprint: str
    features: datasets.Features
    shards: dict[str, list]
    read: Callable[[Any], Iterator[pa.Table]]
    description: str = ""
