"""Carve a split out of another, for sources that lack one."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from fer_hf.errors import DataError
from fer_hf.words import plural


logger = logging.getLogger(__name__)

# What splits are called elsewhere, in any case of letters.
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}

# Reports on the challenge's train.csv test on a share of 0.2.
_DEFAULTS = {"test_fraction": 0.2, "validation_fraction": 0.1, "split_seed": 42}


def carve(
    labels: np.ndarray, fraction: float, seed: int, left_out: Sequence[int] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """
    Divides faces in two so that both parts hold the classes in the same proportions: scikit-learn's stratified
    `train_test_split`, whose rows are the same on every machine for the same labels, fraction and seed.

    Args:
        labels (`np.ndarray` of shape `(num_faces,)`):
            Class ids. The rows that come out depend on the order of these, so it must be the source's own.
        fraction (`float`):
            Share of the faces to take out, above 0 and below 1; their number is rounded up.
        seed (`int`):
            From 0 to 2**32 - 1.
        left_out (`Sequence[int]`, *optional*):
            Class ids whose faces stay out of it: all are kept, and the others divided as if there were none.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: Positions in `labels` of the faces that are kept and of those that are taken
        out, int64, each sorted; together they are every position once.

    Raises:
        `DataError`: If fraction or seed is out of range, or a class is too small to be in both parts.
    """
    if not isinstance(fraction, float) or not 0 < fraction < 1:
        raise DataError(f"The share of faces to take out must be a number between 0 and 1, got {fraction!r}.")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise DataError(f"The seed of a split must be a whole number from 0 to {2**32 - 1}, got {seed!r}.")
    num_faces, rows = len(labels), np.flatnonzero(~np.isin(labels, left_out))
    labels = np.asarray(labels)[rows]
    try:
        _, carved = train_test_split(rows, test_size=fraction, stratify=labels, random_state=seed)
    except ValueError as error:
        counts = dict(zip(*(part.tolist() for part in np.unique(labels, return_counts=True)), strict=True))
        raise DataError(
            f"A share of {fraction} cannot be taken out of {len(labels)} faces so that every class is in both "
            f"parts; faces by class id: {counts}. Use more faces or another share, such as `validation_fraction`."
        ) from error
    return np.setdiff1d(np.arange(num_faces), carved), np.sort(carved)


# From the names of a source's classes to the ids of those that are left out of its tables later.
LeftOut = Callable[[Sequence[str]], list[int]]


def nothing(names: Sequence[str]) -> list[int]:
    """The [`LeftOut`] of whoever wants all faces."""
    return []


def carve_validation(
    labels: Sequence[int], fraction: float, seed: int, where: str, left_out: Sequence[int] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """As [`carve`], with a line in the log that says how many of the training faces of `where` are taken out."""
    kept, carved = carve(np.asarray(labels), fraction, seed, left_out)
    num_faces = np.sum(~np.isin(labels, left_out))
    logger.info(
        f"{where}: no validation split, so {len(carved):,} of {num_faces:,} training faces are taken out for "
        f"validation, stratified, seed {seed}"
    )
    return kept, carved


def carve_missing(
    labels: np.ndarray,
    missing: tuple[str, ...],
    where: Any,
    left_out: Sequence[int] = (),
    **asked: float | int | None,
) -> tuple[dict[str, np.ndarray], str]:
    """
    Carves the splits that a source does not have out of its training faces: first test, so that the test faces do not
    depend on how many are used for validation, and validation out of what test leaves.

    Args:
        labels (`np.ndarray` of shape `(num_faces,)`):
            Class ids of the training faces, in the source's own order.
        missing (`tuple[str, ...]`):
            `"test"`, `"validation"`, both or none.
        where (`Any`):
            Path of the source, for complaints.
        left_out (`Sequence[int]`, *optional*):
            As in [`carve`]: they stay in `train`.
        asked (`float`, `int` or `None`):
            What the user asked for: `test_fraction` (0.2 if `None`), `validation_fraction` (0.1) and `split_seed`
            (42). A share of 0 leaves the split out.

    Returns:
        `tuple[dict[str, np.ndarray], str]`: Positions in `labels` of the faces of `train` and of each carved split,
        sorted; and a sentence that says what was carved, with the seed, empty if nothing was.

    Raises:
        `DataError`: As [`carve`], and if an option is given for a split that the source has.
    """
    needed = {f"{split}_fraction" for split in missing} | ({"split_seed"} if missing else set())
    for name, value in asked.items():
        if value is not None and name not in needed:
            raise DataError(f"`{name}` must be left out: {where} has its own {name.split('_')[0]}, which is used.")
    values = {name: default if asked.get(name) is None else asked[name] for name, default in _DEFAULTS.items()}

    parts, rest = {}, np.arange(len(labels))
    for split in ("test", "validation"):
        fraction = values[f"{split}_fraction"]
        if split in missing and (isinstance(fraction, bool) or fraction != 0):
            kept, carved = carve(np.asarray(labels)[rest], fraction, values["split_seed"], left_out)
            parts[split], rest = rest[carved], rest[kept]
    if not parts:
        return {"train": rest}, ""
    sizes = " and ".join(
        f"{split} ({plural(len(rows), 'face')})" for split, rows in sorted(parts.items(), reverse=True)
    )
    num_kept = np.sum(~np.isin(np.asarray(labels)[rest], left_out))
    sentence = (
        f"{sizes} carved out of train, which keeps {num_kept:,}: stratified, seed {values['split_seed']}. "
        "These are not official splits."
    )
    if len(left_out):
        sentence += " Expressions that are left out are not counted."
    return {"train": rest, **parts}, sentence
