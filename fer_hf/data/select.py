"""Use a part of a data set: some expressions only, or no training face that is also a test face."""

import logging
from collections.abc import Sequence

import datasets
import numpy as np
import pyarrow as pa
from datasets import DatasetDict, IterableDatasetDict

from fer_hf.data.caches import map_whole
from fer_hf.data.copies import pixel_hashes
from fer_hf.errors import DataError
from fer_hf.labels import canonical_name
from fer_hf.words import plural


logger = logging.getLogger(__name__)


def kept_classes(
    names: Sequence[str], classes: Sequence[str] | None = None, exclude: Sequence[str] | None = None
) -> list[str]:
    """
    The expressions that stay, in the order of `names`.

    Args:
        names (`Sequence[str]`):
            All expressions of a data set.
        classes (`Sequence[str]`, *optional*):
            Those that stay, by name or known synonym, in any order.
        exclude (`Sequence[str]`, *optional*):
            Instead: those that go.

    Raises:
        `DataError`: If both are given, a name is not among `names`, or fewer than two expressions stay.
    """
    if classes is not None and exclude is not None:
        raise DataError("`classes` and `exclude` say the same in two ways. Give one of them.")
    option, given = ("classes", classes) if exclude is None else ("exclude", exclude)
    if isinstance(given, str) or not all(isinstance(name, str) for name in given):
        raise DataError(f"`{option}` must be a list of expressions, got {given!r}.")
    chosen = {name: name if name in names else canonical_name(name) for name in given}
    for name, canonical in chosen.items():
        if canonical not in names:
            raise DataError(f"`{option}` must name expressions of {', '.join(names)}, got {name!r}.")
    kept = [name for name in names if (name in chosen.values()) == (option == "classes")]
    if len(kept) < 2:
        raise DataError(f"`{option}` must leave two expressions or more of {', '.join(names)}, got {given!r}.")
    return kept


def left_out_ids(
    names: Sequence[str], classes: Sequence[str] | None = None, exclude: Sequence[str] | None = None
) -> list[int]:
    """Class ids of what [`kept_classes`] does not keep; it has the arguments and errors."""
    kept = names if classes is None and exclude is None else kept_classes(names, classes, exclude)
    return [i for i, name in enumerate(names) if name not in kept]


def select_classes(
    tables: DatasetDict | IterableDatasetDict, kept: Sequence[str]
) -> DatasetDict | IterableDatasetDict:
    """
    Leaves out the faces of all expressions but the `kept`. These are numbered anew from 0, and the names of `label`
    follow. A `soft_label` keeps the shares of the expressions that stay, divided by their sum, or is 1 for the face's
    own label if nothing of it stays. Faces without a label (-1) stay as they are.

    How many faces are left out is logged, unless they are streamed.

    Args:
        tables (`DatasetDict` or `IterableDatasetDict`):
            With a `label` of class names.
        kept (`Sequence[str]`):
            What [`kept_classes`] returns.

    Raises:
        `DataError`: If no face of a split stays.
    """
    features = next(iter(tables.values())).features.copy()
    names = features["label"].names
    features["label"] = datasets.ClassLabel(names=list(kept))
    if "soft_label" in features:
        features["soft_label"] = datasets.List(features["soft_label"].feature, length=len(kept))
    arguments = {"kept": [names.index(name) for name in kept], "num_classes": len(names)}
    selected = type(tables)()
    for split, table in tables.items():
        # As Arrow tables, so that images are neither decoded nor encoded again; `datasets` caches the result.
        table = table.with_format("arrow")
        mapped = map_whole(table, _keep, batched=True, fn_kwargs=arguments, features=features)
        selected[split] = mapped.with_format(None)
        if isinstance(table, datasets.Dataset):
            left_out = f"{len(table) - len(mapped):,} of {plural(len(table), 'face')}"
            logger.info(f"{split}: {left_out} left out, which are not {', '.join(kept)}")
            if not len(mapped):
                raise DataError(f"The split {split} has no face that is {', '.join(kept)}. Choose other expressions.")
    return selected


def _keep(table: pa.Table, kept: list[int], num_classes: int) -> pa.Table:
    """The rows whose label is among the `kept`, with their new labels."""
    numbers = np.full(num_classes + 1, -2)  # -2: to be left out
    numbers[kept] = np.arange(len(kept))
    numbers[-1] = -1  # a label of -1 finds this one
    labels = numbers[table["label"].to_numpy()]
    stay = labels != -2
    table, labels = table.filter(pa.array(stay)), labels[stay]
    table = table.set_column(table.column_names.index("label"), "label", pa.array(labels))
    if "soft_label" in table.column_names:
        shares = np.array(table["soft_label"].to_pylist(), dtype=np.float64).reshape(-1, num_classes)[:, kept]
        nothing_left = shares.sum(axis=1) == 0
        shares[nothing_left] = np.eye(len(kept))[labels[nothing_left]]
        shares = (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
        kind = pa.list_(pa.float32(), len(kept))
        column = pa.array(list(shares), kind)
        table = table.set_column(table.column_names.index("soft_label"), "soft_label", column)
    return table


def sample_splits(tables: DatasetDict, max_train: int | None = None, max_eval: int | None = None) -> DatasetDict:
    """
    The same tables, with at most so many faces of train and of each split that is evaluated on; `None` is all.

    Raises:
        `DataError`: If a limit is below 1.
    """
    limits = {"train": max_train, "validation": max_eval, "test": max_eval}
    for name, limit in {"max_train_samples": max_train, "max_eval_samples": max_eval}.items():
        if limit is not None and limit < 1:
            raise DataError(f"`{name}` must be at least 1, got {limit}.")
    return DatasetDict({split: sample_faces(table, limits.get(split)) for split, table in tables.items()})


def sample_faces(table: datasets.Dataset, limit: int | None) -> datasets.Dataset:
    """
    A stratified sample, the same for every run: each class has its share, and at least one face if `limit` is no less
    than the classes that there are (Adams's method). A larger sample holds the smaller ones.

    Args:
        table (`datasets.Dataset`):
            With `label`.
        limit (`int`, *optional*):
            Number of faces; `None` or too many gives the table itself.

    Returns:
        `datasets.Dataset`: The faces drawn, in the table's order.
    """
    if limit is None or limit >= len(table):
        return table
    labels = np.array(table["label"][:])
    order = np.random.RandomState(42).permutation(len(labels))  # not the run's seed: runs are compared on its faces
    share = np.empty(len(labels))  # of its class that is drawn before a face
    for label in np.unique(labels):
        drawn = np.flatnonzero(labels[order] == label)
        share[drawn] = np.arange(len(drawn)) / len(drawn)
    return table.select(np.sort(order[np.argsort(share, kind="stable")[:limit]]))


def deduplicate_train(tables: DatasetDict) -> DatasetDict:
    """
    Leaves out of `train` every face that is also in validation or test: the same pixels, under any label. How many
    they are is logged. Faces that train itself holds twice stay.

    Args:
        tables (`DatasetDict`):
            With `train`, and `validation`, `test` or both.

    Returns:
        `DatasetDict`: The same tables but `train`.
    """
    held_out = [pixel_hashes(tables[split]) for split in ("validation", "test") if split in tables]
    leaked = np.isin(pixel_hashes(tables["train"]), np.concatenate(held_out))
    logger.info(
        f"train: {leaked.sum():,} of {plural(len(leaked), 'face')} left out: they are also in validation or test"
    )
    return DatasetDict({**tables, "train": tables["train"].select(np.flatnonzero(~leaked))})
