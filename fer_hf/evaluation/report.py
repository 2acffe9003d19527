"""The numbers of an evaluation: one report for a split, as a dict and as text."""

import numpy as np
from sklearn.metrics import classification_report, confusion_matrix

from fer_hf.metrics import (
    ExpressionMetrics,
    bootstrap_intervals,
    calibrated_probabilities,
    expected_calibration_error,
    negative_log_likelihood,
)
from fer_hf.words import plural


_HEADLINE = {"accuracy": "accuracy", "macro F1": "macro_f1", "balanced accuracy": "balanced_accuracy"}


def expression_report(
    logits: np.ndarray, labels: np.ndarray, names: list[str], copies: np.ndarray | None = None
) -> dict:
    """
    Everything a table of results needs, from the logits of one split.

    Args:
        logits (`np.ndarray` of shape `(num_faces, num_labels)`): Before softmax.
        labels (`np.ndarray` of shape `(num_faces,)` or `(num_faces, num_labels)`):
            True class ids, or soft labels, of which the largest share is the true class.
        names (`list[str]`): The expressions, in label order.
        copies (`np.ndarray` of shape `(num_faces,)`, *optional*):
            True for faces that are also in train, as [`~fer_hf.data.copies.leaked_rows`] finds them.

    Returns:
        `dict`: `num_faces`; `accuracy`, `macro_f1`, `weighted_f1`, `balanced_accuracy` in [0, 1]; `loss`, the mean
        cross-entropy in nats; `expected_calibration_error` in [0, 1], over 15 bins; `intervals`, for three of the
        scores `[low, high]` (95 %, [`~fer_hf.metrics.bootstrap_intervals`]); where there are copies, and not only
        copies, `without_copies`, the [`headline`] of the other faces; `per_class`, for every name `precision`,
        `recall`, `f1` in [0, 1] and `support`; and `confusion_matrix`, counts with one row for each true class.
    """
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    labels = labels.argmax(axis=1) if labels.ndim == 2 else labels
    predicted, ids = logits.argmax(axis=1), list(range(len(names)))
    table = classification_report(labels, predicted, labels=ids, target_names=names, output_dict=True, zero_division=0)
    return {
        "num_faces": len(labels),
        **ExpressionMetrics().compute(predictions=predicted, references=labels),
        "loss": negative_log_likelihood(logits, labels),
        "expected_calibration_error": expected_calibration_error(calibrated_probabilities(logits), labels),
        "intervals": bootstrap_intervals(predicted, labels),
        **_without(copies, predicted, labels),
        "per_class": {
            name: {
                "precision": float(table[name]["precision"]),
                "recall": float(table[name]["recall"]),
                "f1": float(table[name]["f1-score"]),
                "support": int(table[name]["support"]),
            }
            for name in names
        },
        "confusion_matrix": confusion_matrix(labels, predicted, labels=ids).tolist(),
    }


def of_sample(report: dict, num_faces: int, limit: int | None) -> dict:
    """
    The report, with `max_eval_samples` if it is of a sample of the split: whoever shows it says so.

    Args:
        report (`dict`): From [`expression_report`].
        num_faces (`int`): Faces that were scored.
        limit (`int`, *optional*): How many faces of each split were to be taken; all by default.
    """
    return report if limit is None or num_faces < limit else {**report, "max_eval_samples": limit}


def with_averages(per_class: dict[str, dict]) -> dict[str, dict]:
    """
    The rows of a table by class, and below them scikit-learn's `macro avg`, the mean over the classes, and
    `weighted avg`, the mean over the faces.

    Args:
        per_class (`dict[str, dict]`): Of a report: by class `precision`, `recall`, `f1` and `support`.
    """
    support = np.array([row["support"] for row in per_class.values()])
    weights = {"macro avg": np.ones(len(support)), "weighted avg": support}
    averages = {
        title: {
            score: float(np.average([row[score] for row in per_class.values()], weights=weight))
            for score in ("precision", "recall", "f1")
        }
        for title, weight in weights.items()
    }
    return {**per_class, **{title: {**row, "support": int(support.sum())} for title, row in averages.items()}}


def score_rows_of(reports: dict[str, dict], without_copies: str) -> list[tuple[str, dict]]:
    """
    The rows of a table of scores: a name and figures.

    Args:
        reports (`dict[str, dict]`): By name, such as the split.
        without_copies (`str`): What is said in the row below one, of its faces that have no copy in train.
    """
    rows = []
    for name, report in reports.items():
        name += ", a sample" * ("max_eval_samples" in report)
        rows.append((name, report))
        if "without_copies" in report:
            rows.append((f"{name}, {without_copies}", report["without_copies"]))
    return rows


