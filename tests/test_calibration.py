"""Temperatures: found where they were put, kept in the config, and told what they do."""

import json

import numpy as np
import pytest
import torch
from helpers import with_config
from transformers import AutoConfig, AutoModelForImageClassification, pipeline

from fer_hf.cli.main import main
from fer_hf.errors import ModelError
from fer_hf.evaluation.evaluate import EvaluationOptions, evaluate
from fer_hf.evaluation.report import calibration, calibration_text
from fer_hf.labels import EXPRESSIONS
from fer_hf.metrics import calibrated_probabilities, calibration_bins, expected_calibration_error, fit_temperature
from fer_hf.metrics.calibration import TEMPERATURES
from fer_hf.models.loading import TEMPERATURE_KEY, load_image_classifier, load_trained_classifier
from fer_hf.runs.evaluations import save_evaluation


def honest_faces(num_faces=4000, scale=2.0):
    """Logits, and labels drawn with just the probabilities that these logits claim."""
    rng = np.random.default_rng(0)
    logits = scale * rng.normal(size=(num_faces, 7))
    chances = calibrated_probabilities(logits).cumsum(axis=1)
    return logits, (rng.random(num_faces)[:, None] > chances).sum(axis=1).clip(max=6)


@pytest.mark.numeric
@pytest.mark.parametrize("put", [0.5, 1.0, 2.5])
def test_a_temperature_is_found_where_it_was_put(put):
    logits, labels = honest_faces()
    assert fit_temperature(put * logits, labels) == pytest.approx(put * fit_temperature(logits, labels), rel=1e-4)
    assert fit_temperature(put * logits, labels) == pytest.approx(put, rel=0.05)


@pytest.mark.numeric
def test_the_temperature_is_the_one_that_lbfgs_finds():
    logits, labels = honest_faces(500)
    logits = 3 * torch.from_numpy(logits)
    temperature = torch.ones((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([temperature], line_search_fn="strong_wolfe", max_iter=100)

    def loss():
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(logits / temperature, torch.from_numpy(labels))
        value.backward()
        return value

    optimizer.step(loss)
    assert fit_temperature(logits.numpy(), labels) == pytest.approx(temperature.item(), rel=1e-4)


def test_calibrated_probabilities_are_a_softmax_that_keeps_the_first_choice():
    logits = np.array([[1.0, 2.0, 4.0], [3.0, -1.0, 0.0]])
    half = np.exp(logits / 2)
    np.testing.assert_allclose(calibrated_probabilities(logits, 2.0), half / half.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(calibrated_probabilities(logits), torch.from_numpy(logits).softmax(dim=1).numpy())
    for temperature in (0.1, 1.0, 10.0):
        assert calibrated_probabilities(logits, temperature).argmax(axis=1).tolist() == [2, 0]
    np.testing.assert_allclose(calibrated_probabilities(logits[0], 2.0).sum(), 1)


def test_what_has_no_best_temperature_gets_the_end_of_the_range():
    logits = np.eye(3)
    assert fit_temperature(logits, np.arange(3)) == pytest.approx(TEMPERATURES[0], rel=1e-3)
    assert fit_temperature(logits, (np.arange(3) + 1) % 3) == pytest.approx(TEMPERATURES[1], rel=1e-3)


def test_calibration_mends_what_was_too_sure_of_itself():
    logits, labels = honest_faces()
    result = calibration(4 * logits, labels, fit_temperature(4 * logits, labels))
    assert result["before"]["expected_calibration_error"] > 0.2
    assert result["after"]["expected_calibration_error"] < 0.03
    odds = calibrated_probabilities(4 * logits, result["temperature"])
    assert result["after"] == {
        "expected_calibration_error": pytest.approx(expected_calibration_error(odds, labels)),
        "negative_log_likelihood": pytest.approx(-np.log(odds[np.arange(4000), labels]).mean()),
    }
    assert result["before"]["negative_log_likelihood"] > result["after"]["negative_log_likelihood"]
    text = calibration_text(result)
    assert text.startswith(f"temperature {result['temperature']:.3f}: calibration error 0.")
    assert f"-> {result['after']['negative_log_likelihood']:.4f}" in text


def test_a_stored_temperature_is_read_back_and_nothing_else_changes(tiny_vit, tmp_path):
    tiny_vit.save_pretrained(tmp_path)
    before = json.loads((tmp_path / "config.json").read_text())
    for temperature in (1.5, 1.25):
        result = {"split": "validation", "report": {}, "calibration": {"temperature": temperature, "fitted_on": {}}}
        save_evaluation(result, str(tmp_path))
    assert json.loads((tmp_path / "config.json").read_text()) == {**before, TEMPERATURE_KEY: 1.25}
    model = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert getattr(model.config, TEMPERATURE_KEY) == 1.25
    model.save_pretrained(tmp_path / "again")
    assert getattr(AutoConfig.from_pretrained(tmp_path / "again"), TEMPERATURE_KEY) == 1.25


@pytest.mark.parametrize("value", ["1.5", 0, -1, float("nan"), float("inf"), None, True, [1.5]])
def test_a_temperature_that_is_none_is_named_by_file_and_key(classifier_folder, tmp_path, value):
    folder = with_config(classifier_folder, tmp_path, **{TEMPERATURE_KEY: value})
    complaint = f"{folder}/config.json: `calibration_temperature` must be a number above 0, got {value!r}."
    for load in (load_trained_classifier, lambda model: pipeline("facial-expression", model=model, detector="none")):
        with pytest.raises(ModelError) as refused:
            load(folder)
        assert str(refused.value) == complaint


def test_a_model_that_is_trained_on_is_no_longer_calibrated(classifier_folder, tmp_path):
    folder = with_config(classifier_folder, tmp_path, **{TEMPERATURE_KEY: 1.5})
    assert getattr(load_trained_classifier(folder)[0].config, TEMPERATURE_KEY) == 1.5
    for head in (None, "mlp3"):
        model, _ = load_image_classifier(folder, EXPRESSIONS, head)
        assert TEMPERATURE_KEY not in json.dumps(model.config.to_dict())


def test_transformers_still_takes_the_plain_name_for_text_generations(tiny_vit, tmp_path):
    # Why the key has a longer name. If this fails, `temperature` would do.
    tiny_vit.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "temperature": 1.5}))
    assert not hasattr(AutoConfig.from_pretrained(tmp_path), "temperature")


