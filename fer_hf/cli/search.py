"""Search over hyperparameters, by validation alone: a sweep of learning rates, or optuna's trials."""

import copy
import importlib.util
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from transformers import EarlyStoppingCallback, PreTrainedModel

from fer_hf.errors import BadInputError
from fer_hf.files import write_json
from fer_hf.runs.record import read_json
from fer_hf.runs.shapes import check_shape
from fer_hf.scores import larger_is_better
from fer_hf.training.arguments import FerTrainingArguments
from fer_hf.training.checks import DivergedError
from fer_hf.training.trainer import FerTrainer


if TYPE_CHECKING:
    import optuna

logger = logging.getLogger(__name__)

_STUDY = "optuna.log"


@dataclass
class SearchArguments:
    """What is tried."""

    _argument_group_name = "search"

    search: str = field(
        default="sweep",
        metadata={"help": "sweep: every learning rate once; optuna: trials.", "choices": ["sweep", "optuna"]},
    )
    learning_rates: str | None = field(default=None, metadata={"help": "Rates to try: 1e-4,2e-4,5e-4."})
    lr_min: float = field(default=1e-5, metadata={"help": "Smallest rate, without --learning_rates."})
    lr_max: float = field(default=1e-2, metadata={"help": "Largest rate, without --learning_rates."})
    lr_steps: int = field(default=7, metadata={"help": "Rates of a sweep, evenly spaced on a log scale."})
    trials: int = field(default=20, metadata={"help": "Trials of optuna, those of an earlier start included."})
    optims: str = field(default="adamw_torch,sgd", metadata={"help": "Optimizers that optuna chooses from."})
    weight_decay_max: float = field(default=0.1, metadata={"help": "Largest weight decay for optuna; the least is 0."})
    batch_sizes: str = field(default="32,64,128", metadata={"help": "Batch sizes per device for optuna."})

    def __post_init__(self):
        if not 0 < self.lr_min < self.lr_max:
            raise BadInputError(f"`lr_min` must be above 0 and below `lr_max`, got {self.lr_min} and {self.lr_max}.")
        for name in ("lr_steps", "trials"):
            if getattr(self, name) < 2:
                raise BadInputError(f"`{name}` must be at least 2, got {getattr(self, name)}.")
        if self.search == "optuna" and importlib.util.find_spec("optuna") is None:
            raise BadInputError("`search` optuna needs optuna: pip install optuna.")
        _numbers("batch_sizes", self.batch_sizes, int)
        self.rates()

    def rates(self) -> list[float]:
        """The learning rates of a sweep, ascending."""
        if self.learning_rates is None:
            return [float(f"{rate:.3g}") for rate in np.geomspace(self.lr_min, self.lr_max, self.lr_steps)]
        return sorted(set(_numbers("learning_rates", self.learning_rates, float)))


def _numbers(name: str, text: str, kind: type) -> list:
    try:
        numbers = [kind(word) for word in str(text).split(",")]
    except ValueError as error:
        raise BadInputError(f"`{name}` must be numbers with commas between them, got {text!r}.") from error
    if min(numbers) <= 0:
        raise BadInputError(f"`{name}` must be above 0, got {text!r}.")
    return numbers


# A model with the same initial weights at each call; and a trainer of it.
MakeModel = Callable[[], PreTrainedModel]
MakeTrainer = Callable[[PreTrainedModel, FerTrainingArguments], FerTrainer]


