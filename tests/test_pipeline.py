"""`pipeline("facial-expression")`: photos in, faces with box, landmarks and scores out."""

import json
import math
import shutil

import datasets
import numpy as np
import pytest
from PIL import Image
from safetensors import SafetensorError
from transformers import AutoImageProcessor, ViTForImageClassification, ViTImageProcessor, pipeline
from transformers.pipelines.pt_utils import KeyDataset

import fer_hf
from fer_hf.errors import BadInputError, ModelError
from fer_hf.inference import Detection, FacialExpressionPipeline
from fer_hf.inference.alignment import crop_face, face_square
from fer_hf.inference.photos import load_photo


# Scores are float32: their logits, of about 10, are exact to some 1e-6, whatever the batch.
SCORES = 1e-5


def landmarks(middle, side, degrees=0.0):
    """Of a face of `side` pixels as FER-2013 has them (0.39 everywhere), turned about the middle of the eyes."""
    turn = np.radians(degrees)
    right, down = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
    places = [(-0.195, 0), (0.195, 0), (0, 0.2), (-0.15, 0.39), (0.15, 0.39)]
    return [tuple(middle + side * (x * right + y * down)) for x, y in places]


def dots(size, points):
    """A picture with a soft dot at each point, each in a channel of its own."""
    width, height = size
    x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5  # centers of pixels
    channels = [255 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 3.0**2)) for px, py in points]
    return Image.fromarray(np.rint(np.stack(channels, axis=-1)).astype(np.uint8))


def centers(picture):
    """Where the dot of each channel lies, as a share of the picture's side."""
    pixels = np.asarray(picture).astype(float)
    at = np.arange(picture.width) + 0.5
    mass = pixels.sum(axis=(0, 1))
    x, y = (pixels * at[:, None]).sum(axis=(0, 1)) / mass, (pixels * at[:, None, None]).sum(axis=(0, 1)) / mass
    return np.stack([x, y], axis=-1) / picture.width


@pytest.fixture
def photo(drawn_faces):
    """Two drawn faces in a photo, and a detector that knows where."""
    picture = Image.new("RGB", (300, 200), (90, 110, 130))
    boxes = [(20, 30, 116, 126), (180, 40, 260, 140)]
    for row, (left, top, right, bottom) in enumerate(boxes):
        face = drawn_faces["test"][row]["image"].convert("RGB").resize((right - left, bottom - top))
        picture.paste(face, (left, top))
    return picture


def two_faces(image):
    scale = image.shape[1] / 300
    first = landmarks(np.array([68.0, 67.0]) * scale, 90 * scale, degrees=5)
    boxes = [(20, 30, 116, 126), (180, 40, 260, 140)]
    first_box, second_box = (tuple(edge * scale for edge in box) for box in boxes)
    return [Detection(first_box, 0.9, first), Detection(second_box, 0.8, None)]


def faces_where_it_is_bright(image):
    return two_faces(image) if image.mean() > 60 else []


def close(faces, others):
    return all(
        face["box"] == other["box"]
        and face["landmarks"] == other["landmarks"]
        and list(face["scores"].values()) == pytest.approx(list(other["scores"].values()), abs=SCORES)
        for face, other in zip(faces, others, strict=True)
    )


@pytest.mark.parametrize("degrees", [0, 7, -25, 60, 135, 180])
@pytest.mark.parametrize("margin", [0.0, 0.25, -0.1])
def test_eyes_and_mouth_lie_at_their_places_in_the_crop_however_the_face_is_turned(degrees, margin):
    side, middle = 100, np.array([151.3, 138.8])
    points = landmarks(middle, side, degrees)
    mouth = (np.array(points[3]) + points[4]) / 2
    picture = dots((320, 300), [points[0], points[1], mouth])
    face = Detection((0, 0, 10, 10), 1.0, points)  # the box has no say
    crop = crop_face(picture, face, margin)
    assert crop.size == (round(100 * (1 + 2 * margin)),) * 2
    expected = (np.array([(0.305, 0.39), (0.695, 0.39), (0.5, 0.78)]) + margin) / (1 + 2 * margin)
    assert np.abs(centers(crop) - expected).max() * crop.width < 0.1


def test_a_head_turned_aside_keeps_its_size_through_the_mouth():
    points = landmarks(np.array([50.0, 40.0]), 80)
    aside = [(50 + (x - 50) * 0.4, y) for x, y in points]
    assert face_square(Detection((0, 0, 1, 1), 1.0, aside)).side == pytest.approx(80)


