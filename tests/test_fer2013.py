import hashlib
import io
import os
import re
import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from sklearn.model_selection import train_test_split

from fer_hf.data import DataError, content_fingerprint, fer2013, fer2013_csv, fer2013_folders, load_dataset, source
from fer_hf.data.fer2013_faces import encode_png
from fer_hf.data.published import PUBLISHED
from fer_hf.labels import EXPRESSIONS


USAGES = ["Training"] * 8 + ["PublicTest"] * 3 + ["PrivateTest"] * 3
SPLITS = {"train": range(0, 8), "validation": range(8, 11), "test": range(11, 14)}


def make_faces(seed=0):
    """Noise, with the whole range from 0 to 255 in every face."""
    faces = np.random.default_rng(seed).integers(0, 256, (len(USAGES), 48, 48), dtype=np.uint8)
    faces[:, 0, :2] = 0, 255
    return faces


def make_rows(seed=0):
    """`[emotion, pixels, usage]` as strings; the emotion of row i is i modulo 7."""
    faces = make_faces(seed=seed)
    return [
        [str(index % 7), " ".join(map(str, face.ravel())), usage]
        for index, (face, usage) in enumerate(zip(faces, USAGES, strict=True))
    ]


def write_csv(folder, rows, header=("emotion", "pixels", "Usage"), name="fer2013.csv", end="\n"):
    folder.mkdir(exist_ok=True)
    lines = [",".join(header), *(",".join(row) for row in rows)]
    (folder / name).write_bytes("".join(line + end for line in lines).encode())
    return folder


def write_folders(folder, suffix=".png", mode="L"):
    for index, (face, usage) in enumerate(zip(make_faces(), USAGES, strict=True)):
        label = folder / ("train" if usage == "Training" else "test") / EXPRESSIONS[index % 7]
        label.mkdir(parents=True, exist_ok=True)
        Image.fromarray(face).convert(mode).save(label / f"{usage}_{index:05d}{suffix}")
    return folder


def assert_is_fixture(tables):
    faces = make_faces()
    assert list(tables) == ["train", "validation", "test"]
    for split, rows in SPLITS.items():
        assert tables[split]["row"][:] == list(rows)
        assert tables[split]["label"][:] == [row % 7 for row in rows]
        assert tables[split].features["label"].names == list(EXPRESSIONS)
        for row, image in zip(rows, tables[split]["image"], strict=True):
            assert image.format == "PNG"
            assert image.mode == "L"
            np.testing.assert_array_equal(np.asarray(image), faces[row])


