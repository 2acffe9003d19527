"""The leaderboard: its arithmetic by hand, its plans, and one row that is trained, finished and not trained again."""

import importlib.util
import json
import re
import shlex
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import yaml
from run_records import run_record

from fer_hf.cli.fine_tuning import Flags
from fer_hf.cli.parsing import parse_arguments
from fer_hf.errors import BadInputError
from fer_hf.models import ARCHITECTURES, describe
from fer_hf.runs import leaderboard_plan
from fer_hf.runs.leaderboard import leaderboard_table, row_value, summarise, write_leaderboard
from fer_hf.runs.leaderboard_plan import is_finished, planned_row, shrunk


ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "recipes" / "configs"
CPU = {"title": "the zoo", "about": "", "rows": {"low": {}, "high": {}}}  # a plan with the usual columns
PLANS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "recipes" / "leaderboard").glob("*.yaml")}


def record(seed, accuracy, **changes):
    test = {"num_faces": 100, "accuracy": accuracy, "macro_f1": accuracy - 0.1, "balanced_accuracy": accuracy - 0.2}
    test["intervals"] = {"accuracy": [accuracy - 0.03, accuracy + 0.01]}
    test["per_class"] = {"happy": {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 100}}
    parts = {
        "model": {"architecture": "Net", "parameters": 1234},
        "results": {"test": {**test, "without_copies": {"accuracy": accuracy / 2}}},
        "training": {"seed": seed, "global_batch_size": 16},
        "runtime": {"train_seconds": 60 * seed, "steps": 10},
        "seed": seed,
        "commit": f"c{seed}",
        "command": f"run --seed {seed}",
    }
    return run_record(**parts | changes)


def write(folder, content):
    folder.mkdir(parents=True)
    (folder / "run_record.json").write_text(json.dumps(content))
    return folder


def test_a_row_is_the_mean_and_sample_deviation_over_seeds(tmp_path):
    folders = [
        write(tmp_path / str(seed), record(seed, accuracy)) for seed, accuracy in ((1, 0.5), (2, 0.6), (3, 0.7))
    ]
    row = summarise("net", {"published": "0.61 on 100 images"}, folders)
    assert row_value(row, "final.accuracy") == {"mean": pytest.approx(0.6), "sd": pytest.approx(0.1)}
    assert row_value(row, "test.without_copies.accuracy")["mean"] == pytest.approx(0.3)
    assert row_value(row, "final.intervals.accuracy") == pytest.approx([0.57, 0.61])
    assert row_value(row, "minutes")["mean"] == pytest.approx(2)
    assert row_value(row, "faces_seen")["mean"] == 160
    assert row_value(row, "validation.accuracy") is None
    assert (row["seeds"], row["commits"]) == (3, ["c1", "c2", "c3"])
    parts = [{"from_step": 0, "commit": None}, {"from_step": 5, "commit": "c1"}]
    write(tmp_path / "resumed", record(1, 0.5, runtime={"train_seconds": 1, "steps": 10, "commits": parts}))
    assert summarise("net", {}, [tmp_path / "resumed"])["commits"] == ["c1", "unknown"]
    assert row["commands"][2] == "run --seed 3"
    one = summarise("net", {}, folders[:1])
    assert row_value(one, "final.macro_f1") == {"mean": pytest.approx(0.4), "sd": None}


def test_the_table_is_ranked_and_says_what_was_published(tmp_path):
    published = {"published": "0.9 on its | training images", "multiply_adds": 12_300_000}
    low = summarise("low", published, [write(tmp_path / "low", record(1, 0.3))])
    high = summarise("high", {}, [write(tmp_path / "a", record(1, 0.5)), write(tmp_path / "b", record(2, 0.7))])
    lines = leaderboard_table(CPU, [low, summarise("not run", {}, []), high]).splitlines()
    assert lines[2].startswith(
        "| high | 1,234 | - | 160 | 0.6000 ± 0.1414 | 0.5700 to 0.6100 | 0.3000 ± 0.0707 | 0.5000 ± 0.1414 |"
    )
    assert lines[2].endswith("| 2 | 1.5 | - |")
    assert lines[3].startswith("| low | 1,234 | 12.3 M | 160 | 0.3000 | 0.2700 to 0.3100 | 0.1500 | 0.2000 |")
    assert lines[3].endswith("| 1 | 1.0 | 0.9 on its \\| training images |")
    assert len(lines) == 4


def report(matrix):
    """The parts of a report that a source's table reads, of three classes."""
    counts = np.array(matrix)
    per_class = {
        name: {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 1} for name in ("angry", "sad", "happy")
    }
    accuracy = counts.diagonal().sum() / counts.sum()
    return {"num_faces": int(counts.sum()), "accuracy": accuracy, "per_class": per_class, "confusion_matrix": matrix}