def sweep(
    make_model: MakeModel, make_trainer: MakeTrainer, args: FerTrainingArguments, rates: list[float], folder: Path
) -> list[dict]:
    """
    Train anew for each learning rate, from the same initial weights, and note the best validation.

    Rates that `folder` has a result of are not run again; those at which the loss is no number are left out. No
    checkpoint is kept.

    Args:
        make_model, make_trainer: As [`MakeModel`] and [`MakeTrainer`].
        args (`FerTrainingArguments`): Of every run, but for the rate.
        rates (`list[float]`): Learning rates.
        folder (`Path`): Takes `rate-<rate>.json` for each.

    Returns:
        `list[dict]`: For each rate `learning_rate`, [`best_validation`]'s `value` and `epoch`, `seconds`, and the
        [`loss_curve`]; rows of older searches lack the latter.

    Raises:
        RunDirectoryError, BadInputError: If a result of `folder` cannot be read, or the loss of each run is no number.
    """
    results = []
    for rate in rates:
        path = folder / f"rate-{rate!r}.json"
        if path.exists():
            results.append(_earlier_result(path))
            logger.info(f"learning rate {rate:g}: finished before")
            continue
        logger.info(f"learning rate {rate:g}")
        trainer = make_trainer(make_model(), without_checkpoints(args, learning_rate=rate))
        try:
            output = trainer.train()
        except DivergedError as error:
            logger.warning(f"learning rate {rate:g} is left out: {error}")
            continue
        seconds = output.metrics["train_runtime"]
        row = {"learning_rate": rate, **best_validation(trainer), "seconds": seconds, "curve": loss_curve(trainer)}
        if trainer.is_world_process_zero():
            write_json(path, row)
        results.append(row)
        trainer.accelerator.free_memory()
    if not results:
        raise BadInputError("Every learning rate was too high: give lower ones.")
    return results


class Result(TypedDict):
    """What a table needs of a result."""

    learning_rate: float
    value: float
    epoch: float


def _earlier_result(path: Path) -> dict:
    row = read_json(path)
    if missing := [key for key in Result.__annotations__ if key not in row]:
        raise BadInputError(f"{path} lacks `{missing[0]}`: delete it, and its rate is tried anew.")
    check_shape(row, Result, path)
    return row


def optuna_search(
    make_model: MakeModel,
    make_trainer: MakeTrainer,
    args: FerTrainingArguments,
    search: SearchArguments,
    folder: Path,
) -> list[dict]:
    """
    `Trainer.hyperparameter_search` over learning rate, optimizer, weight decay and batch size, with optuna's TPE.

    Every trial starts from the same initial weights; its value is its best validation, not its last, and none is
    pruned. `folder/optuna.log` is the study: a search that was stopped goes on with the trials that are missing.

    Args:
        make_model, make_trainer: As [`MakeModel`] and [`MakeTrainer`].
        args (`FerTrainingArguments`): Of every trial, but for what is searched.
        search (`SearchArguments`): The ranges.
        folder (`Path`): Where the study is kept.

    Returns:
        `list[dict]`: For each finished trial `trial`, its four parameters, [`best_validation`]'s `value` and `epoch`,
        `seconds`, and the [`loss_curve`].

    Raises:
        BadInputError: If the study cannot be read.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    stored = _stored_study(folder, args)
    try:
        study = optuna.create_study(**stored)
    except (ValueError, KeyError, AssertionError) as error:
        raise BadInputError(f"{folder / _STUDY} is damaged: choose another folder, or delete it.") from error
    done = len(_finished_trials(study))
    if done < search.trials:
        trainer = make_trainer(make_model(), without_checkpoints(args))
        trainer.model_init = partial(_fresh_model, trainer, make_model)
        trainer.hyperparameter_search(
            partial(_suggest, trainer, search),
            partial(_note_best, trainer),
            search.trials - done,
            backend="optuna",
            # Started again with the same seed, the sampler would suggest the first trials a second time.
            sampler=optuna.samplers.TPESampler(seed=args.seed + done),
            pruner=optuna.pruners.NopPruner(),
            catch=(DivergedError,),
            **stored,
        )
    return [_trial_row(trial) for trial in _finished_trials(study)]


def _stored_study(folder: Path, args: FerTrainingArguments) -> dict:
    """Words of `optuna.create_study` for the study in `folder`, new or not."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return {
        "storage": JournalStorage(JournalFileBackend(str(folder / _STUDY))),
        "study_name": "search",
        "direction": "maximize" if args.greater_is_better else "minimize",
        "load_if_exists": True,
    }


def _finished_trials(study: "optuna.Study") -> list["optuna.trial.FrozenTrial"]:
    from optuna.trial import TrialState

    return study.get_trials(states=(TrialState.COMPLETE,))


def _fresh_model(trainer: FerTrainer, make_model: MakeModel) -> PreTrainedModel:
    """The model of the next trial. Early stopping would go on counting from the trial before."""
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, EarlyStoppingCallback):
            callback.early_stopping_patience_counter = 0
    return make_model()


