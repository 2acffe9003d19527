"""
The one reader of images, for folders, `hub:` data sets and photos: every picture is treated by the same rules.

What becomes of an image:

- JPEG and PNG of 8-bit gray or RGB keep their own bytes. Everything else becomes a gray or RGB PNG.
- Palette, bilevel, CMYK and YCbCr pictures are converted to gray or RGB by Pillow, without colour profiles.
- 16-bit gray is taken for the range from 0 to 65535 and divided by 257; of 16-bit colours Pillow keeps the upper byte.
- Transparent pictures are laid on black, the colour of the borders of aligned faces.
- Pictures with an EXIF orientation are turned upright.
- Of an animation or a file with several pages, the first picture is taken.
- Empty, damaged, enormous and tiny files, other formats and other kinds of pixels are refused in one line.
"""

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from fer_hf.data.contents import check_file, check_kind, unreadable
from fer_hf.errors import BadInputError, DataError


MIN_SIDE, MAX_SIDE = 8, 10_000  # pixels; the largest square is 300 MB as RGB
MAX_BYTES = 100_000_000

# By name, because some of Pillow's other formats start programs (EPS starts Ghostscript).
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
# Photos of phones, which Pillow reads with the extra `heif` alone.
HEIF_SUFFIXES = {".heic", ".heif"}
_PNG_END = b"IEND\xaeB`\x82"
_GRAY_MODES = {"1", "L", "LA"}
_SIXTEEN_BIT_MODES = {"I;16", "I;16B", "I;16L", "I;16N"}
_COLOUR_MODES = {"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}


def read_bytes(path: str | os.PathLike) -> bytes:
    """
    The content of a regular file that is neither empty nor larger than 100 MB.

    Raises:
        `DataError`: If it is, or cannot be read, or is a Git LFS pointer, an archive or a web page.
    """
    if (size := check_file(path)) > MAX_BYTES:
        raise DataError(f"{path}: {size:,} bytes, but {MAX_BYTES:,} are the limit. Check the file.")
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise unreadable(path, error) from error
    check_kind(path, content)
    return content


def open_image(
    content: bytes, where: str, size: tuple[int, int] | None = None, min_side: int = MIN_SIDE
) -> Image.Image:
    """
    Decode an image. Nothing else in the package opens images.

    Args:
        content (`bytes`):
            A file's content, which alone tells the format.
        where (`str`):
            The file, or the split and row; begins every error message.
        size (`tuple[int, int]`, *optional*):
            The only width and height accepted. By default, any from `min_side` to 10,000 pixels a side.
        min_side (`int`, *optional*, defaults to 8):
            What is smaller is no face.

    Returns:
        `PIL.Image.Image`: The first picture, decoded, in the mode in which it was stored.

    Raises:
        `DataError`: If it is no such image or damaged, in one line.
    """
    with readable(where):
        image = Image.open(io.BytesIO(content), formats=_formats())
        check_image(image, where, size, min_side)
        image.load()
        if image.format == "PNG" and _PNG_END not in content:  # Pillow stops caring after the last pixel
            raise OSError("image file is truncated")
    return image


@cache
def reads_heif() -> bool:
    """Whether the package is installed that reads [`HEIF_SUFFIXES`]."""
    return find_spec("pillow_heif") is not None


@cache
def _formats() -> tuple[str, ...]:
    if not reads_heif():
        return FORMATS
    import pillow_heif

    pillow_heif.register_heif_opener()
    return (*FORMATS, "HEIF")


@contextmanager
def readable(where: str) -> Iterator[None]:
    """
    Turns whatever Pillow's decoders raise on a damaged picture into a `DataError` of one line about `where`. Its
    warnings, in two lines each, are left out: a picture is read or refused, and our limit of pixels is about its own.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except BadInputError:
        raise
    except Exception as error:
        reason = "of no known format" if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())
        raise DataError(f"{where}: not a readable image ({reason}). Unpack or fetch it again.") from error


def check_image(image: Image.Image, where: str, size: tuple[int, int] | None = None, min_side: int = MIN_SIDE) -> None:
    """Refuses a picture by what is known before its pixels are decoded; arguments and errors as [`open_image`]."""
    width, height = image.size
    if size is not None and image.size != size:
        raise DataError(
            f"{where}: {width}x{height} pixels, but {size[0]}x{size[1]} are expected. Use the published images as "
            "they are, or read others as 'imagefolder'."
        )
    if min(width, height) < min_side or max(width, height) > MAX_SIDE:
        raise DataError(
            f"{where}: {width}x{height} pixels, but an image must have {min_side} to {MAX_SIDE:,} a side. Resize or "
            "remove it."
        )
    if image.mode not in _GRAY_MODES | _SIXTEEN_BIT_MODES | _COLOUR_MODES:
        raise DataError(f"{where}: pixels of type {image.mode!r} have no known range. Save the image with 8 bits.")


def plain_image(image: Image.Image, mode: str | None = None) -> Image.Image:
    """
    A picture upright, opaque and with 8 bits per channel, as the top of this module says.

    Args:
        image (`PIL.Image.Image`): One that [`check_image`] accepts.
        mode (`str`, *optional*): `"L"` or `"RGB"`; by default, gray stays gray.
    """
    image = ImageOps.exif_transpose(image)
    mode = mode or ("L" if image.mode in _GRAY_MODES | _SIXTEEN_BIT_MODES else "RGB")
    if image.mode in _SIXTEEN_BIT_MODES:
        image = Image.fromarray(eight_bits(np.asarray(image)))
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, "black")
        image = Image.alpha_composite(black, image.convert("RGBA"))
    return image.convert(mode)


def eight_bits(levels: np.ndarray) -> np.ndarray:
    """Gray levels from 0 to 65535 (`uint16`, any shape) divided by 257 and rounded, as `uint8`."""
    return ((levels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def encoded_image(content: bytes, where: str, mode: str | None = None, size: tuple[int, int] | None = None) -> bytes:
    """
    An image as it goes into a table: a JPEG or PNG with 8 bits per channel, one picture, upright and opaque. It is
    decoded in any case, so that damage is found when the table is made.

    Args:
        content, where, size:
            As for [`open_image`].
        mode (`str`, *optional*):
            `"L"` or `"RGB"` to convert all pictures to it. By default, gray ones stay gray.

    Returns:
        `bytes`: The content itself where it is such a JPEG or PNG already, else a PNG.

    Raises:
        `DataError`: As [`open_image`].
    """
    image = open_image(content, where, size)
    with readable(where):
        # Through an array, which drops comments, profiles and other metadata.
        return content if _is_plain(image, content, mode) else png(np.asarray(plain_image(image, mode)))


def _is_plain(image: Image.Image, content: bytes, mode: str | None) -> bool:
    return (
        (image.format == "JPEG" or (image.format == "PNG" and content[24] == 8))  # bit depth in the PNG's header
        and image.mode in ("L", "RGB")
        and mode in (None, image.mode)
        and not image.has_transparency_data
        and not getattr(image, "is_animated", False)
        and image.getexif().get(ExifTags.Base.Orientation, 1) == 1
    )


def png(pixels: np.ndarray) -> bytes:
    """`uint8` pixels, `(height, width)` or `(height, width, 3)`, as a compressed PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
