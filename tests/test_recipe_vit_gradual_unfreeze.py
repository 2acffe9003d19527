"""The recipe as a user runs it, small: what it leaves, and what it says."""

import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
import yaml
from conftest import tiny_vit_config
from helpers import call_recipe, draw_no_pictures
from PIL import Image
from safetensors.torch import save_file
from transformers import ViTImageProcessor, ViTModel, pipeline

from fer_hf import build
from fer_hf.cli.main import main
from fer_hf.data import load_dataset
from fer_hf.evaluation.predictions import load_predictions
from fer_hf.evaluation.scoring import score_faces
from fer_hf.models.loading import load_trained_classifier
from fer_hf.runs.card import render_model_card
from fer_hf.runs.compare import compare_runs
from fer_hf.runs.gallery import add_to_gallery
from fer_hf.runs.leaderboard import leaderboard_table, row_value, summarise
from fer_hf.runs.upload_files import check_publishable, files_to_upload


ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "recipes" / "vit_gradual_unfreeze.py"


def run_recipe(*flags, processes=1, cwd=ROOT, home):
    launcher = [sys.executable]
    if processes > 1:
        launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={processes}"]
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    words = [*launcher, str(RECIPE), "--use_cpu", *map(str, flags)]
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def start_point(tmp_path_factory):
    """A tiny checkpoint to start from."""
    folder = tmp_path_factory.mktemp("start")
    torch.manual_seed(0)
    ViTModel(tiny_vit_config()).save_pretrained(folder)
    ViTImageProcessor(size={"height": 48, "width": 48}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def small(start_point, tmp_path_factory):
    """Flags of a run that takes a second."""
    options = {"train": 56, "validation": 32, "test": 32}  # whole batches, on two processes too
    return [
        "--model_name_or_path", start_point, "--dataset_name", "synthetic", "--dataset_options", json.dumps(options),
        "--num_train_epochs", 3, "--unfreeze_schedule", '{"1": "vit.encoder.layer.2"}', "--learning_rate", "1e-3",
        "--per_device_train_batch_size", 8, "--seed", 1,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory, home):
    folder = tmp_path_factory.mktemp("runs") / "run"
    done = run_recipe(*small, "--output_dir", folder, home=home)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_a_run_leaves_model_report_pictures_record_and_card(finished):
    folder, done = finished
    for name in (
        "config.json", "model.safetensors", "preprocessor_config.json", "all_results.json", "trainer_state.json",
        "README.md", "classification_report.json", "confusion_matrix.png", "learning_curves.png", "reliability.png",
        "class_balance.png", "validation_confusion_matrix.png", "run_record.json",
    ):  # fmt: skip
        assert (folder / name).stat().st_size > 0, name
    record = json.loads((folder / "run_record.json").read_text())
    report = json.loads((folder / "classification_report.json").read_text())
    results = json.loads((folder / "all_results.json").read_text())
    assert record["results"] == report
    assert report["test"]["accuracy"] == pytest.approx(results["test_accuracy"])
    assert report["validation"]["accuracy"] == pytest.approx(record["best"]["value"])
    assert [entry["epoch"] for entry in record["unfreezing"]] == [0, 1]
    assert record["unfreezing"][1]["thawed"] == ["vit.layers.2"]
    assert record["seed"] == 1
    assert f"{report['test']['accuracy']:.4f}" in done.stdout


def test_the_log_says_what_is_new_and_what_thaws_and_shows_both_reports(finished):
    _, done = finished
    assert "new weights: classifier.bias, classifier.weight" in done.stderr
    assert "epoch 0: classifier now training: 231 of" in done.stderr
    assert "epoch 1: vit.layers.2 now training" in done.stderr
    assert "1 process on cpu" in done.stderr
    assert re.search(r"epoch   1.00  train  loss .* validation  loss", done.stderr)
    assert "scoring" not in done.stderr  # bars of quick work are not shown
    assert "validation (selects): 32 faces" in done.stdout
    assert "test (scored once): 32 faces" in done.stdout


def test_a_demo_ends_in_at_most_40_lines(finished):
    _, done = finished
    redrawn = re.compile(r"\s*(training:.*)?")  # the bar, which is a line in the end
    above = [line for line in done.stderr.splitlines() if not redrawn.fullmatch(line)]
    printed = len(done.stdout.splitlines()) + len(above) + 1
    demo = yaml.safe_load((RECIPE.parent / "configs" / "demo_vit_gradual_unfreeze.yaml").read_text())
    # A line for each epoch and each phase of unfreezing, of which this run has 3 and 2; and one that says what it is.
    printed += (demo["num_train_epochs"] - 3) + (1 + len(demo["unfreeze_schedule"]) - 2) + 1
    assert printed <= 40, done.stdout + done.stderr


def test_the_pipeline_gives_the_trainers_own_probabilities(finished, tmp_path):
    folder, _ = finished
    report = json.loads((folder / "classification_report.json").read_text())
    faces = load_dataset("synthetic", train=56, validation=32, test=32, cache_dir=tmp_path)["test"]
    classifier = pipeline("image-classification", model=str(folder), top_k=7, device="cpu")
    scores = classifier(list(faces["image"]), batch_size=8)
    by_name = [{entry["label"]: entry["score"] for entry in face} for face in scores]
    names = faces.features["label"].names
    assert all(set(face) == set(names) for face in by_name)
    loss = -np.mean([np.log(face[names[label]]) for face, label in zip(by_name, faces["label"], strict=True)])
    assert loss == pytest.approx(report["test"]["loss"], abs=1e-4)
    predicted = [max(face, key=face.get) for face in by_name]
    accuracy = np.mean([name == names[label] for name, label in zip(predicted, faces["label"], strict=True)])
    assert accuracy == pytest.approx(report["test"]["accuracy"])
    # The same face as grayscale, as RGB, as a file and from a URL.
    gray = faces[0]["image"]
    gray.save(tmp_path / "face.png")
    with served(tmp_path) as address:
        for form in (gray, gray.convert("RGB"), str(tmp_path / "face.png"), f"{address}/face.png"):
            again = {entry["label"]: entry["score"] for entry in classifier(form)}
            assert again == pytest.approx(by_name[0], abs=1e-4)
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 150, 3), dtype=np.uint8))
    assert len(classifier(photo)) == 7


