"""Data sets of the Hugging Face Hub (or a local folder that `datasets` understands), with labels aligned by name."""

import logging
import os
import re
from collections.abc import Mapping

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fer_hf.data.caches import map_whole
from fer_hf.data.folders import check_files
from fer_hf.data.imagefolder import match_labels
from fer_hf.data.images import encoded_image, read_bytes
from fer_hf.data.source import face_features, image_column
from fer_hf.data.splits import SPLIT_NAMES, LeftOut, carve_validation, nothing
from fer_hf.errors import DataError, is_hub_id, nearest, no_such_path
from fer_hf.labels import EXPRESSIONS, EXPRESSIONS_WITH_CONTEMPT


logger = logging.getLogger(__name__)

# Raise it when the same rows are to give other tables, and old caches are left alone.
FORMAT_VERSION = 1

_ROWS = 100  # images read at a time
_LABEL_DTYPES = {"string", "large_string", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}


def load(
    name: str,
    cache_dir: str | os.PathLike | None = None,
    left_out: LeftOut = nothing,
    image_column_name: str = "image",
    label_column_name: str = "label",
    label_map: Mapping[str, str | None] | None = None,
    config_name: str | None = None,
    revision: str | None = None,
    train_split: str | None = None,
    validation_split: str | None = None,
    test_split: str | None = None,
    validation_fraction: float = 0.1,
    split_seed: int = 42,
) -> datasets.DatasetDict:
    """
    A data set of the Hub, reduced to the columns `image`, `label` (canonical order) and `row` (the position in the
    Hub's own split, from 0). Images are read as [`fer_hf.data.images`] says, and their bytes are in the tables.

    Labels are understood by name, never by number: the names of the label column's `ClassLabel`, or its strings, mean
    what [`~fer_hf.labels.canonical_name`] or `label_map` says. A column of bare integers is refused without a
    `label_map`. Contempt is an eighth class where the data set has it.

    Args:
        name (`str`):
            `"<owner>/<name>"` on the Hub, or the path of a local folder.
        cache_dir (`str` or `os.PathLike`, *optional*):
            Where the tables go. Defaults to the cache of `datasets`.
        left_out ([`~fer_hf.data.splits.LeftOut`], *optional*):
            What [`~fer_hf.data.load_dataset`] leaves out afterwards: validation is carved as if it were not there.
        image_column_name, label_column_name (`str`, *optional*, default to `"image"` and `"label"`):
            Columns to use.
        label_map (`Mapping[str, str | None]`, *optional*):
            What names mean that are not known, such as `{"glad": "happy", "0": "angry", "blurred": None}`. With `None`
            the rows are left out, and counted in the log.
        config_name, revision (`str`, *optional*):
            Which configuration and which state of the repository. Only with a revision that is a commit do the data
            stay the same for ever.
        train_split, validation_split, test_split (`str`, *optional*):
            What the splits are called there. By default the first name of [`~fer_hf.data.splits.SPLIT_NAMES`] that is
            there; splits that are not there are left out.
        validation_fraction, split_seed (*optional*, default to 0.1 and 42):
            As in [`fer_hf.data.imagefolder.source`]: where there is no validation split, it is carved from train.

    Returns:
        `datasets.DatasetDict`: Of `train`, `validation` and `test` those that are there.

    Raises:
        `DataError`: If the data set cannot be reached, has no such column or split, its labels have no names, or an
            image cannot be read; the message names its split and row.

    Example:

    ```python
    >>> from fer_hf.data import hub_dataset
    >>> tables = hub_dataset.load("owner/faces", label_column_name="emotion", revision="main")
    ```
    """
    columns = image_column_name, label_column_name
    wanted = {"train": train_split, "validation": validation_split, "test": test_split}
    tables = _choose_splits(name, _load(name, cache_dir, config_name, revision), wanted)
    for split, table in tables.items():
        _check_columns(f"{name}, {split}", table, *columns)

    labels = {split: _label_names(f"{name}, {split}", table, columns[1]) for split, table in tables.items()}
    found = sorted({label for names in labels.values() for label in names})
    meaning = _match(name, found, label_map, columns[1])
    classes = EXPRESSIONS_WITH_CONTEMPT if "contempt" in meaning.values() else EXPRESSIONS
    for split, table in tables.items():
        # -1 for what is left out.
        numbers = [-1 if meaning[label] is None else classes.index(meaning[label]) for label in labels[split]]
        table = table.select_columns([columns[0]]).rename_columns({columns[0]: "image"})
        tables[split] = _with_labels(f"{name}, {split}", table, np.array(numbers, dtype=np.int64), classes)
    if "train" in tables and "validation" not in tables and validation_fraction != 0:
        train = tables["train"]
        kept, carved = carve_validation(train["label"][:], validation_fraction, split_seed, name, left_out(classes))
        tables["train"], tables["validation"] = train.select(kept), train.select(carved)
    return datasets.DatasetDict({split: tables[split] for split in SPLIT_NAMES if split in tables})


def _load(
    name: str, cache_dir: str | os.PathLike | None, config_name: str | None, revision: str | None
) -> datasets.DatasetDict:
    is_folder = os.path.isdir(os.path.expanduser(name))
    if not is_folder and not is_hub_id(name):
        raise DataError(f"`hub:` takes a folder or a name on the Hub, such as 'owner/faces': {no_such_path(name)}")
    if is_folder:
        check_files(os.path.expanduser(name))
    arguments = {
        "path": os.path.expanduser(name) if is_folder else name,
        "name": config_name,
        "revision": None if is_folder else revision,
        "cache_dir": None if cache_dir is None else os.path.abspath(os.path.expanduser(cache_dir)),
    }
    try:
        try:
            return datasets.load_dataset(**arguments)
        except pa.ArrowInvalid:  # a damaged cache; the files that it was made from are kept apart
            return datasets.load_dataset(**arguments, download_mode="reuse_cache_if_exists")
    # Offline and not found are among the OSErrors, a script or a wrong configuration are the others.
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = " ".join(str(error).split())
        reason = reason if len(reason) <= 200 else reason[:197] + "..."
        raise DataError(
            f"{name}: cannot be loaded ({reason}). Check name, configuration, revision and network; with "
            "HF_HUB_OFFLINE=1 only what was loaded before is there."
        ) from error


