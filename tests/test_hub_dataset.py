import logging
import os

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fer_hf.data import DataError, content_fingerprint, hub_dataset
from fer_hf.data.images import png
from fer_hf.labels import EXPRESSIONS, EXPRESSIONS_WITH_CONTEMPT


# As data sets of the Hub spell and order them.
NAMES = ["anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"]
CANONICAL = [0, 1, 2, 3, 6, 4, 5]


def write(
    folder, splits=("train", "validation", "test"), label=None, values=None, image="image", column="label", rows=28
):
    """Parquet files of drawn squares, one per split; row i has label i modulo 7 unless `values` says otherwise."""
    features = {
        image: datasets.Image(),
        column: label or datasets.ClassLabel(names=NAMES),
        "extra": datasets.Value("string"),
    }
    (folder / "data").mkdir(parents=True)
    for split in splits:
        columns = {
            image: [Image.fromarray(np.full((9, 9), row, dtype=np.uint8)) for row in range(rows)],
            column: values or [row % 7 for row in range(rows)],
            "extra": ["x"] * rows,
        }
        table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
        table.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    return str(folder)


def load(name, tmp_path, **options):
    return hub_dataset.load(name, cache_dir=tmp_path / "cache", **options)


def assert_refused(name, tmp_path, *parts, **options):
    with pytest.raises(DataError) as caught:
        load(name, tmp_path, **options)
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_labels_are_aligned_by_name_and_columns_are_reduced(tmp_path):
    faces = load(write(tmp_path / "data"), tmp_path)
    assert list(faces) == ["train", "validation", "test"]
    for table in faces.values():
        assert table.column_names == ["image", "label", "row"]
        assert table.features["label"].names == list(EXPRESSIONS)
        assert table["label"][:] == CANONICAL * 4
        assert table["row"][:] == list(range(28))
        assert np.asarray(table[5]["image"]).tolist() == [[5] * 9] * 9
        assert len(content_fingerprint(table)) == 64  # bytes stand in the table


def test_labels_may_be_strings(tmp_path):
    name = write(tmp_path / "data", label=datasets.Value("string"), values=NAMES * 4)
    assert load(name, tmp_path)["train"]["label"][:] == CANONICAL * 4


@pytest.mark.parametrize("label", [datasets.ClassLabel(num_classes=7), datasets.Value("int64")])
def test_numbers_without_names_are_refused_unless_a_map_says_what_they_mean(tmp_path, label):
    name = write(tmp_path / "data", label=label)
    assert_refused(name, tmp_path, "have no names, only the numbers 0, 1, 2, 3, 4, 5, 6", "label_map={'0': ")
    faces = load(name, tmp_path, label_map={str(number): EXPRESSIONS[6 - number] for number in range(7)})
    assert faces["train"]["label"][:7] == [6, 5, 4, 3, 2, 1, 0]


def test_a_map_to_none_leaves_rows_out_and_counts_them(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="fer_hf"):
        faces = load(write(tmp_path / "data"), tmp_path, label_map={"fear": None, "anger": "disgust"})
    assert faces["train"]["label"][:6] == [1, 1, 3, 6, 4, 5]
    assert faces["train"]["row"][:6] == [0, 1, 3, 4, 5, 6]
    assert "test: rows left out by `label_map`: 4 of 28" in caplog.text


def test_contempt_is_an_eighth_class(tmp_path):
    name = write(tmp_path / "data", label=datasets.Value("string"), values=["Contempt", "joy"] * 14)
    assert load(name, tmp_path)["train"].features["label"].names == list(EXPRESSIONS_WITH_CONTEMPT)


def test_columns_and_splits_may_have_other_names(tmp_path, caplog):
    name = write(tmp_path / "data", ("train", "test", "extra"), image="face", column="emotion")
    options = {"image_column_name": "face", "label_column_name": "emotion"}
    faces = load(name, tmp_path, validation_split="test", test_split="extra", **options)
    assert faces.num_rows == {"train": 28, "validation": 28, "test": 28}
    assert load(name, tmp_path, validation_fraction=0, **options).num_rows == {"train": 28, "test": 28}
    assert "splits that are not used: extra" in caplog.text


