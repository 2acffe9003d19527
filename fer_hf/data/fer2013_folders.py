"""FER-2013 as folders of images: `train/<label>/*` beside `test/<label>/*`, `validation/<label>/*` or both."""

import io
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from fer_hf.data.fer2013_faces import SIDE, SPLITS, encode_png
from fer_hf.data.source import face_tables
from fer_hf.errors import DataError
from fer_hf.labels import EXPRESSIONS, canonical_name


_ROWS = 500  # images in one shard
_PARTS = ("train", "validation", "test")
_FILE_NAME = re.compile(f"({'|'.join(SPLITS)})_([0-9]{{1,18}})")
_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".tif", ".tiff", ".webp"}
_EIGHT_BIT_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}

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
    found = {part: list(_labelled_images(root, part)) for part in _find_parts(root)}
    paths = [path for faces in found.values() for _, path in faces]
    is_official = any(_FILE_NAME.fullmatch(Path(path).stem) for path in paths)
    faces = _official_splits(found) if is_official else _parts_as_splits(found, root)
    for path in sorted(paths):
        content = _read_bytes(path)
        digest.update(os.fsencode(os.path.relpath(path, root)) + b"\0" + str(len(content)).encode() + b"\0")
        digest.update(content)
    return faces, is_official


def make_shards(faces: list[Face]) -> list[list[Face]]:
    """Divides the faces of a split into shards for [`read_images`]."""
    return [faces[start : start + _ROWS] for start in range(0, len(faces), _ROWS)]


def read_images(shard: list[Face]) -> Iterator[pa.Table]:
    """The faces of a shard, as tables."""
    yield from face_tables(
        {"image": encode_png(_decode(path)), "label": label, "row": row} for row, label, path in shard
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
        # Without the label folder, so that anger/1.png and angry/1.png stand in the same place.
        images = sorted(images, key=lambda image: (image[0], Path(image[1]).relative_to(root / part).parts[1:]))
        faces[part] = [(row + place, label, path) for place, (label, path) in enumerate(images)]
        row += len(images)
    return faces


def _labelled_images(folder: Path, part: str) -> Iterator[tuple[int, str]]:
    root = folder / part
    for entry in _entries(root):
        if not entry.is_dir():
            if _is_image(entry):
                raise DataError(f"{entry.path}: an image outside of the label folders. Move it into train/<label>.")
            continue
        name = canonical_name(entry.name)
        if name not in EXPRESSIONS:
            raise DataError(
                f"{entry.path}: {entry.name!r} is not an expression of FER-2013. Rename the folder to one of "
                f"{', '.join(EXPRESSIONS)}, or take it out of {part}."
            )
        label, is_empty = EXPRESSIONS.index(name), True
        for path in _images(entry.path, above=(_identity(folder), _identity(root))):
            yield label, path
            is_empty = False
        if is_empty:
            raise DataError(f"{entry.path}: no image in this folder. Unpack the data set again, or remove the folder.")


def _images(folder: str, above: tuple) -> Iterator[str]:
    """Paths of all images below a folder. Links are followed, unless they lead back to one of the folders `above`."""
    if _identity(folder) in above:
        raise DataError(f"{folder}: a symbolic link that leads back to a folder above it. Remove the link.")
    for entry in _entries(folder):
        if entry.is_dir():
            yield from _images(entry.path, (*above, _identity(folder)))
        elif _is_image(entry):
            yield entry.path


def _entries(folder: str | Path) -> list[os.DirEntry]:
    with os.scandir(folder) as entries:
        entries = [entry for entry in entries if not entry.name.startswith(".") and entry.name != "__MACOSX"]
    entries.sort(key=lambda entry: entry.name)  # the same complaint comes first on every machine
    for entry in entries:
        if entry.is_symlink() and not os.path.exists(entry.path):
            raise DataError(f"{entry.path}: a symbolic link that leads nowhere or to itself. Remove the link.")
    return entries


def _is_image(entry: os.DirEntry) -> bool:
    return Path(entry.name).suffix.lower() in _IMAGE_SUFFIXES


def _identity(folder: str | Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _read_bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Check the file and its permissions.") from error


def _decode(path: str) -> np.ndarray:
    """An image file as gray `uint8` of shape `(48, 48)`."""
    content = _read_bytes(path)
    try:
        with Image.open(io.BytesIO(content)) as image:
            size, mode = image.size, image.mode
            # Known before the pixels are: a huge or 16-bit image is refused without being decoded.
            face = np.asarray(image.convert("L")) if size == (SIDE, SIDE) and mode in _EIGHT_BIT_MODES else None
    except Exception as error:  # Pillow's decoders raise whatever they like on damaged files
        reason = "of no known format" if isinstance(error, UnidentifiedImageError) else error
        raise DataError(f"{path}: not a readable image ({reason}). Unpack or fetch the data set again.") from error
    if size != (SIDE, SIDE):
        raise DataError(
            f"{path}: {size[0]}x{size[1]} pixels, but FER-2013 is {SIDE}x{SIDE}. Use the published images as they are."
        )
    if face is None:
        raise DataError(f"{path}: pixels of type {mode!r}, but FER-2013 is 8-bit. Use the published images.")
    return face
