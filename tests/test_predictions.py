"""The file of predictions: written whole, read back to the bit, and refused in one line."""

import numpy as np
import pytest

from fer_hf.errors import BadInputError
from fer_hf.evaluation.predictions import Predictions, load_predictions, save_predictions


def test_what_was_written_is_read_back(tmp_path):
    logits = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    splits = {
        "validation": Predictions(logits[:2], np.array([0, 6])),
        "test": Predictions(logits[:, ::-1], np.full((5, 7), 1 / 7)),
    }
    assert save_predictions(tmp_path, splits).name == "predictions.safetensors"
    read = load_predictions(tmp_path)
    assert set(read) == {"validation", "test"}
    for split, predictions in splits.items():
        np.testing.assert_array_equal(read[split].logits, predictions.logits)
        np.testing.assert_array_equal(read[split].labels, predictions.labels)
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.safetensors"]


def test_a_folder_without_predictions_is_refused(tmp_path):
    with pytest.raises(BadInputError, match="holds no predictions"):
        load_predictions(tmp_path)
    (tmp_path / "predictions.safetensors").write_bytes(b"half")
    with pytest.raises(BadInputError, match="cannot be read"):
        load_predictions(tmp_path)