def test_without_landmarks_the_crop_is_upright_about_the_box_and_beyond_the_photo_black():
    picture = dots((60, 50), [(10, 20), (20, 20), (15, 40)])
    crop = crop_face(picture, Detection((0, 10, 20, 50), 1.0), margin=0.25)
    assert crop.size == (60, 60)  # 40 * 1.5, about (10, 30)
    square = face_square(Detection((0, 10, 20, 50), 1.0), margin=0.25)
    assert square.corner.tolist() == [-20, 0]
    pixels = np.asarray(crop)
    assert np.array_equal(pixels[:50, 20:], np.asarray(picture)[:, :40])
    assert pixels[:, :20].max() == 0
    assert pixels[50:].max() == 0


def test_eyes_in_one_place_are_no_landmarks():
    face = Detection((10, 20, 30, 50), 1.0, [(5, 5)] * 5)
    assert face_square(face).side == 30


def test_landmarks_far_apart_do_not_fill_the_memory():
    points = landmarks(np.array([0.0, 0.0]), 1e7)
    assert crop_face(Image.new("RGB", (30, 20)), Detection((0, 0, 1, 1), 1.0, points)).size == (60, 60)


@pytest.mark.parametrize("margin", [-0.5, float("nan"), "wide"])
def test_a_margin_that_leaves_nothing_is_refused(margin):
    with pytest.raises(BadInputError, match=r"`face_margin` must be a number above -0\.5"):
        face_square(Detection((0, 0, 10, 10), 1.0), margin)


def test_a_photo_gives_boxes_landmarks_and_all_seven_scores(classifier_folder, photo, names):
    first, second = pipeline("facial-expression", model=classifier_folder, detector=two_faces)(photo)
    assert first["box"] == {"xmin": 20.0, "ymin": 30.0, "xmax": 116.0, "ymax": 126.0}
    assert first["landmarks"] == [list(point) for point in landmarks(np.array([68.0, 67.0]), 90, degrees=5)]
    assert second["landmarks"] is None
    for face in (first, second):
        assert list(face["scores"]) == names
        assert sum(face["scores"].values()) == pytest.approx(1, abs=SCORES)
        assert face["score"] == max(face["scores"].values()) == face["scores"][face["expression"]]


@pytest.mark.numeric
def test_scores_are_the_models_own_of_the_crops(classifier_folder, photo):
    faces = pipeline("facial-expression", model=classifier_folder, detector=two_faces)(photo)
    classifier = pipeline("image-classification", model=classifier_folder, top_k=7)
    for face, detection in zip(faces, two_faces(np.asarray(photo)), strict=True):
        expected = {row["label"]: row["score"] for row in classifier(crop_face(photo, detection))}
        assert face["scores"] == pytest.approx(expected, abs=SCORES)
    # Otherwise the faces could change places unseen.
    assert max(abs(faces[0]["scores"][name] - faces[1]["scores"][name]) for name in faces[0]["scores"]) > 10 * SCORES


@pytest.mark.numeric
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK"])
def test_with_detector_none_it_is_image_classification(mode, classifier_folder, photo):
    image = photo.convert(mode)
    (face,) = pipeline("facial-expression", model=classifier_folder, detector="none")(image)
    expected = pipeline("image-classification", model=classifier_folder, top_k=7)(image)
    assert face["scores"] == pytest.approx({row["label"]: row["score"] for row in expected}, abs=SCORES)
    assert face["box"] == {"xmin": 0.0, "ymin": 0.0, "xmax": 300.0, "ymax": 200.0}
    assert face["landmarks"] is None


@pytest.mark.numeric
@pytest.mark.parametrize("batch_size", [1, 2, 3, 7])
def test_a_batch_of_many_photos_equals_one_by_one(batch_size, classifier_folder, photo):
    photos = [photo, Image.new("L", (40, 30)), photo.resize((600, 400)), photo.convert("L"), Image.new("RGB", (9, 9))]
    faces = pipeline("facial-expression", model=classifier_folder, detector=faces_where_it_is_bright)
    alone = [faces(image) for image in photos]
    assert [len(found) for found in alone] == [2, 0, 2, 2, 0]
    together = faces(photos, batch_size=batch_size)
    assert all(close(found, own) for found, own in zip(together, alone, strict=True))


