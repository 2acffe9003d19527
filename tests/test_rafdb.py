import shutil

import numpy as np
import pytest
from PIL import Image
from rafdb_trees import (
    TEST,
    TRAIN,
    attributes,
    code,
    draw,
    members,
    votes,
    write_compound,
    write_kaggle,
    write_official,
)

from fer_hf.data import DataError, content_fingerprint, folders, load_dataset, rafdb
from fer_hf.data.audit import audit
from fer_hf.labels import EXPRESSIONS, SOURCE_CODES


LABELS = "basic/EmoLabel/list_patition_label.txt"
VOTES = "distribution_basic.txt"
MANUAL = "basic/Annotation/manual/train_00003_manu_attri.txt"
BOX = "basic/Annotation/boundingbox/train_00003_boundingbox.txt"
FACE = "basic/Image/aligned/train_00003_aligned.jpg"


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """Both layouts, written once; tests copy what they change."""
    folder = tmp_path_factory.mktemp("rafdb")
    write_official(folder / "official", votes_file=VOTES)
    write_kaggle(folder / "kaggle")
    return folder


@pytest.fixture
def official(trees, tmp_path):
    return shutil.copytree(trees / "official", tmp_path / "official")


@pytest.fixture
def kaggle(trees, tmp_path):
    return shutil.copytree(trees / "kaggle", tmp_path / "kaggle")


def load(data_dir, tmp_path, **options):
    return load_dataset("rafdb", data_dir, cache_dir=tmp_path / "cache", **{"validation_fraction": 0.25, **options})


def edit(path, old, new):
    """Replaces what must be there."""
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))


def label(part, number):
    return EXPRESSIONS.index(SOURCE_CODES["rafdb"][code(part, number)])


def assert_refused(data_dir, tmp_path, *parts, **options):
    """The one-line message holds all `parts`, and no table is left in the cache."""
    with pytest.raises(DataError) as caught:
        load(data_dir, tmp_path, **options)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
    assert not [path for path in tmp_path.glob("cache/**/*") if path.is_file() and path.suffix != ".lock"]


# What is read


@pytest.mark.parametrize("layout", ["official", "kaggle"])
def test_faces_labels_and_rows_of_both_layouts(trees, tmp_path, layout):
    faces = load(trees / layout, tmp_path)
    assert list(faces) == ["train", "validation", "test"]
    assert faces.num_rows == {"train": TRAIN - 7, "validation": 7, "test": TEST}
    assert sorted(faces["train"]["row"][:] + faces["validation"]["row"][:]) == list(range(1, TRAIN + 1))
    assert faces["test"]["row"][:] == list(range(1, TEST + 1))
    for split, table in faces.items():
        part = "test" if split == "test" else "train"
        assert table["row"][:] == sorted(table["row"][:])
        assert table["label"][:] == [label(part, number) for number in table["row"][:]]
        assert table.features["label"].names == list(EXPRESSIONS)
    assert sorted(faces["validation"]["label"][:]) == list(range(7))  # stratified
    image = faces["test"][2]["image"]
    assert (image.size, image.mode) == ((100, 100), "RGB")
    np.testing.assert_allclose(np.asarray(image, dtype=int), np.asarray(draw("test", 3)[0], dtype=int), atol=40)


def test_labels_are_mapped_by_name(trees, tmp_path):
    # By hand: line "train_00001.jpg 4" is happiness, and "train_00002.jpg 7" is neutral.
    assert (trees / "official" / LABELS).read_text().startswith("train_00001.jpg 4\ntrain_00002.jpg 7\n")
    faces = load(trees / "official", tmp_path, validation_fraction=0)
    assert [EXPRESSIONS[label] for label in faces["train"]["label"][:2]] == ["happy", "neutral"]


def test_both_layouts_hold_the_same_faces_in_the_same_splits(trees, tmp_path):
    official, kaggle = load(trees / "official", tmp_path), load(trees / "kaggle", tmp_path)
    for split in official:
        assert content_fingerprint(official[split]) == content_fingerprint(kaggle[split])
        assert official[split]["row"][:] == kaggle[split]["row"][:]


