"""`fer-hf predict`: many photos in, a table, a file and annotated pictures out."""

import csv
import json

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from fer_hf.cli.main import main
from fer_hf.errors import BadInputError
from fer_hf.inference import Detection
from fer_hf.inference.predict import entries_of_paths, load_pipeline, predict_to
from fer_hf.plots import draw_faces


TABLE = ["--dataset", "synthetic", "--dataset_options", '{"train": 7, "validation": 7, "test": 14}']


@pytest.fixture
def photos(tmp_path, drawn_faces):
    """Two photos with two bright patches each, one without, and a broken one, at two depths."""
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    face = drawn_faces["test"][0]["image"].convert("RGB").resize((60, 60))
    two = Image.new("RGB", (200, 100))
    two.paste(face, (10, 20))
    two.paste(face, (120, 20))
    two.save(folder / "two.png")
    two.save(folder / "below" / "two.png")
    Image.new("RGB", (50, 40)).save(folder / "empty.jpg")
    (folder / "broken.png").write_bytes(b"\x89PNG and no more")
    return folder


def find(image):
    if image.max() == 0:
        return []
    points = [(30.0, 45.0), (50.0, 45.0), (40.0, 55.0), (33.0, 65.0), (47.0, 65.0)]
    return [Detection((10.0, 20.0, 70.0, 80.0), 0.9, points), Detection((120.0, 20.0, 180.0, 80.0), 0.8)]


@pytest.fixture
def classifier(classifier_folder):
    return load_pipeline(classifier_folder, detector=find)


def run(classifier, folder, **options):
    entries = entries_of_paths([folder])
    predict_to(classifier, entries, len(entries), disable_tqdm=True, **options)


@pytest.mark.numeric
def test_json_lines_hold_what_the_pipeline_gives_for_each_photo(classifier, photos, tmp_path, capsys):
    output = tmp_path / "new" / "faces.jsonl"
    with pytest.raises(BadInputError, match="1 of 4 photos could not be read; they are named above"):
        run(classifier, photos, output=output, batch_size=2)
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    names = [str(photos / name) for name in ("below/two.png", "empty.jpg", "two.png")]
    assert [row["image"] for row in rows] == names
    assert rows[1]["faces"] == []
    for row, name in zip(rows, names, strict=True):
        for face, own in zip(row["faces"], classifier(name), strict=True):
            assert (face["box"], face["landmarks"]) == (own["box"], own["landmarks"])
            assert face["scores"] == pytest.approx(own["scores"], abs=1e-5)
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    first = rows[0]["faces"]
    shown = ", ".join(f"{face['expression']} {face['score']:.2f}" for face in first)
    assert lines[0].split(maxsplit=3) == [names[0], "2", "faces", shown]
    assert lines[1].split() == [names[1], "0", "faces"]
    assert lines[3].startswith("3 photos, 4 faces: ")
    assert lines[4] == f"written: {output}"
    assert printed.err.splitlines() == [
        f"unreadable: {photos / 'broken.png'}: not a readable image (of no known format). Unpack or fetch it again."
    ]
    assert [file.name for file in output.parent.iterdir()] == ["faces.jsonl"]


def test_csv_has_a_line_for_each_face_and_one_for_a_photo_without(classifier, photos, tmp_path, names):
    (photos / "broken.png").unlink()
    run(classifier, photos, output=tmp_path / "faces.csv")
    with open(tmp_path / "faces.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"].removeprefix(f"{photos}/"), row["face"]) for row in rows] == [
        ("below/two.png", "0"), ("below/two.png", "1"), ("empty.jpg", ""), ("two.png", "0"), ("two.png", "1"),
    ]  # fmt: skip
    first, second = classifier(str(photos / "two.png"))
    for row, face in ((rows[3], first), (rows[4], second)):
        assert {edge: float(row[edge]) for edge in face["box"]} == face["box"]
        assert row["expression"] == face["expression"]
        assert {name: float(row[name]) for name in names} == pytest.approx(face["scores"], abs=1e-5)
    assert [float(rows[3][key]) for key in ("x1", "y1", "x5", "y5")] == [30.0, 45.0, 47.0, 65.0]
    assert rows[4]["x1"] == ""
    assert set(rows[2].values()) == {str(photos / "empty.jpg"), ""}


def test_pictures_keep_the_folders_of_their_photos_and_names_that_clash_get_numbers(
    classifier, photos, tmp_path, capsys
):
    (photos / "broken.png").unlink()
    Image.new("RGB", (50, 40)).save(photos / "two.jpg")
    photo = Image.open(photos / "below" / "two.png")
    run(classifier, photos, annotate=tmp_path / "pictures")
    pictures = {path.relative_to(tmp_path / "pictures").as_posix() for path in (tmp_path / "pictures").rglob("*.png")}
    assert pictures == {"below/two.png", "empty.png", "two.png", "two-2.png"}
    drawn = Image.open(tmp_path / "pictures" / "below" / "two.png")
    assert drawn.tobytes() == draw_faces(photo, classifier(photo)).tobytes()


def test_no_photo_is_overwritten_by_its_picture(classifier, photos):
    before = (photos / "two.png").read_bytes()
    with pytest.raises(BadInputError, match=r"`--annotate` would overwrite the photo .*two\.png"):
        run(classifier, photos, annotate=photos)
    assert (photos / "two.png").read_bytes() == before


