"""Every architecture of the references by name, from scratch: what `--architecture` and `fer-hf models` know."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModelForImageClassification,
    BaseImageProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    ViTConfig,
    ViTImageProcessor,
)

from fer_hf.errors import BadInputError
from fer_hf.labels import EXPRESSIONS, id2label, label2id
from fer_hf.models.cnn_transformer import CNNTransformerConfig
from fer_hf.models.reduced_transfer import ReducedTransFERConfig
from fer_hf.models.torchvision_cnn import TorchvisionCNNConfig
from fer_hf.models.transfer import TransFERConfig


class ModelError(BadInputError):
    """A classifier that was asked for and cannot be had."""


@dataclass(frozen=True)
class Architecture:
    """
    One row of the zoo.

    Args:
        source (`str`): The paper or report it comes from, and what of it is our choice.
        config_class (`type`): Of the model.
        fields (`dict`): What differs from the class's defaults.
        image_mean, image_std (`tuple[float, ...]`): Of the image processor, for pixel values in [0, 1].
    """

    source: str
    config_class: type[PreTrainedConfig]
    fields: dict[str, Any] = field(default_factory=dict)
    image_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    image_std: tuple[float, float, float] = (0.5, 0.5, 0.5)


_COMPARISON = "CNN comparison on FER-2013"
_RESNET = "He et al., 2016 (https://huggingface.co/papers/1512.03385)"

ARCHITECTURES: dict[str, Architecture] = {
    "alexnet": Architecture(f"torchvision's; {_COMPARISON}", TorchvisionCNNConfig, {"network": "alexnet"}),
    "vgg16": Architecture(
        f"torchvision's, without BatchNorm; {_COMPARISON}", TorchvisionCNNConfig, {"network": "vgg16"}
    ),
    "resnet50": Architecture(f"torchvision's; {_COMPARISON}", TorchvisionCNNConfig, {"network": "resnet50"}),
    "transfer": Architecture(
        "Xue et al., 2021 (https://huggingface.co/papers/2108.11116), as released, with two branches",
        TransFERConfig,
        image_mean=(0.485, 0.456, 0.406),
        image_std=(0.229, 0.224, 0.225),
    ),
    "transfer-reduced": Architecture(f'what the {_COMPARISON} trains as "TransFER"', ReducedTransFERConfig),
    "cnn-transformer": Architecture(
        f'"CustomCNN + Transformer" of the {_COMPARISON}; its architecture is unpublished: this one is our choice',
        CNNTransformerConfig,
    ),
    "vit-scratch": Architecture(
        '"ViT from scratch" of the report on CNNs and pre-trained ViTs, which stayed at 25 %, the majority share; '
        "its sizes are unpublished: 8-pixel patches, 6 layers, 8 heads and a width of 256 are our choice",
        ViTConfig,
        {
            "image_size": 48,
            "patch_size": 8,
            "hidden_size": 256,
            "num_hidden_layers": 6,
            "num_attention_heads": 8,
            "intermediate_size": 1024,
        },
    ),
}


def architecture_config(name: str, names: Iterable[str] = EXPRESSIONS, **overrides: Any) -> PreTrainedConfig:
    """
    The configuration of an architecture of the zoo.

    Args:
        name (`str`): One of [`ARCHITECTURES`].
        names (`Iterable[str]`): The expressions, in label order.
        overrides: Fields of its configuration to change, such as `image_size`.

    Raises:
        ModelError: If the name or a field is unknown, or a value is refused.
    """
    row = ARCHITECTURES.get(name)
    if row is None:
        near = difflib.get_close_matches(name, ARCHITECTURES, n=3, cutoff=0.4)
        hint = f"; near: {', '.join(near)}" if near else ""
        raise ModelError(f"`architecture` {name!r} is unknown{hint}. `fer-hf models` lists them.")
    names = tuple(names)
    labels = {"id2label": id2label(names), "label2id": label2id(names)}
    known = row.config_class().to_dict()
    for key in overrides:
        # A configuration would silently keep a misspelt field.
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0)
            raise ModelError(f"{name} has no configuration field {key!r}; the nearest one is {near[0]!r}.")
    try:
        return row.config_class(**{"problem_type": "single_label_classification", **labels, **row.fields, **overrides})
    except StrictDataclassError as error:
        raise ModelError(f"{name}: {' '.join(str(error.__cause__ or error).split())}") from error


def build(name: str, names: Iterable[str] = EXPRESSIONS, **config_overrides: Any) -> PreTrainedModel:
    """
    A new model of the zoo, with fresh weights drawn from torch's random state.

    Args:
        name (`str`): One of [`ARCHITECTURES`].
        names (`Iterable[str]`): The expressions, in label order.
        config_overrides: Fields of its configuration to change, such as `image_size`.

    Returns:
        `PreTrainedModel`: In float32 and train mode.

    Raises:
        ModelError: If the name or a field is unknown, or a value is refused.
    """
    config = architecture_config(name, names, **config_overrides)
    return AutoModelForImageClassification.from_config(config, dtype=torch.float32)


def image_processor(name: str, config: PreTrainedConfig) -> BaseImageProcessor:
    """
    The image processor for a new model: any image to RGB, to the configuration's size, normalised as its source does.

    Gray networks take RGB pixel values as well, and make luma of them.
    """
    row = ARCHITECTURES[name]
    return ViTImageProcessor(
        do_convert_rgb=True,
        size={"height": config.image_size, "width": config.image_size},
        image_mean=list(row.image_mean),
        image_std=list(row.image_std),
    )


def describe(name: str) -> dict[str, Any]:
    """
    What one row of the zoo costs, without building its weights.

    Returns:
        `dict`: `name`, `source`, `model_type`, `image_size` (pixels), `num_channels`, `parameters`, and
        `multiply_adds`: those of convolutions, matrix products and attention for one face, counted by torch.
    """
    with torch.device("meta"):
        model = build(name).eval()
    config = model.config
    shape = (1, config.num_channels, config.image_size, config.image_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(shape, device="meta"))
    return {
        "name": name,
        "source": ARCHITECTURES[name].source,
        "model_type": config.model_type,
        "image_size": config.image_size,
        "num_channels": config.num_channels,
        "parameters": model.num_parameters(),
        "multiply_adds": counter.get_total_flops() // 2,
    }
