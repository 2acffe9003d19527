"""The flags of the recipes beside those of training: dataclasses for `HfArgumentParser`."""

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, DatasetDict
from transformers import BaseImageProcessor, PreTrainedConfig, PreTrainedModel, TrainingArguments

from fer_hf.data.loading import load_named
from fer_hf.data.mixing import MixingCollator
from fer_hf.data.sampling import SAMPLERS, oversample
from fer_hf.data.select import sample_splits
from fer_hf.data.training_set import DATA_PATHS
from fer_hf.data.transforms import AUGMENTATIONS
from fer_hf.errors import BadInputError, parse_map
from fer_hf.losses import ExpressionLoss, class_weights
from fer_hf.models import HEADS, build, load_backbone_weights, load_image_classifier
from fer_hf.models.backbone_weights import find_backbone_weights
from fer_hf.models.loading import asset_names, locate
from fer_hf.models.zoo import DACL_LOSSES, PIXEL_RANGES, architecture_config, dacl_mode, image_processor
from fer_hf.provenance import own_name


logger = logging.getLogger(__name__)

LOSSES = ("cross_entropy", "focal", "soft_cross_entropy", *DACL_LOSSES.values())


@dataclass
class LossArguments:
    """What is minimised, beside the stock `label_smoothing_factor`, and whether training faces are mixed."""

    _argument_group_name = "loss"

    loss: str | None = field(
        default=None,
        metadata={
            "help": "cross_entropy (default); focal; soft_cross_entropy, against the annotators' votes of a data set "
            "that has them. Of DACL models: softmax, cross-entropy alone; center, and the center loss; sparse_center "
            "(default), and the attentive center loss of the paper.",
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

    teacher: list[str] | None = field(
        default=None,
        metadata={
            "help": "Models whose scores for the training faces are mixed with the labels, or ferplus, for the votes "
            "of FER+ on the faces of fer2013. Of several, the mean."
        },
    )
    distill_alpha: float = field(
        default=0.5, metadata={"help": "The share of --teacher in a label, in [0, 1]; 0 is training without one."}
    )
    distill_temperature: float = field(
        default=1.0, metadata={"help": "What the teachers' logits are divided by: above 1 they are less sure."}
    )

    def __post_init__(self):
        self.teacher = [self.teacher] if isinstance(self.teacher, str) else self.teacher
        if not 0 <= self.distill_alpha <= 1:
            raise BadInputError(f"`distill_alpha` must be in [0, 1], got {self.distill_alpha:g}.")
        if not 0 < self.distill_temperature < float("inf"):
            raise BadInputError(f"`distill_temperature` must be above 0, got {self.distill_temperature:g}.")
        for name in ("distill_alpha", "distill_temperature"):
            if self.teacher is None and getattr(self, name) != getattr(type(self), name):
                raise BadInputError(f"`{name}` {getattr(self, name):g} goes with `teacher`.")
        if self.loss is not None and self.loss not in LOSSES:
            raise BadInputError(f"`loss` must be one of {', '.join(LOSSES)}, got {self.loss!r}.")
        default = type(self).focal_gamma
        if self.loss != "focal" and self.focal_gamma != default:
            raise BadInputError(f"`focal_gamma` {self.focal_gamma:g} goes with `loss` focal.")
        self.class_weights = "none" if self.class_weights is None else self.class_weights
        MixingCollator(None, 1, self.mixup_alpha, self.cutmix_alpha)
        ExpressionLoss(self.focal_gamma)

    @property
    def _mixes(self) -> bool:
        return self.mixup_alpha > 0 or self.cutmix_alpha > 0

    @property
    def distills(self) -> bool:
        """Whether teachers have a share in the labels."""
        return self.teacher is not None and self.distill_alpha > 0

    @property
    def label_column(self) -> str:
        """The column of the training faces that becomes `labels`. Evaluation is always against `label`."""
        return "distilled_label" if self.distills else self.undistilled_column

    @property
    def undistilled_column(self) -> str:
        """The same, without what teachers say."""
        return "soft_label" if self.loss == "soft_cross_entropy" else "label"

    def check_votes(self, faces: Dataset) -> None:
        """
        Raises:
            BadInputError: If faces without annotators' votes are to be trained on votes.
        """
        if self.undistilled_column not in faces.column_names:
            raise BadInputError(
                f"`loss` {self.loss} needs faces with annotators' votes (a column {self.undistilled_column!r}), such "
                'as `dataset_name` ferplus with `dataset_options` \'{"target": "distribution"}\'.'
            )

    def record(self) -> dict[str, Any]:
        """What shapes the loss, for the run's record."""
        values = dataclasses.asdict(self)
        if self.distills:
            return {**values, "teacher": [own_name(teacher) for teacher in self.teacher]}
        return {name: value for name, value in values.items() if name != "teacher" and not name.startswith("distill")}

    def settle(
        self, start_point: str, config: PreTrainedConfig, overrides: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """
        Choose the loss for a model, where none was given, and refuse one that the model cannot have.

        Args:
            start_point (`str`): Checkpoint or architecture, for the message.
            config (`PreTrainedConfig`): Of the model.
            overrides (`dict`, *optional*): What was asked for in a new model's configuration. `None` for a
                checkpoint, which has its loss already.

        Returns:
            `dict`: Fields of a new model's configuration that the loss sets.

        Raises:
            BadInputError: If the model cannot have the loss.
        """
        if config.model_type != "dacl":
            self.loss = self.loss or "cross_entropy"
            if self.loss in DACL_LOSSES.values():
                raise BadInputError(
                    f"`loss` {self.loss} needs a model of the DACL family, such as `architecture` dacl; "
                    f"{start_point} is a {config.model_type}."
                )
            return {}
        if overrides is not None and "mode" in overrides:
            raise BadInputError("`config_overrides` cannot set mode: `loss` softmax, center or sparse_center does.")
        stored = "dacl" if overrides is not None else config.mode
        mode = dacl_mode(self.loss) if self.loss else stored
        if mode is None:
            raise BadInputError(
                f"`loss` {self.loss} is not for DACL models: {start_point} takes softmax, center or sparse_center."
            )
        if overrides is None and mode != stored:
            raise BadInputError(
                f"`loss` {self.loss} differs from the {DACL_LOSSES[stored]} that {start_point} was built for. Drop it."
            )
        self.loss = DACL_LOSSES[mode]
        return {"mode": mode}

    def function(self, faces: Dataset, args: TrainingArguments, sampler: str = "none") -> ExpressionLoss:
        """
        The loss, for `FerTrainer(compute_loss_func=...)`. Validation and test have the same one. To be called before
        the training faces are read by [`label_column`].

        Args:
            faces (`Dataset`): The training faces, to weigh classes by: weights are divided by their mean over these.
            args (`TrainingArguments`): With `label_smoothing_factor`.
            sampler (`str`): How training faces are drawn, only to warn where classes are balanced twice.

        Raises:
            BadInputError: As [`~fer_hf.losses.class_weights`], if all faces weigh nothing, if faces without
                votes are to be trained on votes, and if batches of one face are to be mixed.
        """
        self.check_votes(faces)
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

    _argument_group_name = "model"

    model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "A Hub id, a folder, or the name of a checkpoint that ships with fer_hf.",
            "aliases": ["--model"],
        },
    )
    architecture: str | None = field(
        default=None,
        metadata={"help": "Instead: an architecture of the zoo, from scratch; `fer-hf models` lists them."},
    )
    config_overrides: dict | str | None = field(
        default=None, metadata={"help": "Fields of the architecture's configuration: '{\"image_size\": 64}'."}
    )
    pixel_range: str | None = field(
        default=None,
        metadata={
            "help": "Pixel values that an architecture sees: unit, [0, 1], or signed, [-1, 1]. Default: its source's.",
            "choices": list(PIXEL_RANGES),
        },
    )
    head: str | None = field(
        default=None,
        metadata={"help": "Classification head on a checkpoint. Default: what its class has.", "choices": list(HEADS)},
    )
    head_dropout: float | None = field(
        default=None,
        metadata={
            "help": "Dropout in a checkpoint's head, in [0, 1): where it has some, or before a linear one, which is "
            "then new. Default: what the head has."
        },
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
        if self.architecture is not None and self.head_dropout is not None:
            raise BadInputError(
                "`head_dropout` goes with `model_name_or_path`: an architecture's is in its `config_overrides`."
            )
        if self.architecture is None and self.config_overrides is not None:
            raise BadInputError("`config_overrides` goes with `architecture`: a checkpoint has its configuration.")
        if self.architecture is None and self.pixel_range is not None:
            raise BadInputError("`pixel_range` goes with `architecture`: a checkpoint has its image processor.")
        if self.pixel_range not in (None, *PIXEL_RANGES):
            raise BadInputError(f"`pixel_range` must be one of {', '.join(PIXEL_RANGES)}, got {self.pixel_range!r}.")
        self.config_overrides = parse_map("config_overrides", self.config_overrides)

    def check(self) -> None:
        """
        Refuse what can be seen to be wrong before data is read.

        Raises:
            ModelError: If there is no such checkpoint, architecture or file of weights, or it is damaged.
        """
        if self.architecture is None:
            locate(self.model_name_or_path)
        else:
            architecture_config(self.architecture, **self.config_overrides)
        if self.backbone_weights is not None:
            find_backbone_weights(self.backbone_weights, **self._backbone_options)

    @property
    def _backbone_options(self) -> dict[str, str | None]:
        revision = self.model_revision if self.architecture is not None else None
        return {"revision": revision, "cache_dir": self.cache_dir}

    @property
    def start_point(self) -> str:
        """The checkpoint or the architecture, as it was given."""
        return self.architecture or self.model_name_or_path

    def record(self) -> dict[str, Any]:
        """Where the weights come from, for the run's record; of files and folders elsewhere only their own names."""
        extra = {} if self.backbone_weights is None else {"backbone_weights": own_name(self.backbone_weights)}
        if self.architecture is not None:
            if self.config_overrides:
                extra["config_overrides"] = self.config_overrides
            if self.pixel_range is not None:
                extra["pixel_range"] = self.pixel_range
            return {"architecture": self.architecture, "source": "scratch", **extra}
        if self.model_name_or_path in asset_names():
            source = "shipped"
        else:
            source = "local" if Path(self.model_name_or_path).expanduser().exists() else "hub"
        if self.head_dropout is not None:
            extra["head_dropout"] = self.head_dropout
        return {"name_or_path": own_name(self.model_name_or_path), "source": source, "head": self.head, **extra}

    def load(
        self, names: tuple[str, ...], loss: LossArguments | None = None
    ) -> tuple[PreTrainedModel, BaseImageProcessor]:
        """
        The classifier that these flags describe, for the expressions `names`, and its image processor.

        Args:
            names (`tuple[str, ...]`): The expressions, in label order.
            loss (`LossArguments`, *optional*): Is settled for the model, and decides for a new DACL model what it is.

        Raises:
            ModelError: As [`load_image_classifier`], [`build`] and [`load_backbone_weights`].
            BadInputError: If the model cannot have the loss.
        """
        loss = loss or LossArguments()
        if self.architecture is not None:
            config = architecture_config(self.architecture, names, **self.config_overrides)
            fields = loss.settle(self.architecture, config, self.config_overrides)
            model = build(self.architecture, names, **self.config_overrides, **fields)
            processor = image_processor(self.architecture, model.config, self.pixel_range)
        else:
            model, processor = load_image_classifier(
                self.model_name_or_path,
                names,
                self.head,
                self.head_dropout,
                revision=self.model_revision,
                cache_dir=self.cache_dir,
                trust_remote_code=self.trust_remote_code,
            )
            loss.settle(self.model_name_or_path, model.config)
        if self.backbone_weights is not None:
            load_backbone_weights(
                model,
                self.backbone_weights,
                self.allow_unmatched_backbone_weights,
                **self._backbone_options,
            )
        return model, processor


@dataclass
class DataArguments:
    """Which faces to train on, and how they are drawn."""

    _argument_group_name = "data"

    dataset_name: str = field(
        metadata={
            "help": "fer2013, ferplus, rafdb, imagefolder, hub:OWNER/NAME or synthetic.",
            "aliases": ["--dataset"],
        }
    )
    data_dir: str | None = field(default=None, metadata={"help": "Folder with the data set's own files."})
    dataset_options: dict | str | None = field(
        default=None,
        metadata={"help": 'The data set\'s options as JSON, such as \'{"layout": "csv"}\'.'},
    )
    image_column_name: str | None = field(default=None, metadata={"help": "Image column of a hub:OWNER/NAME set."})
    label_column_name: str | None = field(default=None, metadata={"help": "Label column of a hub:OWNER/NAME set."})
    max_train_samples: int | None = field(
        default=None, metadata={"help": "Train on a sample of N faces only, in which each class has its share."}
    )
    max_eval_samples: int | None = field(
        default=None, metadata={"help": "Validate and test on such a sample of N faces of each split only."}
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
            BadInputError: As [`~fer_hf.data.loading.load_named`], and if no training face shows `oversample`.
        """
        columns = {"image_column_name": self.image_column_name, "label_column_name": self.label_column_name}
        columns = {name: column for name, column in columns.items() if column is not None}
        tables = load_named(self.dataset_name, self.data_dir, self.dataset_options, **columns)
        tables = sample_splits(tables, self.max_train_samples, self.max_eval_samples)
        if self.oversample is not None:
            tables["train"] = oversample(tables["train"], self.oversample)
        return tables
