import os
from collections import Counter

import numpy as np
import pytest

from fer_hf.data import DataError, ferplus, load_dataset
from fer_hf.labels import EXPRESSIONS_WITH_CONTEMPT


HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"

# Votes in the file's order, and the label that "majority" and "argmax" give; None where the face is left out.
ROWS = [
    ("Training", "6,0,0,0,4,0,0,0,0,0", "neutral", "neutral"),
    ("Training", "4,0,0,1,3,1,0,1,0,0", "neutral", "neutral"),  # single votes dropped: 4 of 7
    ("Training", "0,5,5,0,0,0,0,0,0,0", None, "happy"),  # half is no majority; a tie goes to the first
    ("Training", "0,0,0,0,0,0,0,0,8,2", None, None),  # unknown
    ("PublicTest", "0,0,0,0,0,0,0,0,0,10", None, None),  # not a face
    ("PublicTest", "1,1,1,1,1,1,1,1,1,0", None, "neutral"),  # nothing but single votes
    ("PublicTest", "0,0,0,0,0,0,1,8,1,0", "contempt", "contempt"),
    ("PrivateTest", "0,0,0,2,0,0,8,0,0,0", "fear", "fear"),
    ("PrivateTest", "0,0,0,0,0,3,0,0,4,3", None, None),  # unknown, but no majority
]
SPLITS = {"train": range(0, 4), "validation": range(4, 7), "test": range(7, 9)}


def make_labels():
    return [HEADER, *(f"{usage},fer{row:07d}.png,{votes}" for row, (usage, votes, *_) in enumerate(ROWS))]


def write(folder, labels=None, name="fer2013.csv", end="\n"):
    """Faces whose pixels are all the number of their row, and the lines `labels`."""
    folder.mkdir()
    faces = ["emotion,pixels,Usage"]
    faces += [f"0,{' '.join([str(row)] * 48 * 48)},{usage}" for row, (usage, *_) in enumerate(ROWS)]
    (folder / name).write_text("\n".join(faces) + "\n")
    (folder / "fer2013new.csv").write_bytes(end.join([*(labels or make_labels()), ""]).encode())
    return folder


