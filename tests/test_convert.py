"""Data sets as folders of Parquet files: what others read of them, and that nothing half-written is left."""

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from fer_hf.cli.main import main
from fer_hf.data import content_fingerprint, load_dataset
from fer_hf.data import convert as convert_module
from fer_hf.data.builder import stream
from fer_hf.data.convert import convert
from fer_hf.data.images import png
from fer_hf.data.source import Source, face_features, face_tables
from fer_hf.errors import BadInputError, DataError
from fer_hf.labels import EXPRESSIONS


OPTIONS = '{"train": 21, "validation": 7, "test": 14}'
FACTS = {"title": "Noise", "about": "Generated.", "terms": "None."}


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A folder that the command has written."""
    folder = tmp_path_factory.mktemp("converted") / "new" / "faces"
    assert main(["convert", "--dataset_options", OPTIONS, "--output_dir", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return load_dataset("synthetic", train=21, validation=7, test=14, cache_dir=tmp_path_factory.mktemp("cache"))


def read_noise(shard):
    """A shard is a seed and a number of faces; at -1 it is damaged."""
    seed, count = shard
    if count < 0:
        raise DataError("a damaged file")
    rng = np.random.default_rng(seed)
    faces = ({"image": png(rng.integers(0, 256, (8, 8), np.uint8)), "label": i % 7, "row": i} for i in range(count))
    yield from face_tables(faces)


def noise(*shards):
    return stream(Source("noise", "0", face_features(), {"train": list(shards), "test": [(9, 7)]}, read_noise))


def test_datasets_reads_the_folder_as_it_was(converted, tables, tmp_path):
    # What the stock run_image_classification.py does, too: splits by name, then the names of a ClassLabel.
    loaded = datasets.load_dataset(str(converted), cache_dir=str(tmp_path))
    assert loaded.num_rows == {"train": 21, "validation": 7, "test": 14}
    for split, table in loaded.items():
        assert table.features == tables[split].features
        assert table.features["label"].names == list(EXPRESSIONS)
        assert content_fingerprint(table) == content_fingerprint(tables[split])
        assert table["row"][:] == tables[split]["row"][:]
    assert loaded["test"][3]["image"] == tables["test"][3]["image"]


def test_our_loader_reads_the_folder_as_a_data_set_of_the_hub(converted, tables, tmp_path):
    loaded = load_dataset(f"hub:{converted}", cache_dir=tmp_path)
    for split, table in tables.items():
        assert content_fingerprint(loaded[split]) == content_fingerprint(table)


def test_the_card_tells_splits_counts_labels_terms_fingerprints_and_the_audit(converted, tables):
    card = (converted / "README.md").read_text()
    header = yaml.safe_load(card.split("---\n")[1])
    files = header["configs"][0]["data_files"]
    assert {entry["split"]: entry["path"] for entry in files} == {split: f"data/{split}-*" for split in tables}
    assert "| train | 3 | 3 | 3 | 3 | 3 | 3 | 3 | 21 |" in card
    assert "0 angry, 1 disgust, 2 fear, 3 happy, 4 sad, 5 surprise, 6 neutral" in card
    assert "drawings are made by fer_hf itself" in card
    for split, table in tables.items():
        assert f"- {split}: `{content_fingerprint(table)}`" in card
    assert "faces of test are also in train" in card


def test_a_card_names_the_licence_that_is_known(tmp_path):
    convert(noise((0, 14)), tmp_path / "noise", "noise", {**FACTS, "license": {"license": "other"}})
    assert yaml.safe_load((tmp_path / "noise/README.md").read_text().split("---\n")[1])["license"] == "other"


@pytest.mark.parametrize("option", ['"exclude": ["disgust"]', '"deduplicate": "train"'])
def test_options_of_the_loader_are_those_of_other_commands(tmp_path, option):
    options = f"{OPTIONS[:-1]}, {option}}}"
    assert main(["convert", "--dataset_options", options, "--output_dir", str(tmp_path / "faces")]) == 0
    table = datasets.load_dataset(str(tmp_path / "faces"), cache_dir=str(tmp_path / "cache"))["train"]
    assert len(table) == (18 if "exclude" in option else 21)
    assert ("disgust" in table.features["label"].names) == ("exclude" not in option)


def test_a_folder_of_parquet_files_is_converted_again_to_the_same(converted, tables, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    assert main(["convert", "--dataset", f"hub:{converted}", "--output_dir", str(tmp_path / "again")]) == 0
    card = (tmp_path / "again/README.md").read_text()
    assert all(content_fingerprint(table) in card for table in tables.values())


def test_large_splits_become_shards_and_larger_sets_are_not_audited(tmp_path, monkeypatch):
    monkeypatch.setattr(convert_module, "SHARD_BYTES", 50_000)
    monkeypatch.setattr(convert_module, "MAX_AUDITED", 1000)
    result = convert(noise((0, 700), (1, 900)), tmp_path / "noise", "noise", FACTS)
    written = sorted(path.name for path in (tmp_path / "noise/data").iterdir())
    assert written == sorted(file.removeprefix("data/") for file in result["files"])
    assert written[0] == "test-00000-of-00001.parquet"
    assert len(written) > 2
    assert written[-1] == f"train-{len(written) - 2:05}-of-{len(written) - 1:05}.parquet"
    assert all(pq.ParquetFile(path).metadata.row_group(0).num_rows <= 500 for path in tmp_path.glob("noise/data/*"))
    table = datasets.load_dataset(str(tmp_path / "noise"), cache_dir=str(tmp_path / "cache"))["train"]
    assert len(table) == 1600
    assert content_fingerprint(table) == result["fingerprints"]["train"]
    assert "Not audited: 1,607 faces" in (tmp_path / "noise/README.md").read_text()


def test_of_a_damaged_data_set_nothing_is_left(tmp_path):
    with pytest.raises(DataError, match="a damaged file"):
        convert(noise((0, 700), (0, -1)), tmp_path / "a" / "b" / "noise", "noise", FACTS)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="a damaged file"):
        convert(noise((0, -1)), tmp_path / "empty", "noise", FACTS)
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_nothing_is_overwritten(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    for target in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(BadInputError, match="nothing is overwritten"):
            convert(noise((0, 7)), target, "noise", FACTS)
    assert main(["convert", "--output_dir", str(tmp_path)]) == 2
    assert "holds files" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "empty").mkdir()
    convert(noise((0, 14)), tmp_path / "empty", "noise", FACTS)
    assert {path.name for path in (tmp_path / "empty").iterdir()} == {"data", "README.md"}