def test_a_sources_table_has_its_columns_and_rows_published_beside_measured(tmp_path):
    results = {
        "validation": report([[1, 1, 0], [0, 2, 0], [0, 0, 0]]),
        "test": report([[0, 0, 2], [0, 0, 0], [0, 0, 4]]),
    }
    last = {"epoch": 2, "splits": ["validation", "test"], "report": report([[0, 4, 0], [0, 2, 0], [0, 4, 0]])}
    run = write(tmp_path / "run", record(0, 0, results=results, last_epoch=last))
    columns = {
        "rank": "rank", "network": "printed.network", "accuracy": ["printed.accuracy", "last_epoch.accuracy"],
        "ours": "test.accuracy", "F1": "both.macro_f1", "place": "measured_rank", "note": "note",
    }  # fmt: skip
    plan = {"title": "report", "about": "", "columns": columns, "rows": {"a": {}, "b": {}}}
    plan |= {"measured": "last_epoch.accuracy", "compared": "printed.accuracy"}
    rows = [
        summarise("a", {"printed": {"network": "A", "accuracy": "0.60"}, "notes": ["no figure | yet"]}, []),
        summarise("b", {"printed": {"network": "B", "accuracy": 0.5}}, [run]),
    ]
    # Together: angry 1 of 4 right, called once; sad 2 of 2, called three times; happy 4 of 4, called six times.
    f1 = (2 * 1 / (4 + 1) + 2 * 2 / (2 + 3) + 2 * 4 / (4 + 6)) / 3
    assert leaderboard_table(plan, rows).splitlines()[2:] == [
        "| 1 | A | 0.60 / not run | not run | not run | - | no figure \\| yet |",
        f"| 2 | B | 0.5 / 0.2000 | 0.6667 | {f1:.4f} | 1 | no improvement: every face is called sad |",
    ]
    write_leaderboard(tmp_path / "board", plan, rows)
    # A run of before the last epoch was scored.
    older = summarise("a", {}, [write(tmp_path / "older", record(0, 0, results=results))])
    write_leaderboard(tmp_path / "older_board", plan, [older])
    assert leaderboard_table(plan, [older]).splitlines()[2] == f"| 1 | - | - / - | 0.6667 | {f1:.4f} | - | - |"
    upright = leaderboard_table({**plan, "rows": {"b": {}}}, rows[1:]).splitlines()
    assert upright[:3] == ["| rank | 1 |", "| --- | --- |", "| network | B |"]


def header_figures(config):
    """The shares that a configuration's header quotes, those in percent too."""
    words = re.findall(r"(\d+\.\d+)( %)?", (CONFIGS / config).read_text().split("\narchitecture")[0])
    return {round(float(figure) / (100 if percent else 1), 4) for figure, percent in words}


def test_the_figures_of_a_sources_table_stand_in_the_headers_of_its_configurations():
    for budget, plan in PLANS.items():
        for name, row in plan["rows"].items():
            figures = [
                row.get("printed", {}).get(key) for key in ("accuracy", "balanced_accuracy", "f1", "best", "last")
            ]
            quoted = header_figures(row["config"]) if "printed" in row else set()
            assert {float(figure) for figure in figures if figure is not None} <= quoted, (budget, name)


def test_the_cnn_comparison_has_the_reports_seventeen_rows_in_its_order():
    rows = [row["printed"] for row in PLANS["cnn_comparison"]["rows"].values()]
    accuracies = [float(row["accuracy"]) for row in rows]
    assert len(rows) == len(list(CONFIGS.glob("cnn_comparison_*.yaml"))) == 17
    assert accuracies == sorted(accuracies, reverse=True)
    for row, planned in zip(rows, PLANS["cnn_comparison"]["rows"].values(), strict=True):
        config = yaml.safe_load((CONFIGS / planned["config"]).read_text())
        assert (row["optimizer"].lower(), row["epochs"]) == (config["optim"], config["num_train_epochs"])
        assert float(row["learning_rate"]) == float(config["learning_rate"])
        assert (row["augmentation"] == "no") == (config["augmentation"] == "none")
        assert config["score_last_epoch"]