@contextmanager
def served(folder):
    """The address of a server on loopback that gives the files of a folder."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_two_processes_train_the_same_model_as_one(finished, small, tmp_path, home):
    # Half the batch on each of two ranks, with a layer that thaws after DDP has wrapped the model.
    folder, _ = finished
    flags = ("--per_device_train_batch_size", 4, "--output_dir", tmp_path / "two", "--disable_tqdm")
    two = run_recipe(*small, *flags, processes=2, home=home)
    assert two.returncode == 0, two.stderr
    assert "2 processes" not in two.stderr  # `disable_tqdm` leaves results and warnings
    assert "epoch" not in two.stderr
    assert "test (scored once): 32 faces" in two.stdout
    assert json.loads((tmp_path / "two" / "run_record.json").read_text())["hardware"]["processes"] == 2
    logs = [json.loads((run / "trainer_state.json").read_text())["log_history"] for run in (folder, tmp_path / "two")]
    for key in ("loss", "eval_loss"):
        one, two = ([entry[key] for entry in log if key in entry] for log in logs)
        assert len(one) == 3
        assert one == pytest.approx(two, abs=1e-5)
    reports = [json.loads((run / "run_record.json").read_text())["results"] for run in (folder, tmp_path / "two")]
    assert reports[0]["test"]["num_faces"] == reports[1]["test"]["num_faces"] == 32
    assert reports[0]["test"]["loss"] == pytest.approx(reports[1]["test"]["loss"], abs=1e-5)


def test_a_run_from_scratch_ends_with_a_record_a_card_and_code_to_paste(tmp_path, monkeypatch, capsys):
    draw_no_pictures(monkeypatch)
    source = build("resnet50", network="resnet18")
    save_file(source.backbone.state_dict(), tmp_path / "faces.safetensors")
    overrides = {"network": "resnet18", "image_size": 32}
    call_recipe(
        monkeypatch, RECIPE, "--architecture", "resnet50", "--config_overrides", json.dumps(overrides),
        "--backbone_weights", tmp_path / "faces.safetensors", "--allow_unmatched_backbone_weights",
        "--dataset_name", "synthetic", "--dataset_options", '{"train": 16, "validation": 7, "test": 7}',
        "--max_steps", 2, "--per_device_train_batch_size", 8, "--output_dir", tmp_path / "run",
    )  # fmt: skip
    record = json.loads((tmp_path / "run" / "run_record.json").read_text())
    assert record["model"] == {
        "architecture": "resnet50",
        "source": "scratch",
        "backbone_weights": "faces.safetensors",
        "config_overrides": overrides,
        "parameters": 11_173_831,
    }
    card = (tmp_path / "run" / "README.md").read_text()
    assert "A model of the architecture `resnet50`, with 11,173,831 parameters." in card
    assert (
        "Built as `resnet50`, with fresh weights, `network` resnet18, `image_size` 32, and backbone "
        "weights from `faces.safetensors`. Best eval_accuracy"
    ) in card
    assert "base_model" not in card
    check_publishable(files_to_upload(tmp_path / "run"))
    _, _, ended = capsys.readouterr().out.partition("Use:\n\n")
    code, _, steps = ended.partition("\nLook:")
    assert "trust_remote_code=True" in code
    assert re.search(r"fer-hf report --run .*\nPublish: .*fer-hf push .*\nNext, FER-2013, .*fer-hf train", steps)
    monkeypatch.chdir(tmp_path)
    Image.new("L", (48, 48)).save("face.png")
    *first, last = code.strip().splitlines()
    exec("\n".join([*first, f"scores = {last}"]), names := {})
    assert len(names["scores"]) == 7


def test_a_run_with_a_multi_layer_head_says_so(small, tmp_path, monkeypatch):
    draw_no_pictures(monkeypatch)
    call_recipe(monkeypatch, RECIPE, *small, "--head", "mlp3", "--max_steps", 2, "--output_dir", tmp_path / "run")
    model = json.loads((tmp_path / "run" / "run_record.json").read_text())["model"]
    assert (model["architecture"], model["head"]) == ("MLPHeadForImageClassification", "mlp3")
    card = (tmp_path / "run" / "README.md").read_text()
    assert f"Started from `{model['name_or_path']}` with the head `mlp3`. Best" in card
    assert "An Image is Worth 16x16 Words" in card


def test_the_weights_after_the_last_epoch_score_as_their_checkpoint_does(small, tmp_path, monkeypatch):
    draw_no_pictures(monkeypatch)
    run = tmp_path / "run"
    words = ["--metric_for_best_model", "loss", "--score_last_epoch", "--output_dir", run]
    words += ["--lr_scheduler_type", "multistep"]  # the last epoch's steps are wild
    words += ["--lr_scheduler_kwargs", '{"milestones": [2], "gamma": 300}']
    call_recipe(monkeypatch, RECIPE, *small, *words)
    record = json.loads((run / "run_record.json").read_text())
    assert record["best"]["step"] < 21
    assert record["results"]["validation"]["loss"] == pytest.approx(record["best"]["value"], abs=1e-6)
    words = ["--dataset", "synthetic", "--dataset_options", small[small.index("--dataset_options") + 1]]
    words += ["--split", "validation+test", "--output", str(tmp_path / "last.json")]
    assert main(["evaluate", "--model", str(run / "checkpoint-21"), *words]) == 0
    found = json.loads((tmp_path / "last.json").read_text())["report"]
    last = record["last_epoch"]
    assert (last["epoch"], last["splits"], last["report"]["num_faces"]) == (3, ["validation", "test"], 64)
    assert last["report"]["loss"] == pytest.approx(found["loss"], abs=1e-6)
    assert last["report"]["confusion_matrix"] == found["confusion_matrix"]


def test_a_run_in_bfloat16_is_scored_in_float32_as_whoever_loads_its_model_scores_it(small, tmp_path, monkeypatch):
    draw_no_pictures(monkeypatch)
    run, options = tmp_path / "run", small[small.index("--dataset_options") + 1]
    call_recipe(monkeypatch, RECIPE, *small, "--bf16", "true", "--score_last_epoch", "--output_dir", run)
    record = json.loads((run / "run_record.json").read_text())
    words = ["--model", str(run), "--dataset", "synthetic", "--dataset_options", options]
    for split in ("validation", "test"):
        output = tmp_path / f"{split}.json"
        assert main(["evaluate", *words, "--split", split, "--output", str(output)]) == 0
        found, noted = json.loads(output.read_text())["report"], record["results"][split]
        assert noted["confusion_matrix"] == found["confusion_matrix"]
        assert noted["loss"] == pytest.approx(found["loss"], abs=1e-6)
    logits = load_predictions(run)["test"].logits
    table = load_dataset("synthetic", **json.loads(options))["test"]
    model, processor = load_trained_classifier(str(run))
    exact = score_faces(model, processor, table).logits
    with torch.autocast("cpu", torch.bfloat16):
        rounded = score_faces(model, processor, table).logits
    assert np.abs(logits - exact).max() < 1e-5 < np.abs(rounded - exact).max()


def test_a_finished_run_is_not_overwritten(finished, small, monkeypatch, capsys):
    folder, _ = finished
    before = (folder / "run_record.json").read_bytes()
    with pytest.raises(SystemExit) as stop:
        call_recipe(monkeypatch, RECIPE, *small, "--output_dir", folder)
    assert stop.value.code == 2
    assert "holds a finished run" in capsys.readouterr().err
    assert (folder / "run_record.json").read_bytes() == before


@pytest.fixture(scope="module")
def untested(drawn_faces, tmp_path_factory):
    """Folders of one's own images, with `train` and `val` only."""
    folder = tmp_path_factory.mktemp("faces")
    for split, name in (("train", "train"), ("validation", "val")):
        for row, face in enumerate(drawn_faces[split]):
            place = folder / name / drawn_faces[split].features["label"].names[face["label"]]
            place.mkdir(parents=True, exist_ok=True)
            face["image"].save(place / f"{row}.png")
    return folder


