"""The audit finds what was planted in drawn faces, and on the real FER-2013 what is known of it."""

import io
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from PIL import Image, ImageFilter, ImageOps

from fer_hf.cli import main as cli
from fer_hf.data.audit import audit
from fer_hf.data.audit_report import audit_text, write_audit
from fer_hf.data.copies import leaked_rows, pixel_hashes
from fer_hf.data.correlation import best_correlations
from fer_hf.data.published import PUBLISHED
from fer_hf.data.source import face_features
from fer_hf.errors import DataError


def encoded(image, kind="PNG"):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def table(images, labels=None, kind="PNG"):
    images = [Image.fromarray(image) if isinstance(image, np.ndarray) else image for image in images]
    columns = {
        "image": [{"bytes": encoded(image, kind), "path": None} for image in images],
        "label": labels or [0] * len(images),
        "row": [100 + number for number in range(len(images))],
    }
    return Dataset.from_dict(columns, features=face_features())


@pytest.fixture(scope="module")
def drawn(drawn_faces):
    """84 distinct drawn faces, `(84, 48, 48)`."""
    return np.stack([np.asarray(face) for split in ("train", "validation") for face in drawn_faces[split]["image"]])


# Hashes


def test_a_hash_is_of_pixels_and_not_of_bytes(drawn):
    face = Image.fromarray(drawn[0])
    stored = [table([face]), table([face], kind="BMP"), table([face.convert("RGB")]), table([face.convert("RGBA")])]
    assert len({pixel_hashes(faces)[0] for faces in stored}) == 1

    jpeg = table([face], kind="JPEG")
    assert pixel_hashes(jpeg)[0] != pixel_hashes(stored[0])[0]
    assert pixel_hashes(jpeg)[0] == pixel_hashes(table([jpeg[0]["image"]]))[0]


def test_a_hash_changes_with_one_pixel_and_with_the_shape(drawn):
    changed = drawn[0].copy()
    changed[47, 47] ^= 1
    images = [drawn[0], changed, np.zeros((8, 2), np.uint8), np.zeros((4, 4), np.uint8), np.zeros((2, 8), np.uint8)]
    assert len(set(pixel_hashes(table(images)))) == len(images)


def test_hashes_follow_the_order_of_a_selection(drawn):
    faces = table(drawn[:5])
    np.testing.assert_array_equal(pixel_hashes(faces.select([3, 1])), pixel_hashes(faces)[[3, 1]])