def test_a_smaller_table_says_what_is_smaller_and_which_row_cannot_be(monkeypatch):
    monkeypatch.setattr(leaderboard_plan, "describe", described)
    flags = ["--max_train_samples", "2000", "--use_cpu", "--cpu_threads", "1", "--dataloader_num_workers", "2"]
    plan = shrunk(PLANS["cnn_comparison"], 64, 1, flags)
    assert plan["title"] == (
        "The CNN comparison on FER-2013 (faces of 64 pixels at most, 1 epoch, --max_train_samples 2000)"
    )
    row = planned_row(plan["rows"]["dacl_adam"], plan, CONFIGS)
    assert row["flags"] == {"config_overrides": {"image_size": 64}, "num_train_epochs": 1}
    tiny = shrunk(PLANS["cnn_comparison"], 32, None, [])
    refused = planned_row(tiny["rows"]["alexnet_adam"], tiny, CONFIGS)
    assert refused["refused"]
    assert refused["notes"][0].startswith("not run: Given input size: (256x1x1)")
    vits = shrunk(PLANS["cnn_vit"], 64, None, [])
    assert planned_row(vits["rows"]["cnn_v2"], vits, CONFIGS)["flags"] == {}  # 48 pixels
    assert planned_row(vits["rows"]["vit_v1_3"], vits, CONFIGS)["notes"] == [
        "not run: google/vit-base-patch16-224 takes faces of its own size alone"
    ]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"model": {"architecture": "Other", "parameters": 1}}, "models"),
        ({"dataset": {"name": "rafdb", "fingerprints": {}, "counts": {}}}, "data"),
        ({"training": {"seed": 2, "global_batch_size": 32}}, "flags"),
    ],
)
def test_runs_that_do_not_belong_together_are_refused(tmp_path, change, what):
    folders = [write(tmp_path / "a", record(1, 0.5)), write(tmp_path / "b", record(2, 0.5, **change))]
    with pytest.raises(BadInputError, match=f"the runs of row net are of different {what}"):
        summarise("net", {}, folders)


@pytest.mark.parametrize("budget", PLANS)
def test_every_row_names_what_exists(budget):
    for row in PLANS[budget]["rows"].values():
        assert (ROOT / "recipes" / f"{row.get('recipe', 'train')}.py").is_file()
        assert row.get("architecture", "compact-cnn") in ARCHITECTURES
        for config in (row.get("config"), row.get("published_in")):
            assert config is None or (CONFIGS / config).is_file()


DESCRIBED = {}


def described(name, **overrides):
    """As `describe`, once for all tests of this file: of large networks it takes a second."""
    key = name, json.dumps(overrides, sort_keys=True)
    if key not in DESCRIBED:
        DESCRIBED[key] = describe(name, **overrides)
    return DESCRIBED[key]


