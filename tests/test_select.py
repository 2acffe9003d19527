import itertools
import logging

import datasets
import numpy as np
import pytest
from datasets import DatasetDict, IterableDatasetDict
from PIL import Image

from fer_hf.data import DataError, content_fingerprint, load_dataset
from fer_hf.data.select import deduplicate_train, sample_faces, sample_splits, select_classes
from fer_hf.data.source import face_features
from fer_hf.labels import EXPRESSIONS


SIZES = {"train": 14, "validation": 7, "test": 7}


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """Loads the same few drawn faces, which are drawn once."""
    cache_dir = tmp_path_factory.mktemp("cache")
    return lambda **options: load_dataset("synthetic", **SIZES, **{"cache_dir": cache_dir, **options})


def make_faces(**pixels):
    """A `DatasetDict` with one plain face for each gray value; the label of a face is its place."""
    tables = {}
    for split, grays in pixels.items():
        images = [Image.fromarray(np.full((48, 48), gray, dtype=np.uint8)) for gray in grays]
        columns = {"image": images, "label": list(range(len(grays))), "row": grays}
        tables[split] = datasets.Dataset.from_dict(columns, features=face_features())
    return DatasetDict(tables)


def content(faces):
    return {split: [(face["label"], face["row"], face["image"].tobytes()) for face in faces[split]] for split in faces}


@pytest.mark.parametrize(
    "options", [{"classes": ["sad", "happy", "neutral"]}, {"exclude": ["angry", "disgust", "fear", "surprise"]}]
)
def test_labels_are_numbered_anew_and_names_follow(load, options):
    whole, part = load()["train"], load(**options)["train"]
    assert part.features["label"].names == ["happy", "sad", "neutral"]
    kept = [row for row, label in enumerate(whole["label"][:]) if EXPRESSIONS[label] in ("happy", "sad", "neutral")]
    assert part["row"][:] == kept
    assert [part.features["label"].int2str(label) for label in part["label"][:]] == [
        EXPRESSIONS[whole[row]["label"]] for row in kept
    ]
    assert part[0]["image"].tobytes() == whole[kept[0]]["image"].tobytes()


def test_expressions_are_known_by_their_synonyms(load):
    assert load(classes=["Joy", "sadness"])["test"].features["label"].names == ["happy", "sad"]


def test_what_is_left_out_is_counted(load, caplog):
    with caplog.at_level(logging.INFO, "fer_hf"):
        load(exclude=["fear"])
    assert "train: 2 of 14 faces left out, which are not angry, disgust, happy, sad, surprise, neutral" in caplog.text
    assert "test: 1 of 7 faces left out" in caplog.text


def test_streaming_gives_the_same_faces_and_writes_nothing(load, tmp_path):
    cache_dir = tmp_path / "nothing"
    for options in ({}, {"classes": ["happy", "sad"]}):
        streamed = load(cache_dir=cache_dir, streaming=True, **options)
        tables = load(**options)
        assert isinstance(streamed, IterableDatasetDict)
        assert list(streamed) == list(tables)
        assert streamed["train"].features == tables["train"].features
        assert content(streamed) == content(tables)
    assert not cache_dir.exists()


def test_soft_labels_keep_their_proportions():
    features = face_features(soft_label=datasets.List(datasets.Value("float32"), length=7))
    shares = [[0, 0, 0, 0.5, 0.25, 0, 0.25], [0.75, 0, 0, 0, 0.25, 0, 0], [0, 0.5, 0.5, 0, 0, 0, 0]]
    face = Image.new("L", (48, 48))
    columns = {"image": [face] * 3, "label": [3, 0, 4], "row": [0, 1, 2], "soft_label": shares}
    faces = DatasetDict({"train": datasets.Dataset.from_dict(columns, features=features)})
    part = select_classes(faces, ["happy", "sad"])["train"]
    assert part["row"][:] == [0, 2]
    assert part.features["soft_label"].length == 2
    # Of the last face's votes none stays, so that its label decides.
    np.testing.assert_allclose(part["soft_label"][:], [[2 / 3, 1 / 3], [0, 1]], rtol=1e-6)


