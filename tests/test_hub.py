"""Cards, the list of files that may leave, and the whole way to a Hub on loopback and back."""

import copy
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_vit_config
from hub_server import running_hub
from huggingface_hub import EvalResult, HfApi, ModelCard, constants
from PIL import Image
from transformers import ViTForImageClassification, ViTImageProcessor

from fer_hf import MLPHeadConfig, MLPHeadForImageClassification
from fer_hf.errors import BadInputError
from fer_hf.hub import DATASETS, RunDirectoryError, files_to_upload, push, render_model_card, write_model_card
from fer_hf.labels import EXPRESSIONS


ROOT = Path(__file__).parent.parent
push_to_hub = runpy.run_path(str(ROOT / "push_to_hub.py"))["main"]


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
    scores = {"accuracy": accuracy, "macro_f1": mean - 0.01, "weighted_f1": mean + 0.01, "mean_class_accuracy": mean}
    return scores | {"num_faces": total, "loss": 1.23456, "per_class": per_class, "confusion_matrix": matrix}


RECORD = {
    "fer_hf_version": "0.1.0",
    "date": "2026-11-22T10:00:00+00:00",
    "command": "accelerate launch recipes/vit_gradual_unfreeze.py --config recipes/configs/tiny.yaml --data_dir DIR",
    "commit": "abc1234",
    "seed": 17,
    "versions": {"python": "3.11.7", "torch": "2.15.0", "transformers": "5.23.0"},
    "hardware": {"device": "cpu", "processes": 1, "cpu_threads": 2},
    "dataset": {
        "name": "fer2013",
        "fingerprints": {split: f"{split:0<64}" for split in ("train", "validation", "test")},
        "counts": {split: {name: 1000 * i + 7 for i, name in enumerate(EXPRESSIONS)} for split in ("train", "test")},
    },
    "model": {
        "name_or_path": "google/vit-base-patch16-224-in21k",
        "source": "hub",
        "architecture": "ViTForImageClassification",
        "head": "linear",
        "parameters": 12345,
    },
    "training": {"learning_rate": 3e-05, "optim": "adamw_torch", "sampler": None, "unfreeze_schedule": "a|b"},
    "unfreezing": [
        {"epoch": 0, "thawed": ["classifier"], "trainable_parameters": 5383},
        {"epoch": 2, "thawed": ["vit.layers.1", "vit.layernorm"], "trainable_parameters": 98765},
    ],
    "best": {"metric": "eval_accuracy", "value": 0.54321, "epoch": 3.0, "step": 300},
    "runtime": {"train_seconds": 750.0},
    "results": {"validation": _report([3, 1, 4, 1, 5, 9, 2], 6), "test": _report([31, 2, 17, 80, 43, 25, 60], 19)},
}


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
    for name in ("training_args.bin", "optimizer.pt", "trainer_state.json", "notes.txt", "helper.py", ".token"):
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


def _change_record(run_dir: Path, change) -> None:
    record = copy.deepcopy(RECORD)
    change(record)
    (run_dir / "run_record.json").write_text(json.dumps(record))


def _python(code_or_file: list[str], **environment: str) -> subprocess.CompletedProcess:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
    kept |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "CUDA_VISIBLE_DEVICES": ""} | environment
    return subprocess.run([sys.executable, *code_or_file], env=kept, cwd=ROOT, capture_output=True, text=True)


def test_every_number_of_a_card_is_the_records(run_dir):
    card = render_model_card(run_dir, "owner/tiny-vit")
    test, validation = RECORD["results"]["test"], RECORD["results"]["validation"]

    results = {(r.dataset_split, r.metric_name): r for r in card.data.eval_results}
    assert all(isinstance(r, EvalResult) and r.dataset_name == "FER-2013" for r in results.values())
    assert {key: r.metric_value for key, r in results.items()} == {
        ("validation", "Accuracy"): validation["accuracy"],
        ("test", "Accuracy"): test["accuracy"],
        ("test", "Macro F1"): test["macro_f1"],
        ("test", "Mean per-class accuracy"): test["mean_class_accuracy"],
    }
    text = card.text
    for split, report in RECORD["results"].items():
        scores = ("accuracy", "macro_f1", "weighted_f1", "mean_class_accuracy", "loss")
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
    for hole in (
        "More information needed",
        "{{",
        "{%",
        "None",
        "Undefined",
        "learning_curves.png",
        "trust_remote_code",
    ):
        assert hole.lower() not in card.text.lower()
    assert not re.search(r"\n{4,}| +\n", card.text)
    tables = re.findall(r"(?:^\|.*\n)+", card.text, re.MULTILINE)
    assert [len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) for table in tables] == [1] * 7
    assert not list(run_dir.glob(".README*"))


@pytest.mark.parametrize("dataset", [*DATASETS, "my_faces"])
def test_every_dataset_has_its_card(run_dir, dataset):
    def change(record):
        record["dataset"]["name"], record["commit"], record["best"] = dataset, None, None
        record["unfreezing"] = []
        record["model"] |= {"name_or_path": "runs/x", "source": "local"}
        del record["results"]["validation"]

    _change_record(run_dir, change)
    card = render_model_card(run_dir)
    assert "base_model" not in card.data.to_dict()
    assert ("says nothing about people" in card.text) == (dataset == "synthetic")
    assert "None" not in card.text
    assert not re.search(r"\n{4,}| +\n", card.text)