def assert_refused(data_dir, cache_dir, *parts, **options):
    """The one-line message holds all `parts`, and no table is left in the cache."""
    cache_dir.mkdir()
    with pytest.raises(DataError) as caught:
        load_dataset("fer2013", data_dir, cache_dir=cache_dir, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    for part in parts:
        assert part in message
    assert not [path for path in cache_dir.rglob("*") if path.is_file() and path.suffix != ".lock"]


# CSV


def test_the_csv_gives_its_faces_labels_and_rows_in_the_official_splits(tmp_path):
    folder = write_csv(tmp_path / "data", make_rows())
    assert_is_fixture(load_dataset("fer2013", folder, cache_dir=tmp_path))


def test_the_icml_csv_with_blanks_in_its_header_and_another_order_gives_the_same(tmp_path):
    rows = [[emotion, usage, pixels] for emotion, pixels, usage in make_rows()]
    folder = write_csv(tmp_path / "data", rows, ("emotion", " Usage", " pixels"), "icml_face_data.csv")
    assert_is_fixture(load_dataset("fer2013", folder, cache_dir=tmp_path))


def test_further_columns_are_passed_over(tmp_path):
    rows = [["x", *row] for row in make_rows()]
    folder = write_csv(tmp_path / "data", rows, ("id", "emotion", "pixels", "Usage"))
    assert_is_fixture(load_dataset("fer2013", folder, cache_dir=tmp_path))


@pytest.mark.parametrize("block", [1 << 23, 20_000])
def test_further_columns_are_read_as_csv_is_quoted(tmp_path, monkeypatch, block):
    monkeypatch.setattr(fer2013_csv, "_BLOCK", block)
    notes = ['"a, b"', '"two\nlines, and a ""quote"""', "plain", '""', '"Training\n\n,"']
    rows = [[notes[number % 5], *row] for number, row in enumerate(make_rows())]
    folder = write_csv(tmp_path / "data", rows, ("note", "emotion", "pixels", "Usage"))
    assert_is_fixture(load_dataset("fer2013", folder, cache_dir=tmp_path))
    rows[9][1] = "7"
    folder = write_csv(tmp_path / "bad", rows, ("note", "emotion", "pixels", "Usage"))
    # Line 1 is the header, and of the nine rows before this one, two have two lines and one has three.
    assert_refused(folder, tmp_path / "cache", "line 15: the emotion is '7'")


def test_windows_line_ends_byte_order_mark_quotes_and_blank_last_lines_change_nothing(tmp_path):
    rows = [[f'"{value}"' for value in row] for row in make_rows()]
    folder = write_csv(tmp_path / "data", rows, ('"emotion"', '"pixels"', '"Usage"'), end="\r\n")
    path = folder / "fer2013.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes() + b"\r\n\r\n")
    assert_is_fixture(load_dataset("fer2013", folder, cache_dir=tmp_path))


def test_a_last_line_without_line_end_is_read(tmp_path):
    folder = write_csv(tmp_path / "data", make_rows())
    path = folder / "fer2013.csv"
    path.write_bytes(path.read_bytes().rstrip())
    assert_is_fixture(load_dataset("fer2013", folder, cache_dir=tmp_path))


def test_pixels_may_have_leading_zeros_and_wide_gaps(tmp_path):
    rows = make_rows()
    rows[0][1] = "  ".join(f"{int(pixel):03d}" for pixel in rows[0][1].split()) + " "
    assert_is_fixture(load_dataset("fer2013", write_csv(tmp_path / "data", rows), cache_dir=tmp_path))


@pytest.mark.parametrize("num_proc", [None, 2])
def test_neither_blocks_nor_processes_nor_mixed_splits_change_the_tables(tmp_path, monkeypatch, num_proc):
    # 20,000 bytes are two or three lines, so that every split has several shards, and most blocks two splits.
    monkeypatch.setattr(fer2013_csv, "_BLOCK", 20_000)
    monkeypatch.setattr(source, "_ROWS", 2)
    order = [0, 8, 1, 11, 2, 3, 9, 12, 4, 5, 10, 6, 13, 7]
    rows = make_rows()
    folder = write_csv(tmp_path / "data", [rows[index] for index in order])
    assert [len(shards) for shards in fer2013.source(folder).shards.values()] == [5, 3, 3]

    tables = load_dataset("fer2013", folder, cache_dir=tmp_path, num_proc=num_proc)
    faces = make_faces()
    for split, members in SPLITS.items():
        expected = [index for index in order if index in members]
        assert tables[split]["row"][:] == [order.index(index) for index in expected]
        assert tables[split]["label"][:] == [index % 7 for index in expected]
        for index, image in zip(expected, tables[split]["image"], strict=True):
            np.testing.assert_array_equal(np.asarray(image), faces[index])


def test_data_dir_may_be_relative_or_begin_with_the_home_folder(tmp_path, monkeypatch):
    write_csv(tmp_path / "data", make_rows())
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    fingerprints = {fer2013.source(data_dir).fingerprint for data_dir in ("data", "~/data", tmp_path / "data")}
    assert len(fingerprints) == 1


def test_one_changed_byte_is_read_anew_and_the_old_cache_is_still_served(tmp_path):
    folder = write_csv(tmp_path / "data", make_rows())
    path = folder / "fer2013.csv"
    content = path.read_bytes()
    before = load_dataset("fer2013", folder, cache_dir=tmp_path)["train"]
    assert content[: content.index(b",") + 1].endswith(b"emotion,")
    first_row = content.index(b"\n") + 1
    path.write_bytes(content[:first_row] + b"6" + content[first_row + 1 :])
    after = load_dataset("fer2013", folder, cache_dir=tmp_path)["train"]
    assert before["label"][:3] == [0, 1, 2]
    assert after["label"][:3] == [6, 1, 2]
    assert content_fingerprint(before) != content_fingerprint(after)

    path.write_bytes(content)
    again = load_dataset("fer2013", folder, cache_dir=tmp_path)["train"]
    assert again.cache_files == before.cache_files
    assert again["label"][:] == before["label"][:]


def change(row, column, value):
    rows = make_rows()
    rows[row][column] = value
    return rows


def change_pixel(value):
    pixels = make_rows()[9][1].split()
    pixels[99] = value
    return change(9, 1, " ".join(pixels))


BAD_ROWS = {
    "emotion 7": (change(9, 0, "7"), ["line 11", "'7'", "from 0 (angry) to 6 (neutral)", "Correct"]),
    "emotion -1": (change(9, 0, "-1"), ["line 11", "'-1'", "Correct"]),
    "emotion as a word": (change(9, 0, "happy"), ["line 11", "'happy'", "Correct"]),
    "no emotion": (change(9, 0, ""), ["line 11", "the emotion is ''", "Correct"]),
    "2303 pixels": (change(9, 1, " ".join(["7"] * 2303)), ["line 11", "2303 pixels", "48 x 48 = 2304", "Correct"]),
    "no pixels": (change(9, 1, ""), ["line 11", "0 pixels", "Correct"]),
    "pixel 256": (change_pixel("256"), ["line 11", "pixel 100 is '256'", "0 to 255", "Correct"]),
    "pixel -1": (change_pixel("-1"), ["line 11", "pixel 100 is '-1'", "Correct"]),
    "pixel 1.5": (change_pixel("1.5"), ["line 11", "pixel 100 is '1.5'", "Correct"]),
    "pixel nan": (change_pixel("nan"), ["line 11", "pixel 100 is 'nan'", "Correct"]),
    "pixel beyond 64 bits": (change_pixel(str(2**64)), ["line 11", "pixel 100 is '18446744073709551616'", "Correct"]),
    "pixels of 3 kB in one word": (change(9, 1, "1" * 3000), ["line 11", "pixel 1 is '11111", "...", "Correct"]),
    "unknown Usage": (change(9, 2, "Testing"), ["line 11", "'Testing'", "PublicTest", "correct"]),
    "only unknown Usage": ([[*row[:2], "test"] for row in make_rows()], ["line 2", "'test'", "PublicTest", "correct"]),
    "a column too few": (
        [row[: 2 if row[0] == "3" else 3] for row in make_rows()],
        ["line 5", "found: 2, in the header: 3", "Correct"],
    ),
    "blank line": (
        [*make_rows()[:5], [""], *make_rows()[5:]],
        ["line 7", "an empty line", "Correct"],
    ),
    "no validation": (
        [row for row in make_rows() if row[2] != "PublicTest"],
        ["PublicTest", "validation", "complete"],
    ),
    "no rows": ([], ["no rows", "Fetch"]),
    "quote": (change(9, 0, '"3'), ["after line 2", "a quote", "not closed"]),
}


@pytest.mark.parametrize(("rows", "parts"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_bad_row_is_refused_with_its_line_and_leaves_no_cache(tmp_path, rows, parts):
    folder = write_csv(tmp_path / "data", rows)
    assert_refused(folder, tmp_path / "cache", str(folder / "fer2013.csv"), *parts)


def test_the_line_is_right_in_later_blocks_and_in_other_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(fer2013_csv, "_BLOCK", 20_000)
    folder = write_csv(tmp_path / "data", change(6, 1, "9"))
    assert_refused(folder, tmp_path / "cache", "fer2013.csv, line 8", "1 pixels", num_proc=2)


# What stands there as fer2013.csv, and what it is called.
NO_CSV = {
    "empty": (b"", "an empty file (0 bytes)"),
    "semicolons": (b"emotion;pixels;Usage\n0;1 2 3;Training\n", "separated by semicolons: save it with commas"),
    "tabs": (b"emotion\tpixels\tUsage\n0\t1 2 3\tTraining\n", "separated by tabs: save it with commas"),
    "UTF-16": ("emotion,pixels,Usage\n".encode("utf-16"), "text in UTF-16. Save it as UTF-8"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
    "web page": (b"\n<!DOCTYPE html>\n<html><title>Log in</title>", "a web page (HTML)"),
    "archive": (b"PK\x03\x04\x14\0\0\0", "a ZIP archive. Unpack it"),
}


@pytest.mark.parametrize("kind", NO_CSV)
@pytest.mark.parametrize("dataset", ["fer2013", "ferplus"])
def test_a_file_that_is_no_csv_is_called_what_it_is(tmp_path, dataset, kind):
    content, name = NO_CSV[kind]
    folder = write_csv(tmp_path / "data", make_rows())
    path = folder / {"fer2013": "fer2013.csv", "ferplus": "fer2013new.csv"}[dataset]
    path.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(name)) as caught:
        load_dataset(dataset, folder, cache_dir=tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    (tmp_path / "data").mkdir()
    os.mkfifo(tmp_path / "data" / "fer2013.csv")
    assert_refused(tmp_path / "data", tmp_path / "cache", "fer2013.csv: not a file")


@pytest.mark.parametrize(
    ("there", "hint"),
    [
        ("fer2013/fer2013.csv", "give {}/fer2013 as `data_dir`"),
        ("archive/train/happy/1.png", "give {}/archive as `data_dir`"),
        ("FER2013.csv", "There is {}/FER2013.csv: unpack it or rename it to fer2013.csv"),
        ("fer2013 (1).csv", "rename it to fer2013.csv"),
        ("fer2013.csv.zip", "unpack it"),
        ("Train/happy/1.png", "rename it to train"),
    ],
)
def test_files_one_folder_down_or_under_a_name_much_like_it_are_named(tmp_path, there, hint):
    path = tmp_path / "data" / there
    path.parent.mkdir(parents=True)
    path.touch()
    assert_refused(tmp_path / "data", tmp_path / "cache", "no known layout", hint.format(tmp_path / "data"))


@pytest.mark.parametrize(
    ("header", "parts"),
    [
        (("emotion", "pixels"), ["no column 'Usage'"]),
        (("label", "pixel", "Usage"), ["no column 'emotion' and 'pixels'", "'label,pixel,Usage'"]),
        (("emotion;pixels;Usage",), ["no column 'emotion' and 'pixels' and 'Usage'", "commas"]),
    ],
)
def test_a_missing_column_is_refused_with_the_header_that_was_found(tmp_path, header, parts):
    folder = write_csv(tmp_path / "data", make_rows(), header)
    assert_refused(folder, tmp_path / "cache", "fer2013.csv, line 1", *parts)


# Folders


@pytest.mark.parametrize(("suffix", "mode"), [(".png", "L"), (".png", "RGB"), (".bmp", "RGB"), (".PNG", "RGBA")])
def test_folders_give_the_same_tables_as_the_csv_to_the_byte(tmp_path, suffix, mode):
    folders = load_dataset("fer2013", write_folders(tmp_path / "folders", suffix, mode), cache_dir=tmp_path)
    csv = load_dataset("fer2013", write_csv(tmp_path / "csv", make_rows()), cache_dir=tmp_path)
    assert_is_fixture(folders)
    for split in SPLITS:
        assert content_fingerprint(folders[split]) == content_fingerprint(csv[split])


def test_gray_faces_in_colour_jpegs_come_out_as_pillow_decodes_them(tmp_path):
    folder = write_folders(tmp_path / "data", ".jpg", "RGB")
    tables = load_dataset("fer2013", folder, cache_dir=tmp_path)
    expected = np.asarray(Image.open(folder / "train" / "fear" / "Training_00002.jpg").convert("L"))
    np.testing.assert_array_equal(np.asarray(tables["train"][2]["image"]), expected)


def test_faces_of_16_bits_are_scaled_to_the_same_tables(tmp_path):
    folder = write_folders(tmp_path / "data")
    for path in folder.rglob("*.png"):
        Image.fromarray(np.asarray(Image.open(path)).astype(np.uint16) * 257).save(path)
    assert_is_fixture(load_dataset("fer2013", folder, cache_dir=tmp_path))


def test_label_folders_are_matched_by_name_and_files_sorted_by_number(tmp_path):
    folder = write_folders(tmp_path / "data")
    (folder / "train" / "angry").rename(folder / "train" / "Anger")
    (folder / "train" / "happy").rename(folder / "train" / "happiness")
    # As numbers 9 < 10; as text, "10" comes first.
    (folder / "train" / "disgust" / "Training_00001.png").rename(folder / "train" / "disgust" / "Training_10.png")
    (folder / "train" / "neutral" / "Training_00006.png").rename(folder / "train" / "neutral" / "Training_9.png")
    train = load_dataset("fer2013", folder, cache_dir=tmp_path)["train"]
    assert train["row"][:] == [0, 2, 3, 4, 5, 7, 9, 10]
    assert train["label"][:] == [0, 2, 3, 4, 5, 0, 6, 1]


def test_files_that_are_no_images_are_passed_over(tmp_path):
    folder = write_folders(tmp_path / "data")
    before = fer2013.source(folder).fingerprint
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "notes.txt", "._Training_00000.png"):
        (folder / "train" / "angry" / name).write_text("no face")
        (folder / "train" / name).write_text("no face")
    (folder / "test" / "__MACOSX").mkdir()
    (folder / "test" / ".ipynb_checkpoints").mkdir()
    assert_is_fixture(load_dataset("fer2013", folder, cache_dir=tmp_path))
    assert fer2013.source(folder).fingerprint == before


def test_links_to_folders_and_to_files_are_followed(tmp_path):
    folder = write_folders(tmp_path / "data")
    shutil.move(folder / "test", tmp_path / "elsewhere")
    (folder / "test").symlink_to(tmp_path / "elsewhere")
    shutil.move(folder / "train" / "sad", tmp_path / "sad")
    (folder / "train" / "sad").symlink_to(tmp_path / "sad")
    shutil.move(folder / "train" / "fear" / "Training_00002.png", tmp_path / "face.png")
    (folder / "train" / "fear" / "Training_00002.png").symlink_to(tmp_path / "face.png")
    assert_is_fixture(load_dataset("fer2013", folder, cache_dir=tmp_path))


@pytest.mark.parametrize("target", [".", "..", "../..", "loop"])
def test_a_link_that_leads_round_in_a_circle_is_refused(tmp_path, target):
    folder = write_folders(tmp_path / "data")
    (folder / "train" / "sad" / "loop").symlink_to(target)
    assert_refused(folder, tmp_path / "cache", str(folder / "train" / "sad" / "loop"), "symbolic link", "Remove")


def test_one_changed_byte_in_an_image_of_unchanged_size_is_seen(tmp_path):
    folder = write_folders(tmp_path / "data", ".bmp")
    path = folder / "train" / "sad" / "Training_00004.bmp"
    before = load_dataset("fer2013", folder, cache_dir=tmp_path)["train"]
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1  # bitmaps run from the bottom up, so this is the last pixel of the first line
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = load_dataset("fer2013", folder, cache_dir=tmp_path)["train"]
    difference = np.asarray(before[4]["image"], dtype=int) - np.asarray(after[4]["image"], dtype=int)
    assert np.argwhere(difference).tolist() == [[0, 47]]


def png(image):
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


# What stands in train/sad/Training_00004.png instead of the face, and what is said of it.
BAD_IMAGES = {
    "truncated": (
        png(Image.fromarray(make_faces()[0]))[:900],
        ["not a readable image (image file is trunc", "Unpack"],
    ),
    "small": (png(Image.new("L", (47, 48))), ["47x48 pixels", "48x48", "Use the published images"]),
}


@pytest.mark.parametrize(("kind", "num_proc"), [*((kind, None) for kind in BAD_IMAGES), ("truncated", 2)])
def test_a_bad_image_is_refused_by_name_and_leaves_no_cache(tmp_path, monkeypatch, kind, num_proc):
    monkeypatch.setattr(fer2013_folders, "_ROWS", 2)
    content, parts = BAD_IMAGES[kind]
    folder = write_folders(tmp_path / "data")
    path = folder / "train" / "sad" / "Training_00004.png"
    path.write_bytes(content)
    assert_refused(folder, tmp_path / "cache", str(path), *parts, num_proc=num_proc)


# What is moved where, and what is said of it.
BAD_TREES = {
    "unknown label": ("train/sad", "train/bored", ["train/bored", "'bored'", "Rename"]),
    "contempt": ("train/sad", "train/contempt", ["train/contempt", "Rename"]),
    "no usage": ("train/angry/Training_00007.png", "train/angry/im7.png", ["im7.png", "Training_<number>", "Restore"]),
    "copy": ("train/angry/Training_00007.png", "train/angry/Training_7 (1).png", ["Training_7 (1).png", "Restore"]),
    "wrong part": (
        "train/angry/Training_00007.png",
        "test/happy/Training_00007.png",
        ["test/happy/Training", "Restore"],
    ),
    "no label": ("train/angry/Training_00007.png", "train/Training_00007.png", ["outside of the label", "Move"]),
    "empty label": ("train/sad/Training_00004.png", "a.png", ["train/sad: no image", "Unpack"]),
    "no test": ("test", "other", ["test is missing", "needs both"]),
    "one number twice": ("train/angry/Training_00007.png", "train/angry/Training_0.png", ["same number", "Remove"]),
}


@pytest.mark.parametrize(("start", "end", "parts"), BAD_TREES.values(), ids=BAD_TREES)
def test_a_bad_tree_is_refused_with_the_path_and_leaves_no_cache(tmp_path, start, end, parts):
    folder = write_folders(tmp_path / "data")
    (folder / start).rename(folder / end)
    assert_refused(folder, tmp_path / "cache", str(folder), *parts)


@pytest.mark.parametrize("usage", ["PublicTest", "PrivateTest"])
def test_a_tree_without_one_of_the_test_splits_is_refused(tmp_path, usage):
    folder = write_folders(tmp_path / "data")
    for path in folder.glob(f"test/*/{usage}_*"):
        path.unlink()
    for label in (folder / "test").iterdir():
        if not any(label.iterdir()):
            label.rmdir()
    assert_refused(folder, tmp_path / "cache", str(folder), usage, "would be empty", "complete")


def test_a_train_folder_without_anything_is_refused(tmp_path):
    folder = write_folders(tmp_path / "data")
    shutil.rmtree(folder / "train")
    (folder / "train").mkdir()
    assert_refused(folder, tmp_path / "cache", str(folder), "Training", "train split would be empty")


# Layouts without the official splits: what is missing is carved out of train


def write_challenge(folder, per_class=10):
    """`train.csv` with the emotions in turn, and `test.csv` with three faces; all pixels of a face are its row."""
    rows = [[str(row % 7), " ".join([str(row)] * 48 * 48)] for row in range(7 * per_class)]
    write_csv(folder, rows, ("emotion", "pixels"), "train.csv")
    return write_csv(folder, [[pixels] for _, pixels in rows[:3]], ("pixels",), "test.csv")


def write_plain_folders(folder, parts, per_class=10):
    for part in parts:
        for label, name in enumerate(("angry", "disgusted", "fearful", "happy", "sad", "surprised", "neutral")):
            (folder / part / name).mkdir(parents=True)
            for index in range(per_class):
                face = np.full((48, 48), 7 * index + label, dtype=np.uint8)
                Image.fromarray(face).save(folder / part / name / f"im{index}.png")
    return folder


def assert_is_carved(tables, sizes, num_faces):
    """The splits have these sizes, hold the classes alike, and share no row."""
    assert tables.num_rows == sizes
    rows = [row for split in ("train", "validation", "test") if split in tables for row in tables[split]["row"][:]]
    assert sorted(rows) == list(range(num_faces))
    for split in sizes:
        if split != "unlabelled":
            counts = Counter(tables[split]["label"][:])
            assert [counts[label] for label in range(7)] == [sizes[split] // 7] * 7


def test_the_challenge_files_give_carved_splits_and_an_unlabelled_one(tmp_path):
    tables = load_dataset("fer2013", write_challenge(tmp_path / "data"), cache_dir=tmp_path, validation_fraction=0.25)
    assert_is_carved(tables, {"train": 42, "validation": 14, "test": 14, "unlabelled": 3}, 70)
    for row, label, image in zip(*(tables["test"][name] for name in ("row", "label", "image")), strict=True):
        assert label == row % 7
        assert np.asarray(image)[0, 0] == row
    assert tables["unlabelled"]["label"][:] == [-1, -1, -1]
    assert "test (14 faces) carved out of train" in tables["train"].info.description


def test_a_share_of_nought_leaves_a_split_out_and_test_stays_the_same(tmp_path):
    folder = write_challenge(tmp_path / "data")
    some = load_dataset("fer2013", folder, cache_dir=tmp_path, validation_fraction=0.25)
    none = load_dataset("fer2013", folder, cache_dir=tmp_path, validation_fraction=0)
    assert_is_carved(none, {"train": 56, "test": 14, "unlabelled": 3}, 70)
    assert none["test"]["row"][:] == some["test"]["row"][:]
    other = load_dataset("fer2013", folder, cache_dir=tmp_path, validation_fraction=0, split_seed=1)
    assert other["test"]["row"][:] != none["test"]["row"][:]


def test_an_expression_is_excluded_before_the_split(tmp_path):
    # As the PReLU report does: what is left is divided by scikit-learn, stratified, seed 42.
    folder = write_challenge(tmp_path / "data")
    options = {"validation_fraction": 0.2, "test_fraction": 0, "cache_dir": tmp_path}
    whole = load_dataset("fer2013", folder, **options)
    for expression in ("surprise", "sad"):
        tables = load_dataset("fer2013", folder, exclude=[expression], **options)
        label = whole["train"].features["label"].names.index(expression)
        rows = [row for row in range(70) if row % 7 != label]
        _, taken = train_test_split(rows, test_size=0.2, stratify=[row % 7 for row in rows], random_state=42)
        assert tables["validation"]["row"][:] == sorted(taken)
        assert sorted(tables["train"]["row"][:] + taken) == rows
    assert load_dataset("fer2013", folder, **options)["validation"]["row"][:] == whole["validation"]["row"][:]


def test_folders_without_usages_keep_test_and_carve_validation(tmp_path):
    folder = write_plain_folders(tmp_path / "data", ["train", "test"])
    tables = load_dataset("fer2013", folder, cache_dir=tmp_path, validation_fraction=0.2)
    assert_is_carved(tables, {"train": 56, "validation": 14, "test": 70}, 140)
    assert [np.asarray(image)[0, 0] % 7 for image in tables["validation"]["image"]] == tables["validation"]["label"][:]


def test_folders_below_images_keep_validation_and_carve_test(tmp_path):
    folder = write_plain_folders(tmp_path / "data", ["images/train", "images/validation"])
    tables = load_dataset("fer2013", folder, cache_dir=tmp_path)
    assert_is_carved(tables, {"train": 56, "validation": 70, "test": 14}, 140)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"validation_fraction": 1.5}, ["between 0 and 1, got 1.5"]),
        ({"test_fraction": "0.2"}, ["between 0 and 1, got '0.2'"]),
        ({"split_seed": -1}, ["whole number from 0", "got -1"]),
        ({"test_fraction": 0.01}, ["cannot be taken out of 70 faces"]),
    ],
)
def test_a_share_or_seed_that_cannot_be_is_refused(tmp_path, options, parts):
    assert_refused(write_challenge(tmp_path / "data"), tmp_path / "cache", *parts, **options)