def test_all_faces_of_a_batch_go_through_the_model_together(classifier_folder, photo, monkeypatch):
    faces = pipeline("facial-expression", model=classifier_folder, detector=faces_where_it_is_bright)
    seen, forward = [], faces.model.forward
    monkeypatch.setattr(
        faces.model, "forward", lambda pixel_values: seen.append(len(pixel_values)) or forward(pixel_values)
    )
    faces([photo, photo, Image.new("L", (9, 9)), photo, photo], batch_size=4)
    assert seen == [6, 2]
    faces([Image.new("L", (9, 9))] * 3, batch_size=4)
    assert seen == [6, 2]
    monkeypatch.setattr("fer_hf.inference.pipeline.MAX_FACES", 4)
    faces([photo] * 3, batch_size=3)
    assert seen == [6, 2, 4, 2]


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_a_long_sequence_is_read_a_few_at_a_time_and_in_order(batch_size, classifier_folder, drawn_faces):
    class Pictures(list):
        reads = []

        def __getitem__(self, key):
            self.reads.append(key)
            return super().__getitem__(key)

    pictures = Pictures(drawn_faces["test"][:20]["image"])
    finder = pipeline("facial-expression", model=str(classifier_folder), detector="none")
    together = [face["score"] for (face,) in finder(pictures, batch_size=batch_size)]
    assert together == pytest.approx([finder(picture)[0]["score"] for picture in list(pictures)], abs=1e-5)
    assert Pictures.reads == [slice(0, 8), slice(8, 16), slice(16, 24)]


def test_photos_come_as_files_pictures_arrays_lists_columns_and_streams(classifier_folder, photo, tmp_path):
    faces = pipeline("facial-expression", model=classifier_folder, detector=two_faces)
    expected = faces(photo)
    path = tmp_path / "photo.png"
    photo.save(path)
    for form in (str(path), path, np.asarray(photo), np.asarray(photo) / 255):
        assert close(faces(form), expected)
    table = datasets.Dataset.from_dict({"image": [str(path)] * 3}).cast_column("image", datasets.Image())
    for several in ([photo] * 3, (photo,) * 3, table["image"]):
        found = faces(several, batch_size=2)
        assert len(found) == 3
        assert all(close(own, expected) for own in found)
    stream = faces(KeyDataset(table, "image"), batch_size=2)
    assert len(stream) == 3
    assert all(close(own, expected) for own in stream)
    assert all(close(own, expected) for own in faces(image for image in [photo] * 3))
    assert faces([]) == []


def test_workers_give_the_same(classifier_folder, photo):
    faces = pipeline("facial-expression", model=classifier_folder, detector=two_faces)
    expected = faces(photo)
    assert all(close(own, expected) for own in faces([photo] * 4, batch_size=2, num_workers=2))


def test_a_photo_lying_on_its_side_is_set_upright_first(classifier_folder, photo, tmp_path):
    faces = pipeline("facial-expression", model=classifier_folder, detector=two_faces)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    path = tmp_path / "lying.png"
    photo.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    assert close(faces(path), faces(photo))


def test_boxes_beyond_the_photo_are_told_up_to_its_edge_and_cut_in_full(classifier_folder, photo):
    seen = [Detection((-20.0, -10.0, 60.0, 70.0), 0.9), Detection((250.0, 150.0, 340.0, 240.0), 0.9)]
    first, last = pipeline("facial-expression", model=classifier_folder, detector=lambda image: seen)(photo)
    assert first["box"] == {"xmin": 0.0, "ymin": 0.0, "xmax": 60.0, "ymax": 70.0}
    assert last["box"] == {"xmin": 250.0, "ymin": 150.0, "xmax": 300.0, "ymax": 200.0}
    whole = Image.new("RGB", (80, 80))
    whole.paste(photo.crop((0, 0, 60, 70)), (20, 10))
    (expected,) = pipeline("facial-expression", model=classifier_folder, detector="none")(whole)
    assert first["scores"] == pytest.approx(expected["scores"], abs=SCORES)


def test_the_margin_of_the_image_processor_is_used_and_survives_saving(classifier_folder, processor, photo, tmp_path):
    plain = pipeline("facial-expression", model=classifier_folder, detector=two_faces)
    processor.face_margin = 0.3
    processor.save_pretrained(tmp_path / "first")
    for backend in ("torchvision", "pil"):
        loaded = AutoImageProcessor.from_pretrained(tmp_path / "first", backend=backend)
        loaded.save_pretrained(tmp_path / backend)
        assert ViTImageProcessor.from_pretrained(tmp_path / backend).face_margin == 0.3
    wide = pipeline("facial-expression", model=classifier_folder, image_processor=loaded, detector=two_faces)(photo)
    assert wide[0]["scores"] != plain(photo)[0]["scores"]
    told = pipeline(
        "facial-expression", model=classifier_folder, image_processor=loaded, detector=two_faces, face_margin=0
    )
    processor.face_margin = 0.0
    assert close(told(photo, face_margin=0.3), wide)