def test_splits_are_known_by_the_names_that_folders_may_have(tmp_path):
    tables = load(write(tmp_path / "data", ("training", "Dev", "testing")), tmp_path)
    assert list(tables) == ["train", "validation", "test"]


def test_a_missing_validation_is_carved_from_train(tmp_path):
    faces = load(write(tmp_path / "data", ("train", "test")), tmp_path, validation_fraction=0.25)
    assert faces.num_rows == {"train": 21, "validation": 7, "test": 28}
    assert sorted(faces["validation"]["label"][:]) == list(range(7))
    assert sorted(faces["train"]["row"][:] + faces["validation"]["row"][:]) == list(range(28))


def test_images_as_bare_bytes_are_read(tmp_path):
    name = write(tmp_path / "data", ("test",))
    path = tmp_path / "data/data/test-00000-of-00001.parquet"
    table = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "other")).with_format("arrow")[:]
    content = table["image"].combine_chunks().field("bytes")
    bare = datasets.Dataset.from_dict({"image": content.to_pylist(), "label": ["joy"] * 28})
    bare.to_parquet(path)
    faces = load(name, tmp_path)
    assert np.asarray(faces["test"][5]["image"]).tolist() == [[5] * 9] * 9
    assert faces["test"]["label"][:] == [3] * 28


def with_images(folder, images):
    """One split whose rows hold these encoded images, with the label joy."""
    (folder / "data").mkdir(parents=True)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    columns = {"image": [{"bytes": image, "path": None} for image in images], "label": ["joy"] * len(images)}
    datasets.Dataset.from_dict(columns, features=features).to_parquet(folder / "data/test-00000-of-00001.parquet")
    return str(folder)


def test_images_are_read_as_those_of_folders_are(tmp_path):
    levels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    clear = np.dstack([levels] * 3 + [np.zeros_like(levels)])
    images = [png(levels), png(levels.astype(np.uint16) * 257), png(clear)]
    test = load(with_images(tmp_path / "data", images), tmp_path)["test"]
    assert np.asarray(test[0]["image"]).tolist() == np.asarray(test[1]["image"]).tolist() == levels.tolist()
    assert np.asarray(test[2]["image"]).max() == 0
    stored = test.with_format("arrow")["image"][0].as_py()
    assert stored == {"bytes": images[0], "path": None}  # plain ones keep their own bytes


def test_a_damaged_image_is_refused_by_split_and_row_unless_it_is_left_out(tmp_path):
    good = png(np.random.default_rng(0).integers(0, 256, (20, 20), dtype=np.uint8))
    name = with_images(tmp_path / "data", [good, good, good[:200]])
    assert_refused(name, tmp_path, f"{name}, test, row 2: not a readable image (image file is truncated")
    path = tmp_path / "data/data/test-00000-of-00001.parquet"
    table = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "other"))
    table = table.remove_columns("label").add_column("label", ["joy", "joy", "broken"])
    table.to_parquet(str(path))
    assert load(name, tmp_path, label_map={"broken": None})["test"].num_rows == 2


def test_a_folder_of_images_is_copied_into_the_table(tmp_path):
    for split in ("train", "test"):
        for label in NAMES:
            (tmp_path / "data" / split / label).mkdir(parents=True)
            Image.new("L", (9, 9), 77).save(tmp_path / "data" / split / label / "0.png")
    faces = load(str(tmp_path / "data"), tmp_path, validation_fraction=0)
    assert faces["train"]["label"][:] == CANONICAL
    assert len(content_fingerprint(faces["train"])) == 64


# What is refused


def test_without_network_one_line_says_so(tmp_path):
    assert_refused("owner/faces", tmp_path, "owner/faces: cannot be loaded (Couldn't reach", "HF_HUB_OFFLINE=1")


