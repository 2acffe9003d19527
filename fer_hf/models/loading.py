"""Loading a classifier: to train it on expressions of ours, or as it was trained."""

import copy
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers import (
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    BaseImageProcessor,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging

from fer_hf.errors import ModelError, is_hub_id, nearest, no_such_path
from fer_hf.labels import id2label, label2id
from fer_hf.models.heads import HAVE_HEAD_DROPOUT, HEADS, head_modules, is_under, set_head_dropout
from fer_hf.models.networks.configuration_mlp_head import BACKBONE_POOLING, MLPHeadConfig
from fer_hf.models.networks.modeling_mlp_head import MLPHeadForImageClassification
from fer_hf.models.processors import FILE, check_fit, check_processor, for_any_image, is_number


logger = logging.getLogger(__name__)

# Where a configuration keeps the temperature of its logits. Transformers takes a bare `temperature` out of every
# configuration that it reads, and saves none that has one: it would belong to text generation.
TEMPERATURE_KEY = "calibration_temperature"

# For every `from_pretrained`; what is missing is ours to judge.
_OPTIONS = {"dtype": "float32", "ignore_mismatched_sizes": True, "output_loading_info": True}
_LIBRARIES = (SafetensorError, StrictDataclassError)  # what their errors are
_LFS_POINTER = b"version https://git-lfs"

ASSETS = Path(__file__).parents[1] / "assets"


def asset_names() -> list[str]:
    """Names of the checkpoints that ship with the package."""
    return sorted(path.parent.name for path in ASSETS.glob("*/config.json"))


def asset(name: str) -> str:
    """
    Folder of a checkpoint that ships with the package, for `from_pretrained` and `pipeline`.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in asset_names():
        raise ValueError(f"No checkpoint named {name!r} ships with fer_hf; there are: {', '.join(asset_names())}.")
    return str(ASSETS / name)


def load_image_classifier(
    name_or_path: str,
    names: tuple[str, ...],
    head: str | None = None,
    head_dropout: float | None = None,
    **kwargs,
) -> tuple[PreTrainedModel, BaseImageProcessor]:
    """
    Load a checkpoint's backbone and image processor under a head for the expressions `names`.

    A head in the checkpoint is kept where it has the same form and number of classes, else it is new. The log says
    which weights are new and which of the checkpoint's are left aside.

    Args:
        name_or_path (`str`):
            A folder, a Hub id, or the name of a checkpoint that ships with the package: any image classifier of
            Transformers, timm's included, any of our own, and the bare backbones of either.
        names (`tuple[str, ...]`):
            The expressions, in label order.
        head (`str`, *optional*):
            One of [`HEADS`]; the multi-layer ones need one of the backbones of [`MLPHeadConfig`]. If `None`, the head
            that the checkpoint's class has, which is a linear one unless it is ours.
        head_dropout (`float`, *optional*):
            Dropout in the head, in [0, 1): where the checkpoint's class or a multi-layer head has some, or before a
            linear layer of ours, which is new, on the backbones that take one. If `None`, what the head has.
        kwargs:
            For `from_pretrained`: `revision`, `cache_dir`, `trust_remote_code`.

    Returns:
        `tuple`: The model in float32, in eval mode, and its image processor, set to make images RGB.

    Raises:
        ModelError: If the head is unknown, does not fit or takes no dropout, nothing can be loaded, backbone weights
            are missing, or the image processor does not fit the model.
    """
    if head is not None and head not in HEADS:
        raise ModelError(f"`head` must be one of {', '.join(HEADS)}, got {head!r}.")
    if head_dropout is not None and not 0 <= head_dropout < 1:
        raise ModelError(f"`head_dropout` must be in [0, 1), got {head_dropout:g}.")
    path = locate(name_or_path)
    with _one_line_errors(name_or_path):
        config = AutoConfig.from_pretrained(path, **kwargs)
        vars(config).pop(TEMPERATURE_KEY, None)  # of the model as it was
        processor = _load_processor(name_or_path, path, kwargs)
        _set_labels(config, names)
        ours = _under_our_head(config, head, head_dropout, name_or_path)
        if head_dropout is not None:
            set_head_dropout(ours or config, head_dropout)
        if ours is None:
            model, info = _load_as_it_is(path, config, kwargs)
        else:
            model, info = _load_under_our_head(path, config, ours, kwargs)
    _report_loading(model, name_or_path, info)
    check_fit(model, processor)
    return model, processor


def load_trained_classifier(name_or_path: str, **kwargs) -> tuple[PreTrainedModel, BaseImageProcessor]:
    """
    Load a classifier as it was trained, under its own labels, with its image processor.

    Args:
        name_or_path (`str`):
            A folder, a Hub id, or the name of a checkpoint that ships with the package.
        kwargs:
            For `from_pretrained`: `revision`, `cache_dir`, `trust_remote_code`.

    Returns:
        `tuple`: The model in float32, in eval mode, and its image processor, set to make images RGB.

    Raises:
        ModelError: If nothing can be loaded, a weight is missing (a backbone alone has nothing to say), labels or
            temperature are none, or the image processor does not fit the model.
    """
    path = locate(name_or_path)
    with _one_line_errors(name_or_path):
        config = AutoConfig.from_pretrained(path, **kwargs)
        check_config(config, name_or_path)
        processor = _load_processor(name_or_path, path, kwargs)
        model, info = _load_as_it_is(path, config, kwargs)
    missing = _new_weights(info)
    if missing:
        raise ModelError(f"{name_or_path} is no trained classifier: it has no weights {_summary(missing)}.")
    check_fit(model, processor)
    return model, processor


def check_config(config: PreTrainedConfig, name_or_path: str) -> None:
    """Raises `ModelError` if a configuration's labels or temperature are none; Transformers reads what is there."""
    file, labels = f"{name_or_path}/config.json", config.id2label
    named = sorted(labels) == list(range(len(labels))) and all(isinstance(label, str) for label in labels.values())
    if not labels or not named:
        raise ModelError(f"{file}: `id2label` must name the labels from 0 on, got {labels!r:.60}.")
    value = getattr(config, TEMPERATURE_KEY, 1.0)
    if not is_number(value, above=0):
        raise ModelError(f"{file}: `{TEMPERATURE_KEY}` must be a number above 0, got {value!r:.60}.")


def check_safetensors(file: Path) -> None:
    """Raises `ModelError` if a file is a Git LFS pointer, cut off, or otherwise no safetensors file."""
    with file.open("rb") as opened:
        if opened.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise ModelError(f"{file} is a Git LFS pointer, not the weights: `git lfs pull` in its folder gets them.")
    try:
        with safe_open(file, "pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file} is cut off or no safetensors file: {reason(error)}") from error


def reason(error: Exception) -> str:
    """What an error of a library says, in one line."""
    if isinstance(error, StrictDataclassError) and error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().partition("\n")[0]


def locate(name_or_path: str) -> str:
    """
    A folder or a Hub id, for `from_pretrained`; quick, so that a bad one is told before data is read.

    Raises:
        ModelError: If a folder does not exist, instead of looking it up on the Hub, or if its weights are damaged.
    """
    if name_or_path in asset_names():
        return asset(name_or_path)
    folder = Path(name_or_path).expanduser()
    if name_or_path and folder.is_dir():
        for file in sorted(folder.glob("*.safetensors")):
            check_safetensors(file)
        return str(folder)
    if not is_hub_id(name_or_path):
        shipped = asset_names()
        where = no_such_path(folder) if os.sep in name_or_path else f"No such model: {nearest(name_or_path, shipped)}"
        raise ModelError(
            f"`model_name_or_path` {name_or_path}: {where} A model is a folder, an `owner/name` on the Hub, or one of "
            f"{', '.join(shipped)}, which ship with fer_hf."
        )
    return name_or_path


@contextmanager
def _one_line_errors(name_or_path: str) -> Iterator[None]:
    """Say what a library complains about in one line of ours, and keep it from printing tables."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    except ModelError:
        raise
    except (OSError, ValueError, LookupError, AttributeError, TypeError, ImportError, *_LIBRARIES) as error:
        raise ModelError(f"The model {name_or_path!r} could not be loaded: {reason(error)}") from error
    finally:
        transformers_logging.set_verbosity(verbosity)


def _load_processor(name_or_path: str, path: str, kwargs: dict[str, Any]) -> BaseImageProcessor:
    try:
        processor = for_any_image(AutoImageProcessor.from_pretrained(path, **kwargs))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{name_or_path}/{FILE} holds settings that do not work: {reason(error)}") from error
    check_processor(processor, name_or_path)
    return processor


def _set_labels(config: PreTrainedConfig, names: tuple[str, ...]) -> None:
    config.update({"num_labels": len(names), "id2label": id2label(names), "label2id": label2id(names)})
    if hasattr(config, "label_names"):  # timm's form, which would win over ours when it is read again
        config.label_names = list(names)
    # Without it, the first batch's labels decide, and float labels would turn the model multi-label.
    config.problem_type = "single_label_classification"


def _under_our_head(
    config: PreTrainedConfig, head: str | None, head_dropout: float | None, name_or_path: str
) -> MLPHeadConfig | None:
    """The configuration under which a new head of ours goes on the backbone; `None` where its own class serves."""
    is_ours = isinstance(config, MLPHeadConfig)
    if is_ours and (head is None or _same_head(config, MLPHeadConfig(**HEADS[head]))):
        return None
    code = getattr(config, "auto_map", {})
    stock = type(config) in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING or "AutoModelForImageClassification" in code
    has_dropout = head_dropout is None or config.model_type in HAVE_HEAD_DROPOUT
    if stock and not is_ours and head in (None, "linear") and has_dropout:
        return None
    backbone_config = config
    if is_ours:
        backbone_config = config.backbone_config
    elif config.model_type == "siglip":
        backbone_config = config.vision_config
    if backbone_config.model_type not in BACKBONE_POOLING:
        what = f"{name_or_path} is a {config.model_type}"
        if not stock:
            raise ModelError(f"{what}, of which Transformers has no image classifier.")
        needs = ", ".join(BACKBONE_POOLING)
        if head in (None, "linear"):
            own = ", ".join(HAVE_HEAD_DROPOUT)
            raise ModelError(f"`head_dropout` needs a head of ours, on one of {needs}, or one of {own}; {what}.")
        raise ModelError(f"`head` {head!r} needs a backbone of one of {needs}; {what}. Use `linear`.")
    labels = {"id2label": config.id2label, "label2id": config.label2id}
    backbone_config = copy.deepcopy(backbone_config)
    backbone_config.update(labels)
    return MLPHeadConfig(backbone_config=backbone_config, **labels, **HEADS[head or "linear"])


def _load_as_it_is(path: str, config: PreTrainedConfig, kwargs: dict[str, Any]) -> tuple[PreTrainedModel, dict]:
    return _stock_class(config).from_pretrained(path, config=config, **{**_OPTIONS, **kwargs})


def _stock_class(config: PreTrainedConfig) -> type:
    """The Auto class; for a model that was distilled, the class without the teacher's output: it takes labels."""
    classes = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING.get(type(config), None)
    distilled = any(name.endswith("WithTeacher") for name in config.architectures or ())
    return classes[0] if distilled and isinstance(classes, tuple) else AutoModelForImageClassification


def _same_head(config: MLPHeadConfig, other: MLPHeadConfig) -> bool:
    return (
        list(config.head_hidden_sizes) == list(other.head_hidden_sizes)
        and config.head_batch_norm == other.head_batch_norm
    )


def _load_under_our_head(
    path: str, config: PreTrainedConfig, ours: MLPHeadConfig, kwargs: dict[str, Any]
) -> tuple[PreTrainedModel, dict]:
    """As `from_pretrained(output_loading_info=True)`, with a new head of ours on the checkpoint's backbone."""
    options = {**_OPTIONS, **kwargs}
    if isinstance(config, MLPHeadConfig):
        loaded, info = MLPHeadForImageClassification.from_pretrained(path, config=config, **options)
        backbone, prefix = loaded.backbone, ""
        info["unexpected_keys"] = {
            *info["unexpected_keys"],
            *(f"classifier.{k}" for k in loaded.classifier.state_dict()),
        }
    else:
        if ours.backbone_config.model_type in ("vit", "deit"):
            options["add_pooling_layer"] = False
        backbone, info = AutoModel.from_pretrained(path, config=ours.backbone_config, **options)
        prefix = "backbone."
    model = MLPHeadForImageClassification(ours)
    model.backbone, model.name_or_path = backbone, path
    missing = {f"{prefix}{key}" for key in _new_weights(info)}
    missing = {key for key in missing if key.startswith("backbone.")}
    missing |= {f"classifier.{key}" for key in model.classifier.state_dict()}
    return model.eval(), {**info, "missing_keys": missing, "mismatched_keys": ()}


def _report_loading(model: PreTrainedModel, name_or_path: str, info: dict) -> None:
    new = _new_weights(info)
    head = head_modules(model)
    backbone = [key for key in new if not is_under(key, head)]
    if backbone:
        total = sum(not is_under(key, head) for key in model.state_dict())
        raise ModelError(
            f"{name_or_path}: {len(backbone)} of {total} backbone tensors are missing or of another shape, such as "
            f"{backbone[0]}; it is no {model.config.model_type} checkpoint of this size."
        )
    logger.info(f"{name_or_path}: new weights: {', '.join(new) or 'none'}")
    if info["unexpected_keys"]:
        logger.info(f"{name_or_path}: weights left aside: {_summary(info['unexpected_keys'])}")


def _new_weights(info: dict) -> list[str]:
    """Weights that the checkpoint lacks, or has in another shape."""
    mismatched = (key if isinstance(key, str) else key[0] for key in info["mismatched_keys"])
    return sorted({*info["missing_keys"], *mismatched})


def _summary(keys: Iterable[str]) -> str:
    """The keys, or where they are many, the modules that they are of, and how many each has."""
    keys = sorted(keys)
    if len(keys) <= 12:
        return ", ".join(keys)
    counts = Counter(key.split(".")[0] for key in keys)
    return ", ".join(root if root in keys else f"{root}.* ({count})" for root, count in counts.items())