@pytest.fixture
def of_folders(start_point, untested):
    """Flags of a run of two steps on these folders."""
    return [
        "--model_name_or_path", start_point, "--dataset_name", "imagefolder", "--data_dir", untested,
        "--num_train_epochs", 1, "--per_device_train_batch_size", 28,
    ]  # fmt: skip


def test_a_run_without_a_test_split_ends_on_validation_and_every_reader_says_so(
    of_folders, untested, tmp_path, monkeypatch, capsys
):
    draw_no_pictures(monkeypatch)
    run = tmp_path / "run"
    limits = ("--max_train_samples", 21, "--max_eval_samples", 14)
    call_recipe(monkeypatch, RECIPE, *of_folders, *limits, "--output_dir", run)
    printed = capsys.readouterr().out
    assert "validation (selects): 14 faces" in printed
    assert "imagefolder has no test split: the run tested nothing." in printed
    record = json.loads((run / "run_record.json").read_text())
    assert (list(record["results"]), record["test_scored"]) == (["validation"], [])
    assert {name: record["training"][name] for name in ("max_train_samples", "max_eval_samples")} == {
        "max_train_samples": 21, "max_eval_samples": 14,
    }  # fmt: skip
    card = render_model_card(run)
    assert card.data.eval_results is None  # of a sample there is no result
    accuracy = record["results"]["validation"]["accuracy"]
    words = " ".join(card.text.split())
    assert "**The run tested nothing:** its data" in words
    data = ["--dataset", "imagefolder", "--data_dir", str(untested)]
    assert main(["report", "--run", str(run), *data]) == 0
    assert "The run tested nothing: its data have no test split" in (run / "report.html").read_text()
    assert compare_runs(run, run)["split"] == "validation"
    row = summarise("own", {}, [run])
    assert row_value(row, "final.accuracy")["mean"] == accuracy
    plan = {"rows": {"own": {}, "other": {}}}
    assert "| own (validation; nothing was tested) |" in leaderboard_table(plan, [row])
    # Of its own data, the run is scored on the faces that it took, of which each class has its share.
    assert record["dataset"]["counts"]["train"] == dict.fromkeys(record["dataset"]["counts"]["train"], 3)
    assert main(["evaluate", "--model", str(run), "--split", "validation", *data]) == 0
    evaluation = json.loads((run / "evaluation" / "imagefolder-validation-sample.json").read_text())
    assert evaluation["fingerprint"] == record["dataset"]["fingerprints"]["validation"]
    del record["training"]["max_eval_samples"], record["results"]["validation"]["max_eval_samples"]
    (run / "run_record.json").write_text(json.dumps(record))
    card = render_model_card(run)
    assert {(result.dataset_split, result.metric_name) for result in card.data.eval_results} == {
        ("validation", name) for name in ("Accuracy", "Macro F1", "Balanced accuracy")
    }
    words = " ".join(card.text.split())
    assert f"**Accuracy {accuracy:.4f}, macro F1" in words
    assert "of the validation split of the publisher's own images.** **The run tested nothing:** its data" in words
    add_to_gallery(run, tmp_path / "cards", "owner/own")
    assert f"| validation | {accuracy:.4f} |" in (tmp_path / "cards" / "README.md").read_text()
    check_publishable(files_to_upload(run))