@pytest.mark.parametrize(("layout", "inner"), [("official", "basic"), ("kaggle", "DATASET")])
def test_data_dir_may_be_the_inner_folder(trees, tmp_path, layout, inner):
    outer = load(trees / layout, tmp_path)
    assert content_fingerprint(load(trees / layout / inner, tmp_path)["train"]) == content_fingerprint(outer["train"])


def test_plain_files_keep_their_own_bytes(trees, tmp_path):
    test = load(trees / "official", tmp_path)["test"].with_format("arrow")
    stored = test["image"][0].as_py()
    assert stored == {
        "bytes": (trees / "official" / "basic/Image/aligned/test_0001_aligned.jpg").read_bytes(),
        "path": None,
    }


def test_gray_files_become_rgb(official, tmp_path):
    Image.open(official / FACE).convert("L").save(official / FACE)
    train = load(official, tmp_path, validation_fraction=0)["train"]
    assert {image.mode for image in train["image"]} == {"RGB"}


def test_annotations_become_columns(trees, tmp_path):
    faces = load(trees / "official", tmp_path, validation_fraction=0, annotations=True)
    assert list(faces) == ["train", "test"]
    train = faces["train"]
    for name, values in zip(
        ("gender", "race", "age_group"), zip(*map(attributes, train["row"][:]), strict=True), strict=True
    ):
        assert train[name][:] == list(values)
    assert train.features["gender"].names == ["male", "female", "unsure"]
    assert train.features["race"].names == ["Caucasian", "African-American", "Asian"]
    assert train.features["age_group"].names == ["0-3", "4-19", "20-39", "40-69", "70+"]
    np.testing.assert_allclose(train[4]["landmarks"], draw("train", 5)[1].ravel() + 20, atol=1e-4)
    assert train[4]["bounding_box"] == [20, 20, 120, 120]


def test_votes_are_put_into_canonical_order(trees, tmp_path):
    faces = load(trees / "official", tmp_path, validation_fraction=0)
    for part, table in faces.items():
        for number, shares in zip(table["row"][:], table["soft_label"][:], strict=True):
            assert np.argmax(shares) == label(part, number)
            for position, share in enumerate(votes(part, number), start=1):
                assert shares[EXPRESSIONS.index(SOURCE_CODES["rafdb"][position])] == share


def test_compound_expressions_are_classes_of_their_own(tmp_path):
    tree = write_compound(tmp_path / "tree")
    for data_dir in (tree, tree / "compound"):
        faces = load(data_dir, tmp_path, subset="compound", validation_fraction=0.5)
        assert faces.num_rows == {"train": 11, "validation": 11, "test": 11}
        names = faces["train"].features["label"].names
        assert len(names) == 11
        # By hand: line "test_0003.jpg 4" is sadly angry, and "test_0010.jpg 11" disgustedly surprised.
        assert names[faces["test"][2]["label"]] == "sadly angry"
        assert names[faces["test"][9]["label"]] == names[-1] == "disgustedly surprised"
    assert audit(faces, "rafdb")["published"] is None


def test_the_codes_of_twelve_compound_expressions_are_not_guessed(tmp_path):
    tree = write_compound(tmp_path / "tree", classes=12)
    assert_refused(tree, tmp_path, "the label is '12'", "is not documented", subset="compound")
    shutil.copytree(tree / "compound", tmp_path / "basic")
    assert_refused(tmp_path, tmp_path, "the label is '8'", "subset='compound'")


def test_landmarks_and_boxes_are_columns_only_when_asked_for(tmp_path):
    tree = write_compound(tmp_path / "tree")
    options = {"subset": "compound", "validation_fraction": 0}
    plain = ["image", "label", "row", "gender", "race", "age_group"]
    assert load(tree, tmp_path, **options)["test"].column_names == plain
    test = load(tree, tmp_path, **options, annotations=True)["test"]
    assert test.column_names == [*plain, "landmarks", "auto_landmarks", "bounding_box"]
    assert test[1]["auto_landmarks"] == [number for point in range(37) for number in (2.5, point)]
    assert test[1]["landmarks"] == test[1]["auto_landmarks"][:10]
    assert test[1]["bounding_box"] == [1, 2, 30, 40]
    file = tree / "compound/Annotation/auto/test_0002_auto_attri.txt"
    edit(file, b"2.5\t0\n", b"")
    assert_refused(tree, tmp_path / "new", "lines found: 36", **options, annotations=True)


