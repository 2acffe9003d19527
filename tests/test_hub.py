"""Cards, the list of files that may leave, and the whole way to a Hub on loopback and back."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import tiny_vit_config
from hub_server import Repo, running_hub
from huggingface_hub import EvalResult, HfApi, ModelCard, constants
from huggingface_hub.errors import RepositoryNotFoundError
from PIL import Image
from run_records import HOSTILE, change_record, run_record
from safetensors.numpy import load_file, save_file
from transformers import ViTForImageClassification, ViTImageProcessor

from fer_hf import MLPHeadConfig, MLPHeadForImageClassification
from fer_hf.cli.main import main
from fer_hf.data.published import PUBLISHED
from fer_hf.errors import BadInputError
from fer_hf.inference.browser import WEB
from fer_hf.inference.browser_runtime import FILES as RUNTIME_FILES
from fer_hf.labels import EXPRESSIONS
from fer_hf.runs.card import render_model_card, write_model_card
from fer_hf.runs.facts import DATASETS
from fer_hf.runs.gallery import add_to_gallery
from fer_hf.runs.publish import HubError, push, push_dataset
from fer_hf.runs.upload_files import RunDirectoryError, check_publishable, files_to_upload


ROOT = Path(__file__).parent.parent


def _report(right: list[int], wrong: int) -> dict:
    """A report in which class i has `right[i]` hits and `wrong` faces called the next class."""
    size = len(right)
    matrix = [[0] * size for _ in range(size)]
    for i, hits in enumerate(right):
        matrix[i][i], matrix[i][(i + 1) % size] = hits, wrong
    recalls = [hits / (hits + wrong) for hits in right]
    total = sum(right) + size * wrong
    per_class = {
        name: {"precision": recall, "recall": recall, "f1": recall, "support": hits + wrong}
        for name, hits, recall in zip(EXPRESSIONS, right, recalls, strict=True)
    }
    accuracy, mean = sum(right) / total, sum(recalls) / size
    scores = {"accuracy": accuracy, "macro_f1": mean - 0.01, "weighted_f1": mean + 0.01, "balanced_accuracy": mean}
    return scores | {"num_faces": total, "loss": 1.23456, "per_class": per_class, "confusion_matrix": matrix}


RECORD = run_record(
    results={"validation": _report([3, 1, 4, 1, 5, 9, 2], 6), "test": _report([31, 2, 17, 80, 43, 25, 60], 19)}
)
# No keys of anyone: the shapes alone. They are put together here, so that no scanner takes them for real ones.
KEYS = [
    start + "1aB" * count
    for start, count in (
        ("gh" + "p_", 12), ("github" + "_pat_", 12), ("gl" + "pat-", 8), ("sk" + "-ant-api03-", 12),
        ("sk" + "-proj-", 9), ("AIza" + "Sy", 11), ("xox" + "b-", 6), ("np" + "m_", 12), ("py" + "pi-", 20),
        ("s" + "k_live_", 8), ("wandb" + "_v1_", 10), ("eyJ" + "hbGciOiJIUzI1NiJ9.eyJ" + "zdWIiOiIxIn0.", 5),
    )
]  # fmt: skip
KEYS += ["AK" + "IA" + "ABCD" * 4, "-----BEGIN OPENSSH " + "PRIVATE KEY-----"]
STAYS = ("training_args.bin", "optimizer.pt", "trainer_state.json", "predictions.safetensors", "notes.txt", ".token")


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory) -> Path:
    """A tiny ViT and all that a run leaves beside it, for copying."""
    folder = tmp_path_factory.mktemp("runs") / "tiny-vit"
    ViTForImageClassification(tiny_vit_config()).save_pretrained(folder)
    ViTImageProcessor(size={"height": 48, "width": 48}).save_pretrained(folder)
    (folder / "run_record.json").write_text(json.dumps(RECORD))
    (folder / "test_report.json").write_text(json.dumps(RECORD["results"]["test"]))
    (folder / "all_results.json").write_text("{}")
    (folder / "confusion_matrix.png").write_bytes(b"\x89PNG picture")
    for name in (*STAYS, "helper.py"):
        (folder / name).write_text("no one else's business")
    (folder / "checkpoint-2").mkdir()
    shutil.copy(folder / "model.safetensors", folder / "checkpoint-2")
    return folder


@pytest.fixture
def run_dir(finished_run, tmp_path) -> Path:
    return shutil.copytree(finished_run, tmp_path / "runs" / "tiny-vit")


@pytest.fixture(scope="module")
def hub():
    with running_hub() as server:
        yield server


@pytest.fixture
def this_process_uses(hub, monkeypatch):
    """Points the client of this process at the server, whatever the environment said when it was imported."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "x")
    return hub


def _uploads(hub) -> int:
    return sum(line.startswith("PUT") for line in hub.log)


def _with_intervals(report: dict, width: float) -> dict:
    """The scores that have intervals, and those: as wide as `width` to either side."""
    scores = {name: report[name] for name in ("accuracy", "macro_f1", "balanced_accuracy")}
    intervals = {name: [value - width, value + width] for name, value in scores.items()}
    return {"num_faces": report["num_faces"], **scores, "intervals": intervals}


def _write_evaluation(run_dir: Path, **content) -> None:
    (run_dir / "evaluation").mkdir(exist_ok=True)
    entry = {"dataset": "rafdb", "split": "test", "tta": "flip", "report": _with_intervals(_report([9] * 7, 1), 0.01)}
    (run_dir / "evaluation" / "rafdb-test-flip.json").write_text(json.dumps(entry | content))


