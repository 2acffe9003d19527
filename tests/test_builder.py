import hashlib
import multiprocessing
import resource
import struct
import sys
from dataclasses import replace
from functools import partialmethod

import datasets
import numpy as np
import pyarrow as pa
import pytest

from fer_hf.data import DataError, content_fingerprint, load_dataset
from fer_hf.data.builder import build
from fer_hf.data.fer2013_faces import encode_png
from fer_hf.data.source import Source, face_features


def read_squares(shard):
    """Rows `start` to `stop`, with the row in every pixel."""
    start, stop, path = shard
    for row in range(start, stop):
        if row == 13:
            raise DataError("squares.txt, line 13: unlucky. Choose another number.")
        with open(path, "a") as log:
            log.write(f"{row}\n")
        image = {"bytes": encode_png(np.full((48, 48), row, dtype=np.uint8)), "path": None}
        yield pa.table({"image": pa.array([image]), "label": [row % 7], "row": [row]})


def squares(tmp_path, fingerprint="a", test=(9, 11)):
    """Five rows for training and two each for validation and test; what is read is written into a log."""
    log = str(tmp_path / "log")
    shards = {"train": [(0, 3, log), (3, 5, log)], "validation": [(7, 9, log)], "test": [(*test, log)]}
    return Source("squares", fingerprint, face_features(), shards, read_squares)


def read_log(tmp_path):
    return sorted(map(int, (tmp_path / "log").read_text().split()))


def test_a_source_becomes_one_table_per_split_in_the_order_train_validation_test(tmp_path):
    tables = build(squares(tmp_path), cache_dir=tmp_path / "cache")
    assert list(tables) == ["train", "validation", "test"]
    assert tables["train"]["row"][:] == [0, 1, 2, 3, 4]
    assert tables["validation"]["row"][:] == [7, 8]
    assert tables["test"]["label"][:] == [2, 3]
    assert tables["train"].features == face_features()
    assert np.asarray(tables["test"][1]["image"]).tolist() == [[10] * 48] * 48


def test_the_same_fingerprint_is_read_once_and_another_one_anew(tmp_path):
    build(squares(tmp_path), cache_dir=tmp_path / "cache")
    assert read_log(tmp_path) == [0, 1, 2, 3, 4, 7, 8, 9, 10]
    again = build(squares(tmp_path, test=(20, 22)), cache_dir=tmp_path / "cache")
    assert len(read_log(tmp_path)) == 9
    assert list(again) == ["train", "validation", "test"]
    assert again["test"]["row"][:] == [9, 10]
    anew = build(squares(tmp_path, fingerprint="b", test=(20, 22)), cache_dir=tmp_path / "cache")
    assert len(read_log(tmp_path)) == 18
    assert anew["test"]["row"][:] == [20, 21]


def test_sources_of_the_same_fingerprint_but_other_names_do_not_share_a_cache(tmp_path):
    build(squares(tmp_path), cache_dir=tmp_path / "cache")
    other = build(replace(squares(tmp_path, test=(20, 22)), name="other"), cache_dir=tmp_path / "cache")
    assert other["test"]["row"][:] == [20, 21]


def test_several_processes_write_the_same_tables(tmp_path):
    one = build(squares(tmp_path), cache_dir=tmp_path / "one")
    two = build(squares(tmp_path), cache_dir=tmp_path / "two", num_proc=2)
    assert len(two["train"].cache_files) == 2  # it was really divided
    for split in one:
        assert one[split].with_format("arrow")[:].equals(two[split].with_format("arrow")[:])
        assert one[split]._fingerprint == two[split]._fingerprint


def files(folder):
    """All files below a folder but locks, which are left for other processes."""
    return sorted(path for path in folder.glob("**/*") if path.is_file() and path.suffix != ".lock")


@pytest.mark.parametrize("num_proc", [None, 2])
def test_a_data_error_comes_out_as_it_is_and_leaves_no_table_behind(tmp_path, num_proc):
    source = squares(tmp_path)
    source.shards["train"][1] = (12, 15, str(tmp_path / "log"))
    with pytest.raises(DataError, match=r"^squares.txt, line 13: unlucky. Choose another number.$") as caught:
        build(source, cache_dir=tmp_path / "cache", num_proc=num_proc)
    assert type(caught.value) is DataError
    assert files(tmp_path / "cache") == []


def test_a_failure_leaves_the_caches_of_others_alone(tmp_path):
    good = build(squares(tmp_path), cache_dir=tmp_path / "cache")
    (tmp_path / "cache" / "other.lock").touch()
    before = sorted(tmp_path.glob("cache/**/*"))
    with pytest.raises(DataError):
        build(squares(tmp_path, fingerprint="b", test=(13, 14)), cache_dir=tmp_path / "cache")
    assert set(before) < set(tmp_path.glob("cache/**/*"))
    assert files(tmp_path / "cache") == [path for path in before if path in files(tmp_path / "cache")]
    assert good["test"]["row"][:] == [9, 10]


def test_other_errors_leave_no_table_behind_either(tmp_path):
    source = replace(squares(tmp_path), read=lambda shard: 1 / 0)
    with pytest.raises(datasets.exceptions.DatasetGenerationError):
        build(source, cache_dir=tmp_path / "cache")
    assert files(tmp_path / "cache") == []


