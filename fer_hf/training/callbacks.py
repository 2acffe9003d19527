"""What a user sees while a run trains, and the epoch that a data set is told."""

import sys

from tqdm.auto import tqdm
from transformers import ProgressCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class EpochCallback(TrainerCallback):
    """
    Tells a data set its epoch. accelerate does so only where no sampler has an epoch of its own.

    Args:
        dataset: With `set_epoch`.
    """

    def __init__(self, dataset):
        self.dataset = dataset

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        """Also right after a resume in the middle of an epoch, where `state.epoch` is a fraction."""
        self.dataset.set_epoch(int(state.epoch or 0))


class BarCallback(ProgressCallback):
    """The stock progress bar, without its dump of every log as a dict."""

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        """Left to [`LogLineCallback`]."""


class LogLineCallback(TrainerCallback):
    """Writes each log as one short line on stderr, above the bar where there is one."""

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs=None, **kwargs):
        if state.is_world_process_zero and (line := log_line(logs or {})):
            tqdm.write(line, file=sys.stderr)


def log_line(logs: dict) -> str:
    """
    `epoch 3.00  train  loss 1.718  learning_rate 0.00068 ...`, without speeds and totals; empty when nothing is left.
    """
    kept = {key: value for key, value in logs.items() if not key.endswith(("_second", "_runtime", "_flos"))}
    kept.pop("train_loss", None)  # a mean over the whole run, logged once at its end
    epoch = kept.pop("epoch", 0.0)
    kind = "validation" if any(key.startswith("eval_") for key in kept) else "train"
    shown = [f"{key.removeprefix('eval_')} {_short(value)}" for key, value in kept.items()]
    return "  ".join([f"epoch {epoch:6.2f}", f"{kind:<10}", *shown]) if shown else ""


def _short(value: float | int | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
