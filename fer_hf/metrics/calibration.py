"""How far probabilities can be believed, and the one number that mends most of it."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax


NUM_BINS = 15
# Where a fitted temperature may lie. A model that is right on every face of validation would have 0.
TEMPERATURES = (0.05, 20.0)


class CalibrationBins(NamedTuple):
    """
    Faces by how sure the model was of its answer, in bins of equal width over [0, 1].

    Args:
        counts (`np.ndarray` of shape `(num_bins,)`): Faces in each bin.
        confidence, accuracy (`np.ndarray` of shape `(num_bins,)`): Means over each bin's faces; nan without faces.
        error (`float`): Expected calibration error, in [0, 1]: |accuracy - confidence|, averaged over faces.
    """

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    error: float


def calibration_bins(probabilities: np.ndarray, labels: np.ndarray, num_bins: int = NUM_BINS) -> CalibrationBins:
    """
    What a reliability diagram shows (Guo et al., 2017, https://huggingface.co/papers/1706.04599).

    Args:
        probabilities (`np.ndarray` of shape `(num_faces, num_labels)`): Rows sum to 1. The largest is the confidence.
        labels (`np.ndarray` of shape `(num_faces,)`): True class ids.
        num_bins (`int`, defaults to 15): Of equal width over [0, 1]; a bin includes its upper end.
    """
    probabilities, labels = np.asarray(probabilities), np.asarray(labels)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    counts = np.bincount(bins, minlength=num_bins)
    with np.errstate(invalid="ignore"):  # 0 / 0 in a bin without faces
        means = [np.bincount(bins, weights=values, minlength=num_bins) / counts for values in (confidence, right)]
    gaps = np.bincount(bins, weights=right - confidence)
    return CalibrationBins(counts, *means, error=float(np.abs(gaps).sum() / len(labels)))


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, num_bins: int = NUM_BINS) -> float:
    """`error` of [`calibration_bins`]."""
    return calibration_bins(probabilities, labels, num_bins).error


def calibrated_probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """
    Softmax of the logits divided by a temperature: above 1 less sure of itself, and never another first choice.

    Args:
        logits (`np.ndarray` of shape `(..., num_labels)`): Before softmax.
        temperature (`float`, defaults to 1.0): Above 0.

    Returns:
        `np.ndarray`: float64, of the same shape; rows sum to 1.
    """
    return softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=-1)


def negative_log_likelihood(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> float:
    """
    Mean of -log p(true class) in nats, which from logits is exact however small p is.

    Args:
        logits (`np.ndarray` of shape `(num_faces, num_labels)`): Before softmax.
        labels (`np.ndarray` of shape `(num_faces,)`): True class ids.
        temperature (`float`, defaults to 1.0): Above 0.
    """
    log_odds = log_softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=1)
    return float(-log_odds[np.arange(len(labels)), labels].mean())


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """
    The temperature under which these labels are most likely (Guo et al., 2017): the loss has one minimum only.

    Args:
        logits (`np.ndarray` of shape `(num_faces, num_labels)`): Of faces that the model was not trained on.
        labels (`np.ndarray` of shape `(num_faces,)`): True class ids.

    Returns:
        `float`: Within [`TEMPERATURES`].
    """

    def loss(log_temperature: float) -> float:
        return negative_log_likelihood(logits, labels, float(np.exp(log_temperature)))

    found = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))
