"""Predictions: written whole, read back to the bit, refused in one line; and which of them to look at."""

import numpy as np
import pytest

from fer_hf.errors import BadInputError
from fer_hf.evaluation.predictions import Predictions, first_right, load_predictions, save_predictions, sure_and_wrong


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


def test_wrong_faces_come_by_confidence_and_right_ones_by_turns():
    logits = np.log([[0.7, 0.3], [0.1, 0.9], [0.2, 0.8], [0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    labels = np.array([1, 0, 0, 0, 0, 1])
    assert sure_and_wrong(logits, labels, 9).tolist() == [1, 2, 0]
    assert sure_and_wrong(logits, labels, 2).tolist() == [1, 2]
    assert first_right(logits, labels, 1).tolist() == [3, 5]
    assert first_right(logits, labels, 2).tolist() == [3, 5, 4]
    assert sure_and_wrong(logits, logits.argmax(axis=1), 9).tolist() == []
