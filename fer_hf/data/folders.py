"""Folders of image files: what lies in them, a digest of it, and the files as Arrow tables."""

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import datasets
import pyarrow as pa

from fer_hf.data.contents import check_file
from fer_hf.data.images import HEIF_SUFFIXES, encoded_image, read_bytes, reads_heif
from fer_hf.data.source import face_tables
from fer_hf.errors import DataError


logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = {
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".pbm", ".pgm", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
}  # fmt: skip
# Left by operating systems beside the files of a user, like everything whose name begins with a dot.
SYSTEM_FILES = {"__macosx", "desktop.ini", "ehthumbs.db", "thumbs.db"}

_ROWS = 500  # images in one piece of work


def entries(folder: str | os.PathLike) -> list[os.DirEntry]:
    """
    What lies in a folder, sorted by name, without the hidden and system files that users do not see.

    Raises:
        `DataError`: If the folder cannot be read, or a symbolic link in it leads nowhere or to itself.
    """
    try:
        with os.scandir(folder) as found:
            visible = [e for e in found if not e.name.startswith(".") and e.name.lower() not in SYSTEM_FILES]
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}). Check the folder.") from error
    visible.sort(key=lambda entry: entry.name)  # the same complaint comes first on every machine
    for entry in visible:
        if entry.is_symlink() and not os.path.exists(entry.path):
            raise DataError(f"{entry.path}: a symbolic link that leads nowhere or to itself. Remove the link.")
    return visible


def find_images(folder: str | os.PathLike, above: tuple[str | os.PathLike, ...] = ()) -> tuple[list[str], list[str]]:
    """
    All files below a folder, at any depth. Symbolic links are followed.

    Args:
        folder (`str` or `os.PathLike`):
            Where to look.
        above (`tuple`, *optional*):
            Folders that a link must not lead back to, besides those between `folder` and the link.

    Returns:
        `tuple[list[str], list[str]]`: Paths of the files that are images by their suffix, and of all others except
        hidden and system files; both in the order of their names, folder by folder.

    Raises:
        `DataError`: If a link leads nowhere, or back to a folder above it.
    """
    if any(os.path.samefile(folder, other) for other in above):
        raise DataError(f"{folder}: a symbolic link that leads back to a folder above it. Remove the link.")
    images, others = [], []
    for entry in entries(folder):
        if entry.is_dir():
            below = find_images(entry.path, (*above, folder))
            images += below[0]
            others += below[1]
        else:
            (images if is_image(entry.name) else others).append(entry.path)
    return images, others


def images_by_label(folder: str | os.PathLike, above: tuple[str | os.PathLike, ...] = ()) -> dict[str, list[str]]:
    """
    The images of a split, `<folder>/<label>/*` at any depth. Files that are no images are counted in a warning.

    Args:
        folder (`str` or `os.PathLike`):
            The folder of the split.
        above (`tuple`, *optional*):
            Folders that a link must not lead back to, besides those between `folder` and the link.

    Returns:
        `dict[str, list[str]]`: For every folder in it, by name, the paths of the images below; a list may be empty.

    Raises:
        `DataError`: If an image lies outside of these folders, or as [`find_images`].
    """
    images, others = {}, []
    for entry in entries(folder):
        if entry.is_dir():
            images[entry.name], more = find_images(entry.path, (*above, folder))
            others += more
        elif is_image(entry.name):
            place = f"{os.path.basename(folder)}/<label>"
            raise DataError(f"{entry.path}: an image outside of the label folders. Move it into {place}.")
        else:
            others.append(entry.path)
    if others:
        some = ", ".join(os.path.relpath(path, folder) for path in others[:3])
        logger.warning(f"{folder}: files that are no images and are not read: {len(others):,}, such as {some}")
    return images


def check_files(folder: str | os.PathLike) -> None:
    """Refuse, with a `DataError`, a folder in which something is no file, such as a pipe, or cannot be read."""
    images, others = find_images(folder)
    for path in (*images, *others):
        check_file(path, may_be_empty=True)


def is_image(name: str) -> bool:
    """Whether a file name has the suffix of a format that [`encoded_image`] reads."""
    suffix = Path(name).suffix.lower()
    return suffix in IMAGE_SUFFIXES or (suffix in HEIF_SUFFIXES and reads_heif())


def digest_files(digest, folder: str | os.PathLike, paths: Iterable[str]) -> None:
    """
    Feed files to a digest.

    Args:
        digest (`hashlib` object):
            Fed every file's path below `folder`, length and bytes.
        folder (`str` or `os.PathLike`):
            The folder whose own place does not matter.
        paths (`Iterable[str]`):
            All files that are read; their order does not matter.
    """
    inside = os.path.join(folder, "")
    for path in sorted(paths):
        content = read_bytes(path)
        # relpath is slow, and nearly all files lie in the folder.
        name = path.removeprefix(inside) if path.startswith(inside) else os.path.relpath(path, folder)
        digest.update(os.fsencode(name) + b"\0" + str(len(content)).encode() + b"\0")
        digest.update(content)


def fingerprint(described: str, folder: str | os.PathLike, paths: Iterable[str]) -> str:
    """
    SHA-256 in hex over files, as [`digest_files`] says, and over `described`: source, version and options, whatever
    shapes the tables besides the files.
    """
    digest = hashlib.sha256(described.encode() + b"\n")
    digest_files(digest, folder, paths)
    return digest.hexdigest()


def make_shards(
    rows: list[dict], features: datasets.Features, mode: str | None = None, size: tuple[int, int] | None = None
) -> list[tuple]:
    """
    Divides the rows of a split into pieces of work for [`read`].

    Args:
        rows (`list[dict]`):
            A value for every column, and as `image` the path of a file.
        features (`datasets.Features`):
            The columns.
        mode, size (*optional*):
            As for [`encoded_image`].
    """
    return [(features, mode, size, rows[start : start + _ROWS]) for start in range(0, len(rows), _ROWS)]


def read(shard: tuple) -> Iterator[pa.Table]:
    """Reads the image files of a shard that [`make_shards`] made; yields one table."""
    features, mode, size, rows = shard
    schema = features.arrow_schema
    extra = {name: schema.field(name).type for name in features if name not in ("image", "label", "row")}
    encoded = ({**row, "image": encoded_image(read_bytes(row["image"]), row["image"], mode, size)} for row in rows)
    yield from face_tables(encoded, **extra)
