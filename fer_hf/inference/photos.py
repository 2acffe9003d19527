"""Photos in whatever form they come: files, URLs, PIL images, arrays."""

import base64
import logging
import os
from collections import Counter
from collections.abc import Sequence
from urllib.request import urlopen

import numpy as np
from PIL import Image

from fer_hf.data.folders import SYSTEM_FILES, is_image
from fer_hf.data.images import MAX_BYTES, check_image, eight_bits, open_image, plain_image, read_bytes, readable
from fer_hf.errors import BadInputError
from fer_hf.escape import one_line
from fer_hf.inference.video import is_video


logger = logging.getLogger(__name__)

# Formats whose further pictures are later ones; those of other formats are pages, or the same once more.
ANIMATED = ("GIF", "PNG", "WEBP")

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
        if image.format in ANIMATED and image.is_animated:
            logger.warning(one_line(f"{name}: moves; the first picture is taken. A video of it would give all."))
        return plain_image(image, "RGB")


def photos_below(
    folder: str | os.PathLike, left_out: Counter[str], above: Sequence[str | os.PathLike] = ()
) -> list[str]:
    """
    All images below a folder, at any depth, folder by folder in the order of their names. Nothing stops the search:
    what is no image, and what cannot be looked at, is counted. (Data sets are stricter: `fer_hf.data.folders`.)

    Args:
        folder (`str` or `os.PathLike`): Where to look.
        left_out (`Counter`): Is added to, by kind: a suffix, or words.
        above (`Sequence`): Folders that a link must not lead back to, besides `folder`.

    Returns:
        `list[str]`: Paths. Hidden files and those of operating systems are neither there nor counted.
    """
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:
        left_out["folders that cannot be listed"] += 1
        return []
    photos = []
    for entry in entries:
        if entry.name.startswith(".") or entry.name.lower() in SYSTEM_FILES:
            continue
        if not os.path.exists(entry.path):
            left_out["links that lead nowhere"] += 1
        elif not entry.is_dir():
            if is_image(entry.name):
                photos.append(entry.path)
            else:
                left_out[os.path.splitext(entry.name)[1].lower() or "files without a suffix"] += 1
        elif any(os.path.samefile(entry.path, other) for other in (*above, folder)):
            left_out["links back to a folder above"] += 1
        else:
            photos += photos_below(entry.path, left_out, (*above, folder))
    return photos


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
        if is_video(os.fspath(photo)):
            raise BadInputError(f"{name}: a video, and no photo. `fer-hf predict` takes it alone.")
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
