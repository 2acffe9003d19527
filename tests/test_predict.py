"""`fer-hf predict`: many photos in, a table, a file and annotated pictures out."""

import csv
import io
import json
import os
import sys

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import tiny_vit_config
from matplotlib.figure import Figure
from PIL import Image
from transformers import ViTForImageClassification

import fer_hf
from fer_hf.cli.main import main
from fer_hf.data import folders
from fer_hf.errors import BadInputError, ModelError
from fer_hf.inference import Detection
from fer_hf.inference.photos import load_photo
from fer_hf.inference.predict import Places, find_entries, load_pipeline, predict_to
from fer_hf.inference.results import face_rows, face_schema
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


def run(classifier, folder, batch_size=16, **options):
    entries, _ = find_entries([folder])
    places = Places(**options)
    if places.check(entries):
        predict_to(classifier, entries, places, batch_size=batch_size, disable_tqdm=True)


@pytest.mark.numeric
def test_json_lines_hold_what_the_pipeline_gives_for_each_photo(classifier, photos, tmp_path, capsys):
    output = tmp_path / "new" / "faces.jsonl"
    with pytest.raises(BadInputError, match="1 of 4 photos could not be read; named above"):
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


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_no_photo_is_overwritten_by_any_picture(classifier, photos):
    Image.new("RGB", (50, 40)).save(photos / "two.jpg")
    before = contents(photos)
    for options in ({}, {"overwrite": True}, {"resume": True, "output": photos / "faces.csv"}):
        with pytest.raises(BadInputError, match=r"`annotate` would overwrite the photo .*two\.png"):
            run(classifier, photos, annotate=photos, **options)
        with pytest.raises(BadInputError, match=r"would replace what is read from|`plot` .* exists"):
            run(classifier, photos, plot=photos / "two.png", **options)
    assert contents(photos) == before


def test_older_pictures_and_files_stay_unless_they_may_be_overwritten(classifier, photos, tmp_path):
    places = {"annotate": tmp_path / "drawn", "output": tmp_path / "faces.csv", "plot": tmp_path / "sheet.png"}
    (photos / "broken.png").unlink()
    run(classifier, photos, **places)
    before = contents(tmp_path)
    for flag, place in places.items():
        with pytest.raises(BadInputError, match=rf"`{flag}`.* exists"):
            run(classifier, photos, **{flag: place})
    assert contents(tmp_path) == before
    run(classifier, photos, **places, overwrite=True)
    assert contents(tmp_path).keys() == before.keys()


def test_pictures_never_share_a_name(tmp_path):
    names = ["a.jpg", "a.png", "a-2.png", "A.gif", "é.png", "e\u0301.jpg"]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    entries, _ = find_entries([tmp_path, tmp_path / "a.jpg", str(tmp_path / "a.jpg")])
    pictures = {str(entry.picture) for entry in entries}
    assert sorted(entry.photo.rpartition("/")[2] for entry in entries) == sorted(names)
    assert len({picture.casefold() for picture in pictures}) == len(names)
    assert {"a-2.png", "A.png"} <= pictures


def test_what_is_left_out_is_counted_by_kind(classifier_folder, photos, monkeypatch, capsys):
    monkeypatch.setattr(folders, "reads_heif", lambda: False)
    for name in ("a.HEIC", "b.heic", "clip.mp4", "notes", ".hidden", "Thumbs.db"):
        (photos / name).write_bytes(b"x")
    (photos / "gone.png").symlink_to(photos / "nowhere.png")
    (photos / "below" / "up").symlink_to(photos)
    Image.new("RGB", (50, 40)).save(photos / "more.jfif", "JPEG")
    Image.new("RGB", (50, 40)).save(photos / "more.jpe", "JPEG")
    assert main(["predict", str(photos), "--model", classifier_folder, "--detector", "none", "--disable_tqdm"]) == 2
    printed = capsys.readouterr()
    first, *lines, _ = printed.out.splitlines()
    assert first == (
        "not read: .heic 2, links back to a folder above 1, .mp4 1, links that lead nowhere 1, "
        "files without a suffix 1; pip install pillow-heif for .heic"
    )
    assert [line.split()[0].rpartition("/")[2] for line in lines] == [
        "two.png", "empty.jpg", "more.jfif", "more.jpe", "two.png",
    ]  # fmt: skip
    assert printed.err.splitlines()[-1] == "error: 1 of 6 photos could not be read; named above."