def test_an_output_that_is_not_finished_leaves_the_older_one(classifier, photos, tmp_path, monkeypatch):
    output = tmp_path / "faces.jsonl"
    output.write_text("older")
    monkeypatch.setattr(classifier, "postprocess", lambda photo, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(classifier, photos, output=output)
    assert output.read_text() == "older"
    assert not list(tmp_path.glob("*.partial"))


def test_the_command_takes_photos_and_writes_what_the_library_does(classifier_folder, photos, tmp_path, capsys):
    output = tmp_path / "faces.jsonl"
    words = ["--model", classifier_folder, "--detector", "none", "--output", str(output), "--disable_tqdm"]
    assert main(["predict", str(photos / "two.png"), *words, "--annotate", str(tmp_path / "drawn")]) == 0
    (row,) = [json.loads(line) for line in output.read_text().splitlines()]
    assert row["faces"][0]["box"] == {"xmin": 0.0, "ymin": 0.0, "xmax": 200.0, "ymax": 100.0}
    drawn = np.asarray(Image.open(tmp_path / "drawn" / "two.png").convert("RGB"))
    assert drawn.max() > 0
    assert main(["predict", str(photos), "/nowhere.png", *words]) == 2
    printed = capsys.readouterr()
    assert printed.err.splitlines()[-1] == "error: 2 of 5 photos could not be read; they are named above."
    assert "unreadable: /nowhere.png: cannot be read" in printed.err
    assert len(output.read_text().splitlines()) == 3


def test_the_command_takes_a_split_of_a_data_set_each_image_a_face(classifier_folder, tmp_path, capsys, drawn_faces):
    output = tmp_path / "faces.jsonl"
    assert main(["predict", "--model", classifier_folder, *TABLE, "--output", str(output), "--disable_tqdm"]) == 0
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["image"] for row in rows] == [f"synthetic/test/{number}" for number in range(14)]
    assert all(len(row["faces"]) == 1 for row in rows)
    assert capsys.readouterr().err == ""


def test_one_photo_is_plotted_as_bars_and_several_as_a_sheet_without_truths(
    classifier, classifier_folder, photos, tmp_path, monkeypatch, capsys
):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **kwargs: figures.append(figure))
    run(classifier, photos / "two.png", plot=tmp_path / "new" / "bars.png")
    (faces,) = classifier([Image.open(photos / "two.png")])
    bars = [patch.get_width() for axes in figures[0].axes[1::2] for patch in axes.patches]
    assert bars == pytest.approx([score for face in faces for score in face["scores"].values()], abs=1e-5)
    assert [axes.images[0].get_array().shape for axes in figures[0].axes[::2]] == [(60, 60, 3)] * 2
    capsys.readouterr()
    sheet = ["--plot", str(tmp_path / "sheet.png"), "--disable_tqdm"]
    assert main(["predict", "--model", classifier_folder, *TABLE, *sheet]) == 0
    titles = [axes.get_title() for axes in figures[1].axes]
    printed = capsys.readouterr().out.splitlines()
    assert [title.split()[0] for title in titles] == [line.split()[3] for line in printed if "synthetic/" in line]
    assert figures[1].get_suptitle() == "14 faces: the model's answers"


def test_no_face_makes_no_plot(classifier, photos, tmp_path, capsys):
    run(classifier, photos / "empty.jpg", plot=tmp_path / "bars.png")
    assert not (tmp_path / "bars.png").exists()
    assert "written" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "Give either photos (files, folders, URLs) or `dataset_name`."),
        (["a.png", "--dataset", "synthetic"], "Give either photos (files, folders, URLs) or `dataset_name`."),
        (["a.png", "--model", "/nowhere"], "/nowhere does not exist. A model is"),
        (["a.png", "--model", "MODEL", "--detector", "haar"], "`detector` 'haar' is unknown"),
        (["FOLDER", "--model", "MODEL"], "FOLDER: no images in this folder."),
        (["a.png", "--model", "MODEL", "--detector", "none", "--output", "x.xls"], "`--output` must end in .jsonl"),
        (["a.png", "--model", "MODEL", "--detector", "none", "--plot", "x.txt"], "`--plot` must end in .png"),
        (
            ["a.png", "--model", "MODEL", "--detector", "none", "--batch_size", "0"],
            "`--batch_size`: must be at least 1, got 0",
        ),
        (
            [*TABLE, "--split", "dev", "--model", "MODEL"],
            "`split` must be one of train, valid",
        ),
    ],
)
def test_bad_words_are_one_line_and_exit_code_2(words, complaint, classifier_folder, tmp_path, capsys):
    folder = tmp_path / "empty"
    folder.mkdir()
    places = {"MODEL": classifier_folder, "FOLDER": str(folder)}
    assert main(["predict", *(places.get(word, word) for word in words), "--disable_tqdm"]) == 2
    printed = capsys.readouterr()
    assert printed.err.splitlines()[-1].startswith("error: ")
    assert complaint.replace("FOLDER", str(folder)) in printed.err.splitlines()[-1]
    assert printed.out == ""


def test_without_a_model_the_shipped_classifier_answers(tmp_path, capsys):
    Image.new("L", (48, 48), 127).save(tmp_path / "gray.png")
    words = ["predict", str(tmp_path / "gray.png"), "--detector", "none", "--disable_tqdm"]
    printed = []
    for model in ([], ["--model", "fer-compact-cnn"]):
        assert main([*words, *model]) == 0
        printed.append(capsys.readouterr().out)
    assert "gray.png" in printed[0]
    assert printed[0] == printed[1]