@pytest.mark.numeric
def test_the_command_fits_on_validation_and_keeps_it(tiny_vit, processor, drawn_faces, tmp_path, capsys):
    with torch.no_grad():
        tiny_vit.classifier.weight.mul_(20)  # far too sure of itself
    tiny_vit.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    options = ["--dataset_options", '{"train": 56, "validation": 28, "test": 28}']
    words = ["evaluate", "--model", str(tmp_path), *options]
    assert main([*words, "--calibrate", "--output", str(tmp_path / "result.json")]) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    found = result["calibration"]
    stored = json.loads((tmp_path / "config.json").read_text())[TEMPERATURE_KEY]
    assert found["temperature"] == stored > 1
    assert found["fitted_on"]["split"] == "validation"
    assert found["before"]["negative_log_likelihood"] == pytest.approx(result["report"]["loss"])
    assert found["before"]["expected_calibration_error"] == pytest.approx(
        result["report"]["expected_calibration_error"]
    )
    assert found["after"]["negative_log_likelihood"] < found["before"]["negative_log_likelihood"]
    assert f"temperature {stored:.3f}" in capsys.readouterr().out
    # A later evaluation tells what the stored temperature does, without fitting it again.
    later = evaluate(str(tmp_path), "synthetic", drawn_faces)["calibration"]
    assert {**later, "fitted_on": found["fitted_on"]} == found
    # Views are averaged before softmax: another temperature, which nobody fitted.
    assert "calibration" not in evaluate(str(tmp_path), "synthetic", drawn_faces, EvaluationOptions(tta="flip"))


# Bins


def test_calibration_bins_are_those_worked_out_by_hand():
    # Confidences 0.875, 0.875, 0.625, 0.625 and 0.5; answers 0, 0, 1, 1 and (of equals the first) 0.
    sure = np.array([[0.875, 0.125], [0.875, 0.125], [0.375, 0.625], [0.375, 0.625], [0.5, 0.5]])
    bins = calibration_bins(sure, np.array([0, 1, 1, 1, 1]), num_bins=4)
    # 0.5 is above 0.25 and up to 0.5.
    assert bins.counts.tolist() == [0, 1, 2, 2]
    assert bins.confidence[1:].tolist() == [0.5, 0.625, 0.875]
    assert bins.accuracy[1:].tolist() == [0, 1, 0.5]
    assert np.isnan([bins.accuracy[0], bins.confidence[0]]).all()
    assert bins.error == pytest.approx((0.5 + 2 * 0.375 + 2 * 0.375) / 5)
    assert calibration_bins(np.eye(2), np.array([0, 1])).counts.tolist() == [0] * 14 + [2]  # certain, in the last bin