@pytest.mark.parametrize("option", ["validation_fraction", "test_fraction", "split_seed"])
def test_official_splits_are_not_carved(tmp_path, option):
    folder = write_csv(tmp_path / "data", make_rows())
    assert_refused(folder, tmp_path / "cache", f"`{option}` must be left out", "fer2013.csv", **{option: 1})


# Which layout


def test_a_folder_with_several_layouts_asks_which(tmp_path):
    folder = write_csv(write_folders(tmp_path / "data"), make_rows(seed=1))
    assert_refused(folder, tmp_path / "cache", str(folder), "csv, folders", "layout='csv'")
    csv = load_dataset("fer2013", folder, cache_dir=tmp_path, layout="csv")["test"]
    np.testing.assert_array_equal(np.asarray(csv[0]["image"]), make_faces(seed=1)[11])
    assert_is_fixture(load_dataset("fer2013", folder, cache_dir=tmp_path, layout="folders"))


def test_a_layout_that_is_not_there_or_not_known_is_refused(tmp_path):
    folder = write_csv(tmp_path / "data", make_rows())
    assert_refused(folder, tmp_path / "cache1", str(folder), "no icml_face_data.csv", "Found here: csv", layout="icml")
    assert_refused(
        folder, tmp_path / "cache2", "'zip'", "['challenge', 'csv', 'folders', 'icml', 'images']", layout="zip"
    )