def test_faces_without_a_label_stay_as_they_are():
    faces = make_faces(train=[0, 1, 2])
    unlabelled = faces["train"].remove_columns("label").add_column("label", [-1, -1, -1])
    faces["unlabelled"] = unlabelled.select_columns(["image", "label", "row"]).cast(face_features())
    part = select_classes(faces, EXPRESSIONS[1:])
    assert part["train"]["label"][:] == [0, 1]
    assert part["unlabelled"]["label"][:] == [-1, -1, -1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["happy"]}, r"`classes` must leave two .*, got \['happy'\]"),
        ({"classes": []}, r"`classes` must leave two .*, got \[\]"),
        ({"exclude": list(EXPRESSIONS[:6])}, "`exclude` must leave two"),
        ({"classes": ["happy", "bored"]}, "`classes` must name expressions of angry, .*, got 'bored'"),
        ({"exclude": ["contempt"]}, "`exclude` must name expressions of angry, .*, got 'contempt'"),
        ({"classes": "happy"}, "`classes` must be a list of expressions, got 'happy'"),
        ({"classes": [3, 4]}, r"`classes` must be a list of expressions, got \[3, 4\]"),
        ({"classes": ["happy", "sad"], "exclude": ["fear"]}, "Give one of them"),
        ({"deduplicate": "test"}, "`deduplicate` must be 'train' or be left out, got 'test'"),
        ({"deduplicate": "train", "streaming": True}, "`deduplicate` needs tables"),
        ({"num_proc": 2, "streaming": True}, "`num_proc` needs tables"),
    ],
)
def test_what_cannot_be_selected_is_refused(load, options, message):
    with pytest.raises(DataError, match=message) as caught:
        load(**options)
    assert "\n" not in str(caught.value)


def test_a_split_without_any_face_left_is_refused():
    faces = make_faces(train=[0, 1, 2], test=[3, 4])
    with pytest.raises(DataError, match="The split test has no face that is fear, neutral"):
        select_classes(faces, ["fear", "neutral"])


def test_train_faces_that_stand_in_another_split_are_left_out_and_counted(caplog):
    faces = make_faces(train=[10, 20, 30, 30, 40, 50], validation=[20, 99], test=[50, 98])
    with caplog.at_level(logging.INFO, "fer_hf"):
        clean = deduplicate_train(faces)
    assert clean["train"]["row"][:] == [10, 30, 30, 40]
    assert "train: 2 of 6 faces left out" in caplog.text
    assert clean["validation"]["row"][:] == [20, 99]
    assert clean["test"]["row"][:] == [50, 98]


def test_selected_tables_share_no_face_and_repeat_themselves(load):
    first, again = (load(classes=["happy", "sad"], deduplicate="train") for _ in range(2))
    assert content_fingerprint(first["train"]) == content_fingerprint(again["train"])
    pixels = {split: {face["image"].tobytes() for face in table} for split, table in first.items()}
    for one, other in itertools.combinations(pixels, 2):
        assert not pixels[one] & pixels[other]


@pytest.mark.parametrize(
    ("limit", "drawn"),
    [
        (3, [1, 1, 1]),  # every class that is there has a face
        (10, [7, 2, 1]),  # and its share of the others: 70, 20 and 7 of 97 stood in folders one after the other
        (48, [34, 10, 4]),
        (97, [70, 20, 7]),
        (1000, [70, 20, 7]),
    ],
)
def test_a_sample_has_every_class_in_its_share_though_they_lie_one_after_the_other(limit, drawn):
    labels = [0] * 70 + [3] * 20 + [6] * 7
    table = datasets.Dataset.from_dict({"label": labels, "row": list(range(97))})
    sample = sample_faces(table, limit)
    assert [sample["label"][:].count(label) for label in (0, 3, 6)] == drawn
    assert sample["row"][:] == sorted(sample["row"][:]) == sample_faces(table, limit)["row"][:]
    assert set(sample_faces(table, 2)["row"][:]) < set(sample["row"][:])


def test_limits_are_those_of_train_and_of_what_is_evaluated_on(load):
    tables = sample_splits(load(), max_train=7, max_eval=3)
    assert tables.num_rows == {"train": 7, "validation": 3, "test": 3}
    assert tables["train"]["label"][:] == [load()["train"][row]["label"] for row in tables["train"]["row"][:]]
    assert sample_splits(load()).num_rows == SIZES
    with pytest.raises(DataError, match="`max_eval_samples` must be at least 1, got 0"):
        sample_splits(load(), max_eval=0)
