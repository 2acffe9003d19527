"""`FerTrainer`: what the stock `Trainer` gets wrong or lacks for this project, and nothing else."""

from functools import partial
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler
from transformers import PreTrainedModel, PrinterCallback, ProgressCallback, Trainer

from fer_hf.data.sampling import epoch_sampler
from fer_hf.errors import BadInputError
from fer_hf.losses import ExpressionLoss
from fer_hf.training.callbacks import BarCallback, EpochCallback, LogLineCallback, RunningLoss
from fer_hf.training.unfreezing import count_parameters, frozen_to_eval


class FerTrainer(Trainer):
    """
    A [`~transformers.Trainer`] that unfreezes safely, restores whole checkpoints and draws reproducibly.

    - Every parameter is in the optimizer from the start, also those that are frozen at first: one that is added later
      is silently never updated. Without a gradient, a parameter gets neither weight decay nor optimizer state.
    - Frozen parts are in eval mode during training steps: no dropout, no moving BatchNorm statistics.
    - Resuming and `load_best_model_at_end` read checkpoints with `from_pretrained`. The stock Trainer reads the file
      under names that differ from those in memory for ViT and others, and so keeps the encoder it has
      (https://github.com/huggingface/transformers/issues/43701; delete when that is fixed in our floor).
    - For the same reason, weights are saved under their names in memory: stock Trainers resume our checkpoints whole.
    - The order of the training faces is a pure function of (seed, epoch), weighted or not.
    - A training set with an epoch ([`~fer_hf.data.fast.TrainingFaces`]) is told it, and its uint8 batches become pixel
      values on the model's device.
    - With an [`~fer_hf.losses.ExpressionLoss`] as `compute_loss_func`, no model sees the labels but those that have
      parts of the loss beside the cross-entropy (`loss_parts`, as DACL): theirs stay, and the cross-entropy is
      replaced. So stock models train on soft labels, and label smoothing goes with everything.
    - Logs carry the parts of the loss that the model's output names, the `accuracy` of the training faces since the
      last log and `trainable_parameters`, and show as one short line each.

    Args:
        sampler (`str`, defaults to `"none"`):
            One of [`~fer_hf.data.sampling.SAMPLERS`]: how training faces are drawn.
        kwargs:
            As for [`~transformers.Trainer`].

    Raises:
        BadInputError: If `label_smoothing_factor` is not what `compute_loss_func` does.
    """

    def __init__(self, *args: Any, sampler: str = "none", **kwargs: Any):
        self.sampler = sampler
        super().__init__(*args, **kwargs)
        self._set_loss()
        self.running_loss = RunningLoss()
        self.add_callback(self.running_loss)
        if hasattr(self.train_dataset, "set_epoch"):
            self.add_callback(EpochCallback(self.train_dataset))
        for stock, ours in ((PrinterCallback, []), (ProgressCallback, [BarCallback])):
            if self.pop_callback(stock) is not None:
                for callback in (*ours, LogLineCallback):
                    self.add_callback(callback)

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """The stock optimizer over all parameters, frozen ones too."""
        module = self.model if model is None else model
        flags = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
        for parameter, _ in flags:
            parameter.requires_grad_(True)
        try:
            return super().create_optimizer(model)
        finally:
            for parameter, flag in flags:
                parameter.requires_grad_(flag)

    def _set_loss(self) -> None:
        smoothing = self.args.label_smoothing_factor
        # The stock smoother knows neither soft labels nor the parts of a model's own loss.
        if self.compute_loss_func is None and (smoothing or hasattr(self.model, "loss_parts")):
            self.compute_loss_func = ExpressionLoss(label_smoothing=smoothing)
        # The stock Trainer says nothing, and does not smooth.
        if self.compute_loss_func is not None and smoothing != getattr(self.compute_loss_func, "label_smoothing", 0):
            raise BadInputError(
                f"`label_smoothing_factor` is {smoothing:g}, and `compute_loss_func` does not smooth so. Give it an "
                f"ExpressionLoss with `label_smoothing` {smoothing:g}."
            )

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """As the stock method, with frozen parts at rest, and noting what logs tell about the training faces."""
        if model.training:
            frozen_to_eval(model)  # `training_step` has just set the whole model to train mode
        labels = inputs.get("labels")
        if isinstance(self.compute_loss_func, ExpressionLoss) and labels is not None:
            loss, outputs = self._expression_loss(model, inputs, num_items_in_batch)
        else:
            loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if model.training and labels is not None and isinstance(outputs, dict) and "logits" in outputs:
            scale = self._share_of_step(num_items_in_batch)
            parts = {name: value.sum() * scale for name, value in outputs.items() if name.endswith("_loss")}
            self.running_loss.add(self.state.global_step, parts, outputs["logits"], labels)
        return (loss, outputs) if return_outputs else loss

    def _expression_loss(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None
    ) -> tuple[torch.Tensor, Any]:
        labels = inputs["labels"]
        if hasattr(self.accelerator.unwrap_model(model), "loss_parts"):
            outputs = model(**inputs, num_items_in_batch=num_items_in_batch)
            softmax_loss = self.compute_loss_func(outputs, labels, num_items_in_batch)
            loss = outputs.loss - outputs.softmax_loss + softmax_loss
            outputs.loss, outputs.softmax_loss = loss, softmax_loss
        else:
            outputs = model(**{name: value for name, value in inputs.items() if name != "labels"})
            loss = self.compute_loss_func(outputs, labels, num_items_in_batch)
        # Gradients and logs are averaged over processes, and each has its share of the step's mean.
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            loss = loss * self.accelerator.num_processes
        return loss, outputs

    def _share_of_step(self, num_items_in_batch: torch.Tensor | int | None) -> float:
        """What to multiply a model's loss on one batch with, so that those of a step add up to its mean."""
        if num_items_in_batch is None or not self.model_accepts_loss_kwargs:
            return 1 / (self.current_gradient_accumulation_steps * self.accelerator.num_processes)
        return 1.0 if self.args.average_tokens_across_devices else 1 / self.accelerator.num_processes

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        inputs = super()._prepare_inputs(inputs)
        if inputs.get("pixel_values") is not None and inputs["pixel_values"].dtype == torch.uint8:
            inputs["pixel_values"] = self.train_dataset.to_pixel_values(inputs["pixel_values"])
        return inputs

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The stock log, with parts of the loss, accuracy and `trainable_parameters` beside the training loss."""
        if "loss" in logs:
            means = self.running_loss.read(self.state.global_step, self.accelerator)
            trainable = count_parameters(self.model)[0]
            logs = {"loss": logs["loss"], **means, **logs, "trainable_parameters": trainable}
        super().log(logs, start_time)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return epoch_sampler(self.sampler, dataset, seed)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        if not isinstance(model, PreTrainedModel):
            super()._save(output_dir, state_dict)
            return
        # The stock method has no flag for it, and writes more than the weights.
        model.save_pretrained = partial(model.save_pretrained, save_original_format=False)
        try:
            super()._save(output_dir, state_dict)
        finally:
            del model.save_pretrained

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            self._read_checkpoint(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
            super()._load_best_model()
        else:
            self._read_checkpoint(self.state.best_model_checkpoint)

    def _read_checkpoint(self, checkpoint: str) -> None:
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        saved, info = type(model).from_pretrained(
            checkpoint, config=model.config, dtype=model.dtype, output_loading_info=True
        )
        wrong = {kind: keys for kind, keys in info.items() if kind.endswith("_keys") and keys}
        if wrong:
            raise RuntimeError(f"{checkpoint} does not hold the model in training: {wrong}.")
        model.load_state_dict(saved.state_dict())
