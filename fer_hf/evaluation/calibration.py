"""Calibration by one temperature, fitted on validation and kept in the model's own config.json."""

import json
from pathlib import Path

from fer_hf.evaluation.predictions import Predictions
from fer_hf.files import write_json
from fer_hf.metrics import calibrated_probabilities, expected_calibration_error, negative_log_likelihood
from fer_hf.models.loading import TEMPERATURE_KEY


def calibration(predictions: Predictions, temperature: float) -> dict:
    """
    The scores of a split's probabilities, before and after division by a temperature.

    Args:
        predictions (`Predictions`): Of the split.
        temperature (`float`): From [`~fer_hf.metrics.fit_temperature`].

    Returns:
        `dict`: `temperature`; `before` and `after`, each with `expected_calibration_error` and
        `negative_log_likelihood`.
    """
    result = {"temperature": temperature}
    for name, value in (("before", 1.0), ("after", temperature)):
        probabilities = calibrated_probabilities(predictions.logits, value)
        result[name] = {
            "expected_calibration_error": expected_calibration_error(probabilities, predictions.labels),
            "negative_log_likelihood": negative_log_likelihood(*predictions, value),
        }
    return result


def store_temperature(folder: str | Path, temperature: float) -> None:
    """Write a temperature into `config.json` in a model's folder; everything else in it stays."""
    path = Path(folder, "config.json")
    config = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, {**config, TEMPERATURE_KEY: temperature})


def calibration_text(result: dict) -> str:
    """The numbers of [`calibration`] as a line for the terminal."""
    changes = [
        f"{title} {result['before'][name]:.4f} -> {result['after'][name]:.4f}"
        for title, name in (
            ("calibration error", "expected_calibration_error"),
            ("negative log-likelihood", "negative_log_likelihood"),
        )
    ]
    return f"temperature {result['temperature']:.3f}: {', '.join(changes)}"