def _suggest(trainer: FerTrainer, search: SearchArguments, trial: "optuna.Trial") -> dict:
    """What the next trial is run with."""
    trainer.running_trial = trial
    batch_sizes = _numbers("batch_sizes", search.batch_sizes, int)
    return {
        "learning_rate": trial.suggest_float("learning_rate", search.lr_min, search.lr_max, log=True),
        "optim": trial.suggest_categorical("optim", search.optims.split(",")),
        "weight_decay": trial.suggest_float("weight_decay", 0.0, search.weight_decay_max),
        "per_device_train_batch_size": trial.suggest_categorical("per_device_train_batch_size", batch_sizes),
    }


def _note_best(trainer: FerTrainer, metrics: dict[str, float]) -> float:
    """A trial's value: its best validation, where optuna would take its last."""
    best = best_validation(trainer)
    trainer.running_trial.set_user_attr("epoch", best["epoch"])
    trainer.running_trial.set_user_attr("curve", loss_curve(trainer))
    return best["value"]


def _trial_row(trial: "optuna.trial.FrozenTrial") -> dict:
    found = {"value": trial.value, "epoch": trial.user_attrs["epoch"], "seconds": trial.duration.total_seconds()}
    curve = {"curve": trial.user_attrs["curve"]} if "curve" in trial.user_attrs else {}
    return {"trial": trial.number, **trial.params, **found, **curve}


def check_settings(folder: Path, settings: dict) -> None:
    """
    Note in `folder/settings.json` what all runs of a search share, or compare with what an earlier start noted.

    Raises:
        RunDirectoryError: If the file cannot be read.
        BadInputError: If they differ: results of different settings must not stand in one table.
    """
    path = folder / "settings.json"
    settings = json.loads(json.dumps(settings, default=str))
    before = read_json(path) if path.exists() else settings
    check_shape(before, dict[str, dict], path)
    for part in settings:
        for name in {**settings[part], **before.get(part, {})}:
            now, then = settings[part].get(name), before.get(part, {}).get(name)
            if now != then:
                raise BadInputError(
                    f"`output_dir` {folder} holds a search with `{name}` {then!r}, got {now!r}; choose another folder."
                )
    write_json(path, settings)


def search_table(results: list[dict], metric: str) -> str:
    """The results in a markdown table, in their order; the best one stands in bold."""
    best = best_result(results, metric)
    names = [name for name in results[0] if name not in ("seconds", "curve")]
    titles = {"learning_rate": "learning rate", "value": f"best validation {metric}", "epoch": "at epoch"}
    lines = [
        "| " + " | ".join(titles.get(name, name) for name in names) + " |",
        "| " + " | ".join("---" for _ in names) + " |",
    ]
    for row in results:
        cells = [f"{row[name]:.4g}" if isinstance(row[name], float) else str(row[name]) for name in names]
        mark = "**" if row is best else ""
        lines.append("| " + " | ".join(f"{mark}{cell}{mark}" for cell in cells) + " |")
    return "\n".join(lines)


def best_result(results: list[dict], metric: str) -> dict:
    """The row with the best value."""
    return (max if larger_is_better(metric) else min)(results, key=lambda row: row["value"])


def without_checkpoints(args: FerTrainingArguments, **changes) -> FerTrainingArguments:
    """A copy for a run of a search: nothing is saved, and nothing restored."""
    args = copy.copy(args)
    for name, value in {"save_strategy": "no", "load_best_model_at_end": False, **changes}.items():
        setattr(args, name, type(getattr(args, name))(value))
    return args


def best_validation(trainer: FerTrainer) -> dict:
    """The best `value` of `metric_for_best_model` that was validated, and the `epoch` at whose end."""
    name = f"eval_{trainer.args.metric_for_best_model.removeprefix('eval_')}"
    scored = [entry for entry in trainer.state.log_history if name in entry]
    if not scored:
        raise BadInputError(f"Nothing was validated by {name!r}; set `eval_strategy` to epoch or steps.")
    best = (max if trainer.args.greater_is_better else min)(scored, key=lambda entry: entry[name])
    return {"value": best[name], "epoch": best["epoch"]}


def loss_curve(trainer: FerTrainer) -> list[dict]:
    """What was logged during training: at each `epoch` the `loss`, or validation's as `eval_loss`."""
    kept = ("epoch", "loss", "eval_loss")
    return [
        {name: entry[name] for name in kept if name in entry}
        for entry in trainer.state.log_history
        if "loss" in entry or "eval_loss" in entry
    ]