@pytest.mark.parametrize("path", ["seed", "runtime", "model.head", "best.step", "results.test.macro_f1"])
def test_a_record_with_a_hole_is_refused(run_dir, path):
    def drop(record):
        *parents, key = path.split(".")
        for parent in parents:
            record = record[parent]
        del record[key]

    _change_record(run_dir, drop)
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
    assert "trust_remote_code=True)" in render_model_card(run_dir).text

    shards = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    (run_dir / "model.safetensors").rename(run_dir / shards[0])
    index = {"weight_map": {"a": shards[0], "b": shards[1]}}
    (run_dir / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(RunDirectoryError, match=shards[1]):
        files_to_upload(run_dir)
    (run_dir / shards[1]).touch()
    assert {path.name for path in files_to_upload(run_dir)} >= {*shards, "model.safetensors.index.json"}


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("python x.py --data_dir /home/ann/faces", "/home/ann/faces"),
        ("python x.py --data_dir=/data/faces", "/data/faces"),
        ("first\n/root/x.py", "/root/x.py"),
        ("python C:\\faces\\x.py", "C:\\\\\\\\faces"),
        ("HF_TOKEN=hf_" + "a" * 34, "access token"),
        ("python recipes/x.py --data_dir DIR # https://a.org/b/c/d ./home/x 1/2/3 ~/x", None),
    ],
)
def test_paths_of_a_machine_are_refused(run_dir, capsys, command, found):
    _change_record(run_dir, lambda record: record.update(command=command))
    code = push_to_hub([str(run_dir), "--repo_id", "owner/name", "--dry_run"])
    error = capsys.readouterr().err
    if found is None:
        assert (code, error) == (0, "")
    else:
        assert code == 2
        assert re.fullmatch(r"push_to_hub\.py: [^\n]*(run_record\.json|README\.md)[^\n]*\n", error)
        assert found.replace("\\\\\\\\", "") in error.replace("\\", "")


def test_bad_input_is_one_line_and_exit_code_2(run_dir, hub, this_process_uses, monkeypatch, capsys):
    def fails(*arguments: str) -> str:
        assert push_to_hub([*map(str, arguments)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    assert "is not a directory" in fails(run_dir / "nowhere", "--repo_id", "owner/a")
    assert "holds no run_record.json" in fails(run_dir.parent, "--repo_id", "owner/a")
    assert "must be owner/name" in fails(run_dir, "--repo_id", "a")
    assert "not a valid name" in fails(run_dir, "--repo_id", "owner/a b")
    assert "no right to write to other/a" in fails(run_dir, "--repo_id", "other/a")
    monkeypatch.setenv("HF_TOKEN", "wrong")
    assert "does not accept the token" in fails(run_dir, "--repo_id", "owner/a")
    monkeypatch.setenv("HF_TOKEN", "reader")
    assert "no right to write to owner/a" in fails(run_dir, "--repo_id", "owner/a")
    with monkeypatch.context() as logged_out:
        logged_out.setattr("fer_hf.hub.publish.get_token", lambda: None)
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
    uploads = sum(line.startswith("PUT") for line in hub.log)

    push(run_dir, "owner/again")  # nothing changed: no commit, nothing sent
    assert repo.messages == ["initial commit", "Upload model with fer_hf"]
    assert sum(line.startswith("PUT") for line in hub.log) == uploads

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


# Run where fer_hf is never imported, as by a user who does not have it.
LOAD_AND_COMPARE = """
import json, sys
import torch
from transformers import AutoModelForImageClassification, pipeline

def compare(repo_id, run_dir, face, revision="main", **code):
    published = pipeline("image-classification", model=repo_id, top_k=7, **code)
    scores, expected = published(face), pipeline("image-classification", model=run_dir, top_k=7, **code)(face)
    assert [s["label"] for s in scores] == [s["label"] for s in expected] and len(scores) == 7, (scores, expected)
    torch.testing.assert_close([s["score"] for s in scores], [s["score"] for s in expected])
    local = AutoModelForImageClassification.from_pretrained(run_dir, **code).state_dict()
    at_revision = AutoModelForImageClassification.from_pretrained(repo_id, revision=revision, **code)
    for remote in (published.model.state_dict(), at_revision.state_dict()):
        assert remote.keys() == local.keys() and all(torch.equal(remote[key], local[key]) for key in local)
    return scores

run_dir, custom_run_dir, face = sys.argv[1:]
scores = compare("owner/name", run_dir, face, revision="v1")
custom = compare("owner/custom", custom_run_dir, face, trust_remote_code=True)
assert "fer_hf" not in sys.modules
print(json.dumps([scores, custom]))
"""


def test_the_round_trip(run_dir, this_process_uses, tmp_path, capsys):
    hub = this_process_uses

    face = tmp_path / "face.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)).save(face)
    online = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": "x", "HF_HOME": str(tmp_path / "publisher")}

    command = ["push_to_hub.py", str(run_dir), "--repo_id", "owner/name"]
    pushed = _python(command, **online)
    assert pushed.returncode == 0, pushed.stderr
    assert pushed.stdout.splitlines()[-1] == f"{hub.endpoint}/owner/name"
    assert "model.safetensors" in pushed.stdout
    published = {path.name: path.read_bytes() for path in files_to_upload(run_dir)}
    assert hub.repos["owner/name"].tree()[1] == published | {".gitattributes": b"*.safetensors filter=lfs\n"}
    HfApi(endpoint=hub.endpoint, token="x").create_tag("owner/name", tag="v1")

    (run_dir / "all_results.json").write_text('{"epoch": 3.0}')
    assert push_to_hub([*command[1:], "--create_pr"]) == 0
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

    load = ["-c", LOAD_AND_COMPARE, str(run_dir), str(custom), str(face)]
    reader = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "reader")}
    first = _python(load, **reader)
    assert first.returncode == 0, first.stderr
    asked = len(hub.log)
    again = _python(load, HF_HUB_OFFLINE="1", **reader)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == json.loads(first.stdout)
    assert len(hub.log) == asked
