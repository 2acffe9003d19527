"""`FerTrainer`: what the stock `Trainer` gets wrong or lacks for this project, and nothing else."""

from functools import partial
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler
from transformers import PreTrainedModel, PrinterCallback, ProgressCallback

from fer_hf.data.sampling import epoch_sampler
from fer_hf.training.callbacks import BarCallback, EpochCallback, LogLineCallback
from fer_hf.training.exact import ExactTrainer
from fer_hf.training.unfreezing import count_parameters, frozen_to_eval


class FerTrainer(ExactTrainer):
    """
    A [`~transformers.Trainer`] that unfreezes safely, restores whole checkpoints and draws reproducibly; and that, as
    an [`~fer_hf.training.exact.ExactTrainer`], resumes to the bit and evaluates each face once.

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
    - Logs carry `trainable_parameters`, and show as one short line each.

    Args:
        sampler (`str`, defaults to `"none"`):
            One of [`~fer_hf.data.sampling.SAMPLERS`]: how training faces are drawn.
        kwargs:
            As for [`~transformers.Trainer`].
    """

    def __init__(self, *args: Any, sampler: str = "none", **kwargs: Any):
        self.sampler = sampler
        super().__init__(*args, **kwargs)
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

    def compute_loss(self, model: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        """The stock loss, with frozen parts at rest: `training_step` has just set the whole model to train mode."""
        if model.training:
            frozen_to_eval(model)
        return super().compute_loss(model, *args, **kwargs)

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        inputs = super()._prepare_inputs(inputs)
        if inputs.get("pixel_values") is not None and inputs["pixel_values"].dtype == torch.uint8:
            inputs["pixel_values"] = self.train_dataset.to_pixel_values(inputs["pixel_values"])
        return inputs

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The stock log, with `trainable_parameters` beside the training loss."""
        if "loss" in logs:
            logs["trainable_parameters"] = count_parameters(self.model)[0]
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
