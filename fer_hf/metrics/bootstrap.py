"""How far a score would move on other faces of the same kind: percentile bootstrap, without resampling any face."""

import numpy as np


NUM_DRAWS = 2000
LEVEL = 0.95


def bootstrap_intervals(
    predictions: np.ndarray,
    references: np.ndarray,
    num_draws: int = NUM_DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, list[float]]:
    """
    Percentile intervals (Efron and Tibshirani, 1993) of accuracy, macro F1 and balanced accuracy over the faces.

    Faces that share true and predicted class cannot be told apart by these scores, so that the cells of the confusion
    matrix are drawn from their multinomial distribution, which is what drawing faces with replacement comes to. If
    no face is wrong, or none is right, the interval is a point: these faces cannot tell how far other faces differ.

    Args:
        predictions, references (`np.ndarray` of shape `(num_faces,)`): Class ids, of one face at least.
        num_draws (`int`, defaults to 2000): Resampled sets.
        level (`float`, defaults to 0.95): Share of the sets within an interval.
        seed (`int`, defaults to 0): The same intervals for the same seed.

    Returns:
        `dict[str, list[float]]`: `accuracy`, `macro_f1` and `balanced_accuracy`, each `[low, high]` in [0, 1].
    """
    classes, ids = np.unique(np.concatenate([references, predictions]), return_inverse=True)
    true, predicted = np.split(ids.reshape(-1), 2)
    cells = np.bincount(true * len(classes) + predicted, minlength=len(classes) ** 2)
    drawn = draw_counts(cells, num_draws, seed).reshape(num_draws, len(classes), len(classes))
    return {name: interval(values, level) for name, values in confusion_scores(drawn).items()}


def draw_counts(counts: np.ndarray, num_draws: int = NUM_DRAWS, seed: int = 0) -> np.ndarray:
    """
    Draw as many things again, with replacement, and count each kind.

    Args:
        counts (`np.ndarray` of shape `(num_cells,)`): How often each kind was seen, 1 or more in all.
        num_draws (`int`, defaults to 2000): Resampled sets.
        seed (`int`, defaults to 0): Any integer from 0.

    Returns:
        `np.ndarray` of shape `(num_draws, num_cells)`: Rows sum to `counts.sum()`.
    """
    total, seen = counts.sum(), np.flatnonzero(counts)
    if total == 0:
        raise ValueError("A bootstrap needs one face at least, and got none.")
    drawn = np.zeros((num_draws, len(counts)), dtype=np.int64)
    drawn[:, seen] = np.random.default_rng(seed).multinomial(total, counts[seen] / total, size=num_draws)
    return drawn


def confusion_scores(confusions: np.ndarray) -> dict[str, np.ndarray]:
    """
    The scores of many confusion matrices at once, as [`~fer_hf.metrics.ExpressionMetrics`] has them: balanced accuracy
    is over the classes that have faces, macro F1 over those that have faces or were predicted.

    Args:
        confusions (`np.ndarray` of shape `(num_draws, num_labels, num_labels)`): Counts, a row for each true class.

    Returns:
        `dict[str, np.ndarray]`: `accuracy`, `macro_f1`, `balanced_accuracy`, each of shape `(num_draws,)`.
    """
    right = confusions.diagonal(axis1=1, axis2=2)  # (num_draws, num_labels)
    support, predicted = confusions.sum(axis=2), confusions.sum(axis=1)
    return {
        "accuracy": right.sum(axis=1) / support.sum(axis=1),
        "macro_f1": _mean_where(2 * right, support + predicted),
        "balanced_accuracy": _mean_where(right, support),
    }


def _mean_where(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Mean over the classes of the quotient, where there is something to divide by."""
    return (numerator / np.maximum(denominator, 1)).sum(axis=1) / (denominator > 0).sum(axis=1)


def interval(values: np.ndarray, level: float = LEVEL) -> list[float]:
    """The middle `level` of the values, as `[low, high]`; values that are not numbers are left out."""
    return np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2]).tolist()
