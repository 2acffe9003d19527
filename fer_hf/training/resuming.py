"""`ResumingTrainer`: a `Trainer` whose resumed runs end to the bit as uninterrupted ones."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import TrainOutput, rotate_checkpoints

from fer_hf.provenance import commit
from fer_hf.scores import with_new_names
from fer_hf.training.callbacks import RunningLoss
from fer_hf.training.checkpoints import (
    check_weights,
    had_stopped,
    resume_point,
    step_of,
    write_manifest,
)
from fer_hf.training.tricks import Trick


UNKNOWN_COMMIT = [{"from_step": 0, "commit": None}]  # of checkpoints that do not say


class ResumingTrainer(Trainer):
    """
    What the stock [`~transformers.Trainer`] forgets in a checkpoint.

    - A checkpoint is resumed if it is whole; a half-written or damaged one is skipped for the last that is
      ([`~fer_hf.training.checkpoints.resume_point`]).
    - A checkpoint is written after everything else that happens at its step. The stock Trainer writes it before the
      logs and evaluations of an ending epoch, which a resumed run then never makes up for.
    - The sums behind the logged training loss are in the checkpoint; a mean over half the steps is another number.
    - So are the time since training began, from which a resumed run counts on, the commits it was started at, and the
      states of tricks.
    - A checkpoint at which the run had stopped is not trained further.
    - Weights are saved under their names in memory. The stock Trainer saves them under other names for ViT and others
      and reads them as they are, and so keeps the encoder it has, on resuming and for the best model
      (https://github.com/huggingface/transformers/issues/43701; delete `save_model`'s part when that is fixed in our
      floor).

    Attributes:
        running_loss (`RunningLoss`): What the next log will say of the training faces.
        commits (`list[dict]`): `from_step` and `commit` of each start of the last training: one, and one more for each
            resume.
        steps_per_epoch (`int`): Optimizer steps in an epoch of the last training.
        clock (`Callable`): Gives seconds.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.running_loss = RunningLoss()
        self.commits: list[dict] = []
        self.clock: Callable[[], float] = time.perf_counter
        self._point: Path | None = None
        self._faces: str | None = None
        self._progress: dict = {}
        self._was_over = self._epoch_goes_on = self._postponed = False
        self.callback_handler.callbacks.insert(0, _Moments(self))  # others read the state that it mends

    @property
    def tricks(self) -> list[Trick]:
        """Those among the callbacks."""
        return [callback for callback in self.callback_handler.callbacks if isinstance(callback, Trick)]

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """
        As the stock method, from the last whole checkpoint.

        Raises:
            BadInputError: As [`~fer_hf.training.checkpoints.resume_point`], if the checkpoint is another model's, and
                if a trick finds no state in it.
        """
        self._faces = self.train_dataset.fingerprint() if hasattr(self.train_dataset, "fingerprint") else None
        point = resume_point(self.args, resume_from_checkpoint, self._faces)
        self._point, self._progress, self._was_over, self._postponed = point, {}, False, False
        self.commits = [{"from_step": 0, "commit": commit()}]
        if point is not None:
            check_weights(point, self._plain_model())
            self._progress = json.loads((point / self._progress_file()).read_text(encoding="utf-8"))
            self._was_over = had_stopped(point)
            self.commits[0]["from_step"] = step_of(point)
            self.commits = [*self._progress.get("commits", UNKNOWN_COMMIT), *self.commits]
            for trick in self.tricks:
                trick.load(point, self._plain_model())
        return super().train(None if point is None else str(point), *args, **kwargs)

    def set_initial_training_values(self, args: TrainingArguments, dataloader: DataLoader) -> tuple:
        """The stock values; with no epoch left where a run had stopped."""
        self._num_epochs, self.steps_per_epoch, *rest = super().set_initial_training_values(args, dataloader)
        return (0 if self._was_over else self._num_epochs), self.steps_per_epoch, *rest

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The stock method, under the names in memory, and with the states of tricks."""
        model = self._plain_model()
        if isinstance(model, PreTrainedModel):  # the stock method has no flag for it, and writes more than the weights
            model.save_pretrained = partial(model.save_pretrained, save_original_format=False)
        try:
            super().save_model(output_dir, _internal_call)
        finally:
            vars(model).pop("save_pretrained", None)
        if self.args.should_save:
            for trick in self.tricks:
                trick.save(Path(output_dir or self.args.output_dir))

    def elapsed_seconds(self) -> float:
        """Since training began, with evaluations and checkpoints; what was lost after a checkpoint is not in it."""
        return self._seconds_before + self.clock() - self._began

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        last = self.state.epoch == int(self.state.epoch) or self.control.should_training_stop
        if self._epoch_goes_on and (last or self.control.should_epoch_stop):
            self._postponed = True
            return
        if self.args.should_save:
            folder = Path(self._get_output_dir(trial), f"checkpoint-{self.state.global_step}")
            # A half-written one, or of another run: none of its files may pass for one of ours.
            shutil.rmtree(folder, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        with self._no_checkpoint_deleted():
            super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            if not self.args.save_only_model:
                write_manifest(folder, self.args, self._faces)
            rotate_checkpoints(
                str(folder.parent), self.args.save_total_limit, self.state.best_model_checkpoint, use_mtime=True
            )

    @contextmanager
    def _no_checkpoint_deleted(self) -> Iterator[None]:
        """The stock method deletes older checkpoints before the new one has its manifest."""
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            yield
        finally:
            self.args.save_total_limit = limit

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        progress = {
            "loss": self._tr_loss.item(),
            "total_loss": self._total_loss_scalar,
            "last_logged": self._globalstep_last_logged,
            "sums": self.running_loss.state(),
            "elapsed_seconds": self.elapsed_seconds(),
            "commits": self.commits,
        }
        Path(output_dir, self._progress_file()).write_text(json.dumps(progress) + "\n", encoding="utf-8")

    def _progress_file(self) -> str:
        return f"progress_{self.args.process_index}.json"

    def _restore_progress(self) -> None:
        progress = self._progress
        self._seconds_before, self._began = progress.get("elapsed_seconds", 0.0), self.clock()
        self.running_loss.restore(progress.get("sums", {}), self.args.device)
        self.state.num_train_epochs = self._num_epochs
        if self._point is not None:
            self._tr_loss = torch.tensor(progress["loss"], device=self.args.device)
            self._total_loss_scalar = progress["total_loss"]
            self._globalstep_last_logged = progress["last_logged"]
            self.state.log_history = with_new_names(self.state.log_history)
            # The run directory may have moved, or go by another name than when the checkpoint was written.
            best = self._point.parent / f"checkpoint-{self.state.best_global_step}"
            if best.is_dir():
                self.state.best_model_checkpoint = str(best)

    def _plain_model(self) -> nn.Module:
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)


class _Moments(TrainerCallback):
    """Tells a [`ResumingTrainer`] where in its epoch it is."""

    def __init__(self, trainer: ResumingTrainer):
        self.trainer = trainer

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self.trainer._restore_progress()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self.trainer._epoch_goes_on = True

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self.trainer._epoch_goes_on = False
        if self.trainer._postponed:
            self.trainer._postponed = False
            control.should_save = True