def test_folders_without_the_data_set_are_refused(tmp_path):
    file = tmp_path / "file"
    file.write_text("no folder")
    names = ["fer2013.csv", "icml_face_data.csv", "train.csv", "train", "test", "images/train"]
    wanted = " or ".join(names)
    assert_refused(tmp_path / "nowhere", tmp_path / "cache1", "nowhere does not exist", "`data_dir`", wanted)
    assert_refused(file, tmp_path / "cache2", "file is a file", "`data_dir`", wanted)
    wanted = ", ".join(names)
    (tmp_path / "empty").mkdir()
    assert_refused(tmp_path / "empty", tmp_path / "cache3", "no known layout", wanted, "Check `data_dir`")


def test_the_image_bytes_are_a_plain_png_that_is_the_same_everywhere():
    face = np.arange(48 * 48, dtype=np.uint32).reshape(48, 48).astype(np.uint8)
    content = encode_png(face)
    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "L", (48, 48))
        np.testing.assert_array_equal(np.asarray(image), face)
    # 8 signature + 25 IHDR + 12 around IDAT + 2 zlib header + 5 block header + 48 x 49 + 4 checksum + 12 IEND
    assert len(content) == 8 + 25 + 12 + 2 + 5 + 48 * 49 + 4 + 12
    # If this changes, every data fingerprint does, and all of `FORMAT_VERSIONS` must be raised.
    digest = hashlib.sha256(content).hexdigest()
    assert digest == "37ee4f727bb84d6a5dc950d95db2e37558fb1cee353f30f2bb3c3733b39baf2f"