@pytest.fixture
def recipe(monkeypatch):
    """The recipe as a module, which other tests' recipes must not find under that name."""
    spec = importlib.util.spec_from_file_location("leaderboard_recipe", ROOT / "recipes" / "leaderboard.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(leaderboard_plan, "describe", described)
    monkeypatch.chdir(ROOT)
    return module


@pytest.fixture
def leaderboard(recipe, monkeypatch):
    def call(*words):
        monkeypatch.setattr(sys, "argv", ["recipes/leaderboard.py", *map(str, words)])
        recipe.main()

    return call


def test_every_row_of_a_budget_spends_it_within_half_a_step(monkeypatch):
    monkeypatch.setattr(leaderboard_plan, "describe", described)
    plan = PLANS["cpu"]
    for name, row in plan["rows"].items():
        planned = planned_row(row, plan, CONFIGS)
        cost = described(row["architecture"], **row.get("config_overrides", {}))["multiply_adds"]
        step = 3 * 64 * cost  # forward, and twice that backward, of 64 faces
        assert abs(planned["flags"]["max_steps"] * step - plan["multiply_adds"]) <= step / 2, name
    one, two = (planned_row(plan["rows"]["cnn-v1"], plan, CONFIGS, processes) for processes in (1, 2))
    assert two["flags"]["max_steps"] == one["flags"]["max_steps"] // 2


def test_what_was_published_is_quoted_whole_from_the_configurations(monkeypatch):
    monkeypatch.setattr(leaderboard_plan, "describe", described)
    rows = {name: planned_row(row, PLANS["cpu"], CONFIGS)["published"] for name, row in PLANS["cpu"]["rows"].items()}
    assert rows["vgg-fer-48"] == (
        "accuracy 73.28 % on PublicTest (3,589 images, the mean over ten crops of each); PrivateTest scheduled and "
        "selected"
    )
    assert rows["compact-cnn"] == ""
    assert rows["prelu-cnn"].startswith("accuracy 0.6137 at epoch 23")
    assert rows["prelu-cnn"].endswith("a random mirror image also in testing")


@pytest.mark.parametrize("budget", PLANS)
def test_the_flags_of_every_row_are_flags_of_its_recipe(recipe, monkeypatch, budget, tmp_path):
    args = Namespace(output_dir=str(tmp_path), num_processes=1, data_dir=None, flags=["--use_cpu"], jobs=2)
    args.disable_tqdm = True
    for name, row in PLANS[budget]["rows"].items():
        words = recipe.command(name, planned_row(row, PLANS[budget], CONFIGS), args, seed=3)
        start = next(i for i, word in enumerate(words) if word.endswith(".py"))
        monkeypatch.setattr(sys, "argv", words[start:])
        *flags, _ = parse_arguments(tuple(Flags.__annotations__.values()), name, ROOT / "no such demo.yaml")
        assert Flags(*flags).training.seed == 3, name


def test_a_dry_run_prints_the_commands_and_trains_nothing(leaderboard, capsys, tmp_path):
    leaderboard("--dry_run", "--only", "cnn-v1", "--output_dir", tmp_path / "out")
    command, forecast = capsys.readouterr().out.splitlines()
    assert command.startswith("cnn-v1: accelerate launch --num_processes 1 recipes/train.py ")
    assert "--architecture cnn-v1 --max_steps 2508 " in command
    assert forecast == "    2,508 steps, 160,512 faces at 12.5 M multiply-adds: 6.0e+12 in all"
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_row_is_trained_and_scored_by_its_recipe_once(leaderboard, capsys, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (85, 48 * 48))
    usages = ["Training"] * 64 + ["PublicTest"] * 7 + ["PrivateTest"] * 14
    lines = [f"{i % 7},{' '.join(map(str, face))},{usages[i]}" for i, face in enumerate(pixels)]
    (tmp_path / "fer2013.csv").write_text("\n".join(["emotion,pixels,Usage", *lines]))
    words = ("--data_dir", tmp_path, "--only", "cnn-v1", "--output_dir", tmp_path / "out", "--disable_tqdm")
    leaderboard(*words, "--flags=--max_steps 2 --use_cpu --cpu_threads 1")
    (row,) = json.loads((tmp_path / "out" / "leaderboard.json").read_text())["rows"]
    report = json.loads((tmp_path / "out" / "cnn-v1" / "seed-0" / "classification_report.json").read_text())
    assert row["values"]["final.accuracy"]["mean"] == report["test"]["accuracy"]
    assert row["values"]["faces_seen"]["mean"] == 2 * 64
    assert row["commands"][0] in (tmp_path / "out" / "leaderboard.md").read_text()
    leaderboard(*words, "--flags=--max_steps 2 --use_cpu --cpu_threads 1")
    assert "finished before" in capsys.readouterr().out
    assert (tmp_path / "out" / "leaderboard.png").stat().st_size > 5_000


@pytest.fixture
def ran(recipe, monkeypatch):
    """Runs that take no time; those of cnn-v2 fail."""
    names = []

    def run(commands, jobs, seconds, logs):
        for folder, words in commands:
            names.append(folder.parent.name)
            if folder.parent.name != "cnn-v2":
                write(folder, record(0, 0.4, command=shlex.join(["accelerate", "launch", *words[3:]])))
            yield folder

    monkeypatch.setattr(recipe, "run_commands", run)
    return names


def test_finished_rows_stay_and_one_that_fails_stops_no_other(leaderboard, ran, capsys, tmp_path):
    words = ("--data_dir", tmp_path, "--output_dir", tmp_path / "out", "--only")
    with pytest.raises(BadInputError, match=r"cnn-v2: a run did not finish"):
        leaderboard(*words, "cnn-v1", "cnn-v2", "prelu-cnn")
    assert sorted(ran) == ["cnn-v1", "cnn-v2", "prelu-cnn"]
    # What was not asked for is not trained, and what is finished stays in the table.
    leaderboard(*words, "compact-cnn", "cnn-v1", "--flags=--cpu_threads=1")
    assert ran[3:] == ["compact-cnn"]
    assert capsys.readouterr().out.count("finished before") == 1
    rows = json.loads((tmp_path / "out" / "leaderboard.json").read_text())["rows"]
    assert {row["name"] for row in rows} == {"cnn-v1", "prelu-cnn", "compact-cnn"}


def test_rows_that_were_not_asked_for_stay_with_their_own_seeds_and_flags(leaderboard, ran, capsys, tmp_path):
    words = ("--data_dir", tmp_path, "--output_dir", tmp_path / "out", "--only")
    leaderboard(*words, "prelu-cnn", "--seeds", "2")
    leaderboard(*words, "compact-cnn", "--flags=--max_grad_norm 3")
    leaderboard(*words, "cnn-v1", "--seeds", "0", "1")
    assert f"compact-cnn is left out of the table: {tmp_path / 'out' / 'compact-cnn'}" in capsys.readouterr().out
    rows = json.loads((tmp_path / "out" / "leaderboard.json").read_text())["rows"]
    assert {row["name"]: row["seeds"] for row in rows} == {"prelu-cnn": 1, "cnn-v1": 2}


def test_records_are_kept_where_weights_are_not(leaderboard, ran, tmp_path):
    words = ("--data_dir", tmp_path, "--output_dir", tmp_path / "out", "--records_dir", tmp_path / "kept")
    leaderboard(*words, "--only", "cnn-v1", "--seeds", "0", "1")
    kept, out = tmp_path / "kept" / "cpu", tmp_path / "out"
    files = {path.relative_to(kept).as_posix() for path in kept.rglob("*") if path.is_file()}
    records = {f"cnn-v1/seed-{seed}/run_record.json" for seed in (0, 1)}
    assert files == {"leaderboard.md", "leaderboard.json", "leaderboard.png", *records}
    for file in files:
        assert (kept / file).read_bytes() == (out / file).read_bytes()


def test_a_run_of_another_command_does_not_pass_for_a_row(leaderboard, ran, tmp_path):
    words = ("--data_dir", tmp_path, "--output_dir", tmp_path / "out", "--only", "cnn-v1")
    leaderboard(*words, "--flags=--max_steps 2")
    with pytest.raises(
        BadInputError, match=r"cnn-v1: .* holds a run of another command \(.*--max_steps 2\); delete it"
    ):
        leaderboard(*words)
    with pytest.raises(BadInputError, match=r"holds a run on 1 process, not 2; choose `output_dir`"):
        leaderboard(*words, "--flags=--max_steps 2", "--num_processes", "2")
    assert ran == ["cnn-v1"]


def finished_records(budget):
    for path in sorted((ROOT / "recipes" / "leaderboard" / "records" / budget).glob("*/seed-*/run_record.json")):
        yield path.parents[1].name, int(path.parent.name.removeprefix("seed-")), path.parent


@pytest.mark.parametrize("budget", [budget for budget in PLANS if "columns" not in PLANS[budget]])
def test_runs_of_older_commands_are_finished_rows(recipe, budget):
    args = Namespace(output_dir="out", num_processes=1, data_dir="/faces", flags=[], disable_tqdm=True, jobs=2)
    rows = {name: planned_row(row, PLANS[budget], CONFIGS) for name, row in PLANS[budget]["rows"].items()}
    found = list(finished_records(budget))
    finished = {name for name, *_ in found}
    assert finished <= rows.keys()
    table = json.loads((ROOT / "recipes" / "leaderboard" / "records" / budget / "leaderboard.json").read_text())
    assert {row["name"]: row["multiply_adds"] for row in table["rows"]} == {
        name: rows[name]["multiply_adds"] for name in finished
    }
    for name, seed, run_dir in found:
        words = recipe.command(name, rows[name], args, seed)
        assert is_finished(run_dir, words)
        with pytest.raises(BadInputError, match="a run of another command"):
            is_finished(run_dir, [*words, "--max_grad_norm", "0.125"])


def test_a_run_of_another_course_is_no_finished_row(tmp_path):
    run = write(tmp_path / "run", record(0, 0.5, command="accelerate launch recipes/mae_pretrain.py --seed 0"))
    words = "accelerate launch --num_processes 1 recipes/{}.py --seed 0"
    assert is_finished(run, words.format("mae_pretrain").split())
    with pytest.raises(BadInputError, match="a run of another command"):
        is_finished(run, words.format("train").split())


def test_bad_words_are_refused(leaderboard, tmp_path):
    with pytest.raises(BadInputError, match="got 'resnet51'"):
        leaderboard("--only", "resnet51", "--data_dir", tmp_path)
    with pytest.raises(BadInputError, match="`data_dir` is missing"):
        leaderboard()
    with pytest.raises(BadInputError, match="`--scale`: must be at least 1, got 0"):
        leaderboard("--scale", "0")
    with pytest.raises(BadInputError, match="`epochs` 3 does not go with this budget"):
        leaderboard("--epochs", "3")
    with pytest.raises(BadInputError, match="`flags` must be flags of the recipe, such as '--use_cpu', got 'use_cpu'"):
        leaderboard("--flags", "use_cpu")
    with pytest.raises(BadInputError, match=r"`--flags`.*invalid"):
        leaderboard("--flags", "--use_cpu '")
