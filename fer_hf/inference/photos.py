"""Photos in whatever form they come: files, URLs, PIL images, arrays."""

import io
import os

import numpy as np
from PIL import Image, UnidentifiedImageError
from transformers.image_utils import load_image

from fer_hf.errors import BadInputError


Photo = str | os.PathLike | Image.Image | np.ndarray


class PhotoError(BadInputError):
    """A photo that cannot be read. The message names it."""


def load_photo(photo: Photo, timeout: float | None = None) -> Image.Image:
    """
    A photo as an upright RGB picture: the EXIF orientation is honoured, 16 bits become 8, transparent pixels black.

    Args:
        photo (`str`, `os.PathLike`, `PIL.Image.Image` or `np.ndarray`):
            A file; a URL (http or https) or `data:image/` URI; a picture of any mode of known range; or an array of
            shape `(height, width)` or `(height, width, channels)` with 1, 3 (RGB) or 4 channels, of uint8, uint16,
            bool, or floats in [0, 1].
        timeout (`float`, *optional*):
            Seconds to wait for a URL; without end by default.

    Returns:
        `PIL.Image.Image`: In mode `"RGB"`.

    Raises:
        BadInputError: If there is no such photo, or it is damaged or of unknown range, in one line that names it.
    """
    from fer_hf.data import images

    name = photo if isinstance(photo, (str, os.PathLike)) else f"the {type(photo).__name__}"
    try:
        image = _open(photo, timeout)
        if image.mode not in images.KNOWN_MODES:
            raise PhotoError(f"{name}: pixels of type {image.mode!r} have no known range. Use 8 bits.")
        return images.plain_image(image, "RGB")
    except BadInputError:
        raise
    except Exception as error:  # Pillow's decoders and the network raise whatever they like
        reason = "of no known format" if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())
        raise PhotoError(f"{name}: not a readable image ({reason}).") from error


def _open(photo: Photo, timeout: float | None) -> Image.Image:
    from fer_hf.data import images

    if isinstance(photo, Image.Image):
        return photo
    if isinstance(photo, np.ndarray):
        return Image.fromarray(_eight_bits(photo))
    if isinstance(photo, str) and photo.startswith(("http://", "https://", "data:image/")):
        return load_image(photo, timeout=timeout)
    if isinstance(photo, (str, os.PathLike)):
        return Image.open(io.BytesIO(images.read_bytes(photo)), formats=images.FORMATS)
    raise PhotoError(
        f"A photo must be a file, a URL, a PIL image or a NumPy array, got {type(photo).__name__}. "
        "Of a table, give the column: `KeyDataset(table, 'image')`."
    )


def _eight_bits(array: np.ndarray) -> np.ndarray:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise PhotoError(
            "An array must have shape (height, width) or (height, width, channels) with 1, 3 or 4 channels, got "
            f"{array.shape}."
        )
    if array.dtype == np.uint16:
        array = (array.astype(np.uint32) + 128) // 257
    elif array.dtype == bool:
        array = array * 255
    elif np.issubdtype(array.dtype, np.floating):
        if not (array.min() >= 0 and array.max() <= 1):  # NaN is out of range too
            raise PhotoError(f"An array of floats must lie in [0, 1], got {array.min():g} to {array.max():g}.")
        array = np.rint(array * 255)
    elif array.dtype != np.uint8:
        raise PhotoError(f"An array must be of uint8, uint16, bool or floats in [0, 1], got {array.dtype}.")
    return np.ascontiguousarray(array, np.uint8)