# The real data


def test_the_real_data_has_the_published_counts(real_fer2013):
    assert real_fer2013.num_rows == {"train": 28_709, "validation": 3_589, "test": 3_589}
    for split, counts in PUBLISHED["fer2013"]["counts"].items():
        found = Counter(real_fer2013[split]["label"][:])
        assert {name: found[label] for label, name in enumerate(EXPRESSIONS)} == counts


def test_the_real_data_gives_identical_tables_from_the_csv_and_from_folders(real_fer2013, tmp_path):
    from_folders = load_dataset("fer2013", os.environ["FER2013_DIR"], cache_dir=tmp_path, layout="folders")
    for split, table in real_fer2013.items():
        assert table.column_names == ["image", "label", "row"]
        assert table.with_format("arrow")[:].equals(from_folders[split].with_format("arrow")[:])
    rows = [row for table in real_fer2013.values() for row in table["row"][:]]
    assert rows == list(range(35_887))


def test_the_real_challenge_files_are_divided_as_reports_divide_them(real_fer2013, tmp_path):
    tables = load_dataset("fer2013", os.environ["FER2013_DIR"], cache_dir=tmp_path, layout="challenge")
    # 80/20 is 22,967 to 5,742 faces; validation comes out of the former.
    assert tables.num_rows == {"train": 20_670, "validation": 2_297, "test": 5_742, "unlabelled": 7_178}


def test_a_face_whose_orientation_is_damaged_is_refused_in_one_line(tmp_path):
    Image.new("L", (48, 48)).save(tmp_path / "face.png", exif=b"Exif\0\0junk12345678")
    with pytest.raises(DataError, match="not a readable image"):
        fer2013_folders._pixels(str(tmp_path / "face.png"))