def _check_layout(card: ModelCard) -> None:
    """Nothing is left unfilled, blank lines come one at a time, and all rows of a table have as many cells."""
    for hole in ("{{", "{%", "None", "Undefined", "More information needed"):
        assert hole not in card.text
    assert not re.search(r"\n{4,}| +\n", card.text)
    tables = re.findall(r"(?:^\|.*\n)+", card.text, re.MULTILINE)
    assert tables
    for table in tables:
        cells = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
        assert len(cells) == 1, table


def test_a_card_says_that_a_run_was_resumed(run_dir):
    assert "12.5 minutes of training on" in render_model_card(run_dir).text
    change_record(run_dir, lambda record: record["runtime"].update(resumed_at_step=6496))
    told = "12.5 minutes of training (last resumed at step 6,496, at this commit from there on) on"
    assert told in render_model_card(run_dir).text
    commits = [{"from_step": 0, "commit": "abc"}, {"from_step": 6496, "commit": None}]
    change_record(run_dir, lambda record: record["runtime"].update(commits=commits))
    told = "(last resumed at step 6,496; its commits: `abc` from step 0, `unknown` from step 6,496) on"
    assert told in render_model_card(run_dir).text
    commits[1]["commit"] = "abc"
    change_record(run_dir, lambda record: record["runtime"].update(commits=commits))
    assert "(last resumed at step 6,496, all at this commit) on" in render_model_card(run_dir).text


def test_a_card_says_when_validation_reached_what(run_dir):
    assert "first reached" not in render_model_card(run_dir).text
    validations = [
        {"elapsed_seconds": 90.0, "accuracy": 0.61},
        {"elapsed_seconds": 180.0, "accuracy": 0.64},
    ]
    change_record(run_dir, lambda record: record.update(validations=validations))
    card = render_model_card(run_dir).text
    assert "| 50 % | 60 % | 63 % |\n|---:|---:|---:|\n| 1.5 | 1.5 | 3.0 |\n" in card


def test_every_number_of_a_card_is_the_records(run_dir):
    card = render_model_card(run_dir, "owner/tiny-vit")
    test, validation = RECORD["results"]["test"], RECORD["results"]["validation"]

    results = {(r.dataset_split, r.metric_name): r for r in card.data.eval_results}
    assert all(isinstance(r, EvalResult) and r.dataset_name == "FER-2013" for r in results.values())
    assert {key: r.metric_value for key, r in results.items()} == {
        ("validation", "Accuracy"): validation["accuracy"],
        ("test", "Accuracy"): test["accuracy"],
        ("test", "Macro F1"): test["macro_f1"],
        ("test", "Balanced accuracy"): test["balanced_accuracy"],
    }
    text = card.text
    for split, report in RECORD["results"].items():
        scores = ("accuracy", "macro_f1", "weighted_f1", "balanced_accuracy", "loss")
        cells = [split, str(report["num_faces"]), *(f"{report[key]:.4f}" for key in scores)]
        assert f"| {' | '.join(cells)} |\n" in text
    for i, name in enumerate(EXPRESSIONS):
        row = test["per_class"][name]
        assert f"| {i} | {name} |\n" in text
        assert (
            f"| {name} | {row['precision']:.4f} | {row['recall']:.4f} | {row['f1']:.4f} | {row['support']} |\n" in text
        )
        assert f"| **{name}** | {' | '.join(map(str, test['confusion_matrix'][i]))} |\n" in text
        assert f"| {name} | {1000 * i + 7:,} | {1000 * i + 7:,} |\n" in text
    for part in (
        "Seed 17",
        "`abc1234`",
        "12.5 minutes",
        "torch 2.15.0",
        "cpu_threads 2",
        "12,345 parameters",
        "0.5432",
    ):
        assert part in text
    assert RECORD["command"] in text
    assert "| learning_rate | 3e-05 |\n" in text
    assert "| 2 | vit.layers.1, vit.layernorm | 98,765 |\n" in text
    assert 'model="owner/tiny-vit", top_k=7)' in text


