"""Sheets of faces. **Of a data set of real people, keep them to yourself**: its terms do not let you publish them."""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from datasets import Dataset
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL.Image import Image
from scipy.special import softmax
from torch import Tensor

from fer_hf.plots.style import BLUE, ORANGE


def plot_faces(faces: Dataset, path: str | Path, per_class: int = 8) -> None:
    """
    Write a sheet of faces: one column for each expression, the first `per_class` faces of it below each other.

    Args:
        faces (`datasets.Dataset`): With `image` and `label`.
        path (`str` or `Path`): PNG file.
        per_class (`int`, defaults to 8): Rows of the sheet.
    """
    names, labels = faces.features["label"].names, np.array(faces["label"][:])
    figure = Figure(figsize=(1.25 * len(names), 1.25 * per_class + 0.3), layout="constrained")
    grid = figure.subplots(per_class, len(names), squeeze=False)
    for column, name in enumerate(names):
        chosen = np.flatnonzero(labels == column)[:per_class]
        for row in range(per_class):
            grid[row, column].axis("off")
            if row < len(chosen):
                _show(grid[row, column], faces[int(chosen[row])]["image"])
        grid[0, column].set_title(name, fontsize=11)
    figure.savefig(path, dpi=100)


def plot_reconstructions(faces: Tensor, masked: Tensor, drawn: Tensor, path: str | Path) -> None:
    """
    Write three rows of pictures: faces, what of them was seen, and what was made of it.

    Args:
        faces, masked, drawn (`torch.Tensor` of shape `(num_faces, channels, height, width)`): Normalised pixel values;
            each column is shown from the smallest to the largest value of its face.
        path (`str` or `Path`): PNG file.
    """
    figure = Figure(figsize=(1.3 * len(faces), 4.1), layout="constrained")
    grid = figure.subplots(3, len(faces), squeeze=False)
    for row, (name, images) in enumerate((("face", faces), ("masked", masked), ("reconstructed", drawn))):
        for column, image in enumerate(images):
            low, high = faces[column].min(), faces[column].max()
            shown = ((image - low) / (high - low).clamp(min=1e-6)).clamp(0, 1).permute(1, 2, 0).cpu().numpy()
            axes = grid[row, column]
            axes.imshow(shown)
            axes.set_xticks([])
            axes.set_yticks([])
        grid[row, 0].set_ylabel(name, fontsize=11)
    figure.savefig(path, dpi=120)


def sure_and_wrong(logits: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """
    Rows of the faces that the model got wrong, the most confident first; of equals the earlier row first.

    Args:
        logits (`np.ndarray` of shape `(num_faces, num_labels)`): Before softmax.
        labels (`np.ndarray` of shape `(num_faces,)`): True class ids.
        count (`int`): How many at most.

    Returns:
        `np.ndarray` of shape `(at most count,)`.
    """
    confidence, predicted = _answers(logits)
    wrong = np.flatnonzero(predicted != labels)
    return wrong[np.argsort(-confidence[wrong], kind="stable")][:count]


def first_right(logits: np.ndarray, labels: np.ndarray, per_class: int) -> np.ndarray:
    """Rows of faces that the model got right: the first one of every expression, then the second ones, and so on."""
    _, predicted = _answers(logits)
    ids = range(np.shape(logits)[1])
    rows = [np.flatnonzero((labels == i) & (predicted == i))[:per_class] for i in ids]
    return np.array([found[turn] for turn in range(per_class) for found in rows if turn < len(found)], dtype=int)


def plot_predictions(
    faces: Dataset,
    rows: np.ndarray,
    logits: np.ndarray,
    labels: np.ndarray,
    path: str | Path | BinaryIO,
    title: str,
    columns: int = 7,
) -> None:
    """
    Write a sheet of faces with the model's answer and, where it is wrong, the truth, and their probabilities.

    Args:
        faces (`datasets.Dataset`): With `image`.
        rows (`np.ndarray` of shape `(n,)`): What to show, in this order.
        logits, labels (`np.ndarray` of shapes `(num_faces, num_labels)` and `(num_faces,)`): Of all faces.
        path (`str`, `Path` or binary file): PNG.
        title (`str`): Above the sheet.
        columns (`int`, defaults to 7): Faces side by side.
    """
    names = faces.features["label"].names
    height = max(1, -(-len(rows) // columns))
    figure = Figure(figsize=(1.5 * columns, 1.95 * height + 0.5), layout="constrained")
    for axes in figure.subplots(height, columns, squeeze=False).flat:
        axes.axis("off")
    for axes, row in zip(figure.axes, rows, strict=False):
        probabilities = softmax(np.asarray(logits[row], np.float64))
        answer, truth = int(probabilities.argmax()), int(labels[row])
        text = f"{names[answer]} {probabilities[answer]:.0%}"
        if answer != truth:
            text += f"\n(is {names[truth]}: {probabilities[truth]:.0%})"
        _show(axes, faces[int(row)]["image"])
        axes.set_title(text, fontsize=9, color="black" if answer == truth else ORANGE)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=120)


def plot_probabilities(
    image: Image, probabilities: Sequence[float], names: Sequence[str], path: str | Path | BinaryIO, title: str = ""
) -> None:
    """
    Write a face beside a bar for the probability of each expression, the greatest one in another colour.

    Args:
        image (`PIL.Image.Image`): The face.
        probabilities (`Sequence[float]`): In [0, 1], in the order of `names`.
        names (`Sequence[str]`): The expressions.
        path (`str`, `Path` or binary file): PNG.
        title (`str`, *optional*): Above both.
    """
    figure = Figure(figsize=(7.5, 0.3 * len(names) + 1), layout="constrained")
    face, chart = figure.subplots(1, 2, width_ratios=[1, 2])
    _show(face, image)
    face.axis("off")
    colours = [ORANGE if i == int(np.argmax(probabilities)) else BLUE for i in range(len(names))]
    bars = chart.barh(range(len(names)), probabilities, color=colours)
    chart.bar_label(bars, [f"{p:.1%}" for p in probabilities], padding=3, fontsize=9)
    chart.set_yticks(range(len(names)), names)
    chart.invert_yaxis()
    chart.set_xlim(0, 1.15)
    chart.set_xticks([])
    chart.spines[["top", "right", "bottom"]].set_visible(False)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=150)


def _answers(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probability and class id of the answer to each face."""
    probabilities = softmax(np.asarray(logits, np.float64), axis=1)
    return probabilities.max(axis=1), probabilities.argmax(axis=1)


def _show(axes: Axes, image: Image) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
