"""`fer-hf explain`: a picture for each face of where the classifier looks."""

import sys

import pytest
from PIL import Image
from transformers import SwinConfig, SwinForImageClassification, ViTImageProcessor

from fer_hf.cli.explaining import check_place, explain_to
from fer_hf.cli.main import main
from fer_hf.errors import BadInputError
from fer_hf.inference import Detection
from fer_hf.inference.predict import find_entries, load_pipeline
from fer_hf.models.zoo import build, image_processor


FLAGS = ["--detector", "none", "--disable_tqdm"]


@pytest.fixture
def photos(tmp_path, monkeypatch, drawn_faces):
    """The folder `photos`, here, with a face in it, and another one below."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "below").mkdir(parents=True)
    for number, name in enumerate(("one.png", "below/one.png")):
        drawn_faces["test"][number]["image"].save(tmp_path / "photos" / name)
    return tmp_path / "photos"


def explain(*words):
    return main(["explain", *map(str, words), *FLAGS])


def test_every_face_gets_a_picture_where_its_photo_stands(photos, tmp_path, classifier_folder, capsys):
    assert explain("photos", "--model", classifier_folder, "--output_dir", "why") == 0
    pictures = [tmp_path / "why" / name for name in ("below/one_face1.png", "one_face1.png")]
    assert sorted(path for path in (tmp_path / "why").rglob("*") if path.is_file()) == pictures
    for picture in pictures:
        width, height = Image.open(picture).size
        assert width > 2 * height  # face, map and bars
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["why/below/one_face1.png", "why/one_face1.png"]
    assert last == "2 photos, 2 faces"


def test_the_faces_of_a_data_set_get_one_each(tmp_path, classifier_folder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = '{"train": 7, "validation": 7, "test": 7}'
    words = ["--dataset", "synthetic", "--dataset_options", options, "--split", "validation"]
    assert main(["explain", *words, "--model", classifier_folder, "--output_dir", "why", "--disable_tqdm"]) == 0
    pictures = sorted((tmp_path / "why").rglob("*.png"))
    assert pictures == [tmp_path / "why" / "synthetic" / "validation" / f"{row}_face1.png" for row in range(7)]


def test_the_faces_of_a_photo_are_numbered_and_a_photo_that_cannot_be_read_stops_no_other(photos, capsys):
    (photos / "broken.png").write_bytes(b"\x89PNG and no more")

    def find(image):
        return [Detection((0.0, 0.0, 24.0, 24.0), 0.9), Detection((10.0, 10.0, 40.0, 40.0), 0.8)]

    entries, _ = find_entries([photos])
    with pytest.raises(BadInputError, match="1 of 3 photos could not be read"):
        explain_to(load_pipeline("fer-compact-cnn", detector=find), find, entries, photos.parent / "why", True)
    assert sorted(path.name for path in photos.parent.glob("why/*.png")) == ["one_face1.png", "one_face2.png"]
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"unreadable: {photos / 'broken.png'}: ")


def test_nothing_is_replaced_unasked_and_no_photo_ever(photos, tmp_path, classifier_folder):
    entries, _ = find_entries([photos])
    (tmp_path / "why" / "below").mkdir(parents=True)
    (tmp_path / "why" / "below" / "one_face2.png").write_text("mine")
    (tmp_path / "why" / "other_face1.png").write_text("mine")
    with pytest.raises(BadInputError, match=r"below/one_face2\.png exists\. Name another folder"):
        check_place(tmp_path / "why", entries, overwrite=False)
    check_place(tmp_path / "why", entries, overwrite=True)
    for overwrite in (False, True):
        with pytest.raises(BadInputError, match=r"holds the photo .*photos/below/one\.png"):
            check_place(photos, entries, overwrite)


def test_of_dacl_the_weights_of_its_features_stand_below(photos, tmp_path):
    model = build("dacl-48", attention_hidden_sizes=[16, 8])
    model.save_pretrained("dacl")
    image_processor("dacl-48", model.config).save_pretrained("dacl")
    heights = []
    for name in ("dacl", "fer-compact-cnn"):
        assert explain("photos/one.png", "--model", name, "--output_dir", f"{name}-why") == 0
        heights.append(Image.open(tmp_path / f"{name}-why" / "one_face1.png").height)
    assert heights[0] > heights[1]


def test_a_network_that_does_not_tell_is_refused_and_leaves_nothing(photos, tmp_path, capsys):
    sizes = {"patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 3}
    SwinForImageClassification(SwinConfig(image_size=48, **sizes)).save_pretrained("swin")
    ViTImageProcessor(size={"height": 48, "width": 48}, do_convert_rgb=True).save_pretrained("swin")
    assert explain("photos", "--model", "swin", "--output_dir", "why") == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: swin does not tell where it looks")
    assert not (tmp_path / "why").exists()


def test_without_captum_a_cnn_says_what_to_install_and_a_vision_transformer_needs_none(
    photos, tmp_path, classifier_folder, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    assert explain("photos", "--model", "fer-compact-cnn", "--output_dir", "why") == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("install it: pip install captum")
    assert not (tmp_path / "why").exists()
    assert explain("photos", "--model", classifier_folder, "--output_dir", "why") == 0
