import logging
import unicodedata

import numpy as np
import pytest
from PIL import Image

from fer_hf.data import DataError, imagefolder, load_dataset
from fer_hf.labels import EXPRESSIONS, EXPRESSIONS_WITH_CONTEMPT


THREE = ("train", "validation", "test")


def write(folder, splits=THREE, labels=EXPRESSIONS, count=4, mode="L", size=(20, 24)):
    """`count` images of noise in every label folder, named 0.png and so on."""
    rng = np.random.default_rng(0)
    for split in splits:
        for label in labels:
            (folder / split / label).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
                Image.fromarray(pixels).convert(mode).save(folder / split / label / f"{number}.png")
    return folder


def load(folder, tmp_path, **options):
    return load_dataset("imagefolder", folder, cache_dir=tmp_path / "cache", **options)


def assert_refused(folder, tmp_path, *parts, **options):
    with pytest.raises(DataError) as caught:
        load(folder, tmp_path, **options)
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)
    assert not [path for path in tmp_path.glob("cache/**/*") if path.is_file() and path.suffix != ".lock"]


def test_labels_come_from_folder_names_in_canonical_order(tmp_path):
    faces = load(write(tmp_path / "data"), tmp_path)
    assert list(faces) == list(THREE)
    for table in faces.values():
        assert table.features["label"].names == list(EXPRESSIONS)
        # Sorted by path: angry, disgust, fear, happy, neutral, sad, surprise.
        assert table["label"][:] == np.repeat([0, 1, 2, 3, 6, 4, 5], 4).tolist()
        assert table["row"][:] == list(range(28))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_images_keep_their_bytes_size_and_channels(tmp_path, mode):
    folder = write(tmp_path / "data", mode=mode)
    faces = load(folder, tmp_path)
    assert {(image.size, image.mode) for image in faces["train"]["image"]} == {((20, 24), mode)}
    stored = faces["test"].with_format("arrow")["image"][0].as_py()["bytes"]
    assert stored == (folder / "test/angry/0.png").read_bytes()


@pytest.mark.parametrize("name", ["valid", "val", "VALIDATION", "dev"])
def test_splits_are_known_by_their_usual_names(tmp_path, name):
    assert load(write(tmp_path / "data", ("Training", name, "TESTING"), count=1), tmp_path).num_rows == dict.fromkeys(
        THREE, 7
    )


def test_synonyms_mean_the_same_and_their_folders_are_merged(tmp_path):
    folder = write(tmp_path / "data", ("test",), ("Happiness", "joy", "Anger", "Neutral"), count=1)
    assert load(folder, tmp_path)["test"]["label"][:] == [0, 3, 6, 3]


def test_a_missing_validation_is_carved_from_train_and_said(tmp_path, caplog):
    folder = write(tmp_path / "data", ("train", "test"))
    with caplog.at_level(logging.INFO, logger="fer_hf"):
        faces = load(folder, tmp_path, validation_fraction=0.25)
    assert "7 of 28 training faces are taken out for validation" in caplog.text
    assert list(faces) == list(THREE)
    assert sorted(faces["validation"]["label"][:]) == list(range(7))
    assert sorted(faces["train"]["row"][:] + faces["validation"]["row"][:]) == list(range(28))
    again = load(folder, tmp_path, validation_fraction=0.25, split_seed=1)
    assert again["validation"]["row"][:] != faces["validation"]["row"][:]


def test_one_split_is_enough_and_none_is_carved_on_request(tmp_path):
    assert list(load(write(tmp_path / "a", ("test",), count=1), tmp_path)) == ["test"]
    assert list(load(write(tmp_path / "b", ("train",), count=1), tmp_path, validation_fraction=0)) == ["train"]


def test_a_label_map_names_the_unknown_and_leaves_out_what_is_counted(tmp_path, caplog):
    folder = write(tmp_path / "data", THREE, ("glad", "2", "blurred", "sad"), count=2)
    with caplog.at_level(logging.INFO, logger="fer_hf"):
        faces = load(folder, tmp_path, label_map={"glad": "happy", 2: "fear", "blurred": None, "sad": "angry"})
    assert faces["train"]["label"][:] == [2, 2, 3, 3, 0, 0]
    assert faces["train"]["row"][:] == list(range(6))
    for split in THREE:
        assert f"{split}: 'blurred' is left out, images: 2" in caplog.text


def test_contempt_is_an_eighth_class_where_there_is_a_folder(tmp_path):
    faces = load(write(tmp_path / "data", THREE, ("contempt", "happy"), count=1), tmp_path)
    assert faces["train"].features["label"].names == list(EXPRESSIONS_WITH_CONTEMPT)
    assert faces["train"]["label"][:] == [7, 3]


def test_all_unknown_names_are_listed_at_once(tmp_path):
    folder = write(tmp_path / "data", ("train",), ("happy", "glad"), count=1)
    write(folder, ("test",), ("happy", "bored"), count=1)
    assert_refused(folder, tmp_path, "in folder 'bored', 'glad'. Say what each means", "label_map={'bored': 'happy'}")


