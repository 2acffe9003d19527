"""`predictions.safetensors`: logits of every face that a run scored, from which reports and comparisons are made."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from fer_hf.errors import BadInputError
from fer_hf.files import whole


FILE = "predictions.safetensors"


class Predictions(NamedTuple):
    """
    What a model said of one split, in the split's own order.

    Args:
        logits (`np.ndarray` of shape `(num_faces, num_labels)`): float32, before softmax.
        labels (`np.ndarray` of shape `(num_faces,)` or `(num_faces, num_labels)`): Class ids, or soft labels.
    """

    logits: np.ndarray
    labels: np.ndarray

    @property
    def class_ids(self) -> np.ndarray:
        """True class ids; of a soft label, the largest share (of equal ones the first)."""
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
    What [`save_predictions`] wrote.

    Raises:
        BadInputError: If the folder has no such file, or it cannot be read.
    """
    path = Path(folder, FILE)
    if not path.is_file():
        raise BadInputError(f"{folder} holds no {FILE}: is it the output directory of a finished run?")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise BadInputError(f"{path} cannot be read: {error}.") from error
    splits = sorted({name.rpartition(".")[0] for name in tensors})
    return {split: Predictions(tensors[f"{split}.logits"], tensors[f"{split}.labels"]) for split in splits}
