"""The one way in which recipes load a classifier from a checkpoint."""

import logging

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    BaseImageProcessor,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging

from fer_hf.assets import asset, asset_names
from fer_hf.labels import id2label, label2id
from fer_hf.models.vit_mlp import ViTMLPConfig, ViTMLPForImageClassification
from fer_hf.models.zoo import ModelError


logger = logging.getLogger(__name__)

# The heads of the report on CNNs and pre-trained ViTs for FER-2013; `linear` is the library's own.
HEADS = {
    "linear": None,
    "mlp3": {"head_hidden_sizes": [512, 256]},
    "mlp5": {"head_hidden_sizes": [512, 256, 128, 64]},
    "mlp5_bn": {"head_hidden_sizes": [512, 256, 128, 64], "head_batch_norm": True},
}


def load_image_classifier(
    name_or_path: str,
    names: tuple[str, ...],
    head: str = "linear",
    **kwargs,
) -> tuple[PreTrainedModel, BaseImageProcessor]:
    """
    Load a checkpoint's backbone and image processor under a head for the expressions `names`.

    A head in the checkpoint is kept where it has the same form and number of classes, else it is new. The log says
    which weights are new and which of the checkpoint's are left aside.

    Args:
        name_or_path (`str`):
            A folder, a Hub id, or the name of a checkpoint that ships with the package.
        names (`tuple[str, ...]`):
            The expressions, in label order.
        head (`str`, defaults to `"linear"`):
            One of [`HEADS`]; the multi-layer heads need a ViT.
        kwargs:
            For `from_pretrained`: `revision`, `cache_dir`, `trust_remote_code`.

    Returns:
        `tuple`: The model in float32, in eval mode, and its image processor, set to make images RGB.

    Raises:
        ModelError: If the head is unknown or does not fit, nothing can be loaded, or backbone weights are missing.
    """
    if head not in HEADS:
        raise ModelError(f"`head` must be one of {', '.join(HEADS)}, got {head!r}.")
    path = asset(name_or_path) if name_or_path in asset_names() else name_or_path
    labels = {"num_labels": len(names), "id2label": id2label(names), "label2id": label2id(names)}
    try:
        config = AutoConfig.from_pretrained(path, **kwargs)
        processor = AutoImageProcessor.from_pretrained(path, **kwargs)
    except (OSError, ValueError) as error:
        raise ModelError(f"Cannot load `model_name_or_path` {name_or_path!r}: {_first_line(error)}") from error
    config.update(labels)
    # Without it, the first batch's labels decide, and float labels would turn the model multi-label.
    config.problem_type = "single_label_classification"
    model_class = AutoModelForImageClassification
    if HEADS[head] is not None:
        if config.model_type not in ("vit", "vit_mlp"):
            raise ModelError(f"`head` {head!r} needs a ViT; {name_or_path} is a {config.model_type}. Use `linear`.")
        fields = {key: value for key, value in config.to_dict().items() if key not in ("model_type", "auto_map")}
        config = ViTMLPConfig(**{**fields, **labels, **HEADS[head]})
        model_class = ViTMLPForImageClassification
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # instead of the library's table, we log two lines
    try:
        model, info = model_class.from_pretrained(
            path, config=config, dtype="float32", ignore_mismatched_sizes=True, output_loading_info=True, **kwargs
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"Cannot load `model_name_or_path` {name_or_path!r}: {_first_line(error)}") from error
    finally:
        transformers_logging.set_verbosity(verbosity)
    _report_loading(model, name_or_path, info)
    # Faces are often grayscale, and the pipeline hands the processor RGB: say so in what is saved.
    processor.do_convert_rgb = True
    return model, processor


def _report_loading(model: PreTrainedModel, name_or_path: str, info: dict) -> None:
    mismatched = {key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]}
    new = sorted({*info["missing_keys"], *mismatched})
    backbone = [key for key in new if key.startswith(f"{model.base_model_prefix}.")]
    if backbone:
        total = sum(key.startswith(f"{model.base_model_prefix}.") for key in model.state_dict())
        raise ModelError(
            f"{name_or_path}: {len(backbone)} of {total} backbone tensors are missing or of another shape, such as "
            f"{backbone[0]}; it is no {model.config.model_type} checkpoint of this size."
        )
    logger.info(f"{name_or_path}: new weights: {', '.join(new) or 'none'}")
    if info["unexpected_keys"]:
        logger.info(f"{name_or_path}: weights left aside: {', '.join(sorted(info['unexpected_keys']))}")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
