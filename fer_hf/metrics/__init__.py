"""`evaluate.Metric` modules that need no network: `evaluate.load` would fetch a script from the Hub."""

import datasets
import evaluate
import numpy as np
from sklearn.metrics import accuracy_score, f1_score, recall_score
from transformers import EvalPrediction

from fer_hf.metrics.bootstrap import bootstrap_intervals
from fer_hf.metrics.calibration import (
    calibrated_probabilities,
    calibration_bins,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
)
from fer_hf.metrics.time_to_accuracy import time_to_accuracy


__all__ = [
    "METRICS",
    "ExpressionMetrics",
    "bootstrap_intervals",
    "calibrated_probabilities",
    "calibration_bins",
    "classification_metrics",
    "expected_calibration_error",
    "fit_temperature",
    "negative_log_likelihood",
    "time_to_accuracy",
]


# What [`ExpressionMetrics`] gives.
METRICS = ("accuracy", "macro_f1", "weighted_f1", "balanced_accuracy")


class ExpressionMetrics(evaluate.Metric):
    """
    Accuracy, macro F1, weighted F1 and balanced accuracy, all by scikit-learn. Balanced accuracy is the mean of the
    recalls of the classes that have faces, the "average accuracy" of DACL (Farzaneh and Qi, 2021).

    `compute(predictions=..., references=...)` takes class ids and returns values in [0, 1].
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            inputs_description="predictions, references: class ids",
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        present = np.unique(references)
        return {
            "accuracy": float(accuracy_score(references, predictions)),
            "macro_f1": float(f1_score(references, predictions, average="macro", zero_division=0)),
            "weighted_f1": float(f1_score(references, predictions, average="weighted", zero_division=0)),
            "balanced_accuracy": float(
                recall_score(references, predictions, average="macro", labels=present, zero_division=0)
            ),
        }


def classification_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """
    [`ExpressionMetrics`] of logits, as `Trainer(compute_metrics=...)` calls it; of a soft label, the largest share
    (of equal ones the first) is the true class.
    """
    logits = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
    labels = prediction.label_ids
    labels = labels.argmax(-1) if labels.ndim == 2 else labels
    return ExpressionMetrics().compute(predictions=logits.argmax(-1), references=labels)
