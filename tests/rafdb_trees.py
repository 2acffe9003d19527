"""
Small trees of the two forms in which RAF-DB lies on disk, with drawn faces: its images may not be given on.

Run as a script to look at one: `python tests/rafdb_trees.py official FOLDER`.
"""

import functools
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from fer_hf.data.drawing import draw_face
from fer_hf.data.drawing_rig import LANDMARKS
from fer_hf.data.synthetic import sample_units
from fer_hf.labels import SOURCE_CODES


# RAF-DB annotates five points: eyes, nose and the corners of the mouth.
FIVE = ("left_eye_inner", "right_eye_inner", "nose_tip", "left_mouth_corner", "right_mouth_corner")
TRAIN, TEST = 28, 7
MARGIN = 20  # pixels around the face in the whole photographs


def code(part: str, number: int) -> int:
    """RAF-DB's label of a face: each class in turn, in another order than the numbers."""
    return (number * 3 + (part == "test")) % 7 + 1


def attributes(number: int) -> tuple[int, int, int]:
    """Codes of gender, race and age group."""
    return number % 3, number // 3 % 3, number % 5


def votes(part: str, number: int) -> list[float]:
    """Shares of the annotators in RAF-DB's own order: most for the label, the rest for the next class."""
    shares = [0.0] * 7
    shares[code(part, number) - 1] = 0.75
    shares[code(part, number) % 7] = 0.25
    return shares


def members():
    """Part, number and name of every face, in the order of the label list."""
    for part, count, digits in (("train", TRAIN, 5), ("test", TEST, 4)):
        for number in range(1, count + 1):
            yield part, number, f"{part}_{number:0{digits}d}"


@functools.cache
def draw(part: str, number: int) -> tuple[Image.Image, np.ndarray]:
    """A tinted face of 100x100 pixels, and five landmarks in pixels, `(5, 2)`."""
    rng = np.random.default_rng([7, part == "test", number])
    units = sample_units(rng, SOURCE_CODES["rafdb"][code(part, number)])
    gray, points = draw_face(rng, units, 100)
    tint = np.array([1.0, 0.9, 0.8])
    face = Image.fromarray((gray[:, :, None] * tint).astype(np.uint8))
    return face, 100 * points[[LANDMARKS.index(name) for name in FIVE]]


def write_official(folder: Path, votes_file: str | None = None) -> Path:
    """
    Writes the authors' tree, `basic/...`, with aligned and original images and all annotations.

    Args:
        folder (`Path`): Where `basic` goes.
        votes_file (`str`, *optional*): Name of a file of vote distributions to write beside the labels.

    Returns:
        `Path`: `folder`.
    """
    basic = folder / "basic"
    for name in ("EmoLabel", "Image/aligned", "Image/original", "Annotation/manual", "Annotation/boundingbox"):
        (basic / name).mkdir(parents=True)
    labels, distributions = [], []
    for part, number, name in members():
        labels.append(f"{name}.jpg {code(part, number)}\n")
        distributions.append(" ".join([f"{name}.jpg", *map(str, votes(part, number))]) + "\n")
        face, points = draw(part, number)
        face.save(basic / f"Image/aligned/{name}_aligned.jpg", quality=95)
        photograph = Image.new("RGB", (100 + 2 * MARGIN, 100 + 2 * MARGIN), "gray")
        photograph.paste(face, (MARGIN, MARGIN))
        photograph.save(basic / f"Image/original/{name}.jpg", quality=95)
        lines = [f"{x + MARGIN:.6f}\t{y + MARGIN:.6f}\n" for x, y in points]
        lines += [f"{value}\n" for value in attributes(number)]
        (basic / f"Annotation/manual/{name}_manu_attri.txt").write_text("".join(lines))
        box = f"{MARGIN} {MARGIN} {MARGIN + 100} {MARGIN + 100}\n"
        (basic / f"Annotation/boundingbox/{name}_boundingbox.txt").write_text(box)
    (basic / "EmoLabel/list_patition_label.txt").write_text("".join(labels))
    if votes_file is not None:
        (basic / "EmoLabel" / votes_file).write_text("".join(distributions))
    return folder


def write_kaggle(folder: Path, label_files: tuple[str, str] | None = ("train_labels.csv", "test_labels.csv")) -> Path:
    """
    Writes the Kaggle tree, `DATASET/train/1` to `DATASET/test/7`.

    Args:
        folder (`Path`): Where `DATASET` goes.
        label_files (`tuple[str, str]`, *optional*): Names of the files beside it, or `None` for no such files.

    Returns:
        `Path`: `folder`.
    """
    rows = {"train": ["image,label\n"], "test": ["image,label\n"]}
    for part, number, name in members():
        label = folder / "DATASET" / part / str(code(part, number))
        label.mkdir(parents=True, exist_ok=True)
        draw(part, number)[0].save(label / f"{name}_aligned.jpg", quality=95)
        rows[part].append(f"{name}_aligned.jpg,{code(part, number)}\n")
    for part, name in zip(rows, label_files or (), strict=False):
        (folder / name).write_text("".join(rows[part]))
    return folder


def write_compound(folder: Path, classes: int = 11) -> Path:
    """
    Writes the tree of the compound subset, `compound/...`: two faces of each class in training, one in test.

    Args:
        folder (`Path`): Where `compound` goes.
        classes (`int`): How many codes the label list has.

    Returns:
        `Path`: `folder`.
    """
    root = folder / "compound"
    for name in ("EmoLabel", "Image/aligned", "Annotation/manual", "Annotation/auto", "Annotation/boundingbox"):
        (root / name).mkdir(parents=True)
    lines = []
    for part, count, digits in (("train", 2 * classes, 5), ("test", classes, 4)):
        for number in range(1, count + 1):
            name = f"{part}_{number:0{digits}d}"
            lines.append(f"{name}.jpg {number % classes + 1}\n")
            draw(part, number % 28 + 1)[0].save(root / f"Image/aligned/{name}_aligned.jpg", quality=95)
            points = [f"{number}.5\t{point}\n" for point in range(37)]
            (root / f"Annotation/auto/{name}_auto_attri.txt").write_text("".join(points))
            manual = [*points[:5], *(f"{value}\n" for value in attributes(number))]
            (root / f"Annotation/manual/{name}_manu_attri.txt").write_text("".join(manual))
            (root / f"Annotation/boundingbox/{name}_boundingbox.txt").write_text("1 2 30 40\n")
    (root / "EmoLabel/list_patition_label.txt").write_text("".join(lines))
    return folder


if __name__ == "__main__":
    {"official": write_official, "kaggle": write_kaggle}[sys.argv[1]](Path(sys.argv[2]))
