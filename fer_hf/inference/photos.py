"""Photos in whatever form they come: files, URLs, PIL images, arrays."""

import base64
import os
from urllib.request import urlopen

import numpy as np
from PIL import Image

from fer_hf.data.images import MAX_BYTES, check_image, eight_bits, open_image, plain_image, read_bytes, readable
from fer_hf.errors import BadInputError


Photo = str | os.PathLike | Image.Image | np.ndarray


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
    name = _name(photo)
    with readable(name):
        image = _open(photo, name, timeout)
        check_image(image, name, min_side=1)
        return plain_image(image, "RGB")


def _name(photo: Photo) -> str:
    if isinstance(photo, str | os.PathLike):
        return "the data URI" if str(photo).startswith("data:") else str(photo)
    return f"the {type(photo).__name__}"


def _open(photo: Photo, name: str, timeout: float | None) -> Image.Image:
    if isinstance(photo, Image.Image):
        return photo
    if isinstance(photo, np.ndarray):
        return Image.fromarray(_eight_bit_array(photo))
    if isinstance(photo, str | os.PathLike):
        return open_image(_content(photo, timeout), name, min_side=1)
    raise BadInputError(
        f"A photo must be a file, a URL, a PIL image or a NumPy array, got {type(photo).__name__}. "
        "Of a table, give the column: `KeyDataset(table, 'image')`."
    )


def _content(photo: str | os.PathLike, timeout: float | None) -> bytes:
    if str(photo).startswith(("http://", "https://")):
        with urlopen(photo, timeout=timeout) as answer:
            return answer.read(MAX_BYTES)
    if str(photo).startswith("data:image/"):
        return base64.b64decode(photo.partition(",")[2])
    return read_bytes(photo)


def _eight_bit_array(array: np.ndarray) -> np.ndarray:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise BadInputError(
            "An array must have shape (height, width) or (height, width, channels) with 1, 3 or 4 channels, got "
            f"{array.shape}."
        )
    if array.dtype == np.uint16:
        array = eight_bits(array)
    elif array.dtype == bool:
        array = array * 255
    elif np.issubdtype(array.dtype, np.floating):
        if not (array.min() >= 0 and array.max() <= 1):  # NaN is out of range too
            raise BadInputError(f"An array of floats must lie in [0, 1], got {array.min():g} to {array.max():g}.")
        array = np.rint(array * 255)
    elif array.dtype != np.uint8:
        raise BadInputError(f"An array must be of uint8, uint16, bool or floats in [0, 1], got {array.dtype}.")
    return np.ascontiguousarray(array, np.uint8)
