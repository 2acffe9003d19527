"""The record of a run: one definition, older records under the names of today, and holes refused in one line."""

import dataclasses
import json
from pathlib import Path

import pytest
from run_records import change_record, run_record

from fer_hf.errors import BadInputError
from fer_hf.runs.record import RunRecord
from fer_hf.runs.run import Run, as_run


ROOT = Path(__file__).parent.parent
SHIPPED = sorted(ROOT.glob("fer_hf/assets/*/run_record.json"))
KEPT = sorted(ROOT.glob("recipes/leaderboard/records/**/run_record.json"))
RESULTS = {"test": {"accuracy": 0.5, "balanced_accuracy": 0.4}}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "run_record.json"
    path.write_text(json.dumps(run_record(results=RESULTS)))
    return path


def test_a_record_is_read_as_it_was_written(tmp_path):
    record = RunRecord(**run_record(results=RESULTS), test_scored=[])
    record.write(tmp_path / "run_record.json")
    assert RunRecord.read(tmp_path / "run_record.json") == record
    assert [file.name for file in tmp_path.iterdir()] == ["run_record.json"]


def test_all_records_of_the_repository_can_be_read():
    assert len(SHIPPED) == 3
    assert len(KEPT) > 50
    for file in (*SHIPPED, *KEPT):
        record, content = RunRecord.read(file), json.loads(file.read_text())
        assert record.command == content["command"]
        for split, report in record.results.items():
            old = content["results"][split]
            for now, before in ((report, old), (report.get("without_copies", {}), old.get("without_copies", {}))):
                assert now.get("balanced_accuracy") == before.get(
                    "mean_class_accuracy", before.get("balanced_accuracy")
                )
        assert "mean_class_accuracy" not in json.dumps(dataclasses.asdict(record))


def test_an_older_record_is_read_under_the_names_of_today_and_stays_as_it_is(path):
    def age(record):
        record["best"]["metric"] = "eval_mean_class_accuracy"
        record["training"]["metric_for_best_model"] = "mean_class_accuracy"
        record["results"]["test"] = {"mean_class_accuracy": 0.4, "intervals": {"mean_class_accuracy": [0.3, 0.5]}}
        record["from_another_version"] = 1

    change_record(path.parent, age)
    before = path.read_bytes()
    record = RunRecord.read(path)
    assert record.best["metric"] == "eval_balanced_accuracy"
    assert record.training["metric_for_best_model"] == "balanced_accuracy"
    assert record.results["test"] == {"balanced_accuracy": 0.4, "intervals": {"balanced_accuracy": [0.3, 0.5]}}
    assert record.test_scored is None  # unknown, not never
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("model", "loss", "overrides"),
    [
        ({"architecture": "dacl-48", "config_overrides": {"mode": "softmax"}}, "softmax", None),
        (
            {"architecture": "dacl-48", "config_overrides": {"mode": "center", "stem": "small"}},
            "center",
            {"stem": "small"},
        ),
        ({"architecture": "dacl-48", "config_overrides": {"mode": "dacl"}}, "sparse_center", None),
        ({"architecture": "dacl-center"}, "center", None),
        ({"architecture": "compact-cnn", "config_overrides": {"widths": [8]}}, "focal", {"widths": [8]}),
        ({"architecture": "compact-vit", "config_overrides": '{"image_size": 64}'}, "focal", '{"image_size": 64}'),
    ],
)
def test_the_loss_says_what_the_mode_of_a_dacl_model_said(path, model, loss, overrides):
    def change(record):
        record["model"] = {**model, "parameters": 1}
        record["training"] = {"loss": "focal", "seed": 1}

    change_record(path.parent, change)
    record = RunRecord.read(path)
    assert record.training == {"loss": loss, "seed": 1}
    assert record.model.get("config_overrides") == overrides
    assert record.model["architecture"] == model["architecture"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.pop("seed"), r"run_record\.json lacks seed: is it"),
        (lambda record: record["runtime"].clear(), r"lacks runtime\.train_seconds"),
        (lambda record: [record.pop(key) for key in ("model", "command")], r"lacks command, model"),
        (lambda record: record.update(training=[1]), r"`training` must be a map, got \[1\]"),
        (lambda record: record.update(results={}), r"holds no results"),
    ],
)
def test_a_hole_is_named_with_its_file(path, change, message):
    change_record(path.parent, change)
    with pytest.raises(BadInputError, match=message) as refused:
        RunRecord.read(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "message"), [(None, "holds no run_record"), ("{", "is not valid JSON"), ("[]", "must hold a map")]
)
def test_a_file_that_holds_no_record_is_refused(path, content, message):
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(BadInputError, match=message):
        RunRecord.read(path)


def test_a_run_reads_each_file_once(path):
    run = as_run(as_run(path.parent))
    assert run.record.seed == 17
    path.unlink()
    assert run.record is run.record
    assert (run.name, run.pictures, run.log_history, run.evaluations) == (path.parent.name, [], None, [])


def test_old_names_of_scores_are_read_in_evaluations_and_logs_too(path):
    (path.parent / "evaluation").mkdir()
    entry = {"dataset": "rafdb", "split": "test", "report": {"mean_class_accuracy": 0.25}}
    (path.parent / "evaluation" / "rafdb-test.json").write_text(json.dumps(entry))
    log = {"log_history": [{"epoch": 1.0, "eval_mean_class_accuracy": 0.75}]}
    (path.parent / "trainer_state.json").write_text(json.dumps(log))
    run = Run(path.parent)
    assert run.evaluations == [{**entry, "report": {"balanced_accuracy": 0.25}, "tta": "none"}]
    assert run.log_history == [{"epoch": 1.0, "eval_balanced_accuracy": 0.75}]
    (path.parent / "evaluation" / "notes.json").write_text("{}")
    with pytest.raises(BadInputError, match=r"notes\.json lacks dataset, split, report"):
        assert Run(path.parent).evaluations


def test_a_folder_that_is_not_there_is_no_run(tmp_path):
    with pytest.raises(BadInputError, match=r"No run: .*nowhere does not exist"):
        Run(tmp_path / "nowhere")
