"""`EvaluatingTrainer`: a `Trainer` that evaluates each face once, on any number of processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from accelerate.utils import recursively_apply
from torch import distributed, nn
from torch.utils.data import DataLoader
from transformers.trainer_utils import EvalLoopOutput

from fer_hf.training.resuming import ResumingTrainer
from fer_hf.training.tricks import around_evaluation


class EvaluatingTrainer(ResumingTrainer):
    """
    What the stock [`~transformers.Trainer`] leaves out of an evaluation, or counts twice on several processes.

    - No face is ever left out: `dataloader_drop_last` is about training.
    - Each face counts once: the last batch is filled up with faces from the beginning where processes would have none,
      and those count for nothing.
    - BatchNorm statistics, which are per process without `sync_batch_norm`, are the main process's, as in the
      checkpoint.
    - Tricks may put other weights in place.
    - Metrics have every part of a loss that the model's output names, each a mean over the faces.
    """

    _loss_parts: dict[str, torch.Tensor] | None = None  # sums over faces, while an evaluation lasts
    _faces_of_batch = _faces_seen = 0

    def get_eval_dataloader(self, *args: Any, **kwargs: Any) -> DataLoader:
        """The stock loader, of all faces."""
        with self._no_face_dropped():
            return super().get_eval_dataloader(*args, **kwargs)

    def get_test_dataloader(self, *args: Any, **kwargs: Any) -> DataLoader:
        """The stock loader, of all faces."""
        with self._no_face_dropped():
            return super().get_test_dataloader(*args, **kwargs)

    @contextmanager
    def _no_face_dropped(self) -> Iterator[None]:
        drop_last, self.args.dataloader_drop_last = self.args.dataloader_drop_last, False
        try:
            yield
        finally:
            self.args.dataloader_drop_last = drop_last

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """The stock loop, on the model that the main process would save."""
        self._loss_parts, self._faces_seen = {}, 0
        with around_evaluation(self.tricks):
            if self.args.world_size > 1 and not self.is_fsdp_enabled and not self.is_deepspeed_enabled:
                buffers = dict(self.model.named_buffers())
                for name in self.model.state_dict():
                    if name in buffers:
                        distributed.broadcast(buffers[name], 0)
            output = super().evaluation_loop(*args, **kwargs)
        prefix = kwargs.get("metric_key_prefix", "eval")
        output.metrics.update({f"{prefix}_{name}": mean for name, mean in self._mean_loss_parts().items()})
        self._loss_parts = None
        return output

    def note_loss_parts(self, outputs: dict[str, Any]) -> None:
        """Add the parts of the loss of a batch that is evaluated, means over those of its faces that count."""
        if self._loss_parts is None:
            return
        for name, value in outputs.items():
            if name.endswith("_loss"):
                self._loss_parts[name] = self._loss_parts.get(name, 0) + value.detach().sum() * self._faces_of_batch

    def _mean_loss_parts(self) -> dict[str, float]:
        """What was noted, over the faces of all processes."""
        if not self._loss_parts:
            return {}
        sums = list(self._loss_parts.values())
        totals = torch.stack([*sums, torch.full_like(sums[0], self._faces_seen)])
        *parts, faces = self.accelerator.reduce(totals, reduction="sum").tolist()
        return {name: part / faces for name, part in zip(self._loss_parts, parts, strict=True)}

    def prediction_step(self, model: nn.Module, inputs: dict, *args: Any, **kwargs: Any) -> tuple:
        """The stock step, whose loss is the mean over those faces of this process that are not there to fill up."""
        size = len(inputs["labels"]) if "labels" in inputs else 0
        faces = self._own_faces(size)
        self._faces_of_batch = faces
        self._faces_seen += faces
        faces = max(faces, 1)  # a process without any still needs a loss, which is cut off later
        if faces < size:
            inputs = {key: value[:faces] if len(value) == size else value for key, value in inputs.items()}
        loss, logits, labels = super().prediction_step(model, inputs, *args, **kwargs)
        if faces < size:  # all processes must gather equal shapes; the Trainer cuts what is too much off again
            logits, labels = recursively_apply(partial(_filled, size=size), (logits, labels))
        return loss, logits, labels

    def _own_faces(self, size: int) -> int:
        """How many faces of this process's batch are no padding."""
        state = self.accelerator.gradient_state
        if self.args.world_size == 1 or not state.end_of_dataloader or state.remainder <= 0:
            return size
        return min(max(state.remainder - self.args.process_index * size, 0), size)


def _filled(rows: torch.Tensor, size: int) -> torch.Tensor:
    return torch.cat([rows, rows[-1:].expand(size - len(rows), *rows.shape[1:])])
