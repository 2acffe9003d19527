"""The numbers of an evaluation: one report for a split, as a dict and as text."""

import numpy as np
from scipy.special import log_softmax
from sklearn.metrics import classification_report, confusion_matrix

from fer_hf.metrics import ExpressionMetrics


def expression_report(logits: np.ndarray, labels: np.ndarray, names: list[str]) -> dict:
    """
    Everything a table of results needs, from the logits of one split.

    Args:
        logits (`np.ndarray` of shape `(num_faces, num_labels)`): Before softmax.
        labels (`np.ndarray` of shape `(num_faces,)`): True class ids.
        names (`list[str]`): The expressions, in label order.

    Returns:
        `dict`: `num_faces`; `accuracy`, `macro_f1`, `weighted_f1`, `mean_class_accuracy` in [0, 1]; `loss`, the mean
        cross-entropy in nats; `per_class`, for every name `precision`, `recall`, `f1` in [0, 1] and `support`; and
        `confusion_matrix`, counts with one row for each true class.
    """
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    predicted, ids = logits.argmax(axis=1), list(range(len(names)))
    table = classification_report(labels, predicted, labels=ids, target_names=names, output_dict=True, zero_division=0)
    return {
        "num_faces": len(labels),
        **ExpressionMetrics().compute(predictions=predicted, references=labels),
        "loss": float(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean()),
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


def report_text(report: dict, title: str) -> str:
    """
    A report as a table for the terminal.

    Args:
        report (`dict`): From [`expression_report`].
        title (`str`): First line, such as the split.
    """
    width = max(map(len, report["per_class"]))
    lines = [
        f"{title}: {report['num_faces']:,} faces",
        f"{'accuracy':<20} {report['accuracy']:.4f}",
        f"{'macro F1':<20} {report['macro_f1']:.4f}",
        f"{'mean class accuracy':<20} {report['mean_class_accuracy']:.4f}",
        "",
        f"{'':<{width}}  precision   recall       F1  support",
    ]
    for name, row in report["per_class"].items():
        scores = f"{row['precision']:>9.3f}  {row['recall']:>7.3f}  {row['f1']:>7.3f}"
        lines.append(f"{name:<{width}}  {scores}  {row['support']:>7,}")
    return "\n".join(lines)