def test_names_have_no_effect_on_a_card_and_its_gallery(run_dir, tmp_path):
    _write_evaluation(run_dir)
    evaluation = json.loads((run_dir / "evaluation" / "rafdb-test-flip.json").read_text())
    changed = {**evaluation, "subgroups": {HOSTILE: {HOSTILE: evaluation["report"]}}, "dataset": HOSTILE}
    (run_dir / "evaluation" / "hostile.json").write_text(json.dumps(changed))
    for file in ("run_record.json", "config.json"):
        path = run_dir / file
        path.write_text(path.read_text().replace('"angry"', json.dumps(HOSTILE)))
    change_record(run_dir, lambda record: record["dataset"].update(name=HOSTILE))
    change_record(run_dir, lambda record: record["model"].update(name_or_path=HOSTILE, source="local"))
    card = ModelCard.load(write_model_card(run_dir))
    assert card.data.eval_results[0].dataset_name == HOSTILE
    shown = r"&lt;script&gt;alert(1)&lt;/script&gt;\|\[x\](http://a.b)\`&#123;&#123;7*7&#125;&#125;\\n# h\\x1b\[31m$"
    shown = shown.replace("7*7", r"7\*7")
    assert f"| 0 | {shown} |\n" in card.text
    assert f"on the\n{sum(map(sum, RECORD['results']['test']['confusion_matrix']))} faces" in card.text
    assert f"split of {shown}." in card.text
    add_to_gallery(run_dir, tmp_path / "cards", "owner/cards")
    for text in (card.text, (tmp_path / "cards" / "README.md").read_text()):
        assert shown in text
        assert not re.search(r"\n# h|\x1b", text)
        # In code nothing has an effect, but what ends it.
        plain = re.sub(r"(?<!\\)`[^`]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
        assert not re.search(r"<script|(?<!\\)\[x|\{\{", plain)


def test_a_test_on_a_sample_says_so_and_is_no_result(run_dir):
    faces = RECORD["results"]["test"]["num_faces"]
    change_record(run_dir, lambda record: record["training"].update(max_eval_samples=faces))
    card = render_model_card(run_dir)
    assert "**These faces are a sample of the split (`max_eval_samples`): this is no result" in card.text
    assert f"| test, a sample | {faces} |" in card.text
    # validation has fewer faces than that: all of them were scored
    assert {result.dataset_split for result in card.data.eval_results} == {"validation"}
    change_record(run_dir, lambda record: record["results"].pop("validation"))
    assert "model-index" not in render_model_card(run_dir).data.to_dict()
    change_record(run_dir, lambda record: record["training"].update(max_eval_samples=faces + 1))
    assert "a sample" not in render_model_card(run_dir).text


def test_a_card_is_whole(run_dir):
    card = ModelCard.load(write_model_card(run_dir))
    data = card.data.to_dict()

    assert (data["library_name"], data["pipeline_tag"], data["license"]) == (
        "transformers",
        "image-classification",
        "apache-2.0",
    )
    assert data["base_model"] == "google/vit-base-patch16-224-in21k"
    assert {(r["dataset"]["type"], r["dataset"]["split"]) for r in data["model-index"][0]["results"]} == {
        ("fer2013", "validation"),
        ("fer2013", "test"),
    }
    for part in ("Article 5(1)(f)", "pixel-identical", "confusion_matrix.png", "Goodfellow", "Dosovitskiy"):
        assert part in card.text
    for part in ("learning_curves.png", "trust_remote_code"):
        assert part not in card.text
    _check_layout(card)
    assert not list(run_dir.glob("*.partial"))


def test_a_card_names_the_challenges_splits_only_where_they_can_be_those(run_dir):
    published = {split: dict(counts) for split, counts in PUBLISHED["fer2013"]["counts"].items()}
    change_record(run_dir, lambda record: record["dataset"].update(counts=published))
    assert "Training, PublicTest and PrivateTest" in render_model_card(run_dir).text
    # 80/20 of train.csv, as reports divide it.
    published["test"]["happy"] += 5_742 - 3_589
    change_record(run_dir, lambda record: record["dataset"].update(counts=published))
    assert "The splits are not the published ones." in render_model_card(run_dir).text


def test_a_card_shows_what_was_scored_with_what_certainty_and_how_often(run_dir):
    test = RECORD["results"]["test"]
    few = _with_intervals(_report([5, 1, 2, 3, 4, 5, 6], 2), 0.05)

    def change(record):
        report = record["results"]["test"]
        report |= _with_intervals(report, 0.02) | {"expected_calibration_error": 0.0321, "without_copies": few}
        seen = {"dataset": "fer2013", "split": "test", "fingerprint": "c0ffee" * 8, "tta": "none"}
        record["test_scored"] = [seen | {"date": "2026-11-20T08:00:00"}, seen | {"date": "2026-11-21T08:00:00"}]

    change_record(run_dir, change)
    before = {"expected_calibration_error": 0.0811, "negative_log_likelihood": 0.9001}
    after = {"expected_calibration_error": 0.0199, "negative_log_likelihood": 0.8002}
    _write_evaluation(
        run_dir,
        comparable_with={"test": "RAF-DB's test part."},
        subgroups={"gender": {"female": _with_intervals(_report([2] * 7, 1), 0.1)}},
        robustness={
            "clean": 0.9,
            "mean_accuracy": 0.4,
            "corruptions": {"blur": [{"accuracy": 0.61}, {"accuracy": 0.2}]},
        },
        calibration={"temperature": 1.3, "before": before, "after": after},
    )
    config = json.loads((run_dir / "config.json").read_text())
    (run_dir / "config.json").write_text(json.dumps(config | {"calibration_temperature": 1.2345}))
    (run_dir / "reliability.png").write_bytes(b"picture")

    card = render_model_card(run_dir)
    text = card.text.replace("\u00a0", " ")
    shown = f"{test['accuracy']:.4f} [{test['accuracy'] - 0.02:.4f}, {test['accuracy'] + 0.02:.4f}]"
    assert f"| test | {test['num_faces']} | {shown} |" in text
    # 26 of 40 faces, and 0.05 to either side.
    assert "| test, without copies | 40 | 0.6500 [0.6000, 0.7000] |" in text
    assert "On the 40 of them that have no copy in\nthe training split, accuracy is 0.6500." in text
    assert {r.metric_name: r.metric_value for r in card.data.eval_results}["Accuracy without copies"] == 0.65
    assert re.search(r"^\| test \|.*\| 1\.2346 \| 0\.0321 \|$", text, re.MULTILINE)  # loss, ECE
    assert "scored on a test split 2 times:" in text
    assert "scored once" not in text
    assert "| 2026-11-21 | fer2013 | test | `c0ffeec0ffee` | none |\n" in text
    assert "| RAF-DB | test | flip | 70 | 0.9000 [0.8900, 0.9100] |" in text
    assert "| female | 21 | 0.6667 [0.5667, 0.7667] |" in text
    assert "which this card does not measure" not in text
    assert "| damage | 1 | 2 |\n|---|---:|---:|\n| blur | 0.6100 | 0.2000 |\n" in text
    assert "(RAF-DB, test): RAF-DB's test part.\n" in text
    assert "temperature 1.2345" in text
    assert "| RAF-DB | test | 1.3000 | 0.0811 | 0.0199 | 0.9001 | 0.8002 |\n" in text
    assert "![Reliability diagram, without a temperature](reliability.png)" in text
    _check_layout(card)


def test_a_licence_is_what_the_data_allow_or_the_publisher_says(run_dir):
    change_record(run_dir, lambda record: record["dataset"].update(name="rafdb"))
    data = render_model_card(run_dir).data.to_dict()
    assert (data["license"], data["license_name"]) == ("other", "non-commercial-research")
    data = render_model_card(run_dir, license="mit").data.to_dict()
    assert data["license"] == "mit"
    assert "license_name" not in data
    change_record(run_dir, lambda record: record["dataset"].update(name="hub:someone/faces"))
    data = render_model_card(run_dir).data.to_dict()
    assert (data["license"], data["datasets"]) == ("apache-2.0", ["someone/faces"])
    assert data["model-index"][0]["results"][0]["dataset"]["type"] == "someone/faces"


@pytest.mark.parametrize("dataset", [*DATASETS, "my_faces"])
def test_every_dataset_has_its_card(run_dir, dataset):
    def change(record):
        record["dataset"]["name"], record["commit"], record["best"] = dataset, None, None
        record["unfreezing"] = []
        record["model"] |= {"name_or_path": "runs/x", "source": "local"}
        del record["results"]["validation"]

    change_record(run_dir, change)
    card = render_model_card(run_dir)
    assert "base_model" not in card.data.to_dict()
    assert ("says nothing about people" in card.text) == (dataset == "synthetic")
    _check_layout(card)


@pytest.mark.parametrize("path", ["seed", "runtime", "model.head", "best.step", "results.test.macro_f1"])
def test_a_record_with_a_hole_is_refused(run_dir, path):
    def drop(record):
        *parents, key = path.split(".")
        for parent in parents:
            record = record[parent]
        del record[key]

    change_record(run_dir, drop)
    with pytest.raises(RunDirectoryError, match=path.split(".")[-1]):
        render_model_card(run_dir)


def test_only_what_is_on_the_list_leaves(run_dir):
    write_model_card(run_dir)
    expected = {"config.json", "model.safetensors", "preprocessor_config.json", "README.md", "run_record.json"}
    expected |= {"test_report.json", "all_results.json", "confusion_matrix.png"}
    assert {path.name for path in files_to_upload(run_dir)} == expected

    config = json.loads((run_dir / "config.json").read_text())
    (run_dir / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoConfig": "helper.Config"}}))
    assert {path.name for path in files_to_upload(run_dir)} == expected | {"helper.py"}
    assert 'model=".", trust_remote_code=True, top_k=7)' in render_model_card(run_dir).text
    assert '`"."` is the folder of this card' in render_model_card(run_dir).text

    shards = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    (run_dir / "model.safetensors").rename(run_dir / shards[0])
    index = {"weight_map": {"a": shards[0], "b": shards[1]}}
    (run_dir / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(RunDirectoryError, match=shards[1]):
        files_to_upload(run_dir)
    (run_dir / shards[1]).touch()
    assert {path.name for path in files_to_upload(run_dir)} >= {*shards, "model.safetensors.index.json"}


def test_only_the_code_that_the_model_needs_leaves(run_dir):
    config = json.loads((run_dir / "config.json").read_text())
    (run_dir / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "modeling_x.X"}}))
    processor = json.loads((run_dir / "preprocessor_config.json").read_text())
    auto_map = {"AutoImageProcessor": ["processing_x.Slow", None], "AutoProcessor": "other/repo--code.C"}
    (run_dir / "preprocessor_config.json").write_text(json.dumps(processor | {"auto_map": auto_map}))
    (run_dir / "modeling_x.py").write_text("from .blocks_x import Block\n")
    (run_dir / "processing_x.py").write_text("import torch\n")
    with pytest.raises(RunDirectoryError, match=r"lacks blocks_x\.py"):
        files_to_upload(run_dir)
    (run_dir / "blocks_x.py").write_text("import math\n")
    code = {path.name for path in files_to_upload(run_dir) if path.suffix == ".py"}
    assert code == {"modeling_x.py", "processing_x.py", "blocks_x.py"}  # not helper.py


