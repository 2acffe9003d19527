"""The search as a user runs it: what it tries, from which weights, on which faces, and what it does not do twice."""

import json
from pathlib import Path

import pytest
import torch
from helpers import arguments, call_recipe, make_trainer
from matplotlib.figure import Figure
from transformers import EarlyStoppingCallback, ViTImageProcessor, ViTModel

from fer_hf.cli.search import SearchArguments, best_result, best_validation, optuna_search, search_table, sweep
from fer_hf.errors import BadInputError
from fer_hf.plots import plot_search, plot_search_losses
from fer_hf.training import FerTrainer, GradualUnfreezing


RECIPE = Path(__file__).parent.parent / "recipes" / "lr_search.py"


@pytest.mark.parametrize(
    ("flags", "rates"),
    [
        ({"learning_rates": "1e-3,1e-4,0.01,1e-4"}, [1e-4, 1e-3, 1e-2]),
        ({"lr_min": 1e-4, "lr_max": 1e-2, "lr_steps": 3}, [1e-4, 1e-3, 1e-2]),
        ({"lr_min": 1e-4, "lr_max": 1e-3, "lr_steps": 3}, [1e-4, 3.16e-4, 1e-3]),
    ],
)
def test_rates_are_those_listed_or_even_on_a_log_scale(flags, rates):
    assert SearchArguments(**flags).rates() == pytest.approx(rates)


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ({"learning_rates": "1e-3;1e-4"}, "`learning_rates` must be numbers"),
        ({"learning_rates": "1e-3,0"}, "`learning_rates` must be above 0"),
        ({"lr_min": 1e-2, "lr_max": 1e-3}, "`lr_min` must be above 0 and below `lr_max`"),
        ({"lr_steps": 1}, "`lr_steps` must be at least 2"),
        ({"batch_sizes": "8,x"}, "`batch_sizes` must be numbers"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(flags, line):
    with pytest.raises(BadInputError, match=line):
        SearchArguments(**flags)


class Runs:
    """Makers for a search over tiny models, that note what was trained, and from which weights."""

    def __init__(self, faces, processor, folder, **flags):
        self.faces, self.processor, self.folder, self.flags = faces, processor, folder, flags
        self.starts, self.trained = [], []

    def args(self):
        return self.trainer(None).args

    def trainer(self, model, args=None, callbacks=()):
        trainer = make_trainer(
            self.faces, self.processor, self.folder, model, callbacks, num_train_epochs=2, **self.flags
        )
        if args is not None:
            trainer = FerTrainer(
                model, args, trainer.data_collator, trainer.train_dataset, trainer.eval_dataset,
                compute_metrics=trainer.compute_metrics, processing_class=self.processor,
                callbacks=[make(model) for make in callbacks],
            )  # fmt: skip
        return trainer

    def model(self):
        torch.manual_seed(5)
        return self.trainer(None).model

    def make_trainer(self, model, args):
        runs, trainer = self, self.trainer(model, args, self.callbacks)
        step = trainer.training_step

        def training_step(model, *rest):
            if trainer.state.global_step == 0:
                runs.starts.append({name: value.clone() for name, value in model.state_dict().items()})
                runs.trained.append(trainer.args.learning_rate)
            return step(model, *rest)

        trainer.training_step = training_step
        return trainer

    callbacks = ()


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_every_rate_starts_from_the_same_weights_and_a_finished_one_is_not_run_again(drawn_faces, processor, tmp_path):
    runs = Runs(drawn_faces, processor, tmp_path)
    first = sweep(runs.model, runs.make_trainer, runs.args(), [1e-4, 1e-3], tmp_path)
    assert runs.trained == [1e-4, 1e-3]
    assert same(runs.starts[0], runs.starts[1])
    assert not list(tmp_path.glob("**/*.safetensors"))
    again = sweep(runs.model, runs.make_trainer, runs.args(), [1e-4, 3e-4, 1e-3], tmp_path)
    assert runs.trained == [1e-4, 1e-3, 3e-4]
    assert [again[0], again[2]] == first
    # What a rate gives does not hang on what ran before it.
    alone = sweep(runs.model, runs.make_trainer, runs.args(), [1e-3], (tmp_path / "x").mkdir() or tmp_path / "x")
    assert alone[0]["value"] == first[1]["value"]


def test_a_rate_at_which_the_loss_is_no_number_is_left_out(drawn_faces, processor, tmp_path, caplog):
    runs = Runs(drawn_faces, processor, tmp_path, max_grad_norm=0.0)
    results = sweep(runs.model, runs.make_trainer, runs.args(), [1e-3, 1e38], tmp_path)
    assert [row["learning_rate"] for row in results] == [1e-3]
    assert "learning rate 1e+38 is left out: The loss is not a number from step" in caplog.text
    with pytest.raises(BadInputError, match="Every learning rate was too high"):
        sweep(runs.model, runs.make_trainer, runs.args(), [1e38], tmp_path)


def test_the_best_validation_counts_not_the_last(drawn_faces, processor, tmp_path):
    trainer = make_trainer(drawn_faces, processor, tmp_path)
    trainer.state.log_history = [
        {"epoch": 1.0, "eval_accuracy": 0.3},
        {"epoch": 2.0, "eval_accuracy": 0.5},
        {"epoch": 2.0, "loss": 1.0},
        {"epoch": 3.0, "eval_accuracy": 0.4},
    ]
    assert best_validation(trainer) == {"value": 0.5, "epoch": 2.0}
    trainer.args.greater_is_better = False
    assert best_validation(trainer) == {"value": 0.3, "epoch": 1.0}
    trainer.state.log_history = []
    with pytest.raises(BadInputError, match="set `eval_strategy`"):
        best_validation(trainer)


def test_optuna_starts_every_trial_anew_and_goes_on_where_it_stopped(drawn_faces, processor, tmp_path):
    pytest.importorskip("optuna")
    runs = Runs(drawn_faces, processor, tmp_path)
    waited = []

    class Patience(EarlyStoppingCallback):
        def on_train_begin(self, *args, **kwargs):
            waited.append(self.early_stopping_patience_counter)

    thawing = [lambda model: GradualUnfreezing(model, every=1), lambda _: Patience(1)]
    runs.callbacks = thawing
    search = SearchArguments(search="optuna", trials=2, batch_sizes="8,16", lr_min=1e-4, lr_max=1e-1)
    first = optuna_search(runs.model, runs.make_trainer, runs.args(), search, tmp_path)
    assert [row["trial"] for row in first] == [0, 1]
    assert all({"epoch", "loss"} in map(set, row["curve"]) for row in first)
    assert same(runs.starts[0], runs.starts[1])
    assert waited == [0, 0]
    assert runs.trained == [row["learning_rate"] for row in first]
    assert {row["optim"] for row in first} <= {"adamw_torch", "sgd"}
    assert {row["per_device_train_batch_size"] for row in first} <= {8, 16}
    search.trials = 3
    again = optuna_search(runs.model, runs.make_trainer, runs.args(), search, tmp_path)
    assert again[:2] == first
    assert len(again) == len(runs.trained) == 3
    assert again[2]["learning_rate"] not in {row["learning_rate"] for row in first}


RESULTS = [
    {"learning_rate": 1e-4, "value": 0.25, "epoch": 2.0, "seconds": 1.0},
    {"learning_rate": 1e-3, "value": 0.5, "epoch": 1.0, "seconds": 1.0},
]


def test_the_table_marks_the_best_in_the_metrics_own_direction(tmp_path):
    assert search_table(RESULTS, "accuracy").splitlines() == [
        "| learning rate | best validation accuracy | at epoch |",
        "| --- | --- | --- |",
        "| 0.0001 | 0.25 | 2 |",
        "| **0.001** | **0.5** | **1** |",
    ]
    assert best_result(RESULTS, "loss") is RESULTS[0]
    plot_search(RESULTS, "accuracy", tmp_path / "search.png")
    assert (tmp_path / "search.png").stat().st_size > 10_000


def test_the_losses_of_a_search_are_drawn_for_each_rate_and_one_that_diverges_hides_no_other(monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **kwargs: figures.append(figure))
    losses = {1e-3: (1.0, 0.5), 1e-4: (1.5, 1.2), 1e-2: (900.0, float("nan"))}
    rows = [
        {"learning_rate": rate, "curve": [{"epoch": i + 1, "loss": value} for i, value in enumerate(values)]}
        for rate, values in losses.items()
    ]
    rows[0]["curve"] += [{"epoch": 1, "eval_loss": 1.1}, {"epoch": 2, "eval_loss": 0.9}]
    plot_search_losses([*rows, {"learning_rate": 1e-5}], tmp_path / "losses.png")
    axes = figures[0].axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["0.0001", "0.001", "0.01"]
    drawn = [line.get_ydata().tolist() for line in axes.lines]
    assert drawn[:3] == [[1.5, 1.2], [1.0, 0.5], [1.1, 0.9]]
    assert axes.get_ylim()[1] < 5


@pytest.fixture
def small(tmp_path, tiny_vit):
    ViTModel(tiny_vit.config).save_pretrained(tmp_path / "start")
    ViTImageProcessor(size={"height": 48, "width": 48}).save_pretrained(tmp_path / "start")
    return [
        "--model_name_or_path", tmp_path / "start", "--dataset_options", '{"train": 28, "validation": 14, "test": 7}',
        "--num_train_epochs", 2, "--cpu_threads", 1, "--output_dir", tmp_path / "run",
    ]  # fmt: skip


def test_a_damaged_study_is_named(tmp_path):
    pytest.importorskip("optuna")
    (tmp_path / "optuna.log").write_text("no journal\n")
    with pytest.raises(BadInputError, match=r"optuna\.log is damaged: choose another folder"):
        optuna_search(None, None, arguments(tmp_path), SearchArguments(search="optuna"), tmp_path)


def test_the_recipe_leaves_table_plot_and_record_and_reads_no_test_face(small, tmp_path, monkeypatch, capsys):
    call_recipe(monkeypatch, RECIPE, *small, "--learning_rates", "1e-4,1e-3")
    record = json.loads((tmp_path / "run" / "search.json").read_text())
    assert record["dataset"]["counts"].keys() == {"train", "validation"}
    assert [row["learning_rate"] for row in record["results"]] == [1e-4, 1e-3]
    assert record["best"]["value"] == max(row["value"] for row in record["results"])
    for row in record["results"]:  # training's and validation's loss, at the end of each of two epochs
        assert [sorted(entry) for entry in row["curve"]] == 2 * [["epoch", "loss"], ["epoch", "eval_loss"]]
    assert record["results"][0]["curve"] != record["results"][1]["curve"]
    assert (tmp_path / "run" / "search_losses.png").stat().st_size > 10_000
    assert (tmp_path / "run" / "search.md").read_text() in capsys.readouterr().out
    assert (tmp_path / "run" / "search.png").stat().st_size > 10_000
    stamp = (tmp_path / "run" / "rate-0.001.json").stat().st_mtime_ns
    call_recipe(monkeypatch, RECIPE, *small, "--learning_rates", "1e-3,1e-2")
    assert (tmp_path / "run" / "rate-0.001.json").stat().st_mtime_ns == stamp
    with pytest.raises(SystemExit):
        call_recipe(monkeypatch, RECIPE, *small, "--learning_rates", "1e-3", "--num_train_epochs", 3)
    assert "holds a search with `num_train_epochs` 2" in capsys.readouterr().err
    for file, content, complaint in (
        ("rate-0.001.json", "{", "rate-0.001.json is not valid JSON"),
        ("rate-0.001.json", '{"learning_rate": 0.001, "epoch": 1}', "rate-0.001.json lacks `value`: delete it"),
        ("rate-0.001.json", '{"learning_rate": 0.001, "epoch": 1, "value": "a"}', "`value` must be a finite number"),
        ("settings.json", '{"model": 1}', "settings.json: `model` must be a map, got 1"),
    ):
        (tmp_path / "run" / file).write_text(content)
        with pytest.raises(SystemExit):
            call_recipe(monkeypatch, RECIPE, *small, "--learning_rates", "1e-3")
        assert complaint in capsys.readouterr().err
