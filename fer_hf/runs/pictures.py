"""The pictures of a run, none of which shows a face: their files, where a card shows them, and what is drawn."""

from collections.abc import Callable
from functools import partial

import fer_hf.plots as plots
from fer_hf.evaluation.predictions import Predictions
from fer_hf.metrics import calibrated_probabilities, calibration_bins
from fer_hf.runs.record import RunRecord


# By file, the section of the card that shows it and what it shows.
PICTURES = {
    "confusion_matrix.png": ("results", "Confusion matrix"),
    "validation_confusion_matrix.png": ("results", "Confusion matrix of validation"),
    "reliability.png": ("calibration", "Reliability diagram, without a temperature"),
    "learning_curves.png": ("training", "Learning curves"),
    "phases.png": ("training", "Phases of unfreezing"),
    "class_balance.png": ("data", "Faces by expression and split"),
}


def pictures_of(
    record: RunRecord, log_history: list[dict] | None, predictions: Predictions | None
) -> dict[str, Callable]:
    """
    What draws each picture of a run.

    Args:
        record ([`~fer_hf.runs.record.RunRecord`]): The run's.
        log_history (`list[dict]`, *optional*): Its log, for the learning curves.
        predictions (`Predictions`, *optional*): Of the split that is shown in detail, for the reliability diagram.

    Returns:
        `dict[str, Callable]`: By file of [`PICTURES`], a function of `path`, a file's name or a binary file.
    """
    name, drawn = record.dataset["name"], {}
    for split, report in record.results.items():
        file = "confusion_matrix.png" if split == record.last_split else f"{split}_confusion_matrix.png"
        matrix, classes = report["confusion_matrix"], list(report["per_class"])
        drawn[file] = partial(plots.plot_confusion_matrix, matrix, classes, title=f"{name}, {split}")
    if predictions is not None:
        bins = calibration_bins(calibrated_probabilities(predictions.logits), predictions.class_ids)
        drawn["reliability.png"] = partial(plots.plot_reliability, *bins, title=f"{name}, {record.last_split}")
    drawn["class_balance.png"] = partial(plots.plot_class_balance, record.dataset["counts"], title=name)
    if log_history is not None:
        marks = {"unfreezing": record.unfreezing, "best_epoch": record.best and record.best["epoch"]}
        drawn["learning_curves.png"] = partial(plots.plot_learning_curves, log_history, **marks)
    if len(record.phases) > 1:
        measured = "cuda" if record.hardware["device"] == "cuda" else "rss"
        memory = None if any(phase["peak_memory_mb"] is None for phase in record.phases) else measured
        drawn["phases.png"] = partial(plots.plot_phases, record.phases, memory)
    return drawn
