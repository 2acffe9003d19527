"""
Image files of any origin, and the folders that hold them, read without surprises.

What [`encoded_image`] makes of a file:

- JPEG and PNG of 8-bit gray or RGB keep their own bytes. Everything else becomes a gray or RGB PNG.
- Palette, bilevel, CMYK and YCbCr pictures are converted to gray or RGB by Pillow, without colour profiles.
- 16-bit gray is taken for the range from 0 to 65535 and divided by 257; of 16-bit colours Pillow keeps the upper byte.
- Transparent pictures are laid on black, the colour of the borders of aligned faces.
- Pictures with an EXIF orientation are turned upright.
- Of an animation or a file with several pages, the first picture is taken.
- Empty, damaged, enormous and tiny files, other formats and other kinds of pixels are refused in one line.
"""

import hashlib
import io
import os
import stat
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from fer_hf.errors import DataError


IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp"}
# Left by operating systems beside the files of a user, like everything whose name begins with a dot.
SYSTEM_FILES = {"__macosx", "desktop.ini", "ehthumbs.db", "thumbs.db"}

MIN_SIDE, MAX_SIDE = 8, 10_000  # pixels
MAX_PIXELS = 40_000_000  # 120 MB as RGB
MAX_BYTES = 100_000_000

# By name, because some of Pillow's other formats start programs (EPS starts Ghostscript).
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
_PNG_END = b"IEND\xaeB`\x82"
_GRAY_MODES = {"1", "L", "LA"}
_SIXTEEN_BIT_MODES = {"I;16", "I;16B", "I;16L", "I;16N"}
_COLOUR_MODES = {"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
KNOWN_MODES = _GRAY_MODES | _SIXTEEN_BIT_MODES | _COLOUR_MODES
_ROWS = 500  # faces in one Arrow table


def read_bytes(path: str | os.PathLike) -> bytes:
    """
    The content of a regular file that is neither empty nor larger than 100 MB.

    Raises:
        `DataError`: If it is, or cannot be read.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
            raise DataError(f"{path}: not a file. Remove it, or put the file in its place.")
        if status.st_size > MAX_BYTES:
            raise DataError(f"{path}: {status.st_size:,} bytes, but {MAX_BYTES:,} are the limit. Check the file.")
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Check the file and its permissions.") from error
    if not content:
        raise DataError(f"{path}: an empty file (0 bytes). Unpack or fetch it again.")
    return content


def encoded_image(path: str | os.PathLike, mode: str | None = None, size: tuple[int, int] | None = None) -> bytes:
    """
    An image file as it goes into a table: a JPEG or PNG with 8 bits per channel, one picture, upright and opaque. What
    becomes of other pictures stands at the top of this module. The file is decoded in any case, so that damage is
    found when the table is made.

    Args:
        path (`str` or `os.PathLike`):
            The file. Its format is told by its content, not by its name.
        mode (`str`, *optional*):
            `"L"` or `"RGB"` to convert all pictures to it. By default, gray ones stay gray.
        size (`tuple[int, int]`, *optional*):
            The only width and height accepted. By default, any from 8 to 10,000 pixels a side, 40 million in all.

    Returns:
        `bytes`: The file's own content where it is such a JPEG or PNG already, else a PNG.

    Raises:
        `DataError`: If the file is no such image, in one line that names it.
    """
    content = read_bytes(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # a smaller limit holds below
            image = Image.open(io.BytesIO(content), formats=FORMATS)
        with image:
            _check(path, image, size)
            image.load()
            if image.format == "PNG" and _PNG_END not in content:  # Pillow stops caring after the last pixel
                raise OSError("image file is truncated")
            if _is_plain(image, content, mode):
                return content
            return _png(plain_image(image, mode))
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever they like on damaged files
        reason = "of no known format" if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())
        raise DataError(f"{path}: not a readable image ({reason}). Unpack or fetch it again.") from error


def _check(path: str | os.PathLike, image: Image.Image, size: tuple[int, int] | None):
    """Refuses a picture by what is known before its pixels are decoded."""
    width, height = image.size
    if size is not None and image.size != size:
        raise DataError(
            f"{path}: {width}x{height} pixels, but {size[0]}x{size[1]} are expected. Use the published images as they "
            "are, or read others as 'imagefolder'."
        )
    if min(width, height) < MIN_SIDE or max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise DataError(
            f"{path}: {width}x{height} pixels, but a face must have {MIN_SIDE} to {MAX_SIDE:,} a side and at most "
            f"{MAX_PIXELS:,} in all. Resize or remove the image."
        )
    if image.mode not in KNOWN_MODES:
        raise DataError(f"{path}: pixels of type {image.mode!r} have no known range. Save the image with 8 bits.")


def _is_plain(image: Image.Image, content: bytes, mode: str | None) -> bool:
    return (
        (image.format == "JPEG" or (image.format == "PNG" and content[24] == 8))  # bit depth in the PNG's header
        and image.mode in ("L", "RGB")
        and mode in (None, image.mode)
        and not image.has_transparency_data
        and not getattr(image, "is_animated", False)
        and image.getexif().get(ExifTags.Base.Orientation, 1) == 1
    )


def plain_image(image: Image.Image, mode: str | None = None) -> Image.Image:
    """
    A picture upright, opaque and with 8 bits per channel, as the top of this module says.

    Args:
        image (`PIL.Image.Image`): Of one of [`KNOWN_MODES`].
        mode (`str`, *optional*): `"L"` or `"RGB"`; by default, gray stays gray.
    """
    image = ImageOps.exif_transpose(image)
    mode = mode or ("L" if image.mode in _GRAY_MODES | _SIXTEEN_BIT_MODES else "RGB")
    if image.mode in _SIXTEEN_BIT_MODES:
        image = Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, "black")
        image = Image.alpha_composite(black, image.convert("RGBA"))
    return image.convert(mode)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    # Through an array, which leaves comments, profiles and other luggage behind.
    Image.fromarray(np.asarray(image)).save(buffer, "PNG")
    return buffer.getvalue()


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


def is_image(name: str) -> bool:
    """Whether a file name has the suffix of a format that [`encoded_image`] reads."""
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


def fingerprint(described: str, folder: str | os.PathLike, paths: Iterable[str]) -> str:
    """
    A digest of files and of how they are read.

    Args:
        described (`str`):
            Source, version and options: whatever shapes the tables besides the files.
        folder (`str` or `os.PathLike`):
            The folder whose own place does not matter.
        paths (`Iterable[str]`):
            All files that are read; their order does not matter.

    Returns:
        `str`: SHA-256 in hex over the description and every file's path below `folder`, length and bytes.
    """
    digest = hashlib.sha256(described.encode() + b"\n")
    inside = os.path.join(folder, "")
    for path in sorted(paths):
        content = read_bytes(path)
        # relpath is slow, and nearly all files lie in the folder.
        name = path.removeprefix(inside) if path.startswith(inside) else os.path.relpath(path, folder)
        digest.update(os.fsencode(name) + b"\0" + str(len(content)).encode() + b"\0")
        digest.update(content)
    return digest.hexdigest()


def make_shards(
    faces: list[dict], features: datasets.Features, mode: str | None = None, size: tuple[int, int] | None = None
) -> list[tuple]:
    """
    Divides the faces of a split into pieces of work for [`read`].

    Args:
        faces (`list[dict]`):
            A value for every column, and as `image` the path of a file.
        features (`datasets.Features`):
            The columns.
        mode, size (*optional*):
            As for [`encoded_image`].
    """
    return [(features, mode, size, faces[start : start + _ROWS]) for start in range(0, len(faces), _ROWS)]


def read(shard: tuple) -> Iterator[pa.Table]:
    """Reads the image files of a shard that [`make_shards`] made; yields one table."""
    features, mode, size, faces = shard
    columns = {name: [face[name] for face in faces] for name in features}
    columns["image"] = [{"bytes": encoded_image(path, mode, size), "path": None} for path in columns["image"]]
    schema = features.arrow_schema
    yield pa.table({name: pa.array(columns[name], schema.field(name).type) for name in features})
