"""FER-2013 as folders of images: `train/<label>/*` beside `test/<label>/*`, `validation/<label>/*` or both."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from fer_hf.data.fer2013_faces import SIDE, SPLITS, encode_png
from fer_hf.data.folders import digest_files, images_by_label
from fer_hf.data.images import open_image, plain_image, read_bytes, readable
from fer_hf.data.source import face_tables
from fer_hf.errors import DataError
from fer_hf.labels import EXPRESSIONS, canonical_name


_ROWS = 500  # images in one shard
_PARTS = ("train", "validation", "test")
_FILE_NAME = re.compile(f"({'|'.join(SPLITS)})_([0-9]{{1,18}})")

Face = tuple[int, int, str]  # row, class id, path


def index_folders(root: Path, digest) -> tuple[dict[str, list[Face]], bool]:
    """
    All images below the parts `train`, `validation` and `test` of a tree.

    Args:
        root (`Path`):
            The folder that holds the parts: `train`, and at least one of the others.
        digest (`hashlib` object):
            Fed the path below `root`, the length and the bytes of every image.

    Returns:
        `tuple[dict[str, list[Face]], bool]`: The faces of each split, sorted by row, and whether they are the official
        splits. These are recovered where the files are named `Training_<number>`, `PublicTest_<number>` and
        `PrivateTest_<number>`; the number is then the row. Where no file is named like that, the parts are the splits,
        and a row is the place of the file among all: train's first, then validation's and test's, each sorted by
        class id and path.

    Raises:
        `DataError`: If a part is missing, a folder is no expression, or a file stands where it should not.
    """
    found = {part: _labelled_images(root, part) for part in _find_parts(root)}
    paths = [path for faces in found.values() for _, path in faces]
    is_official = any(_FILE_NAME.fullmatch(Path(path).stem) for path in paths)
    faces = _official_splits(found) if is_official else _parts_as_splits(found, root)
    digest_files(digest, root, paths)
    return faces, is_official


def make_shards(faces: list[Face]) -> list[list[Face]]:
    """Divides the faces of a split into shards for [`read_images`]."""
    return [faces[start : start + _ROWS] for start in range(0, len(faces), _ROWS)]


def read_images(shard: list[Face]) -> Iterator[pa.Table]:
    """The faces of a shard, as tables."""
    yield from face_tables(
        {"image": encode_png(_pixels(path)), "label": label, "row": row} for row, label, path in shard
    )


def _find_parts(root: Path) -> list[str]:
    parts = [part for part in _PARTS if (root / part).is_dir()]
    if "train" not in parts or len(parts) == 1:
        missing = "test" if "train" in parts else "train"
        raise DataError(
            f"{root / missing} is missing: the layout needs both train and test (or validation), each with a folder "
            "per expression."
        )
    return parts


def _official_splits(found: dict[str, list[tuple[int, str]]]) -> dict[str, list[Face]]:
    faces = {split: [] for split in SPLITS.values()}
    for part, images in found.items():
        for label, path in images:
            match = _FILE_NAME.fullmatch(Path(path).stem)
            if match is None or (match[1] == "Training") != (part == "train"):
                expected = "Training_<number>" if part == "train" else "PublicTest_<number> or PrivateTest_<number>"
                raise DataError(
                    f"{path}: an image in {part} must be named {expected}, because the official splits are recovered "
                    "from the names. Restore the published name, or use fer2013.csv."
                )
            faces[SPLITS[match[1]]].append((int(match[2]), label, path))
    for split in faces.values():
        split.sort()
        for first, second in itertools.pairwise(split):
            if first[:2] == second[:2]:
                raise DataError(f"{second[2]}: same number and label as {first[2]}. Remove one of the two files.")
    return faces


def _parts_as_splits(found: dict[str, list[tuple[int, str]]], root: Path) -> dict[str, list[Face]]:
    faces, row = {}, 0
    for part, images in found.items():
        if not images:
            raise DataError(f"{root / part}: no image in this folder. Unpack the data set again.")
        # Without the label folder, so that anger/1.png and angry/1.png get the same place.
        images = sorted(images, key=lambda image: (image[0], Path(image[1]).relative_to(root / part).parts[1:]))
        faces[part] = [(row + place, label, path) for place, (label, path) in enumerate(images)]
        row += len(images)
    return faces


def _labelled_images(root: Path, part: str) -> list[tuple[int, str]]:
    """Class id and path of every image of a part."""
    found = []
    for name, paths in images_by_label(root / part, above=(root,)).items():
        expression = canonical_name(name)
        if expression not in EXPRESSIONS:
            raise DataError(
                f"{root / part / name}: {name!r} is not an expression of FER-2013. Rename the folder to one of "
                f"{', '.join(EXPRESSIONS)}, or take it out of {part}."
            )
        if not paths:
            raise DataError(
                f"{root / part / name}: no image in this folder. Unpack the data set again, or remove the folder."
            )
        found += [(EXPRESSIONS.index(expression), path) for path in paths]
    return found


def _pixels(path: str) -> np.ndarray:
    """An image file as gray `uint8` of shape `(48, 48)`."""
    with readable(path):  # a damaged orientation, too
        return np.asarray(plain_image(open_image(read_bytes(path), path, size=(SIDE, SIDE)), "L"))