def with_splits(folder, splits):
    """`folder` with other names for splits that lie elsewhere; flags of a run on it that carves nothing."""
    folder.mkdir()
    for name, place in splits.items():
        (folder / name).symlink_to(place)
    return ("--data_dir", folder, "--dataset_options", '{"validation_fraction": 0}')


def test_without_validation_a_run_is_refused_before_training_unless_it_keeps_its_last_epoch(
    of_folders, untested, tmp_path, monkeypatch, capsys
):
    draw_no_pictures(monkeypatch)
    splits = with_splits(tmp_path / "faces", {"train": untested / "train", "test": untested / "val"})
    flags = [*of_folders, *splits, "--output_dir", tmp_path / "run"]
    with pytest.raises(SystemExit) as stop:
        call_recipe(monkeypatch, RECIPE, *flags)
    assert stop.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: imagefolder has no validation split, which a run needs; `eval_strategy` no keeps")
    assert not (tmp_path / "run" / "model.safetensors").exists()
    call_recipe(monkeypatch, RECIPE, *flags, "--eval_strategy", "no")
    record = json.loads((tmp_path / "run" / "run_record.json").read_text())
    assert (list(record["results"]), record["best"]) == (["test"], None)
    assert record["runtime"]["steps"] == 2
    assert "No score chose among checkpoints" in (tmp_path / "run" / "README.md").read_text()


def test_a_run_that_nothing_could_score_is_refused(untested, of_folders, tmp_path, monkeypatch, capsys):
    train_alone = with_splits(tmp_path / "faces", {"train": untested / "train"})
    with pytest.raises(SystemExit):
        call_recipe(
            monkeypatch, RECIPE, *of_folders, *train_alone, "--eval_strategy", "no", "--output_dir", tmp_path / "run"
        )
    assert "imagefolder has no validation and no test split, which a run needs" in capsys.readouterr().err
