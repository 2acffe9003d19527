"""From a face in a photo to the upright square image that a classifier gets."""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from fer_hf.errors import BadInputError
from fer_hf.inference.detectors import Detection


# FER-2013's own crop, measured with yuface on 591 of its faces, every 60th: it is as high as the box that the detector
# gives (median 48.25 of 48 pixels), the eyes lie 0.39 of its side below its top, 0.39 apart and 0.39 above the mouth.
FACE_MARGIN = 0.0
SHARE = 0.39


class Square(NamedTuple):
    """
    A square in a photo, of any direction.

    Args:
        corner (`np.ndarray` of shape `(2,)`): Its top left corner (x, y), in pixels of the photo.
        right (`np.ndarray` of shape `(2,)`): Unit vector along its top side.
        side (`float`): In pixels of the photo.
    """

    corner: np.ndarray
    right: np.ndarray
    side: float

    @property
    def down(self) -> np.ndarray:
        """Unit vector along its left side."""
        return np.array([-self.right[1], self.right[0]])


def face_square(face: Detection, margin: float = FACE_MARGIN) -> Square:
    """
    The square of a photo that is a face.

    With landmarks, the square is turned until the eyes are level, and their middle is 0.39 of its side below its top.
    Its side is so large that the eyes are 0.39 of it apart, or the mouth 0.39 of it below the eyes, whichever makes a
    larger square: a head that is turned aside or nods seems shorter in one of the two. Without landmarks, it is
    upright, about the middle of the box, as large as its longer side.

    Args:
        face (`Detection`): From a detector.
        margin (`float`, defaults to 0): Share of the face's side that is added on each of the four sides. At 0, the
            crop is that of FER-2013.

    Returns:
        `Square`: May reach beyond the photo.

    Raises:
        BadInputError: If `margin` leaves nothing.
    """
    if not (isinstance(margin, (int, float)) and -0.5 < margin < math.inf):
        raise BadInputError(f"`face_margin` must be a number above -0.5, got {margin!r}.")
    whole = 1 + 2 * margin
    if face.landmarks is not None:
        left_eye, right_eye, _, *mouth = np.asarray(face.landmarks, np.float64)
        eyes, between = (left_eye + right_eye) / 2, right_eye - left_eye
        distance = np.hypot(*between)
        if distance > 0:
            side = max(distance, np.hypot(*(np.mean(mouth, axis=0) - eyes))) / SHARE
            square = Square(eyes, between / distance, float(side * whole))
            return square._replace(corner=eyes - side * (whole / 2 * square.right + (SHARE + margin) * square.down))
    left, top, right, bottom = face.box
    side = max(right - left, bottom - top) * whole
    middle = np.array([left + right, top + bottom]) / 2
    return Square(middle - side / 2, np.array([1.0, 0.0]), float(side))


def crop_face(photo: Image.Image, face: Detection, margin: float = FACE_MARGIN) -> Image.Image:
    """
    Cut a face out of a photo, upright if it has landmarks, at the photo's own scale: the image processor resizes it.

    Args:
        photo (`PIL.Image.Image`): Gray or RGB.
        face, margin: As for [`face_square`].

    Returns:
        `PIL.Image.Image`: Square, resampled bilinearly. What lies beyond the photo is black, as in aligned data sets.
    """
    square = face_square(face, margin)
    # A square far larger than the photo, from landmarks that are wrong, must not fill the memory.
    pixels = max(1, min(round(square.side), 2 * max(photo.size)))
    (xx, yx), (xy, yy) = (vector * square.side / pixels for vector in (square.right, square.down))
    matrix = (xx, xy, square.corner[0], yx, yy, square.corner[1])
    return photo.transform((pixels, pixels), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
