"""
Every reader of files from outside takes any bytes: it reads them, or refuses them in one line.

The files are right ones with random damage, the same in every run. By hand, for so many seconds a reader and with
another seed: `FER_HF_FUZZ=1200 FER_HF_FUZZ_SEED=1 pytest tests/test_fuzz.py -s`.
"""

import copy
import hashlib
import io
import json
import os
import time

import numpy as np
import pytest
from PIL import Image
from run_records import run_record

from fer_hf.cli.fine_tuning import FLAGS
from fer_hf.cli.parsing import parse_arguments
from fer_hf.data import fer2013_csv, rafdb_files
from fer_hf.data.images import encoded_image, read_bytes
from fer_hf.errors import BadInputError
from fer_hf.evaluation.report import expression_report
from fer_hf.inference.photos import load_photo
from fer_hf.labels import EXPRESSIONS
from fer_hf.runs.card import render_model_card
from fer_hf.runs.run import Run
from fer_hf.runs.shapes import RunDirectoryError


SECONDS, SEED = float(os.environ.get("FER_HF_FUZZ", 0)), int(os.environ.get("FER_HF_FUZZ_SEED", 0))
WORDS = [
    b"", b",", b'"', b"'", b"\n", b"\r", b"\t", b" ", b"\0", b":", b"- ", b"{", b"[", b"]", b"-1", b"0", b"7", b"nan",
    b"1e999", b"null", b"true", b"1" * 400, b"\xef\xbb\xbf", b"\xff\xfe", "é\u2028".encode(), b"&a ", b"*a ",
    b"!!python/",
]  # fmt: skip
VALUES = [None, True, -1, 0, 7, 1e308, float("nan"), "", "x", "é\n|`{{7*7}}", [], [1, "a", None], {}, {"x": {"y": []}}]


def damaged(content: bytes, random: np.random.Generator) -> bytes:
    """The content with one to five bits, words or stretches changed, put in, left out, or swapped."""
    for _ in range(random.integers(1, 6)):
        start, end = sorted(random.integers(0, len(content) + 1, 2))
        near = min(end, start + random.integers(1, 9))
        word = WORDS[random.integers(len(WORDS))]
        flipped = bytes(byte ^ (1 << random.integers(8)) for byte in content[start:near])
        content = [
            content[:start] + flipped + content[near:],
            content[:start] + word + content[start:],
            content[:start] + word + content[near:],
            content[:start] + content[near:],
            content[:start] + content[end:],
            content[:end] + content[start:],
        ][random.integers(6)]
    return content


def with_other_values(content: dict, random: np.random.Generator) -> dict:
    """A map of JSON in which one to three values, at any depth, are others or gone."""
    content = json.loads(json.dumps(content))
    for _ in range(random.integers(1, 4)):
        place = content
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = keys[random.integers(len(keys))]
            if isinstance(place[key], dict | list) and random.random() < 0.8:
                place = place[key]
            elif random.random() < 0.2:
                del place[key]
                break
            else:
                place[key] = copy.deepcopy(VALUES[random.integers(len(VALUES))])
                break
    return content


def csv_files() -> list[bytes]:
    pixels = " ".join(map(str, np.random.default_rng(0).integers(0, 256, 2304)))
    usages = ("Training", "PublicTest", "PrivateTest")
    rows = [f"{label},{pixels},{usage}" for label, usage in enumerate(usages)]
    return [
        "\n".join(["emotion,pixels,Usage", *rows, ""]).encode(),
        "\r\n".join(["emotion,Usage,pixels", *(f'{n},{usages[n]},"{pixels}"' for n in range(3)), ""]).encode(),
    ]


def read_csv(path) -> None:
    for names in (("emotion", "pixels", "Usage"), ("emotion", "pixels"), ("pixels",)):
        read_any(lambda place, names=names: read_rows(place, names), path)


def read_rows(path, names) -> None:
    blocks, labels, _ = fer2013_csv.index_rows(path, names, hashlib.sha256())
    for shard in fer2013_csv.choose_rows(blocks, np.arange(len(labels)), labels):
        list(fer2013_csv.read_faces(shard))


LISTS = {
    b"train_00001.jpg 5\ntest_0002.jpg 7\ntrain_00003.jpg 1\n": rafdb_files.read_labels,
    b"image,label\ntrain_00001_aligned.jpg,5\n": rafdb_files.read_label_table,
    b"train_00001.jpg 1 0 0 0 3 4 0\ntest_0002.jpg .5 .5 0 0 0 0 0\n": rafdb_files.read_votes,
    b"10.5\t20\n" * 5 + b"0\n1\n2\n": rafdb_files.read_attributes,
    b"10.5\t20\n" * 37: rafdb_files.read_auto_landmarks,
    b"1 2 30.5 40\n": rafdb_files.read_box,
}


def read_list(path) -> None:
    for read in LISTS.values():
        read_any(read, path)


def images() -> list[bytes]:
    found, noise = [], Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 16, 3), dtype=np.uint8))
    for mode, kind in (
        ("RGB", "JPEG"), ("CMYK", "JPEG"), ("L", "PNG"), ("RGBA", "PNG"), ("P", "GIF"), ("RGB", "BMP"), ("L", "TIFF"),
        ("RGB", "WEBP"), ("RGB", "PPM"), ("1", "PNG"),
    ):  # fmt: skip
        noise.convert(mode).save(
            file := io.BytesIO(), kind, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0" if mode == "L" else b""
        )
        found.append(file.getvalue())
    return found


