"""
FER-2013 (Goodfellow et al., 2013, https://huggingface.co/papers/1307.0414) in the layouts in which it circulates.

With the official splits, `train`, `validation` and `test` = Training, PublicTest and PrivateTest:

- `csv`: `fer2013.csv` with the columns `emotion`, `pixels`, `Usage`.
- `icml`: `icml_face_data.csv`, the same with blanks before the column names and another column order.
- `folders`: `train/<label>/` and `test/<label>/` with images named `Training_<number>`, `PublicTest_<number>` or
  `PrivateTest_<number>`, from which the official splits are recovered.

With splits that are missing, and are carved out of the training faces, stratified and seeded:

- `challenge`: `train.csv` with the columns `emotion` and `pixels`, and (it may be absent) `test.csv` with `pixels`, as
  the challenge handed them out. Validation and test are carved; the faces of `test.csv` become the split `unlabelled`.
- `folders` with other file names: `test` is the whole folder `test` (PublicTest and PrivateTest cannot be told apart),
  and validation is carved.
- `images`: `images/train/<label>/` and `images/validation/<label>/`; test is carved.
"""

import hashlib
import os
from pathlib import Path

import numpy as np

from fer_hf.data.fer2013_csv import choose_rows, index_rows, read_faces
from fer_hf.data.fer2013_faces import SPLITS
from fer_hf.data.fer2013_folders import index_folders, make_shards, read_images
from fer_hf.data.layouts import find_layout
from fer_hf.data.source import Source, face_features
from fer_hf.data.splits import LeftOut, carve_missing, nothing
from fer_hf.errors import DataError
from fer_hf.labels import EXPRESSIONS


# A layout is present where one of these stands.
LAYOUTS = {
    "csv": ("fer2013.csv",),
    "icml": ("icml_face_data.csv",),
    "challenge": ("train.csv",),
    "folders": ("train", "test"),
    "images": ("images/train",),
}

# Part of every fingerprint: raise one when the same files are to give other tables, and old caches are left alone.
FORMAT_VERSIONS = {"csv": 1, "icml": 1, "challenge": 1, "folders": 2, "images": 2}

_ORDER = ("train", "validation", "test", "unlabelled")


def source(
    data_dir: str | os.PathLike,
    layout: str | None = None,
    validation_fraction: float | None = None,
    test_fraction: float | None = None,
    split_seed: int | None = None,
    left_out: LeftOut = nothing,
) -> Source:
    """
    FER-2013 as it lies in a folder.

    `image` is a 48x48 grayscale PNG, `label` the expression in canonical order (-1 in the split `unlabelled`), `row`
    the row of the CSV (0-based, the header not counted) or the number in the file name, or the place of the file in
    the tree where names have no such number; splits are sorted by it. Image files are converted to 8-bit gray as
    [`fer_hf.data.images`] says, and files that are no images are counted in a warning.

    Args:
        data_dir (`str` or `os.PathLike`):
            The folder that holds the files; the layouts are listed at the top of this module.
        layout (`str`, *optional*):
            One of [`LAYOUTS`]. Needed only where `data_dir` holds several of them.
        validation_fraction (`float`, *optional*):
            Where the layout has no validation split: share of the training faces, after test is taken out, that become
            it. Defaults to 0.1; 0 leaves the split out.
        test_fraction (`float`, *optional*):
            Where the layout has no test split: share of the training faces that become it. Defaults to 0.2; 0 leaves
            the split out. Of the 28,709 faces of train.csv, 0.2 with seed 42 are the 5,742 of scikit-learn's
            stratified `train_test_split`, and 22,967 stay.
        split_seed (`int`, *optional*):
            Which faces are taken out. Defaults to 42.
        left_out ([`~fer_hf.data.splits.LeftOut`], *optional*):
            What [`~fer_hf.data.load_dataset`] leaves out afterwards: splits are carved as if it were not there.

    Returns:
        `Source`: Its fingerprint covers every byte of the files that are read, and the options.

    Raises:
        `DataError`: If the layout is not clear, a split is missing, a share is asked for a split that the layout has,
            or a file is not what it should be. Pixels are looked into later, when the source is read.
    """
    folder = Path(data_dir).expanduser().absolute()
    layout = find_layout(folder, layout, LAYOUTS, "FER-2013")
    asked = {
        "validation_fraction": validation_fraction, "test_fraction": test_fraction, "split_seed": split_seed,
        "left_out": left_out(EXPRESSIONS),
    }  # fmt: skip
    digest = hashlib.sha256(f"fer2013 {layout} {FORMAT_VERSIONS[layout]}\n".encode())
    if layout in ("csv", "icml"):
        path = folder / LAYOUTS[layout][0]
        blocks, labels, usages = index_rows(path, ("emotion", "pixels", "Usage"), digest)
        rows = {split: np.flatnonzero(usages == usage) for usage, split in SPLITS.items()}
        shards = {split: choose_rows(blocks, rows[split], labels) for split in rows}
        read, description = read_faces, ""
        carve_missing((), (), path, **asked)  # refuses them
        _check_splits(path, shards)
    elif layout == "challenge":
        (shards, description), read = _index_challenge(folder, digest, asked), read_faces
    else:
        root = folder / "images" if layout == "images" else folder
        (shards, description), read = _index_trees(root, digest, asked), read_images
    # With nothing carved there is no description, and what is left out makes no difference.
    digest.update(f"{description}{asked['left_out'] if asked['left_out'] and description else ''}".encode())
    shards = {split: shards[split] for split in _ORDER if split in shards}
    return Source("fer2013", digest.hexdigest(), face_features(), shards, read, description)


def _check_splits(where: Path, splits: dict[str, list]) -> None:
    for usage, split in SPLITS.items():
        if not splits[split]:
            raise DataError(
                f"{where}: no face of the kind {usage}, so the {split} split would be empty. "
                "Use the complete data set, with Training, PublicTest and PrivateTest."
            )


def _index_challenge(folder: Path, digest, asked: dict) -> tuple[dict[str, list], str]:
    """Shards by split and what was carved: `train.csv` in up to three splits, and `test.csv`, if there, unlabelled."""
    blocks, labels, _ = index_rows(folder / "train.csv", ("emotion", "pixels"), digest)
    parts, description = carve_missing(labels, ("test", "validation"), folder / "train.csv", **asked)
    shards = {split: choose_rows(blocks, rows, labels) for split, rows in parts.items()}
    if (folder / "test.csv").exists():
        digest.update(b"test.csv\n")
        blocks, labels, _ = index_rows(folder / "test.csv", ("pixels",), digest)
        shards["unlabelled"] = choose_rows(blocks, np.arange(len(labels)), labels)
    return shards, description


def _index_trees(root: Path, digest, asked: dict) -> tuple[dict[str, list], str]:
    """Shards by split and what was carved."""
    faces, is_official = index_folders(root, digest)
    if is_official:
        _check_splits(root, faces)
    missing = tuple(split for split in ("test", "validation") if split not in faces)
    labels = [label for _, label, _ in faces["train"]]
    parts, description = carve_missing(labels, missing, root, **asked)
    carved = {split: [faces["train"][position] for position in rows] for split, rows in parts.items()}
    return {split: make_shards(found) for split, found in {**faces, **carved}.items()}, description
