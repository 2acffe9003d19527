"""The leaderboard: its arithmetic by hand, its plans, and one row that is trained, finished and not trained again."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fer_hf.errors import BadInputError
from fer_hf.evaluation.leaderboard import leaderboard_table, summarise
from fer_hf.models import ARCHITECTURES


ROOT = Path(__file__).parent.parent
PLANS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "recipes" / "leaderboard").glob("*.yaml")}


def record(seed, accuracy, **changes):
    test = {"num_faces": 100, "accuracy": accuracy, "macro_f1": accuracy - 0.1, "mean_class_accuracy": accuracy - 0.2}
    return {
        "model": {"architecture": "Net", "parameters": 1234},
        "dataset": {"fingerprints": {"test": "f"}},
        "results": {"test": {**test, "without_copies": {"accuracy": accuracy / 2}}},
        "runtime": {"train_seconds": 60 * seed},
        "seed": seed,
        "hardware": {"device": "cpu"},
        "commit": f"c{seed}",
        "command": f"run --seed {seed}",
        **changes,
    }


def write(folder, content):
    folder.mkdir(parents=True)
    (folder / "run_record.json").write_text(json.dumps(content))
    return folder


def test_a_row_is_the_mean_and_sample_deviation_over_seeds(tmp_path):
    folders = [
        write(tmp_path / str(seed), record(seed, accuracy)) for seed, accuracy in ((1, 0.5), (2, 0.6), (3, 0.7))
    ]
    row = summarise("net", "0.61 on 100 images", folders)
    assert row["accuracy"] == {"mean": pytest.approx(0.6), "sd": pytest.approx(0.1)}
    assert row["accuracy_without_copies"]["mean"] == pytest.approx(0.3)
    assert row["train_minutes"] == pytest.approx(2)
    assert (row["seeds"], row["commits"]) == ([1, 2, 3], ["c1", "c2", "c3"])
    assert row["commands"][2] == "run --seed 3"
    assert summarise("net", "", folders[:1])["macro_f1"] == {"mean": pytest.approx(0.4), "sd": None}


def test_the_table_is_ranked_and_says_what_was_published(tmp_path):
    low = summarise("low", "0.9 on its training images", [write(tmp_path / "low", record(1, 0.3))])
    high = summarise("high", "", [write(tmp_path / "a", record(1, 0.5)), write(tmp_path / "b", record(2, 0.7))])
    lines = leaderboard_table([{**low, "multiply_adds": 12_300_000, "faces_seen": 4096}, high]).splitlines()
    assert lines[2].startswith("| high | 1,234 | - | - | 0.6000 ± 0.1414 | 0.3000 ± 0.0707 | 0.5000 ± 0.1414 |")
    assert lines[2].endswith("| 2 | 1.5 | - |")
    assert lines[3].startswith("| low | 1,234 | 12.3 M | 4,096 | 0.3000 | 0.1500 | 0.2000 |")
    assert lines[3].endswith("| 1 | 1.0 | 0.9 on its training images |")


@pytest.mark.parametrize(
    ("change", "what"),
    [({"model": {"architecture": "Other", "parameters": 1}}, "models"), ({"dataset": {"fingerprints": {}}}, "data")],
)
def test_runs_that_do_not_belong_together_are_refused(tmp_path, change, what):
    folders = [write(tmp_path / "a", record(1, 0.5)), write(tmp_path / "b", record(2, 0.5, **change))]
    with pytest.raises(BadInputError, match=f"The runs of row net are of different {what}"):
        summarise("net", "", folders)


@pytest.mark.parametrize("budget", PLANS)
def test_every_row_names_what_exists(budget):
    for row in PLANS[budget]["rows"].values():
        assert (ROOT / "recipes" / f"{row['recipe']}.py").is_file()
        assert row.get("architecture", "compact-cnn") in ARCHITECTURES
        assert (ROOT / "recipes" / "configs" / row.get("config", "demo_dacl.yaml")).is_file()


def leaderboard(*words):
    command = [sys.executable, "recipes/leaderboard.py", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_dry_run_spends_the_same_multiply_adds_on_every_row():
    done = leaderboard("--dry_run")
    assert done.returncode == 0, done.stderr
    spent = []
    for steps, cost in re.findall(r"([\d,]+) steps, [\d,]+ faces at ([\d,.]+) M multiply-adds", done.stdout):
        step = 3 * 64 * float(cost.replace(",", "")) * 1e6
        spent.append((int(steps.replace(",", "")) * step, step))
    assert len(spent) == len(PLANS["cpu"]["rows"])
    assert all(abs(total - PLANS["cpu"]["multiply_adds"]) <= step / 2 * 1.01 for total, step in spent)


def test_a_row_is_trained_once(tmp_path):
    flags = "--max_steps 2 --eval_steps 2 --save_steps 2 --dataset_name synthetic --use_cpu --cpu_threads 1 "
    flags += '--dataset_options \'{"train": 64, "validation": 7, "test": 14}\''
    words = ("--data_dir", tmp_path, "--only", "cnn-v1", "--output_dir", tmp_path / "out", "--flags", flags)
    first = leaderboard(*words, "--disable_tqdm")
    assert first.returncode == 0, first.stderr
    second = leaderboard(*words, "--disable_tqdm")
    assert "finished before" in second.stdout
    (row,) = json.loads((tmp_path / "out" / "leaderboard.json").read_text())["rows"]
    report = json.loads((tmp_path / "out" / "cnn-v1" / "seed-0" / "classification_report.json").read_text())
    assert row["accuracy"]["mean"] == report["test"]["accuracy"]
    assert (tmp_path / "out" / "leaderboard.md").read_text().count("| cnn-v1 |") == 1
    assert (tmp_path / "out" / "leaderboard.png").stat().st_size > 5_000


def test_bad_words_end_with_one_line(tmp_path):
    done = leaderboard("--only", "resnet51", "--data_dir", tmp_path)
    assert done.returncode == 2
    assert "got 'resnet51'" in done.stderr.splitlines()[-1]
    assert leaderboard().stderr == "error: `data_dir` is missing: the folder of FER-2013.\n"
