"""The logits of every face that was scored: kept in `predictions.safetensors`, and which faces to look at."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from fer_hf.errors import BadInputError
from fer_hf.files import whole
from fer_hf.metrics import calibrated_probabilities


FILE = "predictions.safetensors"


class Predictions(NamedTuple):
    """
    A model's logits for one split, in the split's own order, with the labels.

    Args:
        logits (`np.ndarray` of shape `(num_faces, num_labels)`): float32, before softmax.
        labels (`np.ndarray` of shape `(num_faces,)` or `(num_faces, num_labels)`): Class ids, or soft labels.
    """

    logits: np.ndarray
    labels: np.ndarray

    @property
    def class_ids(self) -> np.ndarray:
        """True class ids; of a soft label, the class with the largest share (of equal ones the first)."""
        return self.labels.argmax(axis=-1) if self.labels.ndim == 2 else self.labels


def save_predictions(folder: str | Path, splits: dict[str, Predictions]) -> Path:
    """
    Write `predictions.safetensors` into `folder`, whole or not at all.

    Args:
        folder (`str` or `Path`): Output directory of a run.
        splits (`dict[str, Predictions]`): By name of the split.
    """
    path = Path(folder, FILE)
    tensors = {f"{split}.logits": np.ascontiguousarray(p.logits, np.float32) for split, p in splits.items()}
    tensors |= {f"{split}.labels": np.ascontiguousarray(p.labels) for split, p in splits.items()}
    with whole(path) as partial:
        save_file(tensors, partial)
    return path


def load_predictions(folder: str | Path) -> dict[str, Predictions]:
    """
    Read what [`save_predictions`] wrote.

    Raises:
        BadInputError: If the folder has no such file, or it cannot be read.
    """
    path = Path(folder, FILE)
    if not path.is_file():
        raise BadInputError(f"{folder} holds no {FILE}: is it the output folder of a finished run?")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise BadInputError(f"{path} cannot be read: {error}.") from error
    splits = sorted({name.rpartition(".")[0] for name in tensors})
    found = {split: [tensors.get(f"{split}.{kind}") for kind in ("logits", "labels")] for split in splits}
    for split, (logits, labels) in found.items():
        whole = logits is not None and labels is not None and logits.ndim == 2 and len(logits) == len(labels)
        if not (whole and np.isfinite(logits).all()):
            raise BadInputError(f"{path}: `{split}.logits` must be numbers, a row for each of `{split}.labels`.")
    return {split: Predictions(*pair) for split, pair in found.items()}


def sure_and_wrong(logits: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """
    Rows of the faces that the model got wrong, the most confident first; of equals the earlier row first.

    Args:
        logits (`np.ndarray` of shape `(num_faces, num_labels)`): Before softmax.
        labels (`np.ndarray` of shape `(num_faces,)`): True class ids.
        count (`int`): How many at most.

    Returns:
        `np.ndarray` of shape `(at most count,)`.
    """
    probabilities = calibrated_probabilities(logits)
    confidence, predicted = probabilities.max(axis=1), probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    return wrong[np.argsort(-confidence[wrong], kind="stable")][:count]


def first_right(logits: np.ndarray, labels: np.ndarray, per_class: int) -> np.ndarray:
    """Rows of faces that the model got right: the first one of every expression, then the second ones, and so on."""
    predicted, ids = np.argmax(logits, axis=1), range(np.shape(logits)[1])
    rows = [np.flatnonzero((labels == i) & (predicted == i))[:per_class] for i in ids]
    return np.array([found[turn] for turn in range(per_class) for found in rows if turn < len(found)], dtype=int)