def test_a_folder_called_valid_is_the_test_list(trees, kaggle, tmp_path):
    (kaggle / "DATASET/test").rename(kaggle / "DATASET/valid")
    (kaggle / "test_labels.csv").rename(kaggle / "valid_labels.csv")
    faces, published = load(kaggle, tmp_path), load(trees / "kaggle", tmp_path)
    assert list(faces) == ["train", "validation", "test"]
    for split, table in published.items():
        assert content_fingerprint(faces[split]) == content_fingerprint(table)


def test_a_folder_called_valid_with_training_faces_is_refused(kaggle, tmp_path):
    shutil.rmtree(kaggle / "DATASET/test")
    shutil.copytree(kaggle / "DATASET/train", kaggle / "DATASET/valid")
    assert_refused(kaggle, tmp_path, "an image of train among those of test")


def test_counts_of_votes_are_divided_by_their_sum(official, tmp_path):
    path = official / "basic/EmoLabel" / VOTES
    lines = path.read_text().splitlines()
    path.write_text("\n".join(["train_00001.jpg 1 0 0 30 0 0 9", *lines[1:]]))
    first = load(official, tmp_path, validation_fraction=0)["train"][0]["soft_label"]
    np.testing.assert_allclose(first, [0, 0, 0, 30 / 40, 0, 1 / 40, 9 / 40], rtol=1e-6)


def test_without_annotation_folders_and_votes_there_are_no_such_columns(official, tmp_path):
    shutil.rmtree(official / "basic/Annotation")
    (official / "basic/EmoLabel" / VOTES).unlink()
    assert load(official, tmp_path)["train"].column_names == ["image", "label", "row"]


def test_a_face_without_annotation_has_nulls_and_is_counted(official, tmp_path, caplog):
    (official / MANUAL).unlink()
    (official / BOX).unlink()
    train = load(official, tmp_path, validation_fraction=0, annotations=True)["train"]
    for name in ("gender", "race", "age_group", "landmarks", "bounding_box"):
        assert [value is None for value in train[name][:]] == [row == 3 for row in train["row"][:]]
    assert "1 of 35 faces have no annotation" in caplog.text


def test_the_whole_photographs_are_read_on_request(trees, tmp_path):
    test = load(trees / "official", tmp_path, image="original")["test"]
    assert test[0]["image"].size == (140, 140)
    assert load(trees / "official", tmp_path)["test"][0]["image"].size == (100, 100)


def test_several_processes_write_the_same_tables(trees, tmp_path, monkeypatch):
    one = load(trees / "official", tmp_path)
    monkeypatch.setattr(folders, "_ROWS", 10)
    two = load_dataset("rafdb", trees / "official", tmp_path / "two", num_proc=2, validation_fraction=0.25)
    assert len(two["train"].cache_files) == 2
    for split, table in one.items():
        assert table.with_format("arrow")[:].equals(two[split].with_format("arrow")[:])


def test_the_split_follows_its_seed_and_options_have_their_own_caches(trees, tmp_path):
    first, second = load(trees / "kaggle", tmp_path), load(trees / "kaggle", tmp_path, split_seed=1)
    assert first["validation"]["row"][:] != second["validation"]["row"][:]
    assert first["test"]["row"][:] == second["test"]["row"][:]
    assert load(trees / "kaggle", tmp_path)["validation"]["row"][:] == first["validation"]["row"][:]


def test_one_changed_byte_in_any_file_is_read_anew(official):
    options = {"validation_fraction": 0, "annotations": True}
    digests = {rafdb.source(official, **options).fingerprint}
    edit(official / LABELS, b"train_00001.jpg 4", b"train_00001.jpg 5")
    digests.add(rafdb.source(official, **options).fingerprint)
    edit(official / MANUAL, b"\n0\n1\n3\n", b"\n1\n1\n3\n")
    digests.add(rafdb.source(official, **options).fingerprint)
    edit(official / BOX, b"20 20 120", b"21 20 120")
    digests.add(rafdb.source(official, **options).fingerprint)
    edit(official / "basic/EmoLabel" / VOTES, b"0.75", b"0.76")
    digests.add(rafdb.source(official, **options).fingerprint)
    with open(official / FACE, "ab") as file:
        file.write(b"\0")
    digests.add(rafdb.source(official, **options).fingerprint)
    assert len(digests) == 6


