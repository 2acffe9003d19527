"""The flags of the recipes: dataclasses for `HfArgumentParser`."""

import dataclasses
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from datasets import Dataset, DatasetDict
from transformers import (
    BaseImageProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    SchedulerType,
    TrainingArguments,
)

from fer_hf.data import load_dataset
from fer_hf.data.fast import DATA_PATHS
from fer_hf.data.mixing import MixingCollator
from fer_hf.data.sampling import SAMPLERS, class_weights, oversample
from fer_hf.data.transforms import AUGMENTATIONS
from fer_hf.errors import BadInputError
from fer_hf.losses import ExpressionLoss
from fer_hf.models import HEADS, build, load_backbone_weights, load_image_classifier
from fer_hf.models.zoo import architecture_config, image_processor
from fer_hf.training.optim import OptimizerName, ScheduleName, by_name, check_optimization


logger = logging.getLogger(__name__)

_ALWAYS_RECORDED = (
    "learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size", "optim", "lr_scheduler_type",
    "weight_decay", "warmup_steps", "max_grad_norm", "seed", "metric_for_best_model", "load_best_model_at_end",
)  # fmt: skip
_NOT_RECORDED = (
    "output_dir", "logging", "log_", "report_to", "run_name", "project", "trackio", "hub_", "push_to_hub",
    "disable_tqdm", "accelerator_config", "dataloader_n", "dataloader_p", "cpu_threads", "use_cpu",
    "resume_from_checkpoint", "deepspeed", "fsdp", "do_", "save_", "num_processes", "restore_callback", "label_names",
    "greater_is_better",
)  # fmt: skip

# The losses, and what each sets in the configuration of a DACL model.
LOSSES = {
    "cross_entropy": {},
    "focal": {},
    "soft_cross_entropy": {},
    "center": {"mode": "center"},
    "sparse_center": {"mode": "dacl"},
}