def test_faces_of_people_stay_unless_asked_for(run_dir, capsys):
    command = [str(run_dir), "--repo_id", "owner/name", "--dry_run"]

    def listed(*more: str) -> tuple[set[str], str]:
        assert main(["push", *command, *more]) == 0
        out = capsys.readouterr().out
        return {line.split()[-1] for line in out.splitlines() if re.match(r" +[\d.,]+ [kM]B  \S+$", line)}, out

    mark = (
        '<meta name="fer_hf:faces" content="{}"> <img src="data:image/png;base64,AB+/home/ann/x/hf_' + "a" * 30 + '">'
    )
    (run_dir / "wrong_faces.png").write_bytes(b"faces")
    _write_evaluation(run_dir)
    (run_dir / "evaluation" / "rafdb_faces.png").write_bytes(b"faces")
    (run_dir / "samples.png").write_bytes(b"faces, of the audit")
    (run_dir / "report.html").write_text(mark.format("fer2013"))
    sheets = {"wrong_faces.png", "evaluation/rafdb_faces.png"}

    files, out = listed()
    assert not files & {*sheets, "report.html", "samples.png", "training_args.bin"}
    assert "evaluation/rafdb-test-flip.json" in files
    assert "faces of people in wrong_faces.png, evaluation/rafdb_faces.png, report.html: the terms" in out
    assert "not uploaded: .token, checkpoint-2/," in out
    assert "No faces of people are published" in (run_dir / "README.md").read_text()

    files, out = listed("--include_faces")
    assert {*sheets, "report.html"} < files
    assert "samples.png" not in files
    assert (
        "faces of the data can be seen: wrong_faces.png, rafdb_faces.png, report.html."
        in (run_dir / "README.md").read_text()
    )

    # Drawn faces are free; a model trained on them and scored on people's is not.
    change_record(run_dir, lambda record: record["dataset"].update(name="synthetic"))
    (run_dir / "report.html").write_text(mark.format("synthetic"))
    files, _ = listed()
    assert files & {*sheets, "report.html"} == {"report.html"}
    _write_evaluation(run_dir, dataset="synthetic")
    files, out = listed()
    assert {*sheets, "report.html"} < files
    assert "faces of people" not in out


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("python x.py --data_dir /home/ann/faces", "/home/ann/faces"),
        ("python x.py --data_dir=/data/faces", "/data/faces"),
        ("first\n/root/x.py", "/root/x.py"),
        ("python C:\\faces\\x.py", "C:\\\\\\\\faces"),
        ("python x.py --data_dir /data", "/data"),
        ("python x.py --data_dir ../../faces", "../../faces"),
        ("python x.py --data_dir ..\\faces", "..\\\\faces"),
        ("python x.py --data_dir \\\\server\\faces", "\\\\server\\faces"),
        ("python x.py --data_dir //server/faces", "//server/faces"),
        ("python x.py --data_dir D:/faces", "D:/faces"),
        ("python x.py --data_dir runs/../../faces", "../../faces"),
        ("HF_TOKEN=hf_" + "a" * 34, "access token"),
        ("git clone https://ann:secret@a.org/x", "access token"),
        *((f"KEY={key}", "access token") for key in KEYS),
        ("python recipes/x.py --data_dir DIR # https://a.org/b/c/d ./home/x 1/2/3 ~/x a/../b </p> and/or", None),
    ],
)
def test_paths_of_a_machine_are_refused(run_dir, capsys, command, found):
    change_record(run_dir, lambda record: record.update(command=command))
    code = main(["push", str(run_dir), "--repo_id", "owner/name", "--dry_run"])
    error = capsys.readouterr().err
    if found is None:
        assert (code, error) == (0, "")
    else:
        assert code == 2
        assert re.fullmatch(r"error: [^\n]*(run_record\.json|README\.md)[^\n]*\n", error)
        assert found.replace("\\", "") in error.replace("\\", "")