def test_windows_line_ends_byte_order_marks_and_blank_last_lines_change_nothing(trees, official, kaggle, tmp_path):
    expected = load(trees / "official", tmp_path)
    texts = [*official.rglob("*.txt"), *kaggle.glob("*.csv")]
    assert len(texts) == 2 + 2 * (TRAIN + TEST) + 2
    for path in texts:
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n\r\n")
    for split, table in load(official, tmp_path).items():
        assert table.with_format("arrow")[:].equals(expected[split].with_format("arrow")[:])
    assert content_fingerprint(load(kaggle, tmp_path)["train"]) == content_fingerprint(expected["train"])


def test_hidden_and_system_files_are_ignored(official, kaggle, tmp_path):
    for folder in (official / "basic/Image/aligned", kaggle / "DATASET/train/1", kaggle / "DATASET/test"):
        for name in (".DS_Store", "._train_00001_aligned.jpg", "Thumbs.db"):
            (folder / name).write_text("x")
    assert load(official, tmp_path).num_rows == load(kaggle, tmp_path).num_rows


@pytest.mark.parametrize("names", [("train.csv", "tes.csv"), ("train.csv", "test.csv"), None])
def test_label_files_of_the_kaggle_tree_have_several_names_or_are_missing(trees, tmp_path, names):
    write_kaggle(tmp_path / "data", names)
    faces = load(tmp_path / "data", tmp_path)
    assert content_fingerprint(faces["test"]) == content_fingerprint(load(trees / "kaggle", tmp_path)["test"])


def test_the_name_column_may_have_another_name_and_place(kaggle, tmp_path):
    path = kaggle / "test_labels.csv"
    rows = [row.split(",") for row in path.read_text().split()]
    path.write_text("".join(f"{label},{name}\n" for name, label in [("file", "label"), *rows[1:]]))
    assert load(kaggle, tmp_path)["test"].num_rows == TEST


# What is refused: what to do to the tree, and what the message says


def write(path, content):
    return lambda root: (root / path).write_bytes(content)


def replace(path, old, new):
    return lambda root: edit(root / path, old, new)


def remove(path):
    return lambda root: (shutil.rmtree if (root / path).is_dir() else type(root).unlink)(root / path)


def copy(path, to):
    return lambda root: shutil.copy(root / path, root / to)


def save(path, mode, size=(100, 100)):
    return lambda root: Image.new(mode, size).save(root / path)


