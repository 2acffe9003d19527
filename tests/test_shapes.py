"""Files of a run that are valid JSON or safetensors, and wrong, are named with the key that is."""

import json

import numpy as np
import pytest
from run_records import run_record
from safetensors.numpy import save_file

from fer_hf.errors import BadInputError
from fer_hf.evaluation.predictions import load_predictions
from fer_hf.runs.run import Run
from fer_hf.runs.shapes import Report, check_shape


REPORT = {"num_faces": 7, "accuracy": 0.5, "per_class": {"happy": {"recall": 0.5}}, "intervals": {"accuracy": [0, 1]}}
FILES = {
    "run_record.json": run_record(results={"test": REPORT}),
    "config.json": {"model_type": "vit", "id2label": {"0": "happy"}},
    "trainer_state.json": {"log_history": [{"loss": 1.0}]},
    "evaluation/a.json": {
        "dataset": "fer2013",
        "split": "test",
        "report": REPORT,
        "parts": {"test": {"report": REPORT}},
    },
}


def read(run: Run) -> None:
    """Everything that is read of a run as JSON."""
    for name in ("record", "config", "log_history", "evaluations"):
        assert getattr(run, name)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "evaluation").mkdir()
    for name, content in FILES.items():
        (tmp_path / name).write_text(json.dumps(content))
    return tmp_path


def test_what_is_right_is_read(folder):
    read(Run(folder))


@pytest.mark.parametrize(
    ("file", "key", "value", "wanted"),
    [
        ("run_record.json", "seed", "17", "a whole number"),
        ("run_record.json", "seed", True, "a whole number"),
        ("run_record.json", "dataset", ["fer2013"], "a map"),
        ("run_record.json", "dataset.counts.train", 7, "a map"),
        ("run_record.json", "dataset.counts.train.happy", 7.5, "a whole number"),
        ("run_record.json", "model.parameters", "12M", "a whole number"),
        ("run_record.json", "runtime.train_seconds", float("nan"), "a finite number"),
        ("run_record.json", "results.test", None, "a map"),
        ("run_record.json", "results.test.accuracy", float("inf"), "a finite number"),
        ("run_record.json", "results.test.per_class.happy.recall", "high", "a finite number"),
        ("run_record.json", "results.test.intervals.accuracy", 0.5, "a list"),
        ("run_record.json", "results.test.intervals.accuracy.1", None, "a finite number"),
        ("run_record.json", "unfreezing.0.thawed", "classifier", "a list"),
        ("run_record.json", "best.value", None, "a finite number"),
        ("config.json", "id2label", ["happy"], "a map"),
        ("config.json", "id2label.0", 0, "a text"),
        ("trainer_state.json", "log_history", {}, "a list"),
        ("trainer_state.json", "log_history.0", 1, "a map"),
        ("evaluation/a.json", "report.accuracy", float("nan"), "a finite number"),
        ("evaluation/a.json", "parts.test.report", [], "a map"),
    ],
)
def test_what_is_of_another_kind_is_named_by_file_and_key(folder, file, key, value, wanted):
    content = json.loads((folder / file).read_text())
    place = content
    *above, last = key.split(".")
    for part in above:
        place = place[int(part) if isinstance(place, list) else part]
    place[int(last) if isinstance(place, list) else last] = value
    (folder / file).write_text(json.dumps(content))
    with pytest.raises(BadInputError) as refused:
        read(Run(folder))
    assert str(refused.value).startswith(f"{folder / file}: `{key}` must be {wanted}, got ")
    assert "\n" not in str(refused.value)


def test_keys_that_are_not_known_are_no_matter():
    check_shape({"accuracy": 1, "from_another_version": object()}, Report, "x.json")


@pytest.mark.parametrize(
    "tensors",
    [
        {"test.logits": np.zeros((2, 7))},
        {"test.labels": np.zeros(2, int)},
        {"test.logits": np.zeros((2, 7)), "test.labels": np.zeros(3, int)},
        {"test.logits": np.zeros(2), "test.labels": np.zeros(2, int)},
        {"test.logits": np.full((2, 7), np.nan), "test.labels": np.zeros(2, int)},
        {"weights": np.zeros((2, 7))},
    ],
)
def test_tensors_that_are_no_predictions_are_refused(tmp_path, tensors):
    save_file(tensors, tmp_path / "predictions.safetensors")
    with pytest.raises(BadInputError, match=r"predictions\.safetensors: `.*\.logits` must be numbers, a row for each"):
        load_predictions(tmp_path)