@dataclass
class LossArguments:
    """What is minimised, beside the stock `label_smoothing_factor`, and whether training faces are mixed."""

    loss: str = field(
        default="cross_entropy",
        metadata={
            "help": "cross_entropy; focal; soft_cross_entropy, against the annotators' votes of a data set that has "
            "them; center or sparse_center, cross-entropy with a part that a DACL model adds.",
            "choices": list(LOSSES),
        },
    )
    focal_gamma: float = field(
        default=2.0, metadata={"help": "How much --loss focal plays down faces that are recognised already."}
    )
    class_weights: dict | str | None = field(
        default="none",
        metadata={"help": "Weight of each class in the loss: none, auto, or a map: '{\"disgust\": 5}', others 1."},
    )
    mixup_alpha: float = field(
        default=0.0, metadata={"help": "Above 0: mixup of training faces, with shares from Beta(alpha, alpha)."}
    )
    cutmix_alpha: float = field(
        default=0.0, metadata={"help": "Above 0: CutMix of training faces. With mixup, batches take turns at random."}
    )

    def __post_init__(self):
        if self.loss not in LOSSES:
            raise BadInputError(f"`loss` must be one of {', '.join(LOSSES)}, got {self.loss!r}.")
        default = type(self).focal_gamma
        if self.loss != "focal" and self.focal_gamma != default:
            raise BadInputError(f"`focal_gamma` {self.focal_gamma:g} goes with `loss` focal, got `loss` {self.loss}.")
        self.class_weights = "none" if self.class_weights is None else self.class_weights
        MixingCollator(None, 1, self.mixup_alpha, self.cutmix_alpha)
        ExpressionLoss(self.focal_gamma)

    @property
    def _mixes(self) -> bool:
        return self.mixup_alpha > 0 or self.cutmix_alpha > 0

    @property
    def config_overrides(self) -> dict[str, Any]:
        """Fields of the model's configuration that the loss sets."""
        return LOSSES[self.loss]

    @property
    def label_column(self) -> str:
        """The column of the training faces that becomes `labels`. Evaluation is always against `label`."""
        return "soft_label" if self.loss == "soft_cross_entropy" else "label"

    def check_model(self, start_point: str, config: PreTrainedConfig, given: dict[str, Any]) -> None:
        """
        Whether a model with this configuration can have the loss.

        Args:
            start_point (`str`): Checkpoint or architecture, for the message.
            config (`PreTrainedConfig`): Of the model.
            given (`dict`): Of its fields, those that cannot be set any more.

        Raises:
            BadInputError: If it cannot.
        """
        for name, value in self.config_overrides.items():
            if config.model_type != "dacl":
                raise BadInputError(
                    f"`loss` {self.loss} needs a model of the DACL family, such as `architecture` dacl; "
                    f"{start_point} is a {config.model_type}."
                )
            if given.get(name, value) != value:
                raise BadInputError(
                    f"`loss` {self.loss} needs {name} {value!r}, and {start_point} has {given[name]!r}. Drop one."
                )

    def function(self, faces: Dataset, args: TrainingArguments, sampler: str = "none") -> ExpressionLoss:
        """
        The loss, for `FerTrainer(compute_loss_func=...)`. Validation and test have the same one. To be called before
        the training faces are read by [`label_column`].

        Args:
            faces (`Dataset`): The training faces, to weigh classes by: weights are divided by their mean over these.
            args (`TrainingArguments`): With `label_smoothing_factor`.
            sampler (`str`): How training faces are drawn, only to warn where classes are balanced twice.

        Raises:
            BadInputError: As [`~fer_hf.data.sampling.class_weights`], if all faces weigh nothing, if faces without
                votes are to be trained on votes, and if batches of one face are to be mixed.
        """
        if self.label_column not in faces.column_names:
            raise BadInputError(
                f"`loss` {self.loss} needs faces with annotators' votes (a column {self.label_column!r}), such as "
                '`dataset_name` ferplus with `dataset_options` \'{"target": "distribution"}\'.'
            )
        if self._mixes and args.per_device_train_batch_size < 2:
            raise BadInputError("`mixup_alpha` and `cutmix_alpha` need `per_device_train_batch_size` of 2 or more.")
        if self.class_weights != "none" and sampler != "none":
            logger.warning(
                f"`class_weights` and `sampler` {sampler} both make up for rare expressions: together they count "
                "twice. Use one of the two."
            )
        labels = torch.tensor(faces["label"][:])
        weights = class_weights(self.class_weights, labels, faces.features["label"].names)
        if weights is not None:
            mean = weights[labels].double().mean()
            if mean == 0:
                raise BadInputError(f"`class_weights` {self.class_weights} leaves no training face any weight.")
            weights = (weights / mean).float()
        gamma = self.focal_gamma if self.loss == "focal" else 0.0
        return ExpressionLoss(gamma, weights, args.label_smoothing_factor)

    def collator(self, collator: Callable, num_labels: int, seed: int) -> Callable:
        """`collator`, which mixes training batches if a flag asks for it."""
        if not self._mixes:
            return collator
        return MixingCollator(collator, num_labels, self.mixup_alpha, self.cutmix_alpha, seed=seed)


