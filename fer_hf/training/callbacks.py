"""What a user sees while a run trains, and the epoch that training faces and their sampler are told."""

import sys

import torch
from accelerate import Accelerator
from tqdm.auto import tqdm
from transformers import (
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import has_length

from fer_hf.bars import Bar


class EpochCallback(TrainerCallback):
    """
    Tells the training faces and their sampler the epoch. accelerate tells faces only where no sampler has an epoch of
    its own, and finds no sampler where several processes resume in the middle of an epoch: it lies under one wrapper
    more (`SkipBatchSampler`) than is looked into.

    Args:
        trainer (`Trainer`): With `train_dataset` and `train_sampler`.
    """

    def __init__(self, trainer: Trainer):
        self.trainer = trainer

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        """Also right after a resume in the middle of an epoch, where `state.epoch` is a fraction."""
        for part in (self.trainer.train_dataset, self.trainer.train_sampler):
            if hasattr(part, "set_epoch"):
                part.set_epoch(int(state.epoch or 0))


class RunningLoss:
    """
    The parts of the loss and the accuracy of the training faces since the last log, over all accumulated batches and
    processes. Sums stay on the accelerator until a log reads them, in one piece: steps need not wait for it.
    """

    def __init__(self):
        self.sums: dict[str, torch.Tensor] = {}
        self.first_step = 0

    def state(self) -> dict[str, float]:
        """What has been added, for a checkpoint."""
        sums = {name: value.item() for name, value in self.sums.items()}
        return {"first_step": self.first_step, **sums} if sums else {}

    def restore(self, state: dict[str, float], device: torch.device) -> None:
        """Go on from what [`state`] gave; from nothing if it is empty."""
        self.first_step = state.get("first_step", 0)
        self.sums = {k: torch.tensor(v, device=device) for k, v in state.items() if k != "first_step"}

    @torch.no_grad()
    def add(self, step: int, parts: dict[str, torch.Tensor], logits: torch.Tensor, labels: torch.Tensor) -> None:
        """
        Add one batch.

        Args:
            step (`int`): Optimizer steps done so far.
            parts (`dict[str, torch.Tensor]`): Scalars that add up to a step's mean over all its batches and processes.
            logits (`torch.FloatTensor` of shape `(batch_size, num_labels)`): Before softmax.
            labels (`torch.Tensor`): Class ids `(batch_size,)`, or distributions `(batch_size, num_labels)`, of which
                the largest share (of equal ones the first) counts as the label.
        """
        if not self.sums:
            self.first_step = step
        labels = labels.argmax(dim=-1) if labels.dim() == 2 else labels
        right = (logits.argmax(dim=-1) == labels).sum()
        for name, value in {**parts, "right": right, "faces": torch.ones_like(labels).sum()}.items():
            # Numbers of faces are exact up to 16 million.
            self.sums[name] = self.sums.get(name, 0) + value.detach().float()

    def read(self, step: int, accelerator: Accelerator) -> dict[str, float]:
        """
        Means since the last call, the same on all processes, which must all come here together.

        Args:
            step (`int`): Optimizer steps done so far.
            accelerator (`Accelerator`): Of the trainer.

        Returns:
            `dict[str, float]`: Each part, in nats per face, and `accuracy` in [0, 1]; empty if nothing was added.
        """
        if not self.sums:
            return {}
        totals = accelerator.reduce(torch.stack(list(self.sums.values())), reduction="sum").tolist()
        *parts, right, faces = totals
        steps = max(1, step - self.first_step)
        means = {name: part / steps for name, part in zip(self.sums, parts, strict=False)}
        self.sums = {}
        return {**means, "accuracy": right / faces}


class BarCallback(ProgressCallback):
    """The stock progress bars, with a label and without the dump of every log as a dict; quick ones are not shown."""

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        if state.is_world_process_zero:
            self.training_bar = Bar(total=state.max_steps, desc="training", dynamic_ncols=True)
        self.current_step = 0

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, eval_dataloader=None, **kwargs
    ):
        if state.is_world_process_zero and has_length(eval_dataloader):
            if self.prediction_bar is None:
                self.prediction_bar = Bar(
                    total=len(eval_dataloader), desc="scoring", unit="batch", leave=False, dynamic_ncols=True
                )
            self.prediction_bar.update(1)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        """Left to [`LogLineCallback`], whose line would draw the bar of a finished scoring anew: it ends here."""
        self.on_evaluate(args, state, control)


# Ends of what a log line leaves out; `train_loss` is a mean over the whole run, logged once at its end.
_HIDDEN = (
    "_second", "_seconds", "_runtime", "_flos", "train_loss", "grad_norm", "trainable_parameters", "weighted_f1",
    "balanced_accuracy",
)  # fmt: skip


class LogLineCallback(TrainerCallback):
    """
    Writes each log as one short line on stderr, above the bar where there is one. Training and the validation that
    follows at once share a line.
    """

    def __init__(self):
        self.waiting: dict = {}

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs=None, **kwargs):
        logs = {**self.waiting, **(logs or {})}
        waits = control.should_evaluate and not any(key.startswith("eval_") for key in logs)
        self.waiting = logs if waits else {}
        if state.is_world_process_zero and not waits and (line := log_line(logs)):
            tqdm.write(line, file=sys.stderr)


def show_short_logs(trainer: Trainer) -> None:
    """Put short lines and a bar in the place of what the stock Trainer shows; nothing with `disable_tqdm`."""
    trainer.pop_callback(PrinterCallback)
    if trainer.pop_callback(ProgressCallback) is not None:
        for callback in (BarCallback, LogLineCallback):
            trainer.add_callback(callback)


def log_line(logs: dict) -> str:
    """
    `epoch 3.00  train  loss 1.718  accuracy 0.5 ...  validation  loss 1.7 ...`, without speeds, totals and what a
    line has no room for; empty when nothing is left. `trainer_state.json` has all.
    """
    kept = {key: value for key, value in logs.items() if not key.endswith(_HIDDEN)}
    words = [f"epoch {kept.pop('epoch', 0.0):6.2f}"]
    for part, is_part in (("train", False), ("validation", True)):
        shown = {key: value for key, value in kept.items() if key.startswith("eval_") == is_part}
        words += [part] if shown else []
        words += [f"{key.removeprefix('eval_')} {_short(value)}" for key, value in shown.items()]
    return "  ".join(words) if kept else ""


def _short(value: float | int | str) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
