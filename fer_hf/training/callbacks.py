"""What a user sees while a run trains."""

import sys

from tqdm.auto import tqdm
from transformers import ProgressCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments


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