@dataclass
class ModelArguments:
    """What to start from: a checkpoint, or an architecture of the zoo with fresh weights."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "A Hub id, a folder, or the name of a checkpoint that ships with fer_hf."}
    )
    architecture: str | None = field(
        default=None,
        metadata={"help": "Instead: an architecture of the zoo, from scratch; `fer-hf models` lists them."},
    )
    config_overrides: dict | str | None = field(
        default=None, metadata={"help": "Fields of the architecture's configuration: '{\"image_size\": 64}'."}
    )
    head: str | None = field(
        default=None,
        metadata={"help": "Classification head on a checkpoint. Default: what its class has.", "choices": list(HEADS)},
    )
    backbone_weights: str | None = field(
        default=None,
        metadata={"help": "Weights from elsewhere for the backbone: a safetensors file, its folder, or a Hub id."},
    )
    allow_unmatched_backbone_weights: bool = field(
        default=False,
        metadata={"help": "Leave aside what of --backbone_weights does not fit, instead of refusing it."},
    )
    model_revision: str = field(
        default="main",
        metadata={"help": "Branch, tag or commit of a Hub checkpoint; with --architecture, of --backbone_weights."},
    )
    cache_dir: str | None = field(default=None, metadata={"help": "Where Hub checkpoints are kept."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Run model code that a Hub checkpoint carries."})

    def __post_init__(self):
        if (self.model_name_or_path is None) == (self.architecture is None):
            what = "neither" if self.architecture is None else "both"
            raise BadInputError(f"Give one of `model_name_or_path` and `architecture`, got {what}.")
        if self.architecture is not None and self.head is not None:
            raise BadInputError("`head` goes with `model_name_or_path`: an architecture has a head of its own.")
        if self.architecture is None and self.config_overrides is not None:
            raise BadInputError("`config_overrides` goes with `architecture`: a checkpoint has its configuration.")
        self.config_overrides = _json_map("config_overrides", self.config_overrides)

    @property
    def start_point(self) -> str:
        """The checkpoint or the architecture, as it was given."""
        return self.architecture or self.model_name_or_path

    def load(
        self, names: tuple[str, ...], loss: LossArguments | None = None
    ) -> tuple[PreTrainedModel, BaseImageProcessor]:
        """
        The classifier that these flags describe, for the expressions `names`, and its image processor.

        Args:
            names (`tuple[str, ...]`): The expressions, in label order.
            loss (`LossArguments`, *optional*): May set fields of a new model's configuration.

        Raises:
            ModelError: As [`load_image_classifier`], [`build`] and [`load_backbone_weights`].
            BadInputError: If the model cannot have the loss.
        """
        loss = loss or LossArguments()
        if self.architecture is not None:
            config = architecture_config(self.architecture, names, **self.config_overrides)
            loss.check_model(self.architecture, config, self.config_overrides)
            model = build(self.architecture, names, **{**self.config_overrides, **loss.config_overrides})
            processor = image_processor(self.architecture, model.config)
        else:
            model, processor = load_image_classifier(
                self.model_name_or_path,
                names,
                self.head,
                revision=self.model_revision,
                cache_dir=self.cache_dir,
                trust_remote_code=self.trust_remote_code,
            )
            loss.check_model(self.model_name_or_path, model.config, model.config.to_dict())
        if self.backbone_weights is not None:
            load_backbone_weights(
                model,
                self.backbone_weights,
                self.allow_unmatched_backbone_weights,
                revision=self.model_revision if self.architecture is not None else None,
                cache_dir=self.cache_dir,
            )
        return model, processor


@dataclass
class DataArguments:
    """Which faces to train on, and how they are drawn."""

    dataset_name: str = field(metadata={"help": "A name that fer_hf.data.load_dataset knows, such as fer2013."})
    data_dir: str | None = field(default=None, metadata={"help": "Folder with the data set's own files."})
    dataset_options: dict | str | None = field(
        default=None,
        metadata={"help": 'Options of the loader as JSON, such as \'{"layout": "csv"}\'.'},
    )
    image_column_name: str | None = field(default=None, metadata={"help": "Image column of a hub:<owner/name> set."})
    label_column_name: str | None = field(default=None, metadata={"help": "Label column of a hub:<owner/name> set."})
    max_train_samples: int | None = field(default=None, metadata={"help": "Train on the first N faces only."})
    max_eval_samples: int | None = field(
        default=None, metadata={"help": "Validate and test on the first N faces of each split only."}
    )
    sampler: str = field(default="none", metadata={"help": "How training faces are drawn.", "choices": list(SAMPLERS)})
    oversample: str | None = field(
        default=None,
        metadata={"help": "Expression whose training faces are made four times as many, mirrored and rotated."},
    )
    augmentation: str = field(
        default="none", metadata={"help": "How training faces are augmented.", "choices": list(AUGMENTATIONS)}
    )
    data_path: str = field(
        default="auto",
        metadata={
            "help": "How training faces reach the model: fast (whole uint8 batches), plain (PIL images), or auto, "
            "which is fast where it can be.",
            "choices": list(DATA_PATHS),
        },
    )

    def load(self) -> DatasetDict:
        """
        The `DatasetDict` these flags describe.

        Raises:
            BadInputError: As [`~fer_hf.data.load_dataset`], if `dataset_options` is no map, and if no training face
                shows `oversample`.
        """
        options = _json_map("dataset_options", self.dataset_options)
        columns = {"image_column_name": self.image_column_name, "label_column_name": self.label_column_name}
        options = {**options, **{name: column for name, column in columns.items() if column is not None}}
        faces = load_dataset(self.dataset_name, data_dir=self.data_dir, **options)
        limits = {"train": self.max_train_samples, "validation": self.max_eval_samples, "test": self.max_eval_samples}
        for split, limit in limits.items():
            if limit is not None and split in faces:
                faces[split] = faces[split].select(range(min(limit, len(faces[split]))))
        if self.oversample is not None:
            faces["train"] = oversample(faces["train"], self.oversample)
        return faces


@dataclass
class FerTrainingArguments(TrainingArguments):
    """[`~transformers.TrainingArguments`] with this project's defaults, and gradual unfreezing."""

    output_dir: str | None = field(
        default=None, metadata={"help": "Where the run goes. Default: runs/<recipe>-<timestamp>."}
    )
    unfreeze_schedule: dict | str | None = field(
        default=None,
        metadata={"help": 'Map from 0-based epoch to the module(s) that thaw: \'{"2": "vit.layers.11"}\'.'},
    )
    unfreeze_every: int | None = field(
        default=None, metadata={"help": "Instead: thaw the next block from the top every N epochs."}
    )
    unfreeze_on_plateau: int | None = field(
        default=None,
        metadata={"help": "Instead: thaw the next block after N evaluations without a better validation metric."},
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
    head_learning_rate: float | None = field(
        default=None, metadata={"help": "Learning rate of the head, the one that is logged. Default: learning_rate."}
    )
    layer_decay: float | None = field(
        default=None,
        metadata={"help": "The k-th block from the top learns at learning_rate * layer_decay**k. Default: all alike."},
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
    cpu_threads: int | None = field(
        default=None, metadata={"help": "Threads per process on a CPU. Default: cores / local processes."}
    )
    # The stock flag wants a value.
    disable_tqdm: bool = field(default=False, metadata={"help": "Show no progress bars."})
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
    load_best_model_at_end: bool = field(default=True, metadata={"help": "End with the best validated weights."})
    metric_for_best_model: str = field(
        default="accuracy", metadata={"help": "Validation metric that selects: accuracy, macro_f1, loss, ..."}
    )

    def __post_init__(self):
        if self.push_to_hub:
            raise BadInputError(
                "`push_to_hub` would publish training_args.bin, and no results. Train without it, then: "
                "python push_to_hub.py RUN_DIR --repo_id owner/name"
            )
        # The parent insists on a folder; `parse_arguments` gives the run its own once all processes can agree on it.
        self.output_dir_given = self.output_dir is not None
        optim = by_name("optim", OptimizerName, self.optim)
        schedule = by_name("lr_scheduler_type", ScheduleName, self.lr_scheduler_type)
        self.lr_scheduler_kwargs = _json_map("lr_scheduler_kwargs", self.lr_scheduler_kwargs) or None
        self.progressive_resizing = _json_map("progressive_resizing", self.progressive_resizing) or None
        if schedule.value == "reduce_lr_on_plateau" and self.eval_strategy == "no":
            raise BadInputError(
                "`lr_scheduler_type` reduce_lr_on_plateau needs `eval_strategy` steps or epoch, got no."
            )
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
        if self.remove_unused_columns:
            raise BadInputError("`remove_unused_columns` must be False: the `image` column would be dropped.")
        if self.sync_batch_norm and self.device.type != "cuda":
            raise BadInputError(f"`sync_batch_norm` needs GPUs: PyTorch cannot do it on {self.device.type}.")
        if self.device.type == "cpu":
            self.dataloader_pin_memory = False  # without an accelerator it only warns


def _json_map(name: str, value: dict | str | None) -> dict[str, Any]:
    """A flag that is a map in a YAML file and JSON text on the command line."""
    try:
        options = json.loads(value) if isinstance(value, str) else value or {}
    except json.JSONDecodeError as error:
        raise BadInputError(f"`{name}` is no JSON: {error}.") from error
    if not isinstance(options, dict):
        raise BadInputError(f"`{name}` must be a map of options, got {options!r}.")
    return options


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
