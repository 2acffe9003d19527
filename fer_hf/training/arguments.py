"""`FerTrainingArguments`: the flags of the stock `TrainingArguments` with our defaults, and those that we add."""

import dataclasses
import os
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import SchedulerType, TrainingArguments
from transformers.utils import is_torch_bf16_gpu_available

from fer_hf.errors import BadInputError, parse_map
from fer_hf.scores import larger_is_better, with_new_names
from fer_hf.training.checks import check_numbers, check_reporting
from fer_hf.training.optim import OptimizerName, ScheduleName, by_name, check_optimization


_ALWAYS_RECORDED = (
    "learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size", "optim", "lr_scheduler_type",
    "weight_decay", "warmup_steps", "max_grad_norm", "seed", "metric_for_best_model", "load_best_model_at_end", "bf16",
)  # fmt: skip
_NOT_RECORDED = (
    "output_dir", "logging", "log_", "report_to", "run_name", "project", "trackio", "hub_", "push_to_hub",
    "disable_tqdm", "accelerator_config", "dataloader_n", "dataloader_p", "cpu_threads", "use_cpu",
    "resume_from_checkpoint", "deepspeed", "fsdp", "do_", "save_", "num_processes", "restore_callback", "label_names",
    "greater_is_better",
)  # fmt: skip


