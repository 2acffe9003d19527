"""`FerTrainer`: what the stock `Trainer` gets wrong or lacks for this project, and nothing else."""

from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, Sampler
from transformers import Trainer, TrainingArguments
from transformers.trainer_optimizer import is_optimizer_factory
from transformers.trainer_utils import TrainOutput

from fer_hf.data.sampling import epoch_sampler
from fer_hf.errors import BadInputError
from fer_hf.losses import ExpressionLoss
from fer_hf.training.callbacks import EpochCallback, show_short_logs
from fer_hf.training.checks import LossWatch, check_batches
from fer_hf.training.ema import WeightAverage
from fer_hf.training.evaluating import EvaluatingTrainer
from fer_hf.training.optim import (
    TORCH_OPTIMIZERS,
    create_schedule,
    decayed_parameters,
    has_layer_rates,
    layer_rates,
    parameter_groups,
    torch_optimizer,
)
from fer_hf.training.patch_dropout import PatchDropout
from fer_hf.training.phases import PhaseCallback
from fer_hf.training.reporting import OneTrackioRun
from fer_hf.training.resizing import ProgressiveResizing
from fer_hf.training.tricks import Trick, around_forward
from fer_hf.training.unfreezing import count_parameters, frozen_to_eval, layers_of


class FerTrainer(EvaluatingTrainer):
    """
    A [`~transformers.Trainer`] that unfreezes safely and draws reproducibly; that resumes to the bit, as a
    [`~fer_hf.training.resuming.ResumingTrainer`]; and that evaluates each face once, as an
    [`~fer_hf.training.evaluating.EvaluatingTrainer`].

    - Every parameter is in the optimizer from the start, also those that are frozen at first: one that is added later
      is silently never updated. Without a gradient, a parameter gets neither weight decay nor optimizer state.
    - Optimizers, schedules and rates by layer as [`~fer_hf.training.FerTrainingArguments`] names them; the logged
      learning rate is the head's. Normalisation layers have no weight decay, as biases have none (but for
      `decay_all_parameters`): the stock rule looks for their usual names, and so decays the BatchNorm layers of most
      CNNs.
    - Frozen parts are in eval mode during training steps: no dropout (but `patch_dropout`, which is of their input),
      no moving BatchNorm statistics.
    - What else a flag adds to training is a [`~fer_hf.training.tricks.Trick`] among the callbacks: `ema_decay`
      ([`~fer_hf.training.ema.WeightAverage`]), `progressive_resizing`
      ([`~fer_hf.training.resizing.ProgressiveResizing`]), `patch_dropout`
      ([`~fer_hf.training.patch_dropout.PatchDropout`]); any other may be given as one.
    - The order of the training faces is a pure function of (seed, epoch), weighted or not.
    - A training set with an epoch ([`TrainingFaces`]) is told it, and its uint8 batches become pixel
      values on the model's device.
    - With an [`~fer_hf.losses.ExpressionLoss`] as `compute_loss_func`, no model sees the labels but those that have
      parts of the loss beside the cross-entropy (`loss_parts`, as DACL): theirs stay, and the cross-entropy is
      replaced. So stock models train on soft labels, and label smoothing goes with everything.
    - Logs carry the parts of the loss that the model's output names, the `accuracy` of the training faces since the
      last log, `trainable_parameters`, and `elapsed_seconds` since training began, over all the times it was resumed;
      they show as one short line each.
    - `channels_last` lays convolutions out as PyTorch runs them fastest; results differ by rounding only.
    - What cannot be trained on is refused before the first step, and a loss that is not a number stops the training
      ([`LossWatch`]).
    - `phases` measures what each phase costs ([`PhaseCallback`]); `train()` gives its totals among its metrics.

    Args:
        sampler (`str`, defaults to `"none"`):
            One of [`~fer_hf.data.sampling.SAMPLERS`]: how training faces are drawn.
        kwargs:
            As for [`~transformers.Trainer`].

    Attributes:
        train_sampler (`EpochSampler`, *optional*): Of the last training; it is told the epoch, as the faces are.
        phases (`PhaseCallback`): What each phase of the last training cost.

    Raises:
        BadInputError: If `label_smoothing_factor` is not what `compute_loss_func` does, or the model cannot be trained
            with one of the tricks.
    """

    def __init__(self, *args: Any, sampler: str = "none", **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.sampler, self.train_sampler = sampler, None
        self.compute_loss_func = _loss(self.compute_loss_func, self.model, self.args.label_smoothing_factor)
        _prepare(self.model, self.args)
        # Before the others, which see at the end of training what it ends with.
        self.callback_handler.callbacks[:0] = _tricks(self.args)
        for trick in self.tricks:
            trick.check(self.model)
        self.add_callback(EpochCallback(self))
        self.add_callback(OneTrackioRun())
        show_short_logs(self)
        self.loss_watch = LossWatch()
        self.add_callback(self.loss_watch)
        self.phases = PhaseCallback()  # after the callbacks that unfreeze
        self.add_callback(self.phases)

    def call_model_init(self, *args: Any, **kwargs: Any) -> nn.Module:
        """The stock method: a model that replaces the first one, in a search, is prepared as that was."""
        model = super().call_model_init(*args, **kwargs)
        _prepare(model, self.args)
        return model

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """From the last whole checkpoint, with time and memory among the metrics."""
        check_batches(self)
        output = super().train(*args, **kwargs)
        output.metrics.update(self.phases.metrics())
        return output

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[dict[str, Any]], Any]:
        """The stock batches of one optimizer step, and how long they kept us waiting."""
        with self.phases.fetching() as fetched:
            batches, num_items = super().get_batch_samples(*args, **kwargs)
            fetched.extend(batches)
        return batches, num_items

    def get_optimizer_cls_and_kwargs(self, args: TrainingArguments, model: nn.Module | None = None) -> tuple:
        """The optimizer that the flags name, stock or ours, over all parameters, frozen ones too."""
        if args.optim.value in TORCH_OPTIMIZERS:
            cls, options = torch_optimizer(args)
        else:
            cls, options = Trainer.get_optimizer_cls_and_kwargs(args, model)
        has_groups = is_optimizer_factory(cls) or {"params", "model", "optimizer_dict"} & options.keys()
        if has_groups and (has_layer_rates(args) or getattr(args, "decay_all_parameters", False)):
            raise BadInputError(
                f"`optim` {args.optim.value} makes its own groups of parameters: "
                "it goes with none of `layer_decay`, `head_learning_rate` and `decay_all_parameters`."
            )
        if not has_groups:
            decayed = decayed_parameters(model, args, self.get_decay_parameter_names(model))
            layers = layers_of(model) if has_layer_rates(args) else None
            options["params"] = parameter_groups(model, args, decayed, layers)
        return cls, options

    def learning_rates(self) -> dict[str, float]:
        """Where rates differ by layer: the rate of each group of modules before any schedule, from the head down."""
        if not has_layer_rates(self.args):
            return {}
        layers = layers_of(self.model)
        return {", ".join(names): rate for names, rate in zip(layers, layer_rates(self.args, layers), strict=True)}

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """The schedule that the flags name, stock or ours."""
        if self.lr_scheduler is None:
            optimizer = self.optimizer if optimizer is None else optimizer
            self.lr_scheduler = create_schedule(self.args, optimizer, num_training_steps, self.steps_per_epoch)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """As the stock method, with frozen parts at rest, and noting what logs tell about the training faces."""
        inputs, labels = dict(inputs), inputs.get("labels")
        if inputs.get("pixel_values") is not None and inputs["pixel_values"].dtype == torch.uint8:
            inputs["pixel_values"] = self.train_dataset.to_pixel_values(inputs["pixel_values"])
        if model.training:
            frozen_to_eval(model)  # `training_step` has just set the whole model to train mode
            with around_forward(self.tricks, self._plain_model(), inputs, self.state.epoch) as changed:
                loss, outputs = self._loss_and_outputs(model, changed, num_items_in_batch)
            self.loss_watch.add(self.state.global_step, loss)
            if labels is not None and isinstance(outputs, dict) and "logits" in outputs:
                self._note(outputs, labels, num_items_in_batch)
        else:  # without a count, losses are means over this process's faces
            loss, outputs = self._loss_and_outputs(model, inputs, None)
            if labels is not None and isinstance(outputs, dict):
                self.note_loss_parts(outputs)
        return (loss, outputs) if return_outputs else loss

    def _loss_and_outputs(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None
    ) -> tuple[torch.Tensor, Any]:
        labels = inputs.get("labels")
        if not isinstance(self.compute_loss_func, ExpressionLoss) or labels is None:
            return super().compute_loss(model, inputs, True, num_items_in_batch)
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

    def _note(self, outputs: dict, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None) -> None:
        scale = self._share_of_step(num_items_in_batch)
        parts = {name: value.sum() * scale for name, value in outputs.items() if name.endswith("_loss")}
        self.running_loss.add(self.state.global_step, parts, outputs["logits"], labels)

    def _share_of_step(self, num_items_in_batch: torch.Tensor | int | None) -> float:
        """What to multiply a model's loss on one batch with, so that those of a step add up to its mean."""
        if num_items_in_batch is None or not self.model_accepts_loss_kwargs:
            return 1 / (self.current_gradient_accumulation_steps * self.accelerator.num_processes)
        return 1.0 if self.args.average_tokens_across_devices else 1 / self.accelerator.num_processes

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The stock log with the time, and parts of the loss, accuracy and size of what trains beside the loss."""
        if "loss" in logs:
            means = self.running_loss.read(self.state.global_step, self.accelerator)
            trainable = count_parameters(self.model)[0]
            logs = {"loss": logs["loss"], **means, **logs, "trainable_parameters": trainable}
        # In place: the last log becomes the metrics of training.
        if "train_loss" in logs and self.state.global_step:
            logs["train_loss"] = self._total_loss_scalar / self.state.global_step  # resumed or not, over the whole run
        if self.is_in_train:
            logs["elapsed_seconds"] = self.elapsed_seconds()
        super().log(logs, start_time)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        self.train_sampler = epoch_sampler(self.sampler, dataset, seed)
        return self.train_sampler


def _tricks(args: TrainingArguments) -> list[Trick]:
    """Those that flags ask for."""
    tricks = {"ema_decay": WeightAverage, "progressive_resizing": ProgressiveResizing, "patch_dropout": PatchDropout}
    return [make(value) for flag, make in tricks.items() if (value := getattr(args, flag, None))]


def _loss(given: Any, model: nn.Module, smoothing: float) -> Any:
    # The stock smoother knows neither soft labels nor the parts of a model's own loss.
    if given is None and (smoothing or hasattr(model, "loss_parts")):
        return ExpressionLoss(label_smoothing=smoothing)
    # The stock Trainer says nothing, and does not smooth.
    if given is not None and smoothing != getattr(given, "label_smoothing", 0):
        raise BadInputError(
            f"`label_smoothing_factor` is {smoothing:g}, and `compute_loss_func` does not smooth so. Give it an "
            f"ExpressionLoss with `label_smoothing` {smoothing:g}."
        )
    return given


def _prepare(model: nn.Module, args: TrainingArguments) -> None:
    if getattr(args, "sync_batch_norm", False) and args.world_size > 1:
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # replaces the layers inside; names and parameters stay
    if getattr(args, "channels_last", False):
        model.to(memory_format=torch.channels_last)  # inputs follow the weights