def test_what_lies_elsewhere_is_not_uploaded(run_dir, tmp_path):
    (tmp_path / "secret.json").write_text("{}")
    for place in (run_dir / "all_results.json", run_dir / "evaluation"):
        if place.exists():
            place.unlink()
        target = tmp_path / "secret.json" if place.suffix else tmp_path / "elsewhere"
        if not place.suffix:
            target.mkdir()
            (target / "a.json").write_text(json.dumps({"dataset": "x", "split": "test", "report": {}}))
        place.symlink_to(target)
        with pytest.raises(RunDirectoryError, match=rf"{place.name}.* is or lies behind a symbolic link"):
            files_to_upload(run_dir, include_faces=True)
        place.unlink()
    (run_dir / "model.safetensors").rename(tmp_path / "model.safetensors")
    for name in ("../model.safetensors", str(tmp_path / "model.safetensors")):
        index = {"weight_map": {"a": name}}
        (run_dir / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(RunDirectoryError, match="which lies elsewhere: put the file into the folder"):
            files_to_upload(run_dir)


def test_what_weights_say_beside_their_tensors_is_looked_at_too(run_dir):
    tensors = {"a": np.zeros(1, dtype=np.float32)}
    save_file(tensors, run_dir / "model.safetensors", {"format": "pt", "trained_in": "/home/ann/faces"})
    with pytest.raises(RunDirectoryError, match=r"model\.safetensors holds '/home/ann/faces', a path of one machine"):
        check_publishable(files_to_upload(run_dir))


def test_bad_input_is_one_line_and_exit_code_2(run_dir, hub, this_process_uses, monkeypatch, capsys):
    def fails(*arguments: str) -> str:
        assert main(["push", *map(str, arguments)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    assert "nowhere does not exist" in fails(run_dir / "nowhere", "--repo_id", "owner/a")
    assert "holds no run_record.json" in fails(run_dir.parent, "--repo_id", "owner/a")
    assert "must be owner/name" in fails(run_dir, "--repo_id", "a")
    assert "not a valid name" in fails(run_dir, "--repo_id", "owner/a b")
    assert "no right to write to other/a" in fails(run_dir, "--repo_id", "other/a")
    monkeypatch.setenv("HF_TOKEN", "wrong")
    assert "does not accept the token" in fails(run_dir, "--repo_id", "owner/a")
    monkeypatch.setenv("HF_TOKEN", "reader")
    assert "no right to write to owner/a" in fails(run_dir, "--repo_id", "owner/a")
    with monkeypatch.context() as logged_out:
        logged_out.setattr("fer_hf.runs.publish.get_token", lambda: None)
        assert "no access token" in fails(run_dir, "--repo_id", "owner/a")

    monkeypatch.setenv("HF_TOKEN", "x")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in fails(run_dir, "--repo_id", "owner/a")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    assert "no connection to the Hub" in fails(run_dir, "--repo_id", "owner/a")
    (run_dir / "model.safetensors").unlink()
    assert "lacks model.safetensors" in fails(run_dir, "--repo_id", "owner/a")
    assert "owner/a" not in hub.repos


def test_a_repository_is_updated_and_a_public_one_does_not_pass_for_private(run_dir, this_process_uses):
    hub = this_process_uses
    assert push(run_dir, "owner/again") == f"{hub.endpoint}/owner/again"
    repo = hub.repos["owner/again"]
    assert not repo.private
    uploads = _uploads(hub)

    push(run_dir, "owner/again")  # nothing changed: no commit, nothing sent
    assert repo.messages == ["initial commit", "Upload model with fer_hf"]
    assert _uploads(hub) == uploads

    with pytest.raises(BadInputError, match="exists and is public"):
        push(run_dir, "owner/again", private=True)
    push(run_dir, "owner/secret", private=True)
    assert hub.repos["owner/secret"].private

    shard = run_dir / "model-00001-of-00001.safetensors"
    (run_dir / "model.safetensors").rename(shard)
    (run_dir / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard.name}}))
    url = push(run_dir, "owner/again", revision="sharded", commit_message="Shard")
    assert url == f"{hub.endpoint}/owner/again/tree/sharded"
    assert "model.safetensors" not in repo.tree("sharded")[1]
    assert {shard.name, "model.safetensors.index.json"} < set(repo.tree("sharded")[1])
    assert "model.safetensors" in repo.tree("main")[1]


