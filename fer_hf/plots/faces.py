"""Sheets of faces. **Of a data set of real people, keep them to yourself**: its terms do not let you publish them."""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL.Image import Image

from fer_hf.plots.style import BLUE, ORANGE, no_formulas


@no_formulas
def plot_faces(images: dict[str, Sequence[Image]], path: str | Path | BinaryIO) -> None:
    """
    Write a sheet of faces: a column for each expression, its faces below each other.

    Args:
        images (`dict[str, Sequence[PIL.Image.Image]]`): By expression; columns may be of different lengths.
        path (`str`, `Path` or binary file): PNG.
    """
    height = max(1, *map(len, images.values()))
    figure = Figure(figsize=(1.25 * len(images), 1.25 * height + 0.3), layout="constrained")
    grid = figure.subplots(height, len(images), squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for column, (name, faces) in enumerate(images.items()):
        for row, face in enumerate(faces):
            _show(grid[row, column], face)
        grid[0, column].set_title(name, fontsize=11)
    figure.savefig(path, dpi=100)


@no_formulas
def plot_conflicts(groups: Sequence[Sequence[tuple[Image, str]]], path: str | Path | BinaryIO, title: str) -> None:
    """
    Write groups of faces, such as identical ones with different labels: a row for each group.

    Args:
        groups (`Sequence` of sequences of pairs): An image and what stands above it.
        path (`str`, `Path` or binary file): PNG.
        title (`str`): Above the sheet.
    """
    columns = max(map(len, groups))
    figure = Figure(figsize=(1.5 * max(columns, 3), 1.85 * len(groups) + 0.6), layout="constrained")
    grid = figure.subplots(len(groups), columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for row, group in enumerate(groups):
        for column, (image, text) in enumerate(group):
            _show(grid[row, column], image)
            grid[row, column].set_title(text, fontsize=8)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=100)


@no_formulas
def plot_reconstructions(
    images: np.ndarray, masked: np.ndarray, reconstructed: np.ndarray, path: str | Path | BinaryIO
) -> None:
    """
    Write three rows of pictures: faces, what of them was seen, and what was made of it.

    Args:
        images, masked, reconstructed (`np.ndarray` of shape `(num_faces, channels, height, width)`):
            Normalised pixel values; each column is shown from the smallest to the largest value of its face.
        path (`str`, `Path` or binary file): PNG.
    """
    figure = Figure(figsize=(1.3 * len(images), 4.1), layout="constrained")
    grid = figure.subplots(3, len(images), squeeze=False)
    for row, (name, pictures) in enumerate((("face", images), ("masked", masked), ("reconstructed", reconstructed))):
        for column, picture in enumerate(pictures):
            low, high = images[column].min(), images[column].max()
            shown = np.clip((picture - low) / max(high - low, 1e-6), 0, 1).transpose(1, 2, 0)  # (height, width, 3)
            axes = grid[row, column]
            axes.imshow(shown)
            axes.set_xticks([])
            axes.set_yticks([])
        grid[row, 0].set_ylabel(name, fontsize=11)
    figure.savefig(path, dpi=120)


@no_formulas
def plot_predictions(
    images: Sequence[Image],
    probabilities: np.ndarray,
    labels: Sequence[int] | None,
    names: Sequence[str],
    path: str | Path | BinaryIO,
    title: str,
    columns: int = 7,
) -> None:
    """
    Write a sheet of faces with the model's answer and, where it is known to be wrong, the truth, and their
    probabilities.

    Args:
        images (`Sequence[PIL.Image.Image]`): The faces, in the order of the sheet.
        probabilities (`np.ndarray` of shape `(num_faces, num_labels)`): Of each face, in [0, 1].
        labels (`Sequence[int]`, *optional*): True class id of each face; `None` if it is not known.
        names (`Sequence[str]`): The expressions.
        path (`str`, `Path` or binary file): PNG.
        title (`str`): Above the sheet.
        columns (`int`, defaults to 7): Faces side by side.
    """
    height = max(1, -(-len(images) // columns))
    figure = Figure(figsize=(1.5 * columns, 1.95 * height + 0.5), layout="constrained")
    for axes in figure.subplots(height, columns, squeeze=False).flat:
        axes.axis("off")
    truths = np.argmax(probabilities, axis=1) if labels is None else labels
    for axes, image, shares, truth in zip(figure.axes, images, probabilities, truths, strict=False):
        answer = int(np.argmax(shares))
        text = f"{names[answer]} {shares[answer]:.0%}"
        if answer != truth:
            text += f"\n(is {names[truth]}: {shares[truth]:.0%})"
        _show(axes, image)
        axes.set_title(text, fontsize=9, color="black" if answer == truth else ORANGE)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=120)


@no_formulas
def plot_probabilities(
    images: Sequence[Image],
    probabilities: Sequence[Sequence[float]],
    names: Sequence[str],
    path: str | Path | BinaryIO,
    title: str = "",
) -> None:
    """
    Write faces, each beside a bar for the probability of each expression, the greatest one in another colour.

    Args:
        images (`Sequence[PIL.Image.Image]`): The faces, one at least, below each other.
        probabilities (`Sequence` of sequences): Of each face, in [0, 1], in the order of `names`.
        names (`Sequence[str]`): The expressions.
        path (`str`, `Path` or binary file): PNG.
        title (`str`, *optional*): Above all.
    """
    figure = Figure(figsize=(7.5, (0.3 * len(names) + 0.4) * len(images) + 0.6), layout="constrained")
    grid = figure.subplots(len(images), 2, squeeze=False, width_ratios=[1, 2])
    for (face, chart), image, shares in zip(grid, images, probabilities, strict=True):
        _show(face, image)
        face.axis("off")
        draw_bars(chart, shares, names)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=150)


@no_formulas
def plot_timeline(
    faces: dict[str, Image],
    probabilities: np.ndarray,
    edges: Sequence[float],
    names: Sequence[str],
    path: str | Path | BinaryIO,
    title: str,
) -> None:
    """
    Write faces, each beside its probabilities over time: the darker, the more probable, the greatest one underlined.

    Args:
        faces (`dict[str, PIL.Image.Image]`): By what stands above each, one at least.
        probabilities (`np.ndarray` of shape `(num_faces, num_labels, num_steps)`): In [0, 1]; nan while a face is not
            seen, which is gray.
        edges (`Sequence[float]`): Where the steps begin, and where the last one ends, in seconds.
        names (`Sequence[str]`): The expressions.
        path (`str`, `Path` or binary file): PNG.
        title (`str`): Above all.
    """
    edges, unit = np.array(edges), "seconds"
    if edges[-1] >= 120:
        edges, unit = edges / 60, "minutes"
    figure = Figure(figsize=(10, (0.22 * len(names) + 0.5) * len(faces) + 1), layout="constrained")
    grid = figure.subplots(len(faces), 2, squeeze=False, width_ratios=[1, 7])
    for (picture, chart), (name, image), shares in zip(grid, faces.items(), probabilities, strict=True):
        _show(picture, image)
        picture.axis("off")
        picture.set_title(name, fontsize=9)
        chart.set_facecolor("lightgray")
        chart.pcolormesh(edges, np.arange(len(names) + 1), shares, cmap="Blues", vmin=0, vmax=1)
        seen = np.flatnonzero(~np.isnan(shares[0]))
        answers = shares[:, seen].argmax(axis=0)
        chart.hlines(answers + 0.95, edges[seen], edges[seen + 1], color=ORANGE, linewidth=2)
        chart.set_yticks(np.arange(len(names)) + 0.5, names, fontsize=8)
        chart.set_xlim(edges[0], edges[-1])
        chart.set_ylim(len(names), 0)  # the first expression on top
    grid[-1, 1].set_xlabel(unit)
    figure.suptitle(f"{title} (darker: more probable; orange: the answer; gray: not seen)", fontsize=11)
    figure.savefig(path, dpi=120)


def draw_bars(axes: Axes, shares: Sequence[float], names: Sequence[str]) -> None:
    """The probability of each expression as a bar, the likeliest one in another colour."""
    colours = [ORANGE if i == int(np.argmax(shares)) else BLUE for i in range(len(names))]
    bars = axes.barh(range(len(names)), shares, color=colours)
    axes.bar_label(bars, [f"{p:.1%}" for p in shares], padding=3, fontsize=9)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15)
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def _show(axes: Axes, image: Image) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