@pytest.mark.parametrize(("test", "told"), [((9, 11), "[9, 10]"), ((13, 14), "line 13: unlucky")])
def test_three_processes_at_once_all_have_the_tables_or_say_what_is_wrong(tmp_path, test, told):
    fork = multiprocessing.get_context("fork")
    together, said = fork.Barrier(3), fork.Queue()

    def load():
        together.wait()
        try:
            said.put(str(build(squares(tmp_path, test=test), cache_dir=tmp_path / "cache")["test"]["row"][:]))
        except Exception as error:
            said.put(f"{type(error).__name__}: {error}")

    processes = [fork.Process(target=load) for _ in range(3)]
    for process in processes:
        process.start()
    answers = [said.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert [told in answer for answer in answers] == [True] * 3, answers
    if told.startswith("["):
        assert len(read_log(tmp_path)) == 9  # one has read, and the others have waited


def truncate(path):
    path.write_bytes(path.read_bytes()[:-200])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip, lambda path: path.write_bytes(b""), lambda path: path.unlink()])
@pytest.mark.parametrize("name", ["squares-train.arrow", "dataset_info.json", "checksums.json"])
def test_a_damaged_cache_is_written_anew(tmp_path, damage, name, caplog):
    if (damage, name) == (flip, "dataset_info.json"):
        pytest.skip("a flipped bit may leave it as good as it was")
    before = content_fingerprint(build(squares(tmp_path), cache_dir=tmp_path / "cache")["train"])
    (path,) = tmp_path.glob(f"cache/**/{name}")
    damage(path)
    assert content_fingerprint(build(squares(tmp_path), cache_dir=tmp_path / "cache")["train"]) == before
    assert len(read_log(tmp_path)) == 18
    assert "its tables are written anew" in caplog.text


def test_a_damaged_cache_of_chosen_classes_is_written_anew(tmp_path):
    def chosen():
        sizes = {"train": 14, "validation": 7, "test": 7}
        return load_dataset("synthetic", **sizes, exclude=["fear"], cache_dir=tmp_path / "cache")["train"]

    before = content_fingerprint(chosen())
    for path in tmp_path.glob("cache/**/cache-*.arrow"):
        truncate(path)
    assert content_fingerprint(chosen()) == before


def test_a_cache_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot be written to .*file/cache \(Not a directory\). Make room there, or"):
        build(squares(tmp_path), cache_dir=tmp_path / "file" / "cache")


@pytest.mark.parametrize("num_proc", [None, 2])
def test_a_full_disk_is_named_and_no_table_is_left(tmp_path, num_proc):
    # Nearly so: no file may grow above a size.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    try:
        with pytest.raises(DataError, match=r"cannot be written to .*cache \(File too large\)") as caught:
            build(squares(tmp_path), cache_dir=tmp_path / "cache", num_proc=num_proc)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert files(tmp_path / "cache") == []


def test_a_number_of_processes_below_one_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"`num_proc` must be at least 1, .* got 0"):
        build(squares(tmp_path), cache_dir=tmp_path / "cache", num_proc=0)


@pytest.mark.parametrize("disabled", [False, True])
def test_progress_is_shown_on_stderr_unless_progress_bars_are_disabled(tmp_path, capfd, monkeypatch, disabled):
    # Not through datasets.enable_progress_bars(): the suite disables them by environment variable, which wins.
    monkeypatch.setattr(sys.modules["datasets.utils.tqdm"], "_hf_datasets_progress_bars_disabled", disabled)
    bar = sys.modules["datasets.utils.tqdm"].tqdm
    monkeypatch.setattr(bar, "__init__", partialmethod(bar.__init__, delay=0))  # recipes show no quick ones
    build(squares(tmp_path), cache_dir=tmp_path / "cache")
    out, err = capfd.readouterr()
    assert out == ""
    assert ("Generating train split" in err) != disabled
    assert disabled == (err == "")


def test_the_content_fingerprint_is_the_digest_of_labels_and_image_bytes(tmp_path):
    digest = hashlib.sha256()
    for row in range(5):
        content = encode_png(np.full((48, 48), row, dtype=np.uint8))
        digest.update(struct.pack("<qq", row, len(content)) + content)
    tables = build(squares(tmp_path), cache_dir=tmp_path / "cache")
    assert content_fingerprint(tables["train"]) == digest.hexdigest()


def test_the_content_fingerprint_follows_selected_rows_and_nothing_else(tmp_path):
    train = build(squares(tmp_path), cache_dir=tmp_path / "cache")["train"]
    elsewhere = build(squares(tmp_path, "b"), cache_dir=tmp_path / "elsewhere", num_proc=2)["train"]
    whole = content_fingerprint(train)
    assert content_fingerprint(elsewhere) == whole
    assert content_fingerprint(train.select([4, 3, 2, 1, 0]).select([4, 3, 2, 1, 0])) == whole
    assert content_fingerprint(train.with_transform(lambda batch: batch).remove_columns("row")) == whole
    others = [train.select([1, 0, 2, 3, 4]), train.select(range(4)), train.select([0, 1, 2, 3, 3]), train.select([])]
    assert len({whole, *map(content_fingerprint, others)}) == 5
    parts = datasets.concatenate_datasets([train.select([0, 2]), train.select(range(2, 5))])
    assert content_fingerprint(parts) == content_fingerprint(train.select([0, 2, 2, 3, 4]))


def test_the_content_fingerprint_refuses_images_outside_of_the_table():
    table = datasets.Dataset.from_dict({"image": [{"bytes": None, "path": "face.png"}], "label": [0]})
    with pytest.raises(ValueError, match="`dataset` holds images as paths only"):
        content_fingerprint(table.cast_column("image", datasets.Image()))