@dataclass
class FerTrainingArguments(TrainingArguments):
    """[`~transformers.TrainingArguments`] with this project's defaults, and gradual unfreezing."""

    _argument_group_name = "training"

    output_dir: str | None = field(
        default=None, metadata={"help": "Where the run goes. Default: runs/<recipe>-<timestamp>."}
    )
    unfreeze_schedule: dict | str | None = field(
        default=None,
        metadata={"help": 'Map from 0-based epoch to the module(s) to unfreeze: \'{"2": "vit.layers.11"}\'.'},
    )
    unfreeze_every: int | None = field(
        default=None, metadata={"help": "Instead: unfreeze the next block from the top every N epochs."}
    )
    unfreeze_on_plateau: int | None = field(
        default=None,
        metadata={"help": "Instead: unfreeze the next block after N evaluations without a better validation metric."},
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after N evaluations without a better validation metric."}
    )
    optim: OptimizerName = field(default=TrainingArguments.optim, metadata={"help": "The optimizer."})
    optim_args: str | None = field(
        default=None, metadata={"help": 'Options of the optimizer: "momentum=0.9,nesterov=True".'}
    )
    lr_scheduler_type: ScheduleName = field(
        default=TrainingArguments.lr_scheduler_type,
        metadata={"help": "How the learning rate moves: step and multistep by epochs, the others by optimizer steps."},
    )
    lr_scheduler_kwargs: dict | str | None = field(
        default=None,
        metadata={
            "help": 'Options of the schedule as JSON: \'{"step_size": 20, "gamma": 0.1}\' or '
            '\'{"milestones": [15, 30], "gamma": 0.1}\', in epochs.'
        },
    )
    decay_all_parameters: bool = field(
        default=False,
        metadata={"help": "Weight decay on biases and normalisation layers as well, as plain PyTorch code has it."},
    )
    head_learning_rate: float | None = field(
        default=None, metadata={"help": "Learning rate of the head, the one that is logged. Default: learning_rate."}
    )
    layer_decay: float | None = field(
        default=None,
        metadata={"help": "The k-th block from the top learns at learning_rate * layer_decay**k. Default: all alike."},
    )
    score_last_epoch: bool = field(
        default=False,
        metadata={
            "help": "Score the weights after the last epoch, too, on validation and test together: what a source "
            "without a validation split reports."
        },
    )
    ema_decay: float | None = field(
        default=None,
        metadata={"help": "Validate, select and save a moving average of the weights with this decay, such as 0.999."},
    )
    progressive_resizing: dict | str | None = field(
        default=None,
        metadata={
            "help": "Map from 0-based epoch to the side of training faces in pixels from there on, small first: "
            '\'{"0": 24, "10": 40}\'. For models that take any size.'
        },
    )
    patch_dropout: float | None = field(
        default=None,
        metadata={"help": "Share of each face's patches that a ViT does not see in training, in [0, 1)."},
    )
    # Text, for the parser; a bool once it is resolved.
    bf16: str = field(
        default=False,
        metadata={
            "help": "bfloat16 mixed precision, also on a CPU: true, false, or auto, which is true where the hardware "
            "has it.",
            "nargs": "?",
            "const": True,
        },
    )
    cpu_threads: int | None = field(
        default=None, metadata={"help": "Threads per process on a CPU. Default: cores / local processes."}
    )
    # The stock flag wants a value.
    disable_tqdm: bool = field(default=False, metadata={"help": "Show results and warnings alone."})
    num_processes: int | None = field(
        default=None, metadata={"help": "Refuse to run on any other number of processes, over all machines."}
    )
    sync_batch_norm: bool = field(
        default=False, metadata={"help": "BatchNorm statistics over all processes (GPUs only), not per process."}
    )
    channels_last: bool = field(
        default=False, metadata={"help": "Weights and feature maps with channels innermost: faster convolutions."}
    )
    restore_callback_states_from_checkpoint: bool = field(
        default=True, metadata={"help": "Resume early stopping with its count of evaluations, not with 0."}
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "Must stay off: the collator reads images."})
    eval_strategy: str = field(default="epoch", metadata={"help": "When to validate: no, steps or epoch."})
    save_strategy: str = field(
        default="epoch", metadata={"help": "When to write a checkpoint: no, steps, epoch, best."}
    )
    logging_strategy: str = field(default="epoch", metadata={"help": "When to log the loss: no, steps or epoch."})
    save_total_limit: int | None = field(default=1, metadata={"help": "Checkpoints kept, the best one apart."})
    load_best_model_at_end: bool = field(
        default=True,
        metadata={"help": "End with the best validated weights; off with --eval_strategy no."},
    )
    metric_for_best_model: str = field(
        default="accuracy", metadata={"help": "Validation metric that selects: accuracy, macro_f1, loss, ..."}
    )

    @property
    def device(self) -> torch.device:
        """
        The stock device, on a CPU without its index: `torch.load` knows no `cpu:0`, and Transformers before 5.24, at
        the latest, hands it one where several processes resume. Delete when our floor is above that.
        """
        device = super().device
        return torch.device("cpu") if device.type == "cpu" else device

    def __post_init__(self):
        if self.push_to_hub:
            raise BadInputError(
                "`push_to_hub` would publish training_args.bin, and no results. Train without it, then: "
                "python push_to_hub.py RUN_DIR --repo_id owner/name"
            )
        metric = self.metric_for_best_model
        if metric and (today := with_new_names(metric)) != metric:
            if not self.resume_from_checkpoint:
                raise BadInputError(f"`metric_for_best_model` {metric} is now {today}.")
            self.metric_for_best_model = today  # a run that began under the old name goes on
        self.greater_is_better = larger_is_better(self.metric_for_best_model or "loss", self.greater_is_better)
        check_numbers(self)
        # The parent insists on a folder; `parse_arguments` gives the run its own once all processes can agree on it.
        self.output_dir_given = self.output_dir is not None
        optim = by_name("optim", OptimizerName, self.optim)
        schedule = by_name("lr_scheduler_type", ScheduleName, self.lr_scheduler_type)
        self.lr_scheduler_kwargs = parse_map("lr_scheduler_kwargs", self.lr_scheduler_kwargs) or None
        self.progressive_resizing = parse_map("progressive_resizing", self.progressive_resizing) or None
        if self.eval_strategy == "no":
            self._keep_last_weights(schedule)
        self._resolve_precision()
        # The parent takes stock names only.
        self.optim = "sgd"
        self.lr_scheduler_type = schedule.value if schedule.value in list(SchedulerType) else "constant"
        super().__post_init__()
        self.optim, self.lr_scheduler_type = optim, schedule
        if schedule.value == "reduce_lr_on_plateau":
            # The stock schedule waits for a minimum, whatever the metric.
            mode = "max" if self.greater_is_better else "min"
            self.lr_scheduler_kwargs = {"mode": mode, **(self.lr_scheduler_kwargs or {})}
        check_optimization(self)
        check_reporting(self.report_to)
        if self.remove_unused_columns:
            raise BadInputError("`remove_unused_columns` must be False: the `image` column would be dropped.")
        if self.score_last_epoch and self.load_best_model_at_end:
            self._keep_last_checkpoint()
        if self.sync_batch_norm and self.device.type != "cuda":
            raise BadInputError(f"`sync_batch_norm` needs GPUs: PyTorch cannot do it on {self.device.type}.")
        if self.device.type == "cpu":
            self.dataloader_pin_memory = False  # without an accelerator it only warns

    def _validate_args(self) -> None:
        """The stock checks, one of which wants `use_cpu` for bfloat16 also where there is nothing but a CPU."""
        given, self.use_cpu = self.use_cpu, self.use_cpu or not torch.accelerator.is_available()
        super()._validate_args()
        self.use_cpu = given

    def _resolve_precision(self) -> None:
        """
        `bf16` and `fp16` as the run trains: `accelerate launch --mixed_precision` turns one of them on where no flag
        does, and the parent would not say so.
        """
        on_cpu = self.use_cpu or not torch.accelerator.is_available()
        self.bf16 = _resolved_bf16(self.bf16, on_cpu)
        launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
        if launched not in ("no", "bf16", "fp16"):
            raise BadInputError(f"The launcher's `mixed_precision` must be bf16, fp16 or no, got {launched}.")
        if launched != "no" and not self.bf16 and not self.fp16:
            setattr(self, launched, True)
        if self.fp16 and on_cpu:
            raise BadInputError("`fp16`, a flag's or the launcher's `mixed_precision`, needs a GPU; a CPU has `bf16`.")
        for name in ("bf16_full_eval", "fp16_full_eval"):
            if getattr(self, name):
                raise BadInputError(f"`{name}` would score other weights than the run saves: leave it out.")

    def _keep_last_weights(self, schedule: ScheduleName) -> None:
        """Without validation the run ends with its last weights; what waits for a score is refused."""
        self.load_best_model_at_end = False
        waiting = {
            "lr_scheduler_type": schedule.value == "reduce_lr_on_plateau" and schedule.value,
            "early_stopping_patience": self.early_stopping_patience,
            "unfreeze_on_plateau": self.unfreeze_on_plateau,
            "save_strategy": self.save_strategy == "best" and "best",
        }
        for name, value in waiting.items():
            if value:
                raise BadInputError(f"`{name}` {value} needs `eval_strategy` steps or epoch, got no.")

    def _keep_last_checkpoint(self) -> None:
        """The last weights are read from it, after the best ones."""
        if self.ema_decay is not None or self.save_strategy == "best":
            raise BadInputError("`score_last_epoch` goes with neither `ema_decay` nor `save_strategy` best.")
        if self.save_total_limit == 1:
            self.save_total_limit = 2  # of one, the stock Trainer keeps the best alone


