"""Pictures of data and scores: class balance, confusion, calibration, robustness, a leaderboard."""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from matplotlib.figure import Figure

from fer_hf.plots.style import BLUE, GRAY, GREEN, LINES, ORANGE, no_formulas
from fer_hf.words import plural


@no_formulas
def plot_reliability(
    counts: np.ndarray,
    confidence: np.ndarray,
    accuracy: np.ndarray,
    error: float,
    path: str | Path | BinaryIO,
    title: str,
) -> None:
    """
    Write a reliability diagram: accuracy over confidence, above the number of faces in each bin.

    Args:
        counts (`np.ndarray` of shape `(num_bins,)`): Faces by confidence, in bins of equal width from 0 to 1.
        confidence, accuracy (`np.ndarray` of shape `(num_bins,)`): Means over each bin's faces; nan without faces.
        error (`float`): Expected calibration error, in [0, 1].
        path (`str`, `Path` or binary file): PNG.
        title (`str`): What was measured on what.
    """
    figure = Figure(figsize=(6.4, 6.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    width = 1 / len(counts)
    left, filled = width * np.arange(len(counts)), counts > 0
    upper.bar(left, accuracy, width, align="edge", color=BLUE, edgecolor="white", label="accuracy")
    upper.plot([0, 1], [0, 1], color=GRAY, linestyle="--", label="accuracy = confidence")
    upper.plot(confidence[filled], accuracy[filled], "o", color=ORANGE, label="mean confidence of the bin")
    upper.set_ylim(0, 1.02)
    upper.set_ylabel("accuracy")
    upper.set_title(f"{title}\nexpected calibration error {error:.3f} ({len(counts)} bins)", fontsize=11)
    upper.legend(loc="upper left", fontsize=9)
    bars = lower.bar(left, counts, width, align="edge", color=GRAY, edgecolor="white")
    lower.bar_label(bars, [f"{count:,}" if count else "" for count in counts], fontsize=7, padding=2)
    lower.margins(y=0.25)
    lower.set_ylabel("faces")
    lower.set_xlabel("confidence (probability of the answer)")
    for axes in (upper, lower):
        axes.set_xlim(0, 1)
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
    figure.savefig(path, dpi=150)


@no_formulas
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


@no_formulas
def plot_class_balance(counts: dict[str, dict[str, int]], path: str | Path | BinaryIO, title: str) -> None:
    """
    Write the share of every class in every split, with the counts.

    Args:
        counts (`dict[str, dict[str, int]]`): Faces of each class, by split.
        path (`str`, `Path` or binary file): PNG.
        title (`str`): Of which data set.
    """
    splits = {split: by_class for split, by_class in counts.items() if any(by_class.values())}
    names = list(next(iter(splits.values())))
    figure = Figure(figsize=(8, 0.25 * len(splits) * len(names) + 1.4), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(splits)
    for number, (split, by_class) in enumerate(splits.items()):
        total = sum(by_class.values())
        shares = np.array([by_class[name] for name in names]) / total
        colour = (BLUE, ORANGE, GREEN, GRAY)[number % 4]
        bars = axes.barh(np.arange(len(names)) + number * height, shares, height, color=colour)
        bars.set_label(f"{split} ({plural(total, 'face')})")
        axes.bar_label(bars, [f"{by_class[name]:,}" for name in names], padding=3, fontsize=8)
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


@no_formulas
def plot_confusion_matrix(
    counts: Sequence[Sequence[int]], names: Sequence[str], path: str | Path | BinaryIO, title: str
) -> None:
    """
    Write a confusion matrix: counts, coloured by the share of the true class.

    Args:
        counts (`Sequence[Sequence[int]]`): A row for each true class, a column for each predicted one.
        names (`Sequence[str]`): The classes.
        path (`str`, `Path` or binary file): PNG.
        title (`str`): What was measured on what.
    """
    counts = np.array(counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(6.2, 5.6), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*counts.shape):
        share = shares[row, column]
        text = f"{counts[row, column]:,}\n{share:.0%}"
        axes.text(column, row, text, ha="center", va="center", color="white" if share > 0.5 else "black", fontsize=9)
    axes.set_xticks(range(len(names)), names, rotation=30)
    axes.set_yticks(range(len(names)), names)
    accuracy = counts.trace() / max(counts.sum(), 1)
    axes.set_title(f"{title}\naccuracy {accuracy:.1%} of {plural(counts.sum(), 'face')}", fontsize=11)
    axes.set_xlabel("predicted (percent of the true class)")
    axes.set_ylabel("true")
    figure.savefig(path, dpi=150)


@no_formulas
def plot_leaderboard(
    rows: Sequence[tuple[str, float | None, float, float | None]],
    path: str | Path | BinaryIO,
    title: str,
    scored_on: str,
    scores: tuple[str, str] = ("accuracy", "balanced accuracy"),
) -> None:
    """
    Write a score of several models, one below the other, and another one beside it.

    Args:
        rows (`Sequence` of tuples): From top to bottom: name, score (`None` if it was not run), its standard deviation
            (0 if there is one seed only) and the other score (`None` if there is none), in [0, 1].
        path (`str`, `Path` or binary file): PNG.
        title (`str`): What was measured on what.
        scored_on (`str`): The split and how many faces it has, below the axis.
        scores (`tuple[str, str]`): Names of the score and of the other one.
    """
    names, values, spreads, others = zip(*rows[::-1], strict=True)
    figure = Figure(figsize=(8, 1.4 + 0.32 * len(names)), layout="constrained")
    axes = figure.subplots()
    places, widths = range(len(names)), [value or 0.0 for value in values]
    axes.barh(places, widths, xerr=spreads, color=BLUE, height=0.7, label=scores[0], ecolor="black")
    dots = [float("nan") if other is None else other for other in others]
    axes.plot(dots, places, "o", color="white", markeredgecolor="black", label=scores[1])
    for place, value, spread, width, dot in zip(places, values, spreads, widths, dots, strict=True):
        text, end = " not run" if value is None else f" {value:.3f}", width + spread
        crossed = value is not None and end - 0.01 < dot < end + 0.1  # by a dot: the figure goes into the bar
        place_of_text = {"x": width - spread, "ha": "right", "color": "white"} if crossed else {"x": end}
        axes.text(y=place, s=text + " " * crossed, va="center", fontsize=9, **place_of_text)
    axes.set_yticks(places, names)
    axes.set_xlim(0, max(*widths, *(other or 0.0 for other in others)) * 1.15 or 1.0)
    axes.set_xlabel(scored_on)
    axes.set_title(title, fontsize=11, wrap=True)
    axes.grid(axis="x", color=GRAY, alpha=0.3)
    figure.legend(loc="outside lower right", ncols=2, fontsize=9)  # inside it would cover the figures of few rows
    figure.savefig(path, dpi=150)
