"""Pictures of data and scores: class balance, calibration, robustness."""

from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from scipy.special import softmax

from fer_hf.plots.style import BLUE, GRAY, GREEN, LINES, ORANGE


class CalibrationBins(NamedTuple):
    """
    Faces by how sure the model was of its answer.

    Args:
        edges (`np.ndarray` of shape `(num_bins + 1,)`): Of equally wide bins of confidence, from 0 to 1.
        counts (`np.ndarray` of shape `(num_bins,)`): Faces whose confidence is above a lower and up to an upper edge.
        confidence, accuracy (`np.ndarray` of shape `(num_bins,)`): Means over each bin's faces; nan without faces.
    """

    edges: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error: how far accuracy is from confidence, averaged over faces."""
        return float(np.nansum(self.counts * np.abs(self.accuracy - self.confidence)) / self.counts.sum())


def calibration_bins(logits: np.ndarray, labels: np.ndarray, num_bins: int = 15) -> CalibrationBins:
    """
    What a reliability diagram shows (Guo et al., 2017, https://huggingface.co/papers/1706.04599).

    Args:
        logits (`np.ndarray` of shape `(num_faces, num_labels)`): Before softmax.
        labels (`np.ndarray` of shape `(num_faces,)`): True class ids.
        num_bins (`int`, defaults to 15): Bins of equal width.
    """
    probabilities = softmax(np.asarray(logits, np.float64), axis=1)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, num_bins + 1)
    bins = np.clip(np.searchsorted(edges, confidence) - 1, 0, num_bins - 1)
    counts = np.bincount(bins, minlength=num_bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(bins, weights=values, minlength=num_bins) / counts for values in (confidence, right)]
    return CalibrationBins(edges, counts, *means)


def plot_reliability(bins: CalibrationBins, path: str | Path | BinaryIO, title: str) -> None:
    """
    Write a reliability diagram: accuracy over confidence, above the number of faces in each bin.

    Args:
        bins (`CalibrationBins`): From [`calibration_bins`].
        path (`str`, `Path` or binary file): PNG.
        title (`str`): What was measured on what.
    """
    figure = Figure(figsize=(6.4, 6.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    width, filled = bins.edges[1], bins.counts > 0
    upper.bar(bins.edges[:-1], bins.accuracy, width, align="edge", color=BLUE, edgecolor="white", label="accuracy")
    upper.plot([0, 1], [0, 1], color=GRAY, linestyle="--", label="accuracy = confidence")
    upper.plot(bins.confidence[filled], bins.accuracy[filled], "o", color=ORANGE, label="mean confidence of the bin")
    upper.set_ylim(0, 1.02)
    upper.set_ylabel("accuracy")
    upper.set_title(f"{title}\nexpected calibration error {bins.error:.3f} ({len(bins.counts)} bins)", fontsize=11)
    upper.legend(loc="upper left", fontsize=9)
    bars = lower.bar(bins.edges[:-1], bins.counts, width, align="edge", color=GRAY, edgecolor="white")
    lower.bar_label(bars, [f"{count:,}" if count else "" for count in bins.counts], fontsize=7, padding=2)
    lower.margins(y=0.25)
    lower.set_ylabel("faces")
    lower.set_xlabel("confidence (probability of the answer)")
    for axes in (upper, lower):
        axes.set_xlim(0, 1)
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
    figure.savefig(path, dpi=150)


def plot_robustness(robustness: dict[str, list[float]], path: str | Path | BinaryIO, title: str) -> None:
    """
    Write accuracy over the severity of each corruption.

    Args:
        robustness (`dict[str, list[float]]`): For each corruption the accuracies at severity 0 (none), 1, 2, ...
        path (`str`, `Path` or binary file): PNG.
        title (`str`): What was measured on what.
    """
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.subplots()
    for number, (name, accuracies) in enumerate(robustness.items()):
        style = {"color": LINES[number % len(LINES)], "marker": "osD^vPX"[number % 7]}
        axes.plot(range(len(accuracies)), accuracies, label=name.replace("_", " "), **style)
    axes.set_xticks(range(max(map(len, robustness.values()), default=1)))
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.set_xlabel("severity (0: the face as it is)")
    axes.set_ylabel("accuracy")
    axes.set_title(title, fontsize=11)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right center", fontsize=9)
    figure.savefig(path, dpi=150)


def plot_class_balance(counts: dict[str, dict[str, int]], path: str | Path | BinaryIO, title: str) -> None:
    """
    Write the share of every class in every split, with the counts.

    Args:
        counts (`dict[str, dict[str, int]]`): Faces of each class, by split.
        path (`str`, `Path` or binary file): PNG.
        title (`str`): Of which data set.
    """
    splits = {split: faces for split, faces in counts.items() if any(faces.values())}
    names = list(next(iter(splits.values())))
    figure = Figure(figsize=(8, 0.25 * len(splits) * len(names) + 1.4), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(splits)
    for number, (split, faces) in enumerate(splits.items()):
        total = sum(faces.values())
        shares = np.array([faces[name] for name in names]) / total
        colour = (BLUE, ORANGE, GREEN, GRAY)[number % 4]
        bars = axes.barh(np.arange(len(names)) + number * height, shares, height, color=colour)
        bars.set_label(f"{split} ({total:,} faces)")
        axes.bar_label(bars, [f"{faces[name]:,}" for name in names], padding=3, fontsize=8)
    axes.set_yticks(np.arange(len(names)) + 0.4 - height / 2, names)
    axes.invert_yaxis()  # the first class and the first split on top
    axes.margins(x=0.1, y=0.02)
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.set_xlabel("share of the split")
    axes.set_title(title, fontsize=11)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=len(splits), fontsize=9)
    figure.savefig(path, dpi=150)