def _choose_splits(
    name: str, tables: datasets.DatasetDict, asked: dict[str, str | None]
) -> dict[str, datasets.Dataset]:
    chosen, there = {}, {split.lower(): split for split in tables}
    for split, usual in SPLIT_NAMES.items():
        wanted = asked[split]
        if wanted is not None and wanted not in tables:
            raise DataError(f"{name}: no split {wanted!r} for `{split}_split`: {nearest(wanted, tables)}")
        wanted = wanted or next((there[candidate] for candidate in usual if candidate in there), None)
        if wanted in chosen.values():
            raise DataError(f"{name}: the split {wanted!r} is asked for twice, the second time as `{split}_split`.")
        if wanted is not None:
            chosen[split] = wanted
    if not chosen:
        raise DataError(
            f"{name}: no split is called train, validation or test. Name them, as in "
            f"train_split={next(iter(tables))!r}; there are {', '.join(tables)}."
        )
    if unused := [split for split in tables if split not in chosen.values()]:
        logger.warning(f"{name}: splits that are not used: {', '.join(unused)}")
    return {split: tables[wanted] for split, wanted in chosen.items()}


def _check_columns(where: str, table: datasets.Dataset, image_name: str, label_name: str):
    for column in (image_name, label_name):
        if column not in table.column_names:
            raise DataError(
                f"{where}: no column {column!r}; there are {', '.join(table.column_names)}. Name the right one with "
                "`image_column_name` or `label_column_name`."
            )
    image, label = table.features[image_name], table.features[label_name]
    if not isinstance(image, datasets.Image) and getattr(image, "dtype", "") not in ("binary", "large_binary"):
        raise DataError(
            f"{where}: the column {image_name!r} holds no images: {image}. Name another one with `image_column_name`."
        )
    if not isinstance(label, datasets.ClassLabel) and getattr(label, "dtype", "") not in _LABEL_DTYPES:
        raise DataError(
            f"{where}: the column {label_name!r} is no label: {label}. It must hold classes, strings or whole "
            "numbers; name another one with `label_column_name`."
        )


def _label_names(where: str, table: datasets.Dataset, column: str) -> list[str]:
    """The label of every row, as a name or as a number in decimal."""
    feature, values = table.features[column], table.with_format("arrow")[column][:].to_pylist()
    is_class_label = isinstance(feature, datasets.ClassLabel)
    # -1 is how unlabelled test splits are published.
    if missing := sum(value is None or (is_class_label and value < 0) for value in values):
        raise DataError(
            f"{where}: rows without a label: {missing:,} of {len(values):,}. Choose labelled splits with "
            "`train_split`, `validation_split` and `test_split`."
        )
    return [feature.int2str(value) if is_class_label else str(value) for value in values]


def _match(name: str, found: list[str], label_map: Mapping | None, column: str) -> dict[str, str | None]:
    if label_map is None and all(re.fullmatch("-?[0-9]+", label) for label in found):
        raise DataError(
            f"{name}: the classes in the column {column!r} have no names, only the numbers {', '.join(found)[:60]}. "
            "Numbers are not guessed: say what they mean, such as label_map={'0': 'angry', '1': 'fear'}."
        )
    return match_labels(found, label_map, name, "class")


def _with_labels(
    where: str, table: datasets.Dataset, labels: np.ndarray, classes: tuple[str, ...]
) -> datasets.Dataset:
    """A table of images with its labels and rows, without the rows whose label is -1."""
    table = table.cast_column("image", datasets.Image())
    images = [chunk for chunk in table.data.column("image").chunks if len(chunk)]
    if empty := sum(pc.and_(c.field("bytes").is_null(), c.field("path").is_null()).true_count for c in images):
        raise DataError(f"{where}: rows without an image: {empty:,} of {len(table):,}. Correct the data set.")
    features = face_features(classes)
    table = table.add_column("label", labels, feature=features["label"])
    table = table.add_column("row", np.arange(len(labels)), feature=features["row"])
    kept = np.flatnonzero(labels >= 0)
    if not len(kept):
        raise DataError(f"{where}: no row is left. Check `label_map`.")
    if len(kept) < len(labels):
        logger.info(f"{where}: rows left out by `label_map`: {len(labels) - len(kept):,} of {len(labels):,}")
        table = table.select(kept)
    # A cache is served under the same arguments.
    arguments = {"where": where, "version": FORMAT_VERSION}
    table = table.with_format("arrow")
    options = {"batched": True, "batch_size": _ROWS, "fn_kwargs": arguments, "desc": "reading images"}
    table = map_whole(table, _read_images, **options)
    return table.with_format(None)


def _read_images(table: pa.Table, where: str, version: int) -> pa.Table:
    """The table with its images as the other sources have them: bytes of plain JPEGs and PNGs, no paths."""
    images = []
    for image, row in zip(table["image"].to_pylist(), table["row"].to_pylist(), strict=True):
        content = read_bytes(image["path"]) if image["bytes"] is None else image["bytes"]
        images.append(encoded_image(content, f"{where}, row {row}"))
    at = table.schema.get_field_index("image")
    return table.set_column(at, table.schema.field(at), image_column(images))
