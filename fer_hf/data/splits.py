"""Takes one split out of another, for sources that publish too few."""

import numpy as np
from sklearn.model_selection import train_test_split

from fer_hf.errors import DataError


def carve(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
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

    Returns:
        `tuple[np.ndarray, np.ndarray]`: Positions in `labels` of the faces that are kept and of those that are taken
        out, int64, each sorted; together they are every position once.

    Raises:
        `DataError`: If fraction or seed is out of range, or the classes are too small to stand in both parts.
    """
    if not isinstance(fraction, float) or not 0 < fraction < 1:
        raise DataError(f"The share of faces to take out must be a number between 0 and 1, got {fraction!r}.")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise DataError(f"The seed of a split must be a whole number from 0 to {2**32 - 1}, got {seed!r}.")
    labels = np.asarray(labels)
    try:
        kept, carved = train_test_split(np.arange(len(labels)), test_size=fraction, stratify=labels, random_state=seed)
    except ValueError as error:
        counts = dict(zip(*(part.tolist() for part in np.unique(labels, return_counts=True)), strict=True))
        raise DataError(
            f"A share of {fraction} cannot be taken out of {len(labels)} faces so that every class stands in both "
            f"parts; faces by class id: {counts}. Use more faces or another share."
        ) from error
    return np.sort(kept), np.sort(carved)
