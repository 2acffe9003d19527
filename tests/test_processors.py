"""Settings of image processors that do not work are named by file and key, wherever a model comes in."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from transformers import pipeline

from fer_hf.cli.main import main
from fer_hf.errors import ModelError
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