@pytest.mark.numeric
def test_calibration_divides_the_logits_by_the_configurations_temperature(classifier_folder, photo):
    faces = pipeline("facial-expression", model=classifier_folder, detector=two_faces)
    plain = faces(photo)
    assert close(faces(photo, calibrated=True), plain)
    faces.model.config.calibration_temperature = 2.5
    assert close(faces(photo), plain)
    for face, own in zip(faces(photo, calibrated=True), plain, strict=True):
        powers = {name: score ** (1 / 2.5) for name, score in own["scores"].items()}
        expected = {name: power / sum(powers.values()) for name, power in powers.items()}
        assert face["scores"] == pytest.approx(expected, abs=SCORES)


def test_the_detector_can_be_another_for_one_call(classifier_folder, photo):
    faces = pipeline("facial-expression", model=classifier_folder, detector="none")
    assert len(faces(photo)) == 1
    assert len(faces(photo, detector=two_faces)) == 2
    assert len(faces(photo)) == 1


def test_it_is_registered_by_importing_the_package_for_every_image_classifier(classifier_folder):
    made = pipeline("facial-expression", model=classifier_folder, detector="none")
    assert isinstance(made, FacialExpressionPipeline)
    assert isinstance(made.model, ViTForImageClassification)
    assert tuple(made.model.config.id2label.values()) == fer_hf.EXPRESSIONS


def test_a_checkpoint_that_lacks_weights_does_not_answer_from_random_ones(backbone_folder):
    with pytest.raises(ModelError, match=r"is no trained classifier: it has no weights classifier\.bias"):
        pipeline("facial-expression", model=backbone_folder, detector="none")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"cut off", "model.safetensors is cut off or no safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "model.safetensors is a Git LFS pointer, not the weights"),
    ],
)
def test_damaged_weights_are_named_in_one_line(content, complaint, classifier_folder, tmp_path):
    folder = shutil.copytree(classifier_folder, tmp_path / "run")
    (folder / "model.safetensors").write_bytes(content)
    for load in (
        lambda: pipeline("facial-expression", model=str(folder), detector="none"),
        lambda: fer_hf.load_image_classifier(str(folder), fer_hf.EXPRESSIONS),
    ):
        with pytest.raises((SafetensorError, ModelError), match=complaint) as refused:
            load()
        assert "\n" not in str(refused.value)


def test_a_saved_pipeline_names_a_class_that_transformers_knows(classifier_folder, tmp_path):
    pipeline("facial-expression", model=classifier_folder, detector="none").save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())["custom_pipelines"]["facial-expression"]
    assert saved["pt"] == ["AutoModelForImageClassification"]


def test_sixteen_bits_gray_alpha_and_floats_become_eight_bit_rgb(tmp_path):
    levels = np.array([[0, 257 * 7, 65535]], np.uint16)
    gray = [[(0, 0, 0), (7, 7, 7), (255, 255, 255)]]
    path = tmp_path / "deep.png"
    Image.fromarray(levels).save(path)
    eight = np.array([[0, 7, 255]], np.uint8)
    opaque = np.dstack([eight, eight, eight, np.full_like(eight, 255)])
    for form in (path, levels, Image.fromarray(levels), eight, eight[..., None], eight / 255, opaque):
        image = load_photo(form)
        assert image.mode == "RGB"
        assert np.asarray(image).tolist() == np.array(gray).tolist()
    clear = opaque.copy()
    clear[..., 3] = 0
    assert np.asarray(load_photo(clear)).max() == 0
    assert np.asarray(load_photo(np.array([[True, False]]))).tolist() == [[[255] * 3, [0] * 3]]


@pytest.mark.parametrize(
    ("photo", "complaint"),
    [
        ("/nowhere.jpg", "/nowhere.jpg: cannot be read"),
        (np.zeros((3, 20, 20), np.uint8), r"must have shape .* got \(3, 20, 20\)"),
        (np.zeros((0, 4), np.uint8), r"must have shape .* got \(0, 4\)"),
        (np.full((4, 4), 200.0), r"must lie in \[0, 1\], got 200 to 200"),
        (np.full((4, 4), math.nan), r"must lie in \[0, 1\], got nan"),
        (np.zeros((4, 4), np.int64), "must be of uint8, uint16, bool or floats"),
        (Image.new("F", (4, 4)), "the Image: pixels of type 'F' have no known range"),
        ({"image": None}, r"A photo must be a file, a URL, a PIL image or a NumPy array, got dict"),
        ("http://127.0.0.1:9/photo.jpg", "http://127.0.0.1:9/photo.jpg: not a readable image"),
    ],
)
def test_what_is_no_photo_is_refused_in_one_line(photo, complaint):
    with pytest.raises(BadInputError, match=complaint) as error:
        load_photo(photo, timeout=1)
    assert "\n" not in str(error.value)


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "half.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BadInputError, match=r"half\.png: not a readable image"):
        load_photo(path)