def test_names_of_no_data_set_are_refused(tmp_path):
    assert_refused("hub://x/y", tmp_path, "`hub:` takes a folder or a name on the Hub")
    (tmp_path / "empty").mkdir()
    assert_refused(str(tmp_path / "empty"), tmp_path, "cannot be loaded")


def test_unknown_classes_are_listed(tmp_path):
    name = write(tmp_path / "data", label=datasets.ClassLabel(names=[*NAMES[:5], "bored", "tired"]))
    assert_refused(name, tmp_path, "in class 'bored', 'tired'. Say what each means")


@pytest.mark.parametrize(("label", "missing"), [(None, -1), (None, None), (datasets.Value("string"), None)])
def test_rows_without_a_label_are_refused(tmp_path, label, missing):
    values = (NAMES if label else list(range(7))) * 4
    values[3] = missing
    name = write(tmp_path / "data", ("test",), label=label, values=values)
    assert_refused(name, tmp_path, "test: rows without a label: 1 of 28")


def test_rows_without_an_image_are_refused(tmp_path):
    folder = tmp_path / "data"
    (folder / "data").mkdir(parents=True)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    table = datasets.Dataset.from_dict({"image": [None, Image.new("L", (9, 9))], "label": [0, 1]}, features=features)
    table.to_parquet(folder / "data/test-00000-of-00001.parquet")
    assert_refused(str(folder), tmp_path, "test: rows without an image: 1 of 2")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_column_name": "face"}, "no column 'face'; there are image, label, extra"),
        ({"label_column_name": "emotion"}, "no column 'emotion'; there are image, label, extra"),
        ({"image_column_name": "extra"}, "the column 'extra' holds no images"),
        ({"label_column_name": "image"}, "the column 'image' is no label"),
        ({"test_split": "private"}, "no split 'private' for `test_split`: it can be train"),
        ({"test_split": "validation"}, "the split 'validation' is asked for twice"),
        ({"label_map": {"fera": "fear"}}, "`label_map` has 'fera', but there is no such class"),
        ({"label_map": dict.fromkeys(NAMES)}, "no row is left"),
        ({"config_name": "other"}, "cannot be loaded"),
    ],
)
def test_wrong_options_are_refused(tmp_path, options, message):
    assert_refused(write(tmp_path / "data"), tmp_path, message, **options)


def test_a_data_set_without_known_splits_is_refused(tmp_path):
    name = write(tmp_path / "data", ("train",))
    (tmp_path / "data/data/train-00000-of-00001.parquet").rename(tmp_path / "data/data/extra-00000-of-00001.parquet")
    assert_refused(name, tmp_path, "no split is called train, validation or test", "there are extra")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    folder = write(tmp_path / "data")
    os.mkfifo(tmp_path / "data" / "data" / "test-00001-of-00002.parquet")
    assert_refused(folder, tmp_path, "test-00001-of-00002.parquet: not a file")


def test_a_pipe_that_a_table_points_to_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    rows = [{"image": {"bytes": None, "path": str(tmp_path / "pipe.png")}, "label": "joy"}]
    (tmp_path / "data").mkdir()
    pq.write_table(pa.Table.from_pylist(rows, schema=features.arrow_schema), tmp_path / "data" / "test.parquet")
    assert_refused(str(tmp_path / "data"), tmp_path, "pipe.png: not a file")


def test_damaged_caches_are_written_anew(tmp_path):
    folder = write(tmp_path / "data")
    before = content_fingerprint(load(folder, tmp_path)["train"])
    for pattern in ("cache-*.arrow", "*.arrow"):
        damaged = list(tmp_path.glob(f"cache/**/{pattern}"))
        assert damaged
        for path in damaged:
            path.write_bytes(path.read_bytes()[:100])
        assert content_fingerprint(load(folder, tmp_path)["train"]) == before