BAD_OFFICIAL = {
    "code 8": (replace(LABELS, b"00003.jpg 3", b"00003.jpg 8"), ["line 3", "the label is '8'", "1 (surprise)"]),
    "code 0": (replace(LABELS, b"00003.jpg 3", b"00003.jpg 0"), ["line 3", "the label is '0'"]),
    "code as a word": (replace(LABELS, b"00003.jpg 3", b"00003.jpg sad"), ["line 3", "the label is 'sad'"]),
    "no code": (replace(LABELS, b"00003.jpg 3", b"00003.jpg"), ["line 3", "a name and a label", "'train_00003.jpg'"]),
    "blank line": (replace(LABELS, b"train_00003.jpg 3\n", b"\n"), ["line 3", "a name and a label, got ''"]),
    "strange name": (replace(LABELS, b"train_00003.jpg", b"face3.jpg"), ["line 3", "'face3.jpg' is not named as"]),
    "row twice": (replace(LABELS, b"train_00004", b"train_00003"), ["line 4", "is already in line 3"]),
    "row without image": (remove(FACE), [LABELS + ", line 3", "no image for this line (lines without image: 1)"]),
    "image without row": (
        replace(LABELS, b"train_00003.jpg 3\n", b""),
        ["train_00003_aligned.jpg: is not listed in", "(images that do not: 1)"],
    ),
    "image twice": (copy(FACE, FACE.replace("jpg", "png")), ["the same face as"]),
    "no label file": (remove(LABELS), [LABELS, "cannot be read"]),
    "no images": (remove("basic/Image/aligned"), ["aligned is missing", "Unpack"]),
    "a file that is no image": (write("basic/Image/aligned/x.txt", b"x"), ["x.txt: not an image"]),
    "strange image name": (copy(FACE, "basic/Image/aligned/face.jpg"), ["'face.jpg' is not named as"]),
    "truncated image": (lambda root: (root / FACE).write_bytes((root / FACE).read_bytes()[:900]), ["not a readable"]),
    "image of another size": (save(FACE, "RGB", (48, 48)), [FACE, "48x48 pixels, but 100x100", "'imagefolder'"]),
    "annotation without age": (replace(MANUAL, b"\n0\n1\n3\n", b"\n0\n1\n"), [MANUAL, "lines found: 7", "age_group"]),
    "annotation with a landmark too few": (
        write(MANUAL, b"1 2\n1 2\n1 2\n1 2\n0\n1\n2\n"),
        [MANUAL, "lines found: 7"],
    ),
    "gender 3": (
        replace(MANUAL, b"\n0\n1\n3\n", b"\n3\n1\n3\n"),
        [MANUAL + ", line 6", "gender is '3'", "2 (unsure)"],
    ),
    "race 3": (replace(MANUAL, b"\n0\n1\n3\n", b"\n0\n3\n3\n"), [MANUAL + ", line 7", "race is '3'"]),
    "age 5": (replace(MANUAL, b"\n0\n1\n3\n", b"\n0\n1\n5\n"), [MANUAL + ", line 8", "age_group is '5'", "4 (70+)"]),
    "landmark that is no number": (write(MANUAL, b"1\tx\n" + b"1 2\n" * 4 + b"0\n1\n2\n"), ["line 1", "2 numbers"]),
    "landmark nan": (write(MANUAL, b"nan 1\n" + b"1 2\n" * 4 + b"0\n1\n2\n"), ["line 1", "2 numbers, got 'nan 1'"]),
    "annotation of nobody": (copy(MANUAL, MANUAL.replace("00003", "00099")), ["00099", "a face that is not listed"]),
    "box of three": (write(BOX, b"1 2 3\n"), [BOX, "expected 4 numbers, got '1 2 3'"]),
    "empty box": (write(BOX, b"9 2 3 4\n"), [BOX, "the box 9 2 3 4 is empty"]),
    "votes of six": (
        write("basic/EmoLabel/" + VOTES, b"train_00001.jpg 1 0 0 0 0 0\n"),
        ["line 1", "expected 7 numbers"],
    ),
    "votes that do not add up": (
        write("basic/EmoLabel/" + VOTES, b"train_00001.jpg 0.5 0.1 0 0 0 0 0\n"),
        ["line 1", "add up to 1", "move the file away"],
    ),
    "no votes at all": (
        write("basic/EmoLabel/" + VOTES, b"train_00001.jpg 0 0 0 0 0 0 0\n"),
        ["line 1", "add up to 1"],
    ),
    "votes for one face only": (
        write("basic/EmoLabel/" + VOTES, b"train_00001.jpg 0 0 0 1 0 0 0\n"),
        ["is not listed in", VOTES, "(images that do not: 34)"],
    ),
    "votes twice": (
        write("basic/EmoLabel/" + VOTES, b"train_00001.jpg 0 0 0 1 0 0 0\n" * 2),
        ["line 2", "is already in line 1"],
    ),
    "two files of votes": (copy("basic/EmoLabel/" + VOTES, "basic/EmoLabel/distribution_2.txt"), ["a second file"]),
    "loop of links": (
        lambda root: (root / "basic/Image/aligned/loop").symlink_to(root / "basic/Image/aligned"),
        ["loop: a symbolic link that leads back"],
    ),
}


@pytest.mark.parametrize("case", BAD_OFFICIAL)
def test_bad_files_of_the_official_tree_are_refused_in_one_line(official, tmp_path, case):
    change, parts = BAD_OFFICIAL[case]
    change(official)
    assert_refused(official, tmp_path, *parts, annotations=True)


