"""`FerTrainer`: what the stock `Trainer` gets wrong or lacks for this project, and nothing else."""

from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import PreTrainedModel, PrinterCallback, ProgressCallback, Trainer, TrainingArguments
from transformers.trainer_optimizer import is_optimizer_factory
from transformers.trainer_pt_utils import find_batch_size
from transformers.trainer_utils import EvalLoopOutput, TrainOutput

from fer_hf.data.sampling import epoch_sampler
from fer_hf.errors import BadInputError
from fer_hf.losses import ExpressionLoss
from fer_hf.models.heads import head_modules
from fer_hf.training.callbacks import BarCallback, EpochCallback, LogLineCallback, RunningLoss
from fer_hf.training.ema import WeightAverage
from fer_hf.training.optim import (
    TORCH_OPTIMIZERS,
    create_schedule,
    layer_groups,
    layer_rates,
    normalisation_parameters,
    torch_optimizer,
)
from fer_hf.training.patch_dropout import PatchDropout
from fer_hf.training.phases import PhaseCallback
from fer_hf.training.resizing import ProgressiveResizing
from fer_hf.training.resuming import ExactTrainer
from fer_hf.training.unfreezing import count_parameters, frozen_to_eval, unfreeze_order


class FerTrainer(ExactTrainer):
    """
    A [`~transformers.Trainer`] that unfreezes safely, restores whole checkpoints and draws reproducibly; and that, as
    an [`~fer_hf.training.resuming.ExactTrainer`], resumes to the bit and evaluates each face once.

    - Every parameter is in the optimizer from the start, also those that are frozen at first: one that is added later
      is silently never updated. Without a gradient, a parameter gets neither weight decay nor optimizer state.
    - Optimizers, schedules and rates by layer as [`~fer_hf.training.FerTrainingArguments`] names them; the logged
      learning rate is the head's. Normalisation layers have no weight decay, as biases have none: the stock rule looks
      for their usual names, and so decays the BatchNorm layers of most CNNs.
    - With `ema_decay`, a moving average of the weights ([`~fer_hf.training.ema.WeightAverage`]) is what every
      evaluation scores and what training ends with. A checkpoint's `model.safetensors` holds the raw weights, from
      which a run resumes, and `ema.safetensors` the average, from which the best checkpoint is restored.
    - Frozen parts are in eval mode during training steps: no dropout (but `patch_dropout`, which is of their input),
      no moving BatchNorm statistics.
    - Resuming and `load_best_model_at_end` read checkpoints with `from_pretrained`. The stock Trainer reads the file
      under names that differ from those in memory for ViT and others, and so keeps the encoder it has
      (https://github.com/huggingface/transformers/issues/43701; delete when that is fixed in our floor).
    - For the same reason, weights are saved under their names in memory: stock Trainers resume our checkpoints whole.
    - The order of the training faces is a pure function of (seed, epoch), weighted or not.
    - A training set with an epoch ([`TrainingFaces`]) is told it, and its uint8 batches become pixel
      values on the model's device.
    - With an [`~fer_hf.losses.ExpressionLoss`] as `compute_loss_func`, no model sees the labels but those that have
      parts of the loss beside the cross-entropy (`loss_parts`, as DACL): theirs stay, and the cross-entropy is
      replaced. So stock models train on soft labels, and label smoothing goes with everything.
    - Logs carry the parts of the loss that the model's output names, the `accuracy` of the training faces since the
      last log and `trainable_parameters`, and show as one short line each.
    - `channels_last` lays convolutions out as PyTorch runs them fastest; results differ by rounding only.
    - With `progressive_resizing`, early epochs see small faces ([`~fer_hf.training.resizing.ProgressiveResizing`]).
    - With `patch_dropout`, a ViT trains on some of each face's patches
      ([`~fer_hf.training.patch_dropout.PatchDropout`]).
    - Logs carry `elapsed_seconds`, since training began and over all the times it was resumed.
    - `phases` measures what each phase costs ([`PhaseCallback`]); `train()` gives its totals among its metrics.

    Args:
        sampler (`str`, defaults to `"none"`):
            One of [`~fer_hf.data.sampling.SAMPLERS`]: how training faces are drawn.
        kwargs:
            As for [`~transformers.Trainer`].

    Raises:
        BadInputError: If `label_smoothing_factor` is not what `compute_loss_func` does, or the model takes no faces of
            a size in `progressive_resizing`, or has no patches that `patch_dropout` could hide.
    """

    def __init__(self, *args: Any, sampler: str = "none", **kwargs: Any):
        self.sampler = sampler
        self.running_loss = RunningLoss()
        super().__init__(*args, **kwargs)
        self._set_loss()
        self.resizing = ProgressiveResizing(getattr(self.args, "progressive_resizing", None) or {})
        self.resizing.check(self.model)
        self.patch_dropout = PatchDropout(getattr(self.args, "patch_dropout", None) or 0)
        self.patch_dropout.check(self.model)
        decay = getattr(self.args, "ema_decay", None)
        self.ema = None if decay is None else WeightAverage(decay)
        if self.ema is not None:
            self.add_callback(self.ema)
        if hasattr(self.train_dataset, "set_epoch"):
            self.add_callback(EpochCallback(self.train_dataset))
        for stock, ours in ((PrinterCallback, []), (ProgressCallback, [BarCallback])):
            if self.pop_callback(stock) is not None:
                for callback in (*ours, LogLineCallback):
                    self.add_callback(callback)
        self.phases = PhaseCallback()
        self.add_callback(self.phases)

    def _prepare_model(self, model: torch.nn.Module) -> None:
        super()._prepare_model(model)
        if getattr(self.args, "channels_last", False):
            model.to(memory_format=torch.channels_last)  # inputs follow the weights

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """The stock method, with time and memory among the metrics."""
        output = super().train(*args, **kwargs)
        output.metrics.update(self.phases.metrics())
        return output

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[dict[str, Any]], Any]:
        """The stock batches of one optimizer step, and how long they kept us waiting."""
        self.phases.before_fetch()
        batches, num_items = super().get_batch_samples(*args, **kwargs)
        self.phases.after_fetch(sum(find_batch_size(batch) or 0 for batch in batches))
        return batches, num_items

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

    def get_optimizer_cls_and_kwargs(self, args: TrainingArguments, model: torch.nn.Module | None = None) -> tuple:
        """The stock class and options, or ours; with a rate for each layer where the flags ask for it."""
        if args.optim.value in TORCH_OPTIMIZERS:
            cls, options = torch_optimizer(args)
        else:
            cls, options = Trainer.get_optimizer_cls_and_kwargs(args, model)
        if _has_layer_rates(args):
            if is_optimizer_factory(cls) or {"params", "model", "optimizer_dict"} & options.keys():
                raise BadInputError(
                    f"`optim` {args.optim.value} makes its own groups of parameters: "
                    "it goes with neither `layer_decay` nor `head_learning_rate`."
                )
            options["params"] = layer_groups(model, args, _layers(model), self.get_decay_parameter_names(model))
        return cls, options

    def get_decay_parameter_names(self, model: torch.nn.Module) -> list[str]:
        """The stock names without any normalisation layer's."""
        rest = normalisation_parameters(model)
        return [name for name in super().get_decay_parameter_names(model) if name not in rest]

    def learning_rates(self) -> dict[str, float]:
        """Where rates differ by layer: the rate of each group of modules before any schedule, from the head down."""
        if not _has_layer_rates(self.args):
            return {}
        layers = _layers(self.model)
        return {", ".join(names): rate for names, rate in zip(layers, layer_rates(self.args, layers), strict=True)}

    def set_initial_training_values(self, args: TrainingArguments, dataloader: DataLoader) -> tuple:
        """The stock values; the schedules by epoch need one of them."""
        values = super().set_initial_training_values(args, dataloader)
        self._steps_per_epoch = values[1]
        return values

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """The schedule that the flags name, stock or ours."""
        if self.lr_scheduler is None:
            optimizer = self.optimizer if optimizer is None else optimizer
            self.lr_scheduler = create_schedule(self.args, optimizer, num_training_steps, self._steps_per_epoch)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """The stock loop, with the average weights in place where there are any."""
        with nullcontext() if self.ema is None else self.ema.applied():
            return super().evaluation_loop(*args, **kwargs)

    @property
    def sums(self) -> dict[str, float]:
        """The sums behind the means of the next log, which checkpoints keep."""
        return self.running_loss.state()

    @sums.setter
    def sums(self, sums: dict[str, float]) -> None:
        self.running_loss.restore(sums, self.args.device)

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
        with self.patch_dropout.applied(self._plain_model()) if model.training else nullcontext():
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
        if self.model.training and self.resizing.sides:
            inputs["pixel_values"] = self.resizing(inputs["pixel_values"], self.state.epoch)
        return inputs

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The stock log with the time, and parts of the loss, accuracy and size of what trains beside the loss."""
        if "loss" in logs:
            means = self.running_loss.read(self.state.global_step, self.accelerator)
            trainable = count_parameters(self.model)[0]
            logs = {"loss": logs["loss"], **means, **logs, "trainable_parameters": trainable}
        if self.is_in_train:
            logs["elapsed_seconds"] = self.elapsed_seconds()  # in place: the last log becomes the metrics of training
        super().log(logs, start_time)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return epoch_sampler(self.sampler, dataset, seed)

    def _finalize_training(self, *args: Any) -> TrainOutput:
        if self.ema is not None:
            self.ema.finish()
        return super()._finalize_training(*args)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        model = self._plain_model()
        if not isinstance(model, PreTrainedModel):
            super()._save(output_dir, state_dict)
            return
        # The stock method has no flag for it, and writes more than the weights.
        model.save_pretrained = partial(model.save_pretrained, save_original_format=False)
        try:
            super()._save(output_dir, state_dict)
        finally:
            del model.save_pretrained
        if self.ema is not None and self.args.should_save:
            self.ema.save(output_dir or self.args.output_dir)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            self._read_checkpoint(resume_from_checkpoint)
            if self.ema is not None:
                self.ema.read(resume_from_checkpoint, self._plain_model())

    def _load_best_model(self) -> None:
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
            super()._load_best_model()
        else:
            self._read_checkpoint(self.state.best_model_checkpoint)
            if self.ema is not None:
                self.ema.read(self.state.best_model_checkpoint, self._plain_model())
                self.ema.finish()

    def _plain_model(self) -> torch.nn.Module:
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)

    def _read_checkpoint(self, checkpoint: str) -> None:
        model = self._plain_model()
        saved, info = type(model).from_pretrained(
            checkpoint, config=model.config, dtype=model.dtype, output_loading_info=True
        )
        wrong = {kind: keys for kind, keys in info.items() if kind.endswith("_keys") and keys}
        if wrong:
            raise RuntimeError(f"{checkpoint} does not hold the model in training: {wrong}.")
        model.load_state_dict(saved.state_dict())


def _has_layer_rates(args: TrainingArguments) -> bool:
    return any(getattr(args, flag, None) is not None for flag in ("layer_decay", "head_learning_rate"))


def _layers(model: torch.nn.Module) -> list[list[str]]:
    return [head_modules(model), *unfreeze_order(model)]