def test_leaked_rows_are_those_with_an_identical_face_in_train(drawn):
    faces = DatasetDict(
        train=table(drawn[:20]), validation=table(drawn[[30, 3, 31]]), test=table([drawn[0], drawn[0], drawn[40] // 2])
    )
    leaked = leaked_rows(faces)
    assert leaked["validation"].tolist() == [False, True, False]
    assert leaked["test"].tolist() == [True, True, False]
    assert list(leaked_rows(DatasetDict(train=faces["train"], test=faces["test"]))) == ["test"]


# Near copies


@pytest.mark.numeric
def test_the_screen_misses_no_near_copy(drawn):
    noise = np.random.default_rng(0).normal(0, 25, (40, 48, 48))
    near = np.clip(drawn[:40] + noise, 0, 255).astype(np.uint8)
    near[0], others = 7, np.concatenate([drawn, np.full((1, 48, 48), 9, np.uint8)])
    with np.errstate(invalid="ignore"):
        every = np.nan_to_num(np.corrcoef(near.reshape(40, -1), others.reshape(85, -1))[:40, 40:]).max(axis=1)
    for least in (0.5, 0.9, 0.95):
        expected = np.where(every >= least, every, 0)
        np.testing.assert_allclose(best_correlations(near, others, least), expected, atol=1e-6)
    assert 0 < (every >= 0.9).sum() < 40


# The audit


@pytest.fixture(scope="module")
def planted(drawn):
    """
    Train holds face 0 three times (angry, angry, fear), face 1 twice (both fear) and three flat faces, one of them
    not constant. Validation has face 0 as happy; test face 1 as fear, and face 2 darker, which is a near copy.
    """
    almost_flat = np.full((48, 48), 90, np.uint8)
    almost_flat[::2] += 1
    flat = [np.full((48, 48), 5, np.uint8), np.full((48, 48), 250, np.uint8), almost_flat]
    train = [*drawn[:30], drawn[0], drawn[0], drawn[1], *flat]
    labels = [0, 2, *[3] * 28, 0, 2, 2, 6, 6, 6]
    return DatasetDict(
        train=table(train, labels),
        validation=table([*drawn[30:40], drawn[0]], [*[4] * 10, 3]),
        test=table([*drawn[40:50], drawn[1], drawn[2] // 2], [*[5] * 10, 2, 0]),
    )


@pytest.fixture(scope="module")
def found(planted):
    return audit(planted, "planted")


def test_the_audit_counts(found):
    assert found["num_rows"] == {"train": 36, "validation": 11, "test": 12}
    assert list(found["counts"]["train"].values()) == [2, 0, 3, 28, 0, 0, 3]
    assert (found["num_faces"], found["num_distinct"]) == (59, 54)
    assert found["published"] is None


def test_the_audit_finds_copies_and_leaks(found):
    within = {"train": 3, "validation": 0, "test": 0}
    expected = {"num_groups": 2, "num_redundant": 5, "largest_group": 4, "redundant_within": within}
    assert found["duplicates"] == expected
    leaks = {pair: (leak["num_faces"], leak["same_label"]) for pair, leak in found["leaks"].items()}
    assert leaks == {"validation_in_train": (1, 0), "test_in_train": (1, 1), "test_in_validation": (0, 0)}
    assert found["leaks"]["validation_in_train"]["by_class"]["happy"] == 1


def test_the_audit_finds_conflicts(found):
    assert (found["conflicts"]["num_groups"], found["conflicts"]["num_faces"]) == (1, 4)
    assert found["conflicts"]["groups"] == [
        [
            {"split": "train", "index": 0, "row": 100, "label": "angry"},
            {"split": "train", "index": 30, "row": 130, "label": "angry"},
            {"split": "train", "index": 31, "row": 131, "label": "fear"},
            {"split": "validation", "index": 10, "row": 110, "label": "happy"},
        ]
    ]


def test_the_audit_finds_near_copies(found):
    # Drawn faces are more alike than real ones, so only the ones planted are looked at.
    assert found["near_copies"]["test_in_train"]["0.99"] == 2
    assert found["near_copies"]["validation_in_train"]["0.99"] == 1


def test_the_audit_finds_flat_faces(found):
    assert (found["flat"]["num_faces"], found["flat"]["num_constant"]) == (3, 2)
    assert [face["index"] for face in found["flat"]["faces"]] == [33, 34, 35]


def test_a_face_of_one_colour_is_flat():
    red = Image.new("RGB", (48, 48), (200, 10, 10))
    result = audit(DatasetDict(train=table([red])), "planted")
    assert result["flat"]["num_constant"] == 1
    assert result["images"]["num_colour"] == 1


def test_the_audit_finds_faces_of_another_size_or_mode(drawn):
    face = Image.fromarray(drawn[0])
    faces = table([*drawn[:5], face.resize((32, 40)), face.convert("RGB")])
    found = audit(DatasetDict(train=faces), "planted")["images"]
    assert found["sizes"] == {"48x48": 6, "32x40": 1}
    assert found["modes"] == {"L": 6, "RGB": 1}
    assert (found["num_outliers"], found["num_colour"]) == (2, 0)
    assert [(face["index"], face["size"], face["mode"]) for face in found["outliers"]] == [
        (5, "32x40", "L"),
        (6, "48x48", "RGB"),
    ]


def test_the_audit_marks_classes_without_a_face(found, drawn):
    assert found["empty_classes"]["train"] == ["disgust", "sad", "surprise"]
    assert (
        "!!  classes      without a face: train disgust; train sad; train surprise; validation angry;"
        in audit_text(found)
    )
    faces = DatasetDict(train=table(drawn[:7], list(range(7))), unlabelled=table(drawn[7:9]).remove_columns("label"))
    assert audit(faces, "planted")["empty_classes"] == {}


def test_the_audit_marks_faces_of_16_bits_and_looks_at_them_as_at_8(drawn):
    deep = [face.astype(np.uint16) * 257 for face in drawn[:7]]
    result = audit(DatasetDict(train=table([*drawn[:7], *deep])), "planted")
    assert (result["images"]["num_16_bit"], result["images"]["num_above_255"]) == (7, 7)
    assert "7 have 16 bits, 7 of them values above 255" in audit_text(result)
    near = audit(DatasetDict(train=table(drawn[:7]), test=table(deep)), "planted")["near_copies"]
    assert near["test_in_train"]["0.99"] == 7


def test_a_damaged_image_is_named_by_split_and_row(drawn):
    good, broken = encoded(Image.fromarray(drawn[0])), encoded(Image.fromarray(drawn[1]))[:900]
    images = [{"bytes": content, "path": None} for content in (good, broken)]
    faces = Dataset.from_dict({"image": images, "label": [0, 1], "row": [7, 9]}, features=face_features())
    with pytest.raises(DataError, match=r"^train, row 9: not a readable image \(image file is truncated"):
        audit(DatasetDict(train=faces), "planted")


def test_every_finding_says_whether_all_is_well(found, drawn):
    bad = {finding["check"] for finding in found["findings"] if not finding["ok"]}
    assert bad == {"classes", "leaks", "near copies", "copies", "conflicts", "flat"}
    text = audit_text(found)
    assert "!!  leaks        1 of 12 faces of test are also in train" in text
    assert max(map(len, text.splitlines())) < 130
    clean = audit(DatasetDict(train=table(drawn, [number % 7 for number in range(len(drawn))])), "clean")
    assert all(finding["ok"] for finding in clean["findings"])


def test_a_split_without_labels_is_looked_at_too(drawn):
    faces = DatasetDict(train=table(drawn[:9]), unlabelled=table([*drawn[9:12], drawn[0]]).remove_columns("label"))
    result = audit(faces, "planted")
    assert result["num_rows"] == {"train": 9, "unlabelled": 4}
    assert sum(result["counts"]["unlabelled"].values()) == 0
    assert result["duplicates"]["num_redundant"] == 1
    assert result["conflicts"]["num_groups"] == 0
    assert "unlabelled" in audit_text(result)


def test_an_audit_needs_labelled_faces_in_train(drawn):
    faces = table(drawn[:3])
    with pytest.raises(DataError, match="'train', found test"):
        audit(DatasetDict(test=faces), "planted")
    with pytest.raises(DataError, match="no column 'image'"):
        audit(DatasetDict(train=faces.remove_columns("image")), "planted")
    with pytest.raises(DataError, match="must be a ClassLabel"):
        audit(DatasetDict(train=faces.remove_columns("label")), "planted")


# Published counts and bad mirrors


def test_published_counts_add_up():
    totals = {name: {s: sum(c.values()) for s, c in known["counts"].items()} for name, known in PUBLISHED.items()}
    assert totals["fer2013"] == {"train": 28_709, "validation": 3_589, "test": 3_589}
    assert totals["rafdb"] == {"train": 12_271, "test": 3_068}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_card_of_a_data_set_has_the_published_counts(name):
    card = (Path(__file__).parents[1] / "model_cards" / "data_sets" / f"{name}.md").read_text(encoding="utf-8")
    names, *rows = (
        [cell.strip(" `").replace(",", "") for cell in line.split("|")[1:-1]]
        for line in card.splitlines()
        if re.match(r"\| (split|`?(train|validation|test)\b)", line)
    )
    found = {row[0].split()[0]: dict(zip(names[1:], row[1:], strict=True)) for row in rows}
    for split, counts in PUBLISHED[name]["counts"].items():
        assert {expression: int(found[split][expression]) for expression in counts} == counts
        assert int(found[split][names[-1]]) == sum(counts.values())


def test_differences_from_published_counts_are_named(drawn, monkeypatch):
    faces = DatasetDict(train=table(drawn[:3], [0, 0, 3]), test=table(drawn[3:5], [3, 4]))
    known = {"source": "a paper", "counts": {"train": {"angry": 2, "happy": 1}, "test": {"happy": 2}}}
    monkeypatch.setitem(PUBLISHED, "planted", known)
    published = audit(faces, "planted")["published"]
    assert published["differences"] == [
        {"split": "test", "class": "happy", "found": 1, "published": 2},
        {"split": "test", "class": "sad", "found": 1, "published": 0},
    ]
    known["counts"]["test"] = {"happy": 1, "sad": 1}
    assert audit(faces, "planted")["published"] == {"source": "a paper", "agrees": True, "differences": []}


def test_a_validation_split_that_was_carved_counts_as_train(drawn, monkeypatch):
    faces = DatasetDict(train=table(drawn[:2], [0, 3]), validation=table(drawn[2:3], [3]))
    monkeypatch.setitem(PUBLISHED, "planted", {"source": "a paper", "counts": {"train": {"angry": 1, "happy": 2}}})
    assert audit(faces, "planted")["published"]["agrees"]


MIRRORS = {
    "untouched": (lambda image: image, []),
    "blurred": (lambda image: image.filter(ImageFilter.GaussianBlur(1)), ["blurred, or enlarged from a smaller copy"]),
    "equalised": (ImageOps.equalize, ["histogram-equalised"]),
    "stretched": (ImageOps.autocontrast, ["contrast stretched face by face"]),
    "rescaled": (lambda image: image.point(lambda level: level // 2), ["rescaled to 0..127"]),
    "inverted": (ImageOps.invert, ["changed in a way that leaves no known sign"]),
    "coloured": (lambda image: ImageOps.colorize(image, "black", "white", mid="#907f70"), ["coloured"]),
}


@pytest.mark.parametrize("mirror", MIRRORS)
def test_a_bad_mirror_is_called_what_it_is(mirror, drawn, monkeypatch):
    process, signs = MIRRORS[mirror]
    drawn = drawn.copy()
    drawn[0, 0, :2] = 0, 255  # some face of a large set reaches both ends of the scale
    expected = audit(DatasetDict(train=table(drawn)), "drawn")["pixels"]
    monkeypatch.setitem(PUBLISHED, "drawn", {"source": "-", "counts": {}, "size": "48x48", "pixels": expected})
    found = audit(DatasetDict(train=table([process(Image.fromarray(face)) for face in drawn])), "drawn")
    assert found["pixels"]["mirror"] == signs
    assert [finding["ok"] for finding in found["findings"] if finding["check"] == "pixels"] == [not signs]


def test_another_choice_of_faces_is_not_called_a_mirror(drawn, monkeypatch):
    expected = audit(DatasetDict(train=table(drawn)), "drawn")["pixels"]
    known = {"source": "-", "counts": {"train": {"angry": len(drawn)}}, "pixels": expected}
    monkeypatch.setitem(PUBLISHED, "drawn", known)
    dark = sorted(drawn, key=np.mean)[:60]
    found = audit(DatasetDict(train=table([np.array([[0, 255]] * 2, np.uint8), *dark])), "drawn")
    assert found["pixels"]["mirror"] == ["made of other faces, see the counts"]


def test_an_enlarged_mirror_is_told_by_its_size(drawn, monkeypatch):
    monkeypatch.setitem(PUBLISHED, "drawn", {"source": "-", "counts": {}, "size": "48x48"})
    large = [Image.fromarray(face).resize((200, 200)) for face in drawn[:3]]
    assert audit(DatasetDict(train=table(large)), "drawn")["pixels"]["mirror"] == ["resized from 48x48 to 200x200"]


# The command


def test_the_audit_is_written_as_json_and_pictures(planted, found, tmp_path):
    paths = write_audit(found, planted, tmp_path / "new" / "report")
    assert [path.name for path in paths] == ["audit.json", "class_balance.png", "samples.png", "conflicts.png"]
    assert sorted(os.listdir(tmp_path / "new" / "report")) == sorted(path.name for path in paths)
    assert json.loads(paths[0].read_text()) == found
    for path in paths[1:]:
        with Image.open(path) as picture:
            assert np.asarray(picture.convert("L")).std() > 10


def test_fer_hf_audit_prints_and_writes(tmp_path, capsys, monkeypatch):
    calls = []
    monkeypatch.setattr("datasets.disable_progress_bars", lambda: calls.append("silent"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    options = json.dumps({"train": 20, "validation": 10, "test": 10})
    command = ["audit", "--dataset_options", options, "--output_dir", str(tmp_path / "report")]
    assert cli.main([*command, "--disable_tqdm"]) == 0
    assert calls == ["silent"]
    printed = capsys.readouterr().out
    assert "synthetic: 40 faces, 40 distinct" in printed
    assert str(tmp_path / "report" / "audit.json") in printed
    # No conflicts, so no picture of them.
    assert sorted(os.listdir(tmp_path / "report")) == ["audit.json", "class_balance.png", "samples.png"]


@pytest.mark.parametrize("words", [["faces"], ["audit"], ["convert", "--output_dir", "tables"]])
def test_commands_say_that_a_split_was_carved(tmp_path, monkeypatch, caplog, words, drawn):
    for label in ("happy", "sad"):
        (tmp_path / "faces" / "train" / label).mkdir(parents=True)
        for number, face in enumerate(drawn[:10]):
            Image.fromarray(face).save(tmp_path / "faces" / "train" / label / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    assert cli.main([*words, "--dataset", "imagefolder", "--data_dir", "faces"]) == 0
    assert "2 of 20 training faces are taken out for validation, stratified, seed 42" in caplog.text


# The real data


def test_the_audit_of_the_real_data(real_fer2013):
    result = audit(real_fer2013, "fer2013")
    assert (result["num_faces"], result["num_distinct"]) == (35_887, 34_036)
    assert result["published"]["agrees"]
    leaks = {pair: leak["num_faces"] for pair, leak in result["leaks"].items()}
    assert leaks == {"test_in_train": 288, "validation_in_train": 280, "test_in_validation": 44}
    by_class = {"surprise": 118, "disgust": 16, "fear": 47, "angry": 37, "happy": 28, "neutral": 25, "sad": 17}
    assert result["leaks"]["test_in_train"]["by_class"] == by_class
    duplicates = result["duplicates"]
    assert (duplicates["num_redundant"], duplicates["num_groups"], duplicates["largest_group"]) == (1851, 1514, 12)
    assert (result["conflicts"]["num_groups"], result["conflicts"]["num_faces"]) == (57, 160)
    assert (result["flat"]["num_faces"], result["flat"]["num_constant"]) == (13, 12)
    assert result["near_copies"]["test_in_train"] == {"0.99": 310, "0.95": 394, "0.90": 514}
    assert (result["pixels"]["mean"], result["pixels"]["std"]) == (0.5077, 0.2550)
    assert result["pixels"]["mirror"] == []
    assert result["images"]["num_outliers"] == 0


@pytest.mark.parametrize("mirror", ["blurred", "equalised", "stretched", "rescaled", "coloured"])
def test_processed_copies_of_the_real_data_are_recognised(mirror, real_fer2013):
    process, signs = MIRRORS[mirror]
    faces = table([process(image) for image in real_fer2013["train"].select(range(500))["image"]])
    assert audit(DatasetDict(train=faces), "fer2013")["pixels"]["mirror"] == signs


def test_leaked_rows_of_the_real_data(real_fer2013):
    assert {split: int(mask.sum()) for split, mask in leaked_rows(real_fer2013).items()} == {
        "validation": 280,
        "test": 288,
    }
