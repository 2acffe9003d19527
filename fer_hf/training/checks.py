"""What is refused before the first step, and a run whose loss is no number."""

import sys
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations

from fer_hf.errors import BadInputError, nearest


# Numbers of things, by the least they may be.
_COUNTS = {
    0: ("dataloader_num_workers", "warmup_steps", "weight_decay", "max_grad_norm", "learning_rate"),
    1: (
        "per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps",
        "eval_accumulation_steps", "early_stopping_patience", "unfreeze_every", "unfreeze_on_plateau", "cpu_threads",
        "num_processes", "save_total_limit",
    ),
}  # fmt: skip
_ABOVE_0 = ("num_train_epochs", "logging_steps", "eval_steps", "save_steps")
_NEVER = 2**62  # a step


class DivergedError(BadInputError):
    """The loss of a training is not a number."""


def check_numbers(args: TrainingArguments) -> None:
    """
    Refuse numbers that are out of range, before the parent makes something else of them.

    Raises:
        BadInputError: With the flag, its value and what is accepted.
    """
    for least, names in _COUNTS.items():
        for name in names:
            value = getattr(args, name)
            if value is not None and not value >= least:  # nor is NaN
                raise BadInputError(f"`{name}` must be at least {least}, got {value}.")
    for name in _ABOVE_0:
        value = getattr(args, name)
        if value is not None and not 0 < value <= sys.float_info.max:
            got = f"{str(value)[:20]}..., too large" if isinstance(value, int) and value > 0 else f"{value:g}"
            raise BadInputError(f"`{name}` must be above 0, got {got}.")
    if args.max_steps < 1 and args.max_steps != -1:
        raise BadInputError(f"`max_steps` must be at least 1, or -1 to go by epochs, got {args.max_steps}.")
    if not 0 <= args.label_smoothing_factor < 1:
        raise BadInputError(f"`label_smoothing_factor` must be in [0, 1), got {args.label_smoothing_factor:g}.")
    for name in ("seed", "data_seed"):
        value = getattr(args, name)
        if value is not None and not 0 <= value < 2**32:
            raise BadInputError(f"`{name}` must be from 0 to {2**32 - 1}, got {value}.")


def check_reporting(report_to: Iterable[str]) -> None:
    """
    Refuse to report to what is not there.

    Args:
        report_to (iterable of `str`): Names, as `TrainingArguments` resolves them.

    Raises:
        BadInputError: If a name is unknown, or its package is not installed.
    """
    available = {*get_available_reporting_integrations(), "flyte"}  # of which the library keeps no list
    for name in report_to:
        if name not in INTEGRATION_TO_CALLBACK:
            raise BadInputError(f"`report_to` {name!r} is unknown: {nearest(name, INTEGRATION_TO_CALLBACK)}")
        if name not in available:
            raise BadInputError(f"`report_to` {name} needs its package: pip install {name.replace('_', '-')}")


def check_batches(trainer: Trainer) -> None:
    """
    Refuse to train on no batch, or on a last batch of one face before BatchNorm, which needs two.

    Raises:
        BadInputError: With what to do.
    """
    args, faces = trainer.args, len(trainer.train_dataset)
    size = args.train_batch_size
    if faces < (size * args.world_size if args.dataloader_drop_last else 1):
        raise BadInputError(
            f"{faces} training faces fill no batch of {size}, and `dataloader_drop_last` leaves others out: lower "
            "`per_device_train_batch_size`."
        )
    last = faces % size or size
    # Of several processes, each has full batches: faces are drawn twice where they do not suffice.
    if last == 1 and args.world_size == 1 and not args.dataloader_drop_last and _has_batch_norm(trainer.model):
        remedy = "use --dataloader_drop_last or another" if size > 1 else "raise"
        raise BadInputError(
            f"The last of the batches has one face, of {faces} by {size}, and BatchNorm needs two: {remedy} "
            "`per_device_train_batch_size`."
        )


def _has_batch_norm(model: nn.Module) -> bool:
    """Whether a layer normalises each feature over the batch alone; feature maps have many pixels of one face."""
    return any(isinstance(module, nn.BatchNorm1d) for module in model.modules())


class LossWatch(TrainerCallback):
    """
    Stops a training whose loss is not a number: at that step on a CPU; on an accelerator, which must not be waited
    for, when something is logged, evaluated or saved next.

    Raises:
        DivergedError: With the step.
    """

    def __init__(self):
        self.first: torch.Tensor | None = None

    def add(self, step: int, loss: torch.Tensor) -> None:
        """
        Note the loss of a batch.

        Args:
            step (`int`): Optimizer steps done so far.
            loss (`torch.Tensor`): A scalar.
        """
        bad = torch.where(loss.detach().isfinite(), _NEVER, step + 1)
        self.first = bad if self.first is None else torch.minimum(self.first, bad)

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.first = None

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        """After the flags for what happens at this step are set."""
        waits = (control.should_log, control.should_evaluate, control.should_save, control.should_training_stop)
        if self.first is None or not (any(waits) or self.first.device.type == "cpu"):
            return
        if (step := int(self.first)) < _NEVER:
            raise DivergedError(
                f"The loss is not a number from step {step} on, and the run stopped: try a lower `learning_rate`."
            )

    on_epoch_end = on_step_end