def headline(predicted: np.ndarray, labels: np.ndarray) -> dict:
    """
    What is told of a part of a split.

    Args:
        predicted, labels (`np.ndarray` of shape `(num_faces,)`): Class ids, of one face at least.

    Returns:
        `dict`: `num_faces`, `accuracy`, `macro_f1`, `balanced_accuracy` and their `intervals`.
    """
    scores = ExpressionMetrics().compute(predictions=predicted, references=labels)
    return {
        "num_faces": len(labels),
        **{name: scores[name] for name in _HEADLINE.values()},
        "intervals": bootstrap_intervals(predicted, labels),
    }


def _without(copies: np.ndarray | None, predicted: np.ndarray, labels: np.ndarray) -> dict:
    if copies is None or not copies.any() or copies.all():
        return {}
    return {"without_copies": headline(predicted[~copies], labels[~copies])}


def report_text(report: dict, title: str) -> str:
    """
    A report as a table for the terminal.

    Args:
        report (`dict`): From [`expression_report`].
        title (`str`): First line, such as the split.
    """
    rows = with_averages(report["per_class"])
    width = max(map(len, rows))
    lines = [f"{title}: {_faces(report)}", *_headline_lines(report)]
    if "expected_calibration_error" in report:
        lines.append(f"{'calibration error':<20} {report['expected_calibration_error']:.4f}")
    if rest := report.get("without_copies"):
        copies = report["num_faces"] - rest["num_faces"]
        lines += ["", f"without the {copies:,} that train holds as well: {plural(rest['num_faces'], 'face')}"]
        lines += _headline_lines(rest)
    lines += ["", f"{'':<{width}}  precision   recall       F1  support"]
    for name, row in rows.items():
        scores = f"{row['precision']:>9.3f}  {row['recall']:>7.3f}  {row['f1']:>7.3f}"
        lines.append(f"{name:<{width}}  {scores}  {row['support']:>7,}")
    return "\n".join(lines)


def summary_text(report: dict, title: str) -> str:
    """
    The headline figures of a report in a line, and without copies in a second.

    Args:
        report (`dict`): From [`expression_report`].
        title (`str`): How the line begins, such as the split.
    """
    lines = [f"{title}: {_summary(report)}"]
    if rest := report.get("without_copies"):
        lines.append(f"without the {report['num_faces'] - rest['num_faces']:,} that train holds too: {_summary(rest)}")
    return "\n".join(lines)


def per_class_line(report: dict) -> str:
    """The F1 of every class in a line."""
    return "F1 by expression: " + ", ".join(f"{name} {row['f1']:.2f}" for name, row in report["per_class"].items())


def _summary(report: dict) -> str:
    low, high = report["intervals"]["accuracy"]
    accuracy = f"accuracy {report['accuracy']:.4f} ({low:.4f} to {high:.4f})"
    others = ", ".join(f"{title} {report[name]:.4f}" for title, name in _HEADLINE.items() if name != "accuracy")
    return f"{_faces(report)}, {accuracy}, {others}"


def _faces(report: dict) -> str:
    sample = (
        ", a sample of the split (max_eval_samples), which is no result of the split"
        if "max_eval_samples" in report
        else ""
    )
    return plural(report["num_faces"], "face") + sample


def _headline_lines(report: dict) -> list[str]:
    lines = []
    for title, name in _HEADLINE.items():
        low, high = report.get("intervals", {}).get(name, (None, None))
        span = "" if low is None else f"  ({low:.4f} to {high:.4f})"
        lines.append(f"{title:<20} {report[name]:.4f}{span}")
    return lines


def calibration(logits: np.ndarray, labels: np.ndarray, temperature: float) -> dict:
    """
    The scores of a split's probabilities, before and after division by a temperature.

    Args:
        logits (`np.ndarray` of shape `(num_faces, num_labels)`): Before softmax.
        labels (`np.ndarray` of shape `(num_faces,)`): True class ids.
        temperature (`float`): From [`~fer_hf.metrics.fit_temperature`].

    Returns:
        `dict`: `temperature`; `before` and `after`, each with `expected_calibration_error` and
        `negative_log_likelihood`.
    """
    result = {"temperature": temperature}
    for name, value in (("before", 1.0), ("after", temperature)):
        probabilities = calibrated_probabilities(logits, value)
        result[name] = {
            "expected_calibration_error": expected_calibration_error(probabilities, labels),
            "negative_log_likelihood": negative_log_likelihood(logits, labels, value),
        }
    return result


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
