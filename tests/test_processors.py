"""Settings of image processors that do not work are named by file and key, wherever a model comes in."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import pipeline

from fer_hf.cli.main import main
from fer_hf.errors import ModelError
from fer_hf.evaluation.scoring import score_faces
from fer_hf.labels import EXPRESSIONS
from fer_hf.models.loading import load_image_classifier, load_trained_classifier


FEW = ["--dataset", "synthetic", "--dataset_options", '{"train": 14, "validation": 7, "test": 7}']


def changed(folder: str, place: Path, **settings) -> Path:
    """A copy of a checkpoint whose image processor has these settings."""
    copy = shutil.copytree(folder, place / "changed")
    file = copy / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    return copy


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"size": None}, "`size` must be sides from 1 to 4,096 pixels, got None."),
        ({"size": {"height": "48", "width": 48}}, "`size` must be sides from 1 to 4,096 pixels, got SizeDict"),
        ({"size": {"height": 0, "width": 48}}, "`size` must be sides from"),
        ({"size": {"height": 10**9, "width": 10**9}}, "`size` must be sides from"),
        ({"size": "48"}, " holds settings that do not work: Could not convert size input"),
        ({"size": {"tall": 48}}, " holds settings that do not work: size must have one of the following"),
        ({"do_center_crop": True, "crop_size": {"height": "x", "width": 4}}, "`crop_size` must be sides from"),
        ({"resample": 77}, "`resample` must be one of Pillow's filters, 0 to 5, got 77."),
        ({"do_resize": None}, "`do_resize` must be true or false, got None."),
        ({"do_rescale": "no"}, "`do_rescale` must be true or false, got 'no'."),
        ({"do_normalize": 3}, "`do_normalize` must be true or false, got 3."),
        ({"rescale_factor": "a"}, "`rescale_factor` must be a number above 0, got 'a'."),
        ({"rescale_factor": float("nan")}, "`rescale_factor` must be a number above 0, got nan."),
        ({"image_mean": [0.5, 0.5]}, "`image_mean` must be a number, or one for each of 3 channels, got (0.5, 0.5)."),
        ({"image_mean": [0.5, 0.5, "x"]}, "`image_mean` must be a number, or one"),
        ({"image_mean": None}, "`image_mean` must be a number, or one"),
        ({"image_std": [1, 0, 1]}, "`image_std` must be a number above 0, or one"),
        ({"face_margin": "wide"}, "`face_margin` must be a number above -0.5, got 'wide'."),
        ({"image_processor_type": 3}, " holds settings that do not work: 'int' object"),
    ],
)
def test_settings_that_do_not_work_are_named_by_file_and_key(classifier_folder, tmp_path, settings, complaint):
    folder = changed(classifier_folder, tmp_path, **settings)
    with pytest.raises(ModelError) as refused:
        load_trained_classifier(str(folder))
    complaint = complaint if complaint.startswith(" ") else f": {complaint}"
    assert str(refused.value).startswith(f"{folder / 'preprocessor_config.json'}{complaint}")
    assert "\n" not in str(refused.value)
    with pytest.raises(ModelError) as again:
        load_image_classifier(str(folder), ("happy", "sad"))
    assert str(again.value) == str(refused.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"size": 48},
        {"size": {"shortest_edge": 48}},
        {"resample": "bilinear"},
        {"image_mean": 0.5, "image_std": [0.25]},
        {"do_normalize": False, "image_mean": None},
        {"do_center_crop": None, "crop_size": {"height": "x", "width": 4}},
        {"face_margin": 0.1, "unknown": [1]},
    ],
)
def test_settings_that_work_are_taken(classifier_folder, tmp_path, settings):
    load_trained_classifier(str(changed(classifier_folder, tmp_path, **settings)))


def test_every_door_refuses_them_in_one_line(classifier_folder, tmp_path, monkeypatch, capsys):
    folder = changed(classifier_folder, tmp_path, image_mean=[0.5, 0.5])
    monkeypatch.chdir(tmp_path)
    Image.new("L", (50, 60)).save("face.png")
    complaint = f"{folder}/preprocessor_config.json: `image_mean` must be a number, or one for each of 3 channels"
    for command in (
        ["predict", "face.png", "--detector", "none"],
        ["evaluate", *FEW],
        ["export", *FEW, "--output", "new.onnx"],
        ["train", *FEW, "--use_cpu", "--output_dir", "new"],
    ):
        try:
            code = main([*command, "--model", str(folder)])
        except SystemExit as end:  # of a recipe
            code = end.code
        assert code == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {complaint}")
        assert not list(tmp_path.glob("new*"))
    with pytest.raises(ModelError) as refused:
        pipeline("facial-expression", model=str(folder), detector="none")
    assert str(refused.value).startswith(complaint)


OWN_SIZES = {"do_resize": False}


@pytest.mark.parametrize(
    ("settings", "sizes", "complaint"),
    [
        # The tiny classifier takes 48 x 48 pixels.
        ({"size": {"height": 32, "width": 32}}, [], "the model does not take images of 48x48 pixels as they come out"),
        (OWN_SIZES, [(48, 48), (60, 50)], "images of 48x48 and 60x50 pixels fit into no batch; `do_resize` must be"),
        (OWN_SIZES, [(50, 50), (50, 50)], "the model does not take images of 50x50 pixels as they come out"),
        ({"size": {"shortest_edge": 48}}, [(48, 48), (60, 50)], "images of 48x48 and 60x50 pixels fit into no batch"),
    ],
)
def test_faces_of_sizes_that_a_model_does_not_take_are_refused_at_the_start_of_every_command(
    classifier_folder, tmp_path, monkeypatch, capsys, settings, sizes, complaint
):
    folder = changed(classifier_folder, tmp_path, **settings)
    monkeypatch.chdir(tmp_path)
    for split in ("train", "validation", "test"):
        for number, name in enumerate(EXPRESSIONS):
            Path(split, name).mkdir(parents=True)
            size = sizes[split == "validation"] if sizes else (48, 48)  # what training meets at an epoch's end
            Image.effect_noise(size, 50 + number).save(Path(split, name, "face.png"))
    data = ["--dataset", "imagefolder", "--data_dir", "."]
    for command in (
        ["evaluate", *data, "--split", "test+validation"],
        ["export", *data, "--output", "new.onnx"],
        ["train", *data, "--use_cpu", "--max_steps", "1", "--output_dir", "new"],
    ):
        try:
            code = main([*command, "--model", str(folder)])
        except SystemExit as end:  # of a recipe
            code = end.code
        said = capsys.readouterr().err.splitlines()
        assert code == 2
        assert said[-1].startswith(f"error: {folder}/preprocessor_config.json: {complaint}")
        assert not any("epoch" in line for line in said)
        assert not list(tmp_path.glob("new*"))


def test_a_pipeline_of_a_processor_that_does_not_fit_is_refused_when_it_is_made(classifier_folder, tmp_path):
    folder = changed(classifier_folder, tmp_path, size={"height": 32, "width": 32})
    with pytest.raises(ModelError, match="the model does not take images of 48x48 pixels as they come out"):
        pipeline("facial-expression", model=str(folder), detector="none")


def test_faces_of_the_models_own_size_need_no_resizing(classifier_folder, tmp_path, drawn_faces):
    expected = score_faces(*load_trained_classifier(classifier_folder), drawn_faces["test"]).logits
    folder = changed(classifier_folder, tmp_path, **OWN_SIZES)
    logits = score_faces(*load_trained_classifier(str(folder)), drawn_faces["test"]).logits
    np.testing.assert_array_equal(logits, expected)


def test_photos_whose_faces_a_model_does_not_take_are_refused_in_one_line(
    classifier_folder, tmp_path, monkeypatch, capsys
):
    folder = changed(classifier_folder, tmp_path, **OWN_SIZES)
    monkeypatch.chdir(tmp_path)
    for name, size in {"a": (48, 48), "b": (60, 50)}.items():
        Image.new("L", size).save(f"{name}.png")
    file, alone = f"{folder}/preprocessor_config.json", "the model does not take images of 60x50 pixels"
    finder = pipeline("facial-expression", model=str(folder), detector="none")
    assert len(finder("a.png")) == 1
    with pytest.raises(ModelError, match=re.escape(f"{file}: {alone} as they come out (Input image size")):
        finder("b.png")
    for words, complaint in (
        (["predict", "a.png", "b.png"], "images of 48x48 and 60x50 pixels fit into no batch"),
        (["explain", "b.png", "--output_dir", "new"], alone),
    ):
        assert main([*words, "--detector", "none", "--model", str(folder)]) == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {file}: {complaint}")
        assert not list(tmp_path.glob("new/*"))
