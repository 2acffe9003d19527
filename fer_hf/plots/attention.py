"""Pictures of what a classifier attends to."""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fer_hf.plots.faces import draw_bars
from fer_hf.plots.style import no_formulas


@no_formulas
def plot_attention_strips(weights: np.ndarray, labels: Sequence[str], path: str | Path | BinaryIO, title: str) -> None:
    """
    Write attention weights of features as strips below each other, as DACL's authors show them.

    Args:
        weights (`np.ndarray` of shape `(num_strips, num_features)`): In [0, 1].
        labels (`Sequence[str]`): The expression of each strip, written once beside neighbours of the same.
        path (`str`, `Path` or binary file): PNG.
        title (`str`): Above the strips.
    """
    figure = Figure(figsize=(9, 0.2 * len(weights) + 1.4), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(weights, aspect="auto", interpolation="nearest", cmap="cividis", vmin=0, vmax=1)
    starts = [row for row in range(len(labels)) if row == 0 or labels[row] != labels[row - 1]]
    ends = [*starts[1:], len(labels)]
    middles = [(start + end - 1) / 2 for start, end in zip(starts, ends, strict=True)]
    axes.set_yticks(middles, [labels[start] for start in starts], fontsize=10)
    for row in range(1, len(weights)):
        axes.axhline(row - 0.5, color="white", linewidth=5 if row in starts else 1)
    axes.set_xlabel("feature")
    axes.set_title(title, fontsize=11)
    figure.colorbar(image, ax=axes, label="weight", fraction=0.03)
    figure.savefig(path, dpi=120)


@no_formulas
def plot_similarity(matrix: np.ndarray, names: Sequence[str], path: str | Path | BinaryIO, title: str) -> None:
    """
    Write how alike the expressions' mean attention vectors are.

    Args:
        matrix (`np.ndarray` of shape `(num_labels, num_labels)`): In [-1, 1].
        names (`Sequence[str]`): The expressions.
        path (`str`, `Path` or binary file): PNG.
        title (`str`): Above the matrix.
    """
    figure = Figure(figsize=(6.4, 5.8), layout="constrained")
    axes = figure.subplots()
    axes.imshow(matrix, cmap="RdBu", vmin=-1, vmax=1)
    for row, column in np.ndindex(*matrix.shape):
        value = matrix[row, column]
        colour = "white" if abs(value) > 0.6 else "black"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(len(names)), names, rotation=30)
    axes.set_yticks(range(len(names)), names)
    axes.set_title(title, fontsize=11)
    figure.savefig(path, dpi=150)


@no_formulas
def plot_attention_maps(
    images: np.ndarray, maps: dict[str, np.ndarray], labels: Sequence[str], path: str | Path | BinaryIO
) -> None:
    """
    Write faces side by side and below each one maps over it, each map from its least (dark) to its greatest (bright).

    Args:
        images (`np.ndarray` of shape `(num_faces, channels, height, width)`): Pixel values as the model takes them.
        maps (`dict[str, np.ndarray]`): By name, `(num_faces, rows, columns)` over the whole face, a row of the sheet.
        labels (`Sequence[str]`): Above each face.
        path (`str`, `Path` or binary file): PNG.
    """
    figure = Figure(figsize=(1.35 * len(images) + 0.5, 1.35 * (1 + len(maps)) + 0.5), layout="constrained")
    grid = figure.subplots(1 + len(maps), len(images), squeeze=False)
    for column, image in enumerate(images):
        for row, name in enumerate(["face", *maps]):
            _show_map(grid[row, column], image, maps[name][column] if row else None)
            grid[row, 0].set_ylabel(name, fontsize=10)
        grid[0, column].set_title(labels[column], fontsize=10)
    figure.savefig(path, dpi=120)


@no_formulas
def plot_explanation(
    image: np.ndarray,
    maps: dict[str, np.ndarray],
    scores: dict[str, float],
    path: str | Path | BinaryIO,
    title: str,
    features: np.ndarray | None = None,
) -> None:
    """
    Write a face, maps over it, each from its least (dark) to its greatest (bright), and the probability of each
    expression.

    Args:
        image (`np.ndarray` of shape `(channels, height, width)`): Pixel values as the model takes them.
        maps (`dict[str, np.ndarray]`): By name, `(rows, columns)` over the whole face.
        scores (`dict[str, float]`): By expression, in [0, 1].
        path (`str`, `Path` or binary file): PNG.
        title (`str`): Above all.
        features (`np.ndarray` of shape `(num_features,)`, *optional*): Weights in [0, 1], as a strip below.
    """
    strip = features is not None
    figure = Figure(figsize=(2.2 * (1 + len(maps)) + 3, 2.8 + 1.2 * strip), layout="constrained")
    widths, heights = [1.0] * (1 + len(maps)) + [1.2], [1.0] + [0.2] * strip
    grid = figure.add_gridspec(len(heights), len(widths), width_ratios=widths, height_ratios=heights)
    for column, name in enumerate(["face", *maps]):
        axes = figure.add_subplot(grid[0, column])
        _show_map(axes, image, maps.get(name))
        axes.set_title(name, fontsize=10)
    draw_bars(figure.add_subplot(grid[0, -1]), list(scores.values()), list(scores))
    if strip:
        axes = figure.add_subplot(grid[1, :])
        axes.imshow(features[None], aspect="auto", interpolation="nearest", cmap="cividis", vmin=0, vmax=1)
        axes.set_yticks([])
        axes.set_xlabel("attention weight of each feature, from 0 (dark) to 1 (bright)", fontsize=9)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=120)


def _show_map(axes: Axes, image: np.ndarray, over: np.ndarray | None) -> None:
    """A face in gray and, if there is one, a map over it."""
    extent = (0, image.shape[-1], image.shape[-2], 0)
    axes.imshow(image.mean(axis=0), cmap="gray", extent=extent)
    if over is not None:
        axes.imshow(over, cmap="inferno", alpha=0.55, interpolation="bilinear", extent=extent)
    axes.set_xticks([])
    axes.set_yticks([])