@pytest.mark.parametrize("target", ["majority", "argmax", "distribution"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_face_gets_the_label_of_its_row_or_is_left_out(tmp_path, target, end):
    tables = load_dataset("ferplus", write(tmp_path / "data", end=end), cache_dir=tmp_path, target=target)
    place = 2 if target == "majority" else 3
    for split, rows in SPLITS.items():
        kept = [row for row in rows if ROWS[row][place] is not None]
        assert tables[split]["row"][:] == kept
        assert tables[split].features["label"].names == list(EXPRESSIONS_WITH_CONTEMPT)
        names = [EXPRESSIONS_WITH_CONTEMPT[label] for label in tables[split]["label"][:]]
        assert names == [ROWS[row][place] for row in kept]
        assert [np.asarray(image)[0, 0] for image in tables[split]["image"]] == kept


def test_distributions_are_shares_of_the_eight_expressions_in_canonical_order(tmp_path):
    tables = load_dataset("ferplus", write(tmp_path / "data"), cache_dir=tmp_path, target="distribution")
    assert tables["train"].features["soft_label"].feature.dtype == "float32"
    np.testing.assert_allclose(tables["train"][0]["soft_label"], [0.4, 0, 0, 0, 0, 0, 0.6, 0], rtol=1e-6)
    # Its vote for "unknown" counts for nothing: contempt 8 of 9, fear 1 of 9.
    np.testing.assert_allclose(tables["validation"][1]["soft_label"], [0, 0, 1 / 9, 0, 0, 0, 0, 8 / 9], rtol=1e-6)


def test_what_is_left_out_is_counted_in_the_description(tmp_path):
    description = ferplus.source(write(tmp_path / "data")).description
    assert "train keeps 2 of 4 faces, validation keeps 1 of 3 faces, test keeps 1 of 2 faces" in description
    assert "left out: 3 no majority, 1 unknown, 1 not a face" in description


def test_one_changed_vote_is_read_anew(tmp_path):
    folder = write(tmp_path / "data")
    before = ferplus.source(folder).fingerprint
    path = folder / "fer2013new.csv"
    path.write_bytes(path.read_bytes().replace(b"6,0,0,0,4", b"6,0,0,0,3"))
    assert ferplus.source(folder).fingerprint != before


BAD_LABELS = {
    "a row too few": (make_labels()[:-1], ["8 rows", "has 9", "row by row"]),
    "other Usage": (
        [line.replace("PublicTest,fer0000004", "Training,fer0000004") for line in make_labels()],
        ["line 6", "Usage Training, but PublicTest in the same row"],
    ),
    "unknown Usage": ([line.replace("PublicTest", "Test") for line in make_labels()], ["line 6", "'Test'"]),
    "no number": ([line.replace("6,0,0,0,4", "6,0,0,0,x") for line in make_labels()], ["line 2", "'angry' are 'x'"]),
    "negative": ([line.replace("6,0,0,0,4", "6,0,0,0,-4") for line in make_labels()], ["line 2", "'-4'"]),
    "no vote": ([line.replace("6,0,0,0,4", "0,0,0,0,0") for line in make_labels()], ["line 2", "not a single vote"]),
    "a column too few": ([line.replace(",6,0,0,0,4", ",6,0,0,4") for line in make_labels()], ["line 2", "found: 11"]),
    "no column": ([line.replace("anger", "rage") for line in make_labels()], ["line 1", "no column 'angry'"]),
    "header alone": ([HEADER], ["line 1", "no row follows"]),
}


@pytest.mark.parametrize(("labels", "parts"), BAD_LABELS.values(), ids=BAD_LABELS)
def test_bad_labels_are_refused_with_their_line(tmp_path, labels, parts):
    folder = write(tmp_path / "data", labels)
    with pytest.raises(DataError) as caught:
        load_dataset("ferplus", folder, cache_dir=tmp_path / "cache")
    assert "\n" not in str(caught.value)
    for part in ("fer2013new.csv", *parts):
        assert part in str(caught.value)


def test_without_the_label_file_or_a_csv_it_is_said_what_is_needed(tmp_path):
    folder = write(tmp_path / "data")
    with pytest.raises(DataError, match=r"`target` must be one of .*, got 'mean'"):
        ferplus.source(folder, target="mean")
    with pytest.raises(DataError, match="but the layout is 'folders': its labels belong to the rows"):
        ferplus.source(folder, layout="folders")
    (folder / "fer2013.csv").rename(folder / "train.csv")
    with pytest.raises(DataError, match="but the layout is 'challenge': its labels belong to the rows"):
        ferplus.source(folder)
    (folder / "train.csv").rename(folder / "fer2013.csv")
    (folder / "fer2013new.csv").unlink()
    with pytest.raises(DataError, match=r"has no fer2013new.csv, the labels of FER\+"):
        ferplus.source(folder)


# The real data


@pytest.mark.parametrize(
    ("target", "sizes"),
    [
        ("majority", [25_060, 3_199, 3_153]),
        ("distribution", [28_389, 3_553, 3_546]),  # the faces of argmax
    ],
)
def test_the_real_data_has_the_published_counts(tmp_path, target, sizes):
    if "FER2013_DIR" not in os.environ:
        pytest.skip("FER2013_DIR is not set to a folder with FER-2013 as fer2013.csv and with fer2013new.csv")
    folder = os.environ["FER2013_DIR"]
    tables = load_dataset("ferplus", folder, cache_dir=tmp_path, target=target, layout="csv")
    assert list(tables.num_rows.values()) == sizes
    if target == "majority":
        counts = Counter(tables["train"]["label"][:])
        assert [counts[label] for label in range(8)] == [2100, 119, 532, 7287, 3014, 3149, 8740, 119]
    if target == "distribution":
        shares = np.array(tables["test"]["soft_label"][:])
        np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