def test_what_is_not_read_is_said(tmp_path, caplog):
    folder = write(tmp_path / "data", count=1)
    (folder / "models").mkdir()
    (folder / "train/notes.txt").touch()
    (folder / "train/sad/list.csv").touch()
    (folder / "train/joy").mkdir()
    (folder / "train/sad/.DS_Store").touch()
    assert load(folder, tmp_path)["train"].num_rows == 7
    for part in ("no split: models", "such as", "notes.txt", "list.csv", "no image in the folder 'joy'"):
        assert part in caplog.text
    assert ".DS_Store" not in caplog.text


def test_a_changed_image_name_or_option_is_read_anew(tmp_path):
    folder = write(tmp_path / "data", ("train", "test"))
    options = {"validation_fraction": 0.25}
    digests = {
        imagefolder.source(folder, **options).fingerprint,
        imagefolder.source(folder, validation_fraction=0).fingerprint,
    }
    Image.new("L", (9, 9)).save(folder / "test/sad/0.png")
    digests.add(imagefolder.source(folder, **options).fingerprint)
    (folder / "test/sad/0.png").rename(folder / "test/sad/00.png")
    digests.add(imagefolder.source(folder, **options).fingerprint)
    digests.add(imagefolder.source(folder, **options, label_map={"sad": "fear"}).fingerprint)
    assert len(digests) == 5
    assert imagefolder.source(folder, **options, label_map={"sad": "sad"}).fingerprint in digests  # says nothing new


def test_links_to_folders_and_images_are_followed(tmp_path):
    folder = write(tmp_path / "data", ("train",), count=1)
    (folder / "test").symlink_to(folder / "train")
    (folder / "train/sad/link.png").symlink_to(folder / "train/sad/0.png")
    assert load(folder, tmp_path, validation_fraction=0).num_rows == {"train": 8, "test": 8}


# What is refused


def truncated_image(folder):
    path = folder / "train/sad/0.png"
    path.write_bytes(path.read_bytes()[:300])


def second_validation(folder):
    (folder / "val").mkdir()


def loop(folder):
    (folder / "train/sad/back").symlink_to(folder / "train")


def no_test_image(folder):
    for path in folder.glob("test/*/*.png"):
        path.unlink()


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (truncated_image, ["0.png: not a readable image"]),
        (second_validation, ["validation: a second folder for validation beside"]),
        (loop, ["back: a symbolic link that leads back to a folder above it"]),
        (no_test_image, ["no image in test"]),
    ],
)
def test_bad_folders_are_refused_in_one_line(tmp_path, change, parts):
    folder = write(tmp_path / "data", count=1)
    change(folder)
    assert_refused(folder, tmp_path, *parts)


def test_what_has_no_splits_is_refused(tmp_path):
    assert_refused(tmp_path / "none", tmp_path, "does not exist")
    (tmp_path / "empty").mkdir()
    assert_refused(tmp_path / "empty", tmp_path, "It holds: nothing")
    assert_refused(
        write(tmp_path / "data", ("first", "second"), ("a",)), tmp_path, "has no folder train", "first, second"
    )


def test_folders_of_labels_without_splits_are_read_as_train_and_a_validation_is_carved(tmp_path, caplog):
    folder = write(tmp_path / "data", (".",), ("Happiness", "sad"), count=10)
    (folder / "README").write_text("my faces")
    with caplog.at_level(logging.INFO, "fer_hf"):
        tables = load(folder, tmp_path)
    assert tables.num_rows == {"train": 18, "validation": 2}
    assert set(tables["train"]["label"][:]) == {3, 4}
    assert "no folder is called train, validation or test, so all images are read as train" in caplog.text
    assert "2 of 20 training faces are taken out for validation, stratified, seed 42" in caplog.text


@pytest.mark.parametrize("folders", [("train",), (".",)])
@pytest.mark.parametrize(("on_disk", "typed"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_letters_with_accents_match_in_either_form(tmp_path, folders, on_disk, typed):
    written, given = (unicodedata.normalize(form, "fröhlich") for form in (on_disk, typed))
    folder = write(tmp_path / "data", folders, (written, "sad"), count=10)
    assert load(folder, tmp_path, label_map={given: "happy"})["train"]["label"][:].count(3) == 9


def test_jpegs_by_their_other_names_are_read(tmp_path):
    folder = write(tmp_path / "data", ("train",), ("happy", "sad"), count=10)
    for number, path in enumerate(sorted(folder.glob("train/happy/*"))):
        path.rename(path.with_suffix(".jfif" if number % 2 else ".JPE"))
    assert load(folder, tmp_path).num_rows == {"train": 18, "validation": 2}


@pytest.mark.parametrize(
    ("label_map", "message"),
    [
        ({"glad": "joyful"}, "gives 'glad' the meaning 'joyful'; it must be one of angry"),
        ({"gald": "happy"}, "`label_map` has 'gald', but there is no such folder; there are 'angry'"),
        ("glad", "`label_map` must map names to expressions or null, got 'glad'"),
    ],
)
def test_wrong_label_maps_are_refused(tmp_path, label_map, message):
    assert_refused(write(tmp_path / "data", count=1), tmp_path, message, label_map=label_map)


def test_too_few_images_for_validation_are_refused(tmp_path):
    assert_refused(write(tmp_path / "data", ("train",), count=1), tmp_path, "every class is in both")