def read_image(path) -> None:
    read_any(lambda place: encoded_image(read_bytes(place), str(place)), path)
    load_photo(path)


def read_any(read, path) -> None:
    """Read a file; a complaint of ours is an answer."""
    complaint = ""
    try:
        read(path)
    except BadInputError as error:
        complaint = str(error)
    assert "\n" not in complaint


LABELS = np.arange(14) % len(EXPRESSIONS)
REPORT = expression_report(np.eye(len(EXPRESSIONS))[LABELS], LABELS, list(EXPRESSIONS))
RECORD = run_record(results={"validation": REPORT, "test": REPORT})
CONFIG = {
    "model_type": "vit",
    "id2label": dict(enumerate(EXPRESSIONS)),
    "architectures": ["ViTForImageClassification"],
}
PARTS = {
    "run_record.json": RECORD,
    "config.json": CONFIG,
    "preprocessor_config.json": {"size": {"height": 48, "width": 48}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
    "trainer_state.json": {"log_history": [{"loss": 1.0, "epoch": 1.0}, {"eval_loss": 2.0, "epoch": 1.0}]},
    "evaluation/a.json": {"dataset": "fer2013", "split": "test", "report": REPORT, "parts": {"a": {"report": REPORT}}},
}


def read_run(folder) -> None:
    run = Run(folder)
    for name in ("record", "config", "processor", "log_history", "evaluations"):
        read_any(lambda _, name=name: getattr(run, name), folder)
    render_model_card(run)


YAML = b"""# A run.
architecture: compact-cnn
dataset_name: synthetic
dataset_options: {"train": 14, "validation": 7}
num_train_epochs: 3
learning_rate: 1e-3
lr_scheduler_type: cosine
eval_strategy: "no"
bf16: auto
"""


def read_yaml(path) -> None:
    flags = ["--use_cpu", "--report_to", "none", "--output_dir", str(path.parent / "new")]
    parse_arguments(FLAGS, "train", path, ["--config", str(path), *flags])


def test_a_carriage_return_in_a_field_of_a_quoted_row_is_refused(tmp_path):  # found by the test below
    content = csv_files()[1].replace(b"0,Training", b"0\rx,Training")
    (tmp_path / "fer2013.csv").write_bytes(content)
    with pytest.raises(BadInputError, match=r"fer2013\.csv, line 2: the emotion is "):
        read_rows(tmp_path / "fer2013.csv", ("emotion", "pixels", "Usage"))


@pytest.mark.parametrize(
    ("flag", "digits", "message"),
    [
        ("num_train_epochs", 400, "`num_train_epochs` is too large a number, of more than 308 digits"),
        ("weight_decay", 400, "`weight_decay` is too large a number"),
        ("mixup_alpha", 400, "`mixup_alpha` is too large a number"),
        ("seed", 5000, "no YAML: Exceeds the limit"),
    ],
)
def test_a_number_too_large_for_any_training_is_refused(tmp_path, flag, digits, message):  # found by the test below
    (tmp_path / "run.yaml").write_bytes(YAML.replace(b"num_train_epochs: 3", f"{flag}: {'1' * digits}".encode()))
    with pytest.raises(BadInputError, match=f"run.yaml: {message}"):
        read_yaml(tmp_path / "run.yaml")


def test_labels_of_a_run_that_are_not_numbered_are_refused(tmp_path):  # found by the test below
    for name, content in (PARTS | {"config.json": {"model_type": "vit", "id2label": {"x": ""}}}).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(RunDirectoryError, match="`id2label` must number its labels, got 'x'"):
        render_model_card(Run(tmp_path))


def hold(read, make, path, count: int) -> None:
    """Read `count` damaged files, or as many as `SECONDS` allow."""
    random, done, began = np.random.default_rng(SEED), 0, time.monotonic()
    while done < count or time.monotonic() - began < SECONDS:
        made = make(random)
        try:
            read_any(read, path)
        except Exception as error:
            raise AssertionError(f"example {done} of seed {SEED}: {made!r:.2000}") from error
        done += 1
    print(f"\n{read.__name__}: {done:,} examples of seed {SEED} in {time.monotonic() - began:.0f} s")


@pytest.mark.parametrize(
    ("read", "right", "count"),
    [
        (read_csv, csv_files(), 100),
        (read_list, list(LISTS), 500),
        (read_image, images(), 500),
        (read_yaml, [YAML], 50),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_damaged_files_are_read_or_refused_in_one_line(read, right, count, tmp_path):
    for content in right:
        (tmp_path / "file").write_bytes(content)
        read_any(read, tmp_path / "file")

    def make(random):
        content = damaged(right[random.integers(len(right))], random)
        (tmp_path / "file").write_bytes(content)
        return content

    hold(read, make, tmp_path / "file", count)


def test_damaged_files_of_a_run_are_read_or_refused_in_one_line(tmp_path):
    (tmp_path / "evaluation").mkdir()
    for name, content in PARTS.items():
        (tmp_path / name).write_text(json.dumps(content))
    read_run(tmp_path)

    def make(random):
        for name, content in PARTS.items():
            (tmp_path / name).write_text(json.dumps(content))
        name = list(PARTS)[random.integers(len(PARTS))]
        if random.random() < 0.3:
            (tmp_path / name).write_bytes(damaged(json.dumps(PARTS[name]).encode(), random))
        else:
            (tmp_path / name).write_text(json.dumps(with_other_values(PARTS[name], random)))
        return name, (tmp_path / name).read_bytes()

    hold(read_run, make, tmp_path, 30)
