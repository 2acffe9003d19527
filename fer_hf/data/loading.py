"""`load_dataset`: any source of faces, by name, as tables."""

import inspect
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from datasets import DatasetDict, IterableDatasetDict

from fer_hf.data import fer2013, ferplus, hub_dataset, imagefolder, rafdb, synthetic
from fer_hf.data.builder import build, stream
from fer_hf.data.select import deduplicate_train, kept_classes, left_out_ids, select_classes
from fer_hf.data.source import Source
from fer_hf.data.splits import LeftOut
from fer_hf.errors import DataError, nearest, parse_map


# What `load_dataset` knows: name -> function that describes the data set as a `Source`.
SOURCES = {
    "fer2013": fer2013.source,
    "ferplus": ferplus.source,
    "imagefolder": imagefolder.source,
    "rafdb": rafdb.source,
    "synthetic": synthetic.source,
}

logger = logging.getLogger(__name__)


def load_dataset(
    name: str,
    data_dir: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
    num_proc: int | None = None,
    streaming: bool = False,
    classes: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    deduplicate: str | None = None,
    **options: Any,
) -> DatasetDict | IterableDatasetDict:
    """
    A data set of faces with its official splits, as Arrow tables.

    The tables are written once and then served from the cache, until a byte of the files or an option changes.

    Args:
        name (`str`):
            `"fer2013"` or `"rafdb"` (your own copy, see [`fer2013.source`] and [`rafdb.source`] for the layouts),
            `"ferplus"` (FER-2013's faces with FER+'s labels, see [`ferplus.source`]), `"imagefolder"` (your own
            images, see [`imagefolder.source`]), `"hub:<owner/name>"` (a data set of the Hub, see
            [`hub_dataset.load`]) or `"synthetic"` (drawn faces, for trying things out, see [`synthetic.source`]).
        data_dir (`str` or `os.PathLike`, *optional*):
            The folder with the data set's files. Needed by every data set but `"synthetic"`. Nothing is downloaded.
        cache_dir (`str` or `os.PathLike`, *optional*):
            Where the Arrow files go. Defaults to the cache of `datasets` (`$HF_HOME/datasets`).
        num_proc (`int`, *optional*):
            Number of processes that write the tables; has no influence on them.
        streaming (`bool`, *optional*, defaults to `False`):
            Whether to read faces only as they are asked for, and to write no tables.
        classes, exclude (`Sequence[str]`, *optional*):
            The expressions to use, or those to leave out, by name. Labels are numbered anew from 0 without gaps, see
            [`~fer_hf.data.select.select_classes`]; what is left out is counted in the log. Splits that a source lacks
            are carved out of the faces that stay.
        deduplicate (`str`, *optional*):
            `"train"` leaves out of train the faces that are also in validation or test, pixel for pixel; takes a few
            seconds. Not with `streaming`.
        options (keyword arguments):
            The data set's own, such as `layout="folders"` for `"fer2013"`.

    Returns:
        `DatasetDict`, or `IterableDatasetDict` if streaming: `train`, `validation` and `test`, each with the columns

        - `image` (`datasets.Image`): the face; 48x48 pixels in 256 grays for `"fer2013"`,
        - `label` (`datasets.ClassLabel`): the expression, in the order of [`fer_hf.labels.EXPRESSIONS`],
        - `row` (`int`): where the face is in the source, such as the row of its CSV counted from 0,

        and what a data set adds by option.

    Raises:
        `DataError`: If the name or an option is not known, `data_dir` is missing, or a file is not what it should be.
            The cache is left as it was.

    Example:

    ```python
    >>> from fer_hf.data import load_dataset
    >>> tables = load_dataset("fer2013", data_dir="~/data/fer2013")
    >>> tables.num_rows
    {'train': 28709, 'validation': 3589, 'test': 3589}
    >>> tables["train"].features["label"].names
    ['angry', 'disgust', 'fear', 'happy', 'sad', 'surprise', 'neutral']
    >>> tables["train"][0]["image"].size
    (48, 48)
    ```
    """
    if deduplicate not in (None, "train"):
        raise DataError(f"`deduplicate` must be 'train' or be left out, got {deduplicate!r}.")
    is_hub = name.startswith("hub:")
    if streaming and (deduplicate or num_proc or is_hub):
        option = "deduplicate" if deduplicate else "num_proc" if num_proc else "hub:"
        raise DataError(f"`{option}` needs tables, and `streaming` writes none. Leave one of the two out.")
    left_out = partial(left_out_ids, classes=classes, exclude=exclude)
    if is_hub:
        if data_dir is not None:
            raise DataError(f"`data_dir` must be left out for {name}, got {str(data_dir)!r}.")
        _check_options(name, hub_dataset.load, options)
        tables = hub_dataset.load(name.removeprefix("hub:"), cache_dir=cache_dir, left_out=left_out, **options)
        features = next(iter(tables.values())).features
    else:
        source = _describe(name, data_dir, options, left_out)
        features = source.features
    # Before tables are written: a wrong name is told at once.
    kept = None if classes is None and exclude is None else kept_classes(features["label"].names, classes, exclude)
    if not is_hub:
        tables = stream(source) if streaming else build(source, cache_dir=cache_dir, num_proc=num_proc)
    tables = tables if kept is None else select_classes(tables, kept)
    return deduplicate_train(tables) if deduplicate else tables


def load_named(
    name: str, data_dir: str | os.PathLike | None, options: Mapping | str | None, **more: Any
) -> DatasetDict | IterableDatasetDict:
    """
    [`load_dataset`] by the flags `dataset_name`, `data_dir` and `dataset_options`, in every recipe and command.

    Args:
        name, data_dir: As in [`load_dataset`].
        options (`Mapping` or `str`, *optional*): Its other arguments; as JSON if it is text.
        more (keyword arguments): Of the same kind, from flags of their own.

    Raises:
        `BadInputError`: As [`load_dataset`], and if `options` is no map, or has what is a flag of its own.
    """
    options = parse_map("dataset_options", options)
    for option in ("name", "data_dir", "streaming", *more):
        if option in options:
            raise DataError(f"`dataset_options` cannot set {option!r}, which is no option of the data set.")
    return load_dataset(name, data_dir, **options, **more)


def _check_options(name: str, load: Callable, options: dict) -> Mapping[str, inspect.Parameter]:
    """The parameters of what loads or describes a data set, to whose options `options` must belong."""
    parameters = inspect.signature(load).parameters
    known = sorted(set(parameters) - {"name", "data_dir", "cache_dir", "left_out"})
    for option in options:
        if option not in known:
            raise DataError(f"{name!r} has no option {option!r}: {nearest(option, known)}")
    return parameters


def _describe(name: str, data_dir: str | os.PathLike | None, options: dict, left_out: LeftOut) -> Source:
    if name not in SOURCES:
        raise DataError(f"There is no data set {name!r}: {nearest(name, SOURCES)} One of the Hub is hub:<owner/name>.")
    parameters = _check_options(name, SOURCES[name], options)
    if data_dir is None and parameters["data_dir"].default is inspect.Parameter.empty:
        raise DataError(f"{name!r} needs `data_dir`, the folder with its files. Nothing is downloaded.")
    carving = {"left_out": left_out} if "left_out" in parameters else {}
    source = SOURCES[name](data_dir, **options, **carving)
    if source.description:
        logger.info(f"{name}: {source.description}")
    return source