def test_photos_of_phones_are_read_with_their_extra(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    picture = Image.linear_gradient("L").convert("RGB")
    heif.from_pillow(picture).save(tmp_path / "photo.HEIC", quality=100)
    ((entry,), left_out) = find_entries([tmp_path])
    assert np.abs(np.asarray(load_photo(entry.photo)).astype(int) - np.asarray(picture)).max() < 10
    assert not left_out


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX alone")
def test_names_that_no_console_can_show_stop_nothing(classifier_folder, tmp_path, monkeypatch, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    picture = io.BytesIO()
    Image.new("RGB", (50, 40)).save(picture, "PNG")
    for name in (b"gr\xfc\xdfe.png", "日本.png".encode(), b"\x1b[31mred\n0 faces.png"):
        (photos / os.fsdecode(name)).write_bytes(picture.getvalue())
    console = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", console)
    words = ["predict", str(photos), "--model", classifier_folder, "--detector", "none", "--disable_tqdm"]
    for suffix in (".jsonl", ".csv", ".parquet"):
        assert main([*words, "--output", str(tmp_path / f"faces{suffix}")]) == 0
    console.flush()
    lines = console.buffer.getvalue().decode("ascii").splitlines()[:4]
    assert [line.split("/photos/")[-1].split("  ")[0].rstrip() for line in lines[:3]] == [
        r"\x1b[31mred\n0 faces.png", r"gr\udcfc\udcdfe.png", r"\u65e5\u672c.png",
    ]  # fmt: skip
    assert lines[3].startswith("3 photos, 3 faces: ")
    named = [json.loads(line)["image"] for line in (tmp_path / "faces.jsonl").read_text().splitlines()]
    assert sorted(map(os.fsencode, named)) == sorted(os.fsencode(path) for path in photos.iterdir())
    with open(tmp_path / "faces.csv", newline="", encoding="utf-8") as file:
        rows = [row["image"] for row in csv.DictReader(file)]
    assert rows == pq.read_table(tmp_path / "faces.parquet")["image"].to_pylist()
    assert rows[1].endswith(r"gr\udcfc\udcdfe.png")


def stop_after(classifier, monkeypatch, batches):
    """Let the pipeline raise `KeyboardInterrupt` after so many batches; what it was asked for is returned."""
    asked = []

    class Interrupted(type(classifier)):
        def __call__(self, images, **options):
            if len(asked) == batches:
                raise KeyboardInterrupt
            asked.append(len(images))
            return super().__call__(images, **options)

    monkeypatch.setattr(classifier, "__class__", Interrupted)
    return asked


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_an_interrupted_prediction_goes_on_and_does_no_photo_twice(
    suffix, classifier, photos, tmp_path, monkeypatch, capsys
):
    (photos / "broken.png").unlink()
    run(classifier, photos, output=tmp_path / f"whole{suffix}", annotate=tmp_path / "whole", batch_size=1)
    once = capsys.readouterr().out.splitlines()
    output, places = (
        tmp_path / f"faces{suffix}",
        {"output": tmp_path / f"faces{suffix}", "annotate": tmp_path / "drawn"},
    )
    with monkeypatch.context() as patch:
        stop_after(classifier, patch, batches=2)
        with pytest.raises(KeyboardInterrupt):
            run(classifier, photos, **places, batch_size=1)
    assert not output.exists()
    with open(tmp_path / f"faces{suffix}.unfinished", "a") as file:  # and killed in the middle of a line
        file.write('{"image": "')
    first = capsys.readouterr().out.splitlines()
    with pytest.raises(BadInputError, match="interrupted: go on with --resume, or anew with --overwrite"):
        run(classifier, photos, output=output)
    run(classifier, photos, **places, batch_size=1, resume=True)
    second = capsys.readouterr().out.splitlines()
    assert len(first) == 2
    assert [*first, *second][: len(once) - 2] == once[:-2]
    assert output.read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()
    assert [path.name for path in (tmp_path / "drawn").rglob("*.png")] == [
        path.name for path in (tmp_path / "whole").rglob("*.png")
    ]
    assert not list(tmp_path.glob("*.unfinished"))
    places["annotate"] = None
    assert not Places(**places, resume=True).check(find_entries([photos])[0])


def test_a_prediction_is_not_gone_on_with_by_another_model(classifier_folder, photos, tmp_path, capsys):
    output = tmp_path / "faces.csv"
    settings = {"model": "other", "detector": "none", "calibrated": False}
    (tmp_path / "faces.csv.unfinished").write_text(json.dumps(settings) + "\n")
    words = ["predict", str(photos), "--model", classifier_folder, "--detector", "none", "--disable_tqdm"]
    assert main([*words, "--output", str(output), "--resume"]) == 2
    assert "was begun with another model: give the same, or begin anew" in capsys.readouterr().err
    (tmp_path / "faces.csv.unfinished").write_text("[]\n")
    assert main([*words, "--output", str(output), "--resume"]) == 2
    assert "faces.csv.unfinished is damaged: begin anew with --overwrite." in capsys.readouterr().err
    assert main([*words, "--resume"]) == 2
    assert "`resume` goes on with a file that was begun: give its `output`." in capsys.readouterr().err


def test_predict_gives_a_table_with_a_row_for_each_face(classifier_folder, photos, names, caplog):
    picture = Image.open(photos / "two.png")
    table = fer_hf.predict([photos, picture], model=classifier_folder, detector=find)
    assert table["image"][:] == [
        *[str(photos / "below" / "two.png")] * 2, str(photos / "empty.jpg"), *[str(photos / "two.png")] * 2, "1", "1",
    ]  # fmt: skip
    assert table["face"][:] == [0, 1, None, 0, 1, 0, 1]
    assert table.column_names[-7:] == names
    assert sum(table[0][name] for name in names) == pytest.approx(1, abs=1e-5)
    assert table[2]["expression"] is None
    assert "unreadable" in caplog.text
    assert len(fer_hf.predict(picture, model=classifier_folder, detector="none")) == 1


@pytest.mark.parametrize(
    ("photos", "options", "complaint"),
    [
        ("missing.png", {}, "missing.png: cannot be read"),
        ("clip.mp4", {}, r"clip\.mp4: a video, and no photo\. `fer-hf predict` takes it"),
        (datasets.Dataset.from_dict({"image": ["a.png"]}), {}, r"a column of it, such as `table\['image'\]`"),
        ([], {"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
    ],
)
def test_what_predict_cannot_take_is_one_line(photos, options, complaint, classifier_folder):
    with pytest.raises(BadInputError, match=complaint):
        fer_hf.predict(photos, model=classifier_folder, detector="none", **options)


def test_of_a_photo_that_moves_the_first_picture_is_taken_and_that_is_said(tmp_path, caplog):
    still, other = (Image.new("RGB", (20, 10), color) for color in ("red", "blue"))
    still.save(tmp_path / "still.gif")
    still.save(tmp_path / "moving.gif", save_all=True, append_images=[other])
    pictures = [load_photo(tmp_path / name) for name in ("still.gif", "moving.gif")]
    assert pictures[0].getpixel((0, 0)) == pictures[1].getpixel((0, 0)) == (255, 0, 0)
    assert [record.message.partition(":")[0] for record in caplog.records] == [str(tmp_path / "moving.gif")]


def test_a_label_called_as_a_column_gets_a_column_of_its_own():
    face = {"box": dict.fromkeys(("xmin", "ymin", "xmax", "ymax"), 1.0), "landmarks": None, "expression": "score"}
    found = [{**face, "score": 0.75, "scores": {"score": 0.75, "face": 0.25}}]
    (row,) = face_rows({"image": "a.png"}, found, ["score", "face"])
    assert (row["score"], row["p_score"], row["face"], row["p_face"]) == (0.75, 0.75, 0, 0.25)
    assert {*row} <= {*face_schema(["score", "face"]).names}


def test_labels_that_nobody_named_are_warned_of(tmp_path, processor, caplog):
    ViTForImageClassification(tiny_vit_config(id2label={0: "LABEL_0", 1: "LABEL_1"})).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    load_pipeline(str(tmp_path), detector="none")
    assert "nobody named the labels LABEL_0, LABEL_1. Name them in `id2label`" in caplog.text


def test_a_model_that_answers_no_numbers_is_named(tmp_path, processor):
    model = ViTForImageClassification(tiny_vit_config())
    model.classifier.bias.data[0] = float("nan")
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    classifier = load_pipeline(str(tmp_path), detector="none")
    with pytest.raises(ModelError, match="answers with what are no numbers: its weights are damaged"):
        classifier(Image.new("L", (48, 48)))


def test_an_output_that_is_not_finished_leaves_the_older_one(classifier, photos, tmp_path, monkeypatch):
    output = tmp_path / "faces.jsonl"
    output.write_text("older")
    monkeypatch.setattr(classifier, "postprocess", lambda photo, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(classifier, photos, output=output, overwrite=True)
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
    assert main(["predict", str(photos), "/nowhere.png", *words, "--overwrite"]) == 2
    printed = capsys.readouterr()
    assert printed.err.splitlines()[-1] == "error: 2 of 5 photos could not be read; named above."
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


def test_what_is_not_written_for_want_of_faces_is_said(classifier, photos, tmp_path, capsys):
    plot, marked = tmp_path / "bars.png", tmp_path / "marked"
    run(classifier, photos / "empty.jpg", plot=plot, annotate=marked)
    said = [f"written: {marked}", f"not written: {plot} (nothing to show)"]
    assert capsys.readouterr().out.splitlines()[2:] == said
    with pytest.raises(BadInputError, match="1 of 1 photo could not be read"):
        run(classifier, photos / "broken.png", annotate=tmp_path / "none")
    assert capsys.readouterr().out.splitlines()[1:] == [f"not written: {tmp_path / 'none'} (nothing to show)"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["marked", "photos"]


@pytest.mark.parametrize("name", ["marked.mp4", "marked.png"])
def test_a_file_to_mark_photos_in_is_refused(name, classifier, photos, tmp_path):
    with pytest.raises(BadInputError, match=rf"`annotate` is a folder for photos, .*{name}"):
        run(classifier, photos, annotate=tmp_path / name)


def test_without_a_model_the_shipped_classifier_answers(tmp_path, capsys):
    Image.new("L", (48, 48), 127).save(tmp_path / "gray.png")
    words = ["predict", str(tmp_path / "gray.png"), "--detector", "none", "--disable_tqdm"]
    printed = []
    for model in ([], ["--model", "fer-compact-cnn"]):
        assert main([*words, *model]) == 0
        printed.append(capsys.readouterr().out)
    assert "gray.png" in printed[0]
    assert printed[0] == printed[1]