def test_files_that_an_earlier_upload_left_go(run_dir, this_process_uses):
    repo_id, repos = "owner/leftover", this_process_uses.repos
    (run_dir / "class_balance.png").write_bytes(b"picture")
    _write_evaluation(run_dir)
    push(run_dir, repo_id)
    api = HfApi(endpoint=this_process_uses.endpoint, token="x")
    api.upload_file(path_or_fileobj=b"theirs", path_in_repo="handler.py", repo_id=repo_id)
    assert {"class_balance.png", "evaluation/rafdb-test-flip.json"} < set(repos[repo_id].tree()[1])

    (run_dir / "class_balance.png").unlink()
    shutil.rmtree(run_dir / "evaluation")
    push(run_dir, repo_id)
    names = {path.name for path in files_to_upload(run_dir)}
    assert set(repos[repo_id].tree()[1]) == names | {".gitattributes", "handler.py"}


def test_an_interrupted_upload_goes_on_where_it_stopped(run_dir, this_process_uses, monkeypatch, capsys):
    hub, command = this_process_uses, [str(run_dir), "--repo_id", "owner/broken"]
    path = run_dir / "model.safetensors"
    save_file(load_file(path), path, {"format": "pt", "not": "yet on the server"})
    weights = path.read_bytes()

    hub.failures = {"PUT lfs/": 400}
    assert main(["push", *command]) == 2
    assert "the Hub refused owner/broken" in capsys.readouterr().err
    hub.failures = {"POST api/models/owner/broken/commit": 503}
    assert main(["push", *command]) == 2
    assert "run again later; what has arrived is not sent twice" in capsys.readouterr().err
    repo, uploads = hub.repos["owner/broken"], _uploads(hub)
    assert repo.messages == ["initial commit"]
    assert main(["push", *command]) == 0
    assert repo.messages == ["initial commit", "Upload model with fer_hf"]
    assert repo.tree()[1]["model.safetensors"] == weights
    assert _uploads(hub) == uploads
    capsys.readouterr()

    monkeypatch.setattr(HfApi, "create_commit", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main(["push", *command]) == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_a_card_that_the_hub_refuses_makes_no_repository(run_dir, this_process_uses):
    with pytest.raises(HubError, match=r'does not accept the card .*: "license" must be one of[^{]*$'):
        push(run_dir, "owner/unmade", license="whatever")
    assert "owner/unmade" not in this_process_uses.repos


def test_a_name_that_holds_something_else_is_taken(run_dir, this_process_uses):
    api = HfApi(endpoint=this_process_uses.endpoint, token="x")
    api.create_repo("owner/theirs")
    api.upload_file(path_or_fileobj=b"mine", path_in_repo="pytorch_model.bin", repo_id="owner/theirs")
    repo = this_process_uses.repos["owner/theirs"]
    for revision in (None, "a-branch"):
        with pytest.raises(HubError, match="the name is taken: owner/theirs"):
            push(run_dir, "owner/theirs", revision=revision)
    assert repo.refs.keys() == {"main"}
    assert set(repo.tree()[1]) == {".gitattributes", "pytorch_model.bin"}
    push(run_dir, "owner/theirs", create_pr=True)
    assert {"pytorch_model.bin", "model.safetensors"} < set(repo.tree("refs/pr/1")[1])
    api.create_repo("owner/empty")
    api.upload_file(path_or_fileobj=b"# Soon", path_in_repo="README.md", repo_id="owner/empty")
    push(run_dir, "owner/empty")
    assert "model.safetensors" in this_process_uses.repos["owner/empty"].tree()[1]


def test_a_second_run_updates_ones_pull_request_also_to_anothers_model(run_dir, this_process_uses, monkeypatch):
    hub = this_process_uses
    push(run_dir, "owner/popular")
    repo = hub.repos["owner/popular"]
    before = dict(repo.tree()[1])
    monkeypatch.setenv("HF_TOKEN", "guest")
    (run_dir / "all_results.json").write_text("0")
    with pytest.raises(HubError, match="no right to write to owner/popular"):
        push(run_dir, "owner/popular", commit_message="Mine now")
    for step in ("1", "2"):
        (run_dir / "all_results.json").write_text(step)
        url = push(run_dir, "owner/popular", create_pr=True)
        assert url == f"{hub.endpoint}/owner/popular/discussions/1"
        assert repo.tree("refs/pr/1")[1]["all_results.json"] == step.encode()
    push(run_dir, "owner/popular", create_pr=True, commit_message="Another idea")
    assert [request["title"] for request in repo.requests] == ["Upload model with fer_hf", "Another idea"]
    assert repo.tree()[1] == before


def test_a_private_model_is_hidden_from_others(run_dir, this_process_uses):
    push(run_dir, "owner/hidden", private=True)
    api = HfApi(endpoint=this_process_uses.endpoint)
    assert api.model_info("owner/hidden", token="x").private
    for token in ("guest", False):
        with pytest.raises(RepositoryNotFoundError):
            api.model_info("owner/hidden", token=token)


def test_a_page_becomes_a_static_space_and_is_replaced_by_the_next(this_process_uses, tmp_path, monkeypatch, capsys):
    hub, installed = (
        this_process_uses,
        shutil.copytree(WEB, tmp_path / "web", ignore=shutil.ignore_patterns("runtime")),
    )
    (installed / "runtime").mkdir()
    for name in RUNTIME_FILES:
        (installed / "runtime" / name).write_bytes(b"runtime")
    monkeypatch.setattr("fer_hf.inference.browser.WEB", installed)
    network = onnx.helper.make_model(onnx.helper.make_graph([], "none", [], []))
    processor = ViTImageProcessor(size={"height": 48, "width": 48})
    metadata = {"id2label": {"0": "happy"}, "image_size": [48, 48], "image_processor": processor.to_dict()}
    onnx.helper.set_model_props(network, {name: json.dumps(value) for name, value in metadata.items()})
    onnx.save(network, tmp_path / "tiny.onnx")
    words = ["push", str(tmp_path / "tiny.onnx"), "--space", "owner/faces", "--license", "mit"]
    monkeypatch.delenv("HF_TOKEN")
    assert main([*words, "--dry_run"]) == 0  # needs no token
    shown = capsys.readouterr().out
    assert "  model.onnx\n" in shown
    assert shown.endswith(" files for the Space owner/faces\n")
    assert "owner/faces" not in hub.repos
    monkeypatch.setenv("HF_TOKEN", "x")
    assert main([*words, "--create_pr"]) == 2
    assert "`space` goes without `create_pr`" in capsys.readouterr().err
    assert main(words) == 0
    assert capsys.readouterr().out == f"{hub.endpoint}/spaces/owner/faces\n"
    space = hub.repos["spaces/owner/faces"]
    assert (space.sdk, space.private) == ("static", False)
    first = space.tree()[1]
    assert first.keys() >= {"index.html", "model.onnx", "model.json", "runtime/blazeface.onnx"}
    assert b"sdk: static" in first["README.md"]
    assert b"license: mit" in first["README.md"]
    (installed / "icon.svg").unlink()
    assert main(words) == 0
    assert space.tree()[1].keys() == first.keys() - {"icon.svg"}
    capsys.readouterr()
    assert main([*words, "--private"]) == 2
    assert "owner/faces exists and is public" in capsys.readouterr().err
    space.commit("main", {"app.py": b"another's"}, "other")
    assert main(words) == 2
    assert "holds files that fer_hf did not put there" in capsys.readouterr().err
    monkeypatch.delenv("HF_TOKEN")
    assert main(words) == 2
    assert "no access token" in capsys.readouterr().err


def test_cards_are_gathered_with_pictures_and_an_index(run_dir, tmp_path, capsys):
    folder = tmp_path / "model_cards"
    folder.mkdir()
    shutil.copy(ROOT / "model_cards" / "README.md", folder)  # its rows are of cards that are not here
    shutil.copy(ROOT / "model_cards" / "fer-compact-vit-mae.md", folder)  # has no scores, and so no row
    (run_dir / "wrong_faces.png").write_bytes(b"faces")
    arguments = [str(run_dir), "--repo_id", "owner/tiny-vit", "--card_dir", str(folder)]
    assert main(["push", *arguments]) == 0
    assert capsys.readouterr().out == f"{folder / 'tiny-vit.md'}\n"
    card = ModelCard.load(folder / "tiny-vit.md")
    assert "![Confusion matrix](tiny-vit/confusion_matrix.png)" in card.text
    assert 'model="owner/tiny-vit"' in card.text
    assert [path.name for path in (folder / "tiny-vit").iterdir()] == ["confusion_matrix.png"]

    for words in (["--card_dir", str(folder)], []):
        assert main(["push", str(run_dir), *words]) == 2
        assert capsys.readouterr().err.startswith("error: `repo_id` is missing: ")
    add_to_gallery(run_dir, folder, "owner/a-second")
    (run_dir / "confusion_matrix.png").unlink()
    add_to_gallery(run_dir, folder, "owner/tiny-vit")  # again: its row and its pictures are replaced
    assert not list((folder / "tiny-vit").iterdir())
    test = RECORD["results"]["test"]
    scores = [f"{test[name]:.4f}" for name in ("accuracy", "macro_f1", "balanced_accuracy")]
    names = ("a-second", "tiny-vit")
    rows = [f"| [{name}]({name}.md) | FER-2013 | test | {' | '.join(scores)} |" for name in names]
    index = (folder / "README.md").read_text()
    assert index.startswith((ROOT / "model_cards" / "README.md").read_text().split("<!-- cards")[0])
    assert [line for line in index.splitlines() if line.startswith("| [")] == rows

    with pytest.raises(RunDirectoryError, match="no card's place"):
        add_to_gallery(run_dir, folder, "owner/template")
    change_record(run_dir, lambda record: record.update(command="python x.py --data_dir /home/ann/faces"))
    with pytest.raises(RunDirectoryError, match="/home/ann/faces"):
        add_to_gallery(run_dir, folder, "owner/third")
    assert not (folder / "third.md").exists()


# Run where fer_hf cannot be imported, as by a user who does not have it: from the Hub, then from the cache alone.
LOAD_AND_COMPARE = """
import sys
sys.modules["fer_hf"] = None
import torch
from huggingface_hub import constants
from transformers import AutoModelForImageClassification, pipeline

def compare(repo_id, run_dir, revision="main", **code):
    published = pipeline("image-classification", model=repo_id, top_k=7, **code)
    scores, expected = published(face), pipeline("image-classification", model=run_dir, top_k=7, **code)(face)
    assert [s["label"] for s in scores] == [s["label"] for s in expected] and len(scores) == 7, (scores, expected)
    torch.testing.assert_close([s["score"] for s in scores], [s["score"] for s in expected])
    local = AutoModelForImageClassification.from_pretrained(run_dir, **code).state_dict()
    at_revision = AutoModelForImageClassification.from_pretrained(repo_id, revision=revision, **code)
    for remote in (published.model.state_dict(), at_revision.state_dict()):
        assert remote.keys() == local.keys() and all(torch.equal(remote[key], local[key]) for key in local)

run_dir, custom_run_dir, face = sys.argv[1:]
for constants.HF_HUB_OFFLINE in (False, True):
    compare("owner/name", run_dir, revision="v1")
    compare("owner/custom", custom_run_dir, trust_remote_code=True)
    print("offline" if constants.HF_HUB_OFFLINE else "online", flush=True)
    sys.stdin.readline()
"""


def test_the_round_trip(run_dir, this_process_uses, tmp_path, monkeypatch, capsys):
    hub = this_process_uses
    face = tmp_path / "face.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)).save(face)

    command = [str(run_dir), "--repo_id", "owner/name"]
    monkeypatch.setattr(sys, "argv", ["push_to_hub.py", *command])
    with pytest.raises(SystemExit) as done:
        runpy.run_path(str(ROOT / "push_to_hub.py"), run_name="__main__")
    shown = capsys.readouterr().out
    assert (done.value.code, shown.splitlines()[-1]) == (0, f"{hub.endpoint}/owner/name")
    assert "model.safetensors" in shown
    published = {path.name: path.read_bytes() for path in files_to_upload(run_dir)}
    assert hub.repos["owner/name"].tree()[1] == published | {".gitattributes": b"*.safetensors filter=lfs\n"}
    api = HfApi(endpoint=hub.endpoint, token="x")
    api.create_tag("owner/name", tag="v1")
    assert [tag.name for tag in api.list_repo_refs("owner/name").tags] == ["v1"]

    (run_dir / "all_results.json").write_text('{"epoch": 3.0}')
    assert main(["push", *command, "--create_pr"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{hub.endpoint}/owner/name/discussions/1"
    assert hub.repos["owner/name"].tree("refs/pr/1")[1]["all_results.json"] == b'{"epoch": 3.0}'
    assert hub.repos["owner/name"].tree()[1]["all_results.json"] == b"{}"

    custom = shutil.copytree(run_dir, tmp_path / "runs" / "custom")
    vit = tiny_vit_config()
    labels = {"id2label": vit.id2label, "label2id": vit.label2id}
    config = MLPHeadConfig(backbone_config=vit, head_hidden_sizes=[16, 8], **labels)
    MLPHeadForImageClassification(config).save_pretrained(custom)
    push(custom, "owner/custom")
    assert {"modeling_mlp_head.py", "configuration_mlp_head.py"} < set(hub.repos["owner/custom"].tree()[1])

    user = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
    user |= {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "reader"), "HF_HUB_DISABLE_XET": "1"}
    words = [sys.executable, "-c", LOAD_AND_COMPARE, str(run_dir), str(custom), str(face)]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(words, env=user | {"CUDA_VISIBLE_DEVICES": ""}, text=True, **pipes) as process:
        first, asked = process.stdout.readline(), len(hub.log)
        second, errors = process.communicate("\n\n")
    assert (first, second) == ("online\n", "offline\n"), errors
    assert len(hub.log) == asked


# Data sets


def test_a_converted_data_set_goes_up_whole_and_private_and_a_second_time_replaces_the_first(
    this_process_uses, tmp_path, capsys
):
    hub = this_process_uses
    for train in (14, 21):
        sizes = json.dumps({"train": train, "validation": 7, "test": 7})
        words = ["--dataset_options", sizes, "--output_dir", str(tmp_path / str(train)), "--push", "owner/faces"]
        assert main(["convert", *words, "--disable_tqdm"]) == 0
        assert f"{hub.endpoint}/datasets/owner/faces" in capsys.readouterr().out
        repo = hub.repos["owner/faces@data"]
        assert repo.private
        _, there = repo.tree()
        written = [path for path in (tmp_path / str(train)).rglob("*") if path.is_file()]
        names = {path.relative_to(tmp_path / str(train)).as_posix(): path.read_bytes() for path in written}
        assert {name: content for name, content in there.items() if name != ".gitattributes"} == names
    stale = {"data/train-00001-of-00002.parquet": b"old"}
    repo.commit("main", {**there, **stale}, "shards of another upload")
    push_dataset(tmp_path / "21", "owner/faces")
    assert repo.tree()[1] == there


@pytest.mark.parametrize(
    ("token", "private", "files", "message"),
    [
        ("x", False, {}, "owner/taken exists and is public"),
        ("x", True, {"notes.txt": b"mine"}, "the name is taken"),
        ("reader", True, {}, "no right to write to owner/taken"),
        ("", True, {}, "no access token"),
    ],
)
def test_a_data_set_is_refused_where_it_would_be_public_or_in_the_way(
    this_process_uses, tmp_path, monkeypatch, token, private, files, message
):
    hub = this_process_uses
    hub.repos["owner/taken@data"] = Repo(private=private)
    hub.repos["owner/taken@data"].commit("main", files, "theirs")
    (tmp_path / "README.md").write_text("---\npretty_name: faces\n---\n")
    monkeypatch.setenv("HF_TOKEN", token)
    if not token:
        monkeypatch.setattr("fer_hf.runs.publish.get_token", lambda: None)
    with pytest.raises(HubError, match=message):
        push_dataset(tmp_path, "owner/taken")
    assert hub.repos["owner/taken@data"].tree()[1] == files


def test_a_wrong_name_or_no_token_is_told_before_a_data_set_is_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("fer_hf.runs.publish.get_token", lambda: None)
    for repo_id, complaint in (("faces", "must be owner/name, got 'faces'"), ("owner/faces", "no access token")):
        assert main(["convert", "--output_dir", str(tmp_path / "faces"), "--push", repo_id]) == 2
        assert complaint in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