KAGGLE_FACE = "DATASET/train/3/train_00003_aligned.jpg"
CSV = "train_labels.csv"

BAD_KAGGLE = {
    "folder 8": (lambda root: (root / "DATASET/train/8").mkdir(), ["8: folders must be named 1 (surprise)"]),
    "folder by name": (lambda root: (root / "DATASET/test/sad").mkdir(), ["sad: folders must be named"]),
    "no test": (remove("DATASET/test"), ["test is missing"]),
    "empty folder": (lambda root: [p.unlink() for p in (root / "DATASET/train/3").iterdir()], ["no image in this"]),
    "image beside the folders": (copy(KAGGLE_FACE, "DATASET/train/train_00099_aligned.jpg"), ["an image outside"]),
    "face in two folders": (copy(KAGGLE_FACE, "DATASET/train/4/train_00003_aligned.jpg"), ["the same face as"]),
    "train face in test": (copy(KAGGLE_FACE, "DATASET/test/3/train_00003_aligned.jpg"), ["an image of train among"]),
    "label against folder": (
        replace(CSV, b"00003_aligned.jpg,3", b"00003_aligned.jpg,4"),
        [CSV + ", line 4", "the label means happy, but the image lies in", "train/3"],
    ),
    "row without image": (remove(KAGGLE_FACE), [CSV + ", line 4", "no image for this line"]),
    "image without row": (
        replace(CSV, b"train_00003_aligned.jpg,3\n", b""),
        ["train_00003_aligned.jpg: is not listed in"],
    ),
    "row twice": (replace(CSV, b"train_00004", b"train_00003"), [CSV + ", line 5", "is already in line 4"]),
    "code 9": (replace(CSV, b"00003_aligned.jpg,3", b"00003_aligned.jpg,9"), [CSV + ", line 4", "the label is '9'"]),
    "a column too many": (
        replace(CSV, b"jpg,3", b"jpg,3,3"),
        [CSV + ", line 4", "columns found: 3, in the header: 2"],
    ),
    "no header": (replace(CSV, b"image,label\n", b""), [CSV + ", line 1", "expected a column 'label'"]),
    "two label files": (copy(CSV, "train.csv"), ["train.csv: a second label file"]),
    "huge field": (write(CSV, b'image,label\n"' + b"x" * 200_000), [CSV, "not a readable CSV"]),
}


@pytest.mark.parametrize("case", BAD_KAGGLE)
def test_bad_files_of_the_kaggle_tree_are_refused_in_one_line(kaggle, tmp_path, case):
    change, parts = BAD_KAGGLE[case]
    change(kaggle)
    assert_refused(kaggle, tmp_path, *parts)


def test_what_is_no_data_set_is_refused(trees, tmp_path):
    (tmp_path / "empty").mkdir()
    assert_refused(tmp_path / "empty", tmp_path, "no known layout of RAF-DB")
    assert_refused(tmp_path / "none", tmp_path, "does not exist")
    assert_refused(trees / "official", tmp_path, "has no DATASET or train", "Found here: official", layout="kaggle")
    both = shutil.copytree(trees / "official", tmp_path / "both")
    shutil.copytree(trees / "kaggle", both, dirs_exist_ok=True)
    assert_refused(both, tmp_path, "in several layouts", "layout='official'")
    assert load(both, tmp_path, layout="kaggle")["train"].column_names == ["image", "label", "row"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "csv"}, "`layout` must be one of ['kaggle', 'official'], got 'csv'"),
        ({"image": "cropped"}, "`image` must be 'aligned' or 'original', got 'cropped'"),
        ({"image": "original"}, "this layout has aligned faces only"),
        ({"validation_fraction": 1.5}, "must be a number between 0 and 1, got 1.5"),
        ({"validation_fraction": 0.01}, "every class is in both"),
        ({"split_seed": -1}, "seed of a split must be a whole number"),
    ],
)
def test_wrong_options_are_refused(trees, tmp_path, options, message):
    assert_refused(trees / "kaggle", tmp_path, message, **options)


def test_every_face_of_the_fixture_is_of_its_published_form():
    names = [name for _, _, name in members()]
    assert names[0] == "train_00001"
    assert names[-1] == f"test_{TEST:04d}"
