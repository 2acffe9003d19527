"""Sheets of faces. **Of a data set of real people, keep them to yourself**: its terms do not let you publish them."""

from pathlib import Path

import numpy as np
from datasets import Dataset
from matplotlib.figure import Figure
from torch import Tensor


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
                grid[row, column].imshow(faces[int(chosen[row])]["image"], cmap="gray", vmin=0, vmax=255)
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
