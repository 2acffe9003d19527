"""`ExactTrainer`: a `Trainer` that resumes to the bit and evaluates each face once, on any number of processes."""

import json
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import recursively_apply
from torch import distributed, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput

from fer_hf.provenance import commit
from fer_hf.training.checkpoints import resume_point, step_of, write_manifest


UNKNOWN_COMMIT = [{"from_step": 0, "commit": None}]  # of checkpoints that do not say


class ExactTrainer(Trainer):
    """
    What the stock [`~transformers.Trainer`] forgets in a checkpoint, and counts twice on several processes.

    - A checkpoint is resumed if it is whole; a half-written one is skipped for the last that is
      ([`~fer_hf.training.checkpoints.resume_point`]).
    - A checkpoint is written after everything else that happens at its step. The stock Trainer writes it before the
      logs and evaluations of an ending epoch, which a resumed run then never makes up for.
    - The sums behind the logged training loss are in the checkpoint; a mean over half the steps is another number.
    - So are the time since training began, from which a resumed run counts on, and the commits it was started at.
    - A checkpoint at which the run had stopped is not trained further.
    - Evaluation never drops faces, and the loss is the mean over each face once: the last batch is filled up with
      faces from the beginning where processes would have none, and those count for nothing.
    - BatchNorm statistics, which are per process without `sync_batch_norm`, are the main process's in evaluation, as
      in the checkpoint.

    Attributes:
        sums (`dict[str, float]`):
            Running sums of this process that a log will divide, for subclasses that log means of their own, which
            make it a property: they are in the checkpoint too. Empty at the start of training.
        commits (`list[dict]`):
            `from_step` and `commit` of each start of the last training: one, and one more for each resume.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.sums: dict[str, float] = {}
        self.commits: list[dict] = []
        self._progress: dict | None = None
        self._was_over = self._epoch_goes_on = self._postponed = self._evaluating = False
        self.add_callback(_Moments(self))
        self._prepare_model(self.model)

    def call_model_init(self, *args: Any, **kwargs: Any) -> nn.Module:
        """The stock method: a model that replaces the first one, in a search, is prepared as that was."""
        model = super().call_model_init(*args, **kwargs)
        self._prepare_model(model)
        return model

    def _prepare_model(self, model: nn.Module) -> None:
        if getattr(self.args, "sync_batch_norm", False) and self.args.world_size > 1:
            # Replaces the layers inside; names and parameters stay.
            nn.SyncBatchNorm.convert_sync_batchnorm(model)

    # Resuming

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """
        As the stock method, from the last whole checkpoint.

        Raises:
            BadInputError: As [`~fer_hf.training.checkpoints.resume_point`].
        """
        point = resume_point(self.args, resume_from_checkpoint)
        self.sums, self._progress, self._was_over, self._postponed = {}, None, False, False
        self.commits = [{"from_step": 0, "commit": commit()}]
        if point is not None:
            self._progress = json.loads((point / self._progress_file()).read_text(encoding="utf-8"))
            self.commits[0]["from_step"] = step_of(point)
            self.commits = [*self._progress.get("commits", UNKNOWN_COMMIT), *self.commits]
        return super().train(None if point is None else str(point), *args, **kwargs)

    def _init_training_state(
        self, max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
    ) -> tuple[int, int]:
        trained = super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )
        if resume_from_checkpoint is not None:
            self._was_over = self.state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"]
            # The run directory may have moved, or go by another name than when the checkpoint was written.
            best = Path(resume_from_checkpoint).parent / f"checkpoint-{self.state.best_global_step}"
            if best.is_dir():
                self.state.best_model_checkpoint = str(best)
        return trained

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        if self._was_over:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(*args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The stock log; the mean loss over the run is over the whole of it, resumed or not."""
        if "train_loss" in logs and self.state.global_step:
            logs["train_loss"] = self._total_loss_scalar / self.state.global_step
        super().log(logs, start_time)

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
        super()._save_checkpoint(model, trial)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        progress = {
            "loss": self._tr_loss.item(),
            "total_loss": self._total_loss_scalar,
            "last_logged": self._globalstep_last_logged,
            "sums": self.sums,
            "elapsed_seconds": self.elapsed_seconds(),
            "commits": self.commits,
        }
        Path(output_dir, self._progress_file()).write_text(json.dumps(progress) + "\n", encoding="utf-8")
        # All is written but for `trainer_state.json`, which follows at once.
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            write_manifest(Path(output_dir), self.args)

    def elapsed_seconds(self) -> float:
        """Since training began, with evaluations and checkpoints; what was lost after a checkpoint is not in it."""
        return self._seconds_before + time.perf_counter() - self._began

    def _progress_file(self) -> str:
        return f"progress_{self.args.process_index}.json"

    def _restore_progress(self) -> None:
        self._seconds_before, self._began = 0.0, time.perf_counter()
        if self._progress is not None:
            self._seconds_before = self._progress["elapsed_seconds"]
            self._tr_loss = torch.tensor(self._progress["loss"], device=self.args.device)
            self._total_loss_scalar = self._progress["total_loss"]
            self._globalstep_last_logged = self._progress["last_logged"]
            self.sums = self._progress["sums"]

    # Evaluation

    def _get_dataloader(self, *args: Any, is_training: bool = False, **kwargs: Any) -> DataLoader:
        # `dataloader_drop_last` is about training; the stock Trainer would leave out faces of an evaluation too.
        drop_last = self.args.dataloader_drop_last
        self.args.dataloader_drop_last = drop_last and is_training
        try:
            return super()._get_dataloader(*args, is_training=is_training, **kwargs)
        finally:
            self.args.dataloader_drop_last = drop_last

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """The stock loop, on the model that the main process would save."""
        if self.args.world_size > 1 and not self.is_fsdp_enabled and not self.is_deepspeed_enabled:
            buffers = dict(self.model.named_buffers())
            for name in self.model.state_dict():
                if name in buffers:
                    distributed.broadcast(buffers[name], 0)
        return super().evaluation_loop(*args, **kwargs)

    def prediction_step(self, model: nn.Module, inputs: dict, *args: Any, **kwargs: Any) -> tuple:
        """The stock step, whose loss is the mean over those faces of this process that are not there to fill up."""
        size = len(inputs["labels"]) if "labels" in inputs else 0
        faces = self._own_faces(size)
        if faces < size:
            inputs = {key: value[:faces] if len(value) == size else value for key, value in inputs.items()}
        self._evaluating = True
        try:
            loss, logits, labels = super().prediction_step(model, inputs, *args, **kwargs)
        finally:
            self._evaluating = False
        if faces < size:  # all processes must gather equal shapes; the Trainer cuts what is too much off again
            logits, labels = recursively_apply(partial(_filled, size=size), (logits, labels))
        return loss, logits, labels

    def _own_faces(self, size: int) -> int:
        """How many faces of this process's batch are not filled in; 1 where all are, whose loss is cut off later."""
        state = self.accelerator.gradient_state
        if self.args.world_size == 1 or not state.end_of_dataloader or state.remainder <= 0:
            return size
        return min(max(state.remainder - self.args.process_index * size, 1), size)

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor | int | None:
        # Without a count, losses are means over this process's faces.
        return None if self._evaluating else super()._get_num_items_in_batch(batch_samples, device)


def _filled(rows: torch.Tensor, size: int) -> torch.Tensor:
    return torch.cat([rows, rows[-1:].expand(size - len(rows), *rows.shape[1:])])


class _Moments(TrainerCallback):
    """Tells an [`ExactTrainer`] where in its epoch it is."""

    def __init__(self, trainer: ExactTrainer):
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