def _resolved_bf16(value: str | bool, on_cpu: bool) -> bool:
    """
    What `bf16` means here. On a CPU, auto wants instructions for it (avx512_bf16, amx_bf16, or ARM's): without them
    bfloat16 is slower than float32.
    """
    choices = {"true": True, "false": False, "auto": None}
    if str(value).lower() not in choices:
        raise BadInputError(f"`bf16` must be true, false or auto, got {value!r}.")
    given = choices[str(value).lower()]
    if given is not None:
        return given
    if on_cpu:
        return any(has for name, has in torch.cpu.get_capabilities().items() if name.endswith("bf16"))
    return is_torch_bf16_gpu_available()


def global_batch_size(args: TrainingArguments) -> int:
    """Faces per optimizer step, over all processes and accumulated batches."""
    return args.train_batch_size * args.gradient_accumulation_steps * args.world_size


def training_summary(args: FerTrainingArguments) -> dict[str, Any]:
    """
    The flags that shape a run's result, flat, for its record: the usual ones, and all that were changed from their
    defaults. Paths, tokens and what only concerns reporting are left out.
    """
    defaults = {f.name: f.default for f in dataclasses.fields(args)}
    values = {name: value for name, value in args.to_dict().items() if not name.startswith(_NOT_RECORDED)}
    kept = {name: value for name, value in values.items() if name in _ALWAYS_RECORDED or value != defaults[name]}
    return {**kept, "global_batch_size": global_batch_size(args)}
