"""Every architecture of the references by name, from scratch: what `--architecture` and `fer-hf models` know."""

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

from fer_hf.errors import ModelError, nearest
from fer_hf.labels import EXPRESSIONS, id2label, label2id
from fer_hf.models.heads import HEADS
from fer_hf.models.loading import reason
from fer_hf.models.networks.configuration_cnn_transformer import CNNTransformerConfig
from fer_hf.models.networks.configuration_compact_cnn import CompactCNNConfig
from fer_hf.models.networks.configuration_dacl import DACLConfig
from fer_hf.models.networks.configuration_mlp_head import MLPHeadConfig
from fer_hf.models.networks.configuration_plain_cnn import PlainCNNConfig
from fer_hf.models.networks.configuration_prelu_cnn import PReLUCNNConfig
from fer_hf.models.networks.configuration_reduced_dacl import ReducedDACLConfig
from fer_hf.models.networks.configuration_reduced_transfer import ReducedTransFERConfig
from fer_hf.models.networks.configuration_torchvision_cnn import TorchvisionCNNConfig
from fer_hf.models.networks.configuration_transfer import TransFERConfig


@dataclass(frozen=True)
class Architecture:
    """
    One row of the zoo.

    Args:
        source (`str`): The paper or report it comes from, and what of it is our choice.
        config_class (`type`): Of the model.
        fields (`dict`): What differs from the class's defaults.
        image_mean, image_std (`tuple[float, ...]`): Of the image processor, for pixel values in [0, 1].
        center_crop (`float`): Share of the face's side that the image processor keeps, about the middle, in (0, 1].
    """

    source: str
    config_class: type[PreTrainedConfig]
    fields: dict[str, Any] = field(default_factory=dict)
    image_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    image_std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    center_crop: float = 1.0


_COMPARISON = "the CNN comparison on FER-2013"
_VITS = "the report on CNNs and pre-trained ViTs for FER-2013"
_PRELU = "the report on a PReLU CNN for FER-2013"
_DACL = "DACL (Farzaneh and Qi, 2021)"
_VGG = "VGG for FER-2013 (Khaireddin and Chen, 2021)"
_NOT_NORMALISED = {"image_mean": (0.0, 0.0, 0.0), "image_std": (1.0, 1.0, 1.0)}
# Mean and standard deviation that scale pixel values to [0, 1] and to [-1, 1].
PIXEL_RANGES = {"unit": (0.0, 1.0), "signed": (0.5, 0.5)}


def _resnets() -> dict[str, Architecture]:
    """Depth by depth: one or three channels, the ImageNet stem at 224 pixels or the small one at 48."""
    rows = {}
    for depth in (18, 34, 50):
        for suffix, channels in (("", 1), ("-rgb", 3)):
            fields = {"network": f"resnet{depth}", "num_channels": channels}
            scale = _NOT_NORMALISED if channels == 1 else {}
            rows[f"resnet{depth}{suffix}"] = Architecture(
                "torchvision's (He et al., 2016)" + (f", as in {_COMPARISON}" if channels == 1 else ""),
                TorchvisionCNNConfig,
                fields,
                **scale,
            )
            rows[f"resnet{depth}-48{suffix}"] = Architecture(
                "torchvision's (He et al., 2016), 3x3 stem for small images",
                TorchvisionCNNConfig,
                {**fields, "image_size": 48, "stem": "small"},
            )
    return rows


# The `--loss` of a DACL model by the `mode` that its configuration keeps.
DACL_LOSSES = {"softmax": "softmax", "center": "center", "dacl": "sparse_center"}


def dacl_mode(loss: str) -> str | None:
    """The `mode` of a DACL model that is trained with `loss`; `None` if no DACL model has that loss."""
    loss = "softmax" if loss == "cross_entropy" else loss
    return next((mode for mode, name in DACL_LOSSES.items() if name == loss), None)


def _dacl(source: str, center_crop: float = 224 / 256, **fields: Any) -> Architecture:
    """A row with the official code's normalisation, which is that of RAF-DB, and its middle of each test face."""
    mean, std = (0.5752, 0.4495, 0.4012), (0.2086, 0.1911, 0.1827)
    return Architecture(source, DACLConfig, fields, image_mean=mean, image_std=std, center_crop=center_crop)


ARCHITECTURES: dict[str, Architecture] = {
    "alexnet": Architecture(
        f"torchvision's, as in {_COMPARISON}", TorchvisionCNNConfig, {"network": "alexnet"}, **_NOT_NORMALISED
    ),
    "vgg16": Architecture(
        f"torchvision's, no BatchNorm, as in {_COMPARISON}",
        TorchvisionCNNConfig,
        {"network": "vgg16"},
        **_NOT_NORMALISED,
    ),
    **_resnets(),
    "vgg-fer": Architecture(f"{_VGG}, on the middle 40 of 48 pixels", PlainCNNConfig, center_crop=40 / 48),
    "vgg-fer-48": Architecture(f"{_VGG}, on whole faces of 48 pixels (ours)", PlainCNNConfig, {"image_size": 48}),
    "vgg-fer-224": Architecture(
        f"{_VGG}, as in {_COMPARISON}: whole faces of 224 pixels",
        PlainCNNConfig,
        {"image_size": 224},
        **_NOT_NORMALISED,
    ),
    "cnn-v1": Architecture(
        f"{_VITS}: CNN V1 (its layers are unpublished; ours)",
        PlainCNNConfig,
        {
            "image_size": 48, "stage_widths": (32, 64), "convs_per_stage": 1, "batch_norm": False,
            "head_hidden_sizes": (128,), "head_dropout": 0.0,
        },
    ),
    "cnn-v2": Architecture(
        f"{_VITS}: CNN V2",
        PlainCNNConfig,
        {
            "image_size": 48, "stage_widths": (32, 64, 128, 256), "convs_per_stage": 1,
            "stage_dropout": (0.0, 0.5, 0.0, 0.5), "head_hidden_sizes": (),
        },
    ),
    "prelu-cnn": Architecture(f"{_PRELU}, as published", PReLUCNNConfig),
    "prelu-cnn-logits": Architecture(
        f"{_PRELU}, without its tanh and its two unused convolutions",
        PReLUCNNConfig,
        {"output": "logits", "unused_convs": False},
    ),
    "prelu-template": Architecture(
        f"{_PRELU}: its template, with softmax before the loss (its layers are unpublished; ours)",
        PlainCNNConfig,
        {
            "image_size": 48, "stage_widths": (32, 64), "convs_per_stage": 1, "batch_norm": False,
            "head_hidden_sizes": (128,), "head_dropout": 0.5, "output": "softmax",
        },
    ),
    "cnn-transformer": Architecture(
        f"{_COMPARISON}: CustomCNN + Transformer (its layers are unpublished; ours)",
        CNNTransformerConfig,
        **_NOT_NORMALISED,
    ),
    "vit-scratch": Architecture(
        f"{_VITS}: ViT from scratch (its sizes are unpublished; ours); gray faces as three equal channels",
        ViTConfig,
        {
            "image_size": 48, "patch_size": 8, "hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 8,
            "intermediate_size": 1024,
        },
    ),
    **{
        f"vit-{head.replace('_', '-')}": Architecture(
            f"{_VITS}: {version}, ViT-B/16 (Dosovitskiy et al., 2021) with its {what}", MLPHeadConfig, HEADS[head]
        )
        for head, version, what in (
            ("mlp3", "V1.3", "3-layer head"),
            ("mlp5", "V1.5 to V1.6.6", "5-layer head"),
            ("mlp5_bn", "V1.6.7", "5-layer head with BatchNorm"),
        )
    },
    "vit-linear": Architecture("ViT-B/16 (Dosovitskiy et al., 2021) with its linear head", ViTConfig),
    "dacl": _dacl(f"{_DACL}, on the middle 224 of 256 pixels"),
    "dacl-200": _dacl(
        f"{_DACL}, the best crop of the report that re-implements it on FER-2013: 200 of 256 pixels",
        center_crop=200 / 256,
        image_size=200,
    ),
    **{
        f"dacl-{size}": _dacl(f"{_DACL}, smaller faces, the same share of them (ours)", image_size=size)
        for size in (112, 64, 48)
    },
    "dacl-reduced": Architecture(
        f"{_COMPARISON}: DACL, reduced to ResNet-18 and a linear map", ReducedDACLConfig, **_NOT_NORMALISED
    ),
    "transfer": Architecture(
        "TransFER (Xue et al., 2021), two branches as in the released configuration",
        TransFERConfig,
        image_mean=(0.485, 0.456, 0.406),
        image_std=(0.229, 0.224, 0.225),
    ),
    "transfer-reduced": Architecture(
        f"{_COMPARISON}: TransFER, reduced to ResNet-18 and a plain encoder", ReducedTransFERConfig, **_NOT_NORMALISED
    ),
    "compact-cnn": Architecture(
        "ours, for a CPU: the middle 40 pixels of 48-pixel faces", CompactCNNConfig, center_crop=40 / 48
    ),
    "compact-vit": Architecture(
        "ours, for a CPU: ViT (Dosovitskiy et al., 2021) of 12 layers; gray faces as three equal channels",
        ViTConfig,
        {
            "image_size": 48, "patch_size": 8, "hidden_size": 96, "num_hidden_layers": 12, "num_attention_heads": 3,
            "intermediate_size": 384, "initializer_range": 0.1,
        },
    ),
}  # fmt: skip


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
        raise ModelError(
            f"`architecture` {name!r} is unknown: {nearest(name, ARCHITECTURES)} `fer-hf models` lists them."
        )
    names = tuple(names)
    labels = {"id2label": id2label(names), "label2id": label2id(names)}
    known = row.config_class().to_dict()
    for key in overrides:
        # A configuration would silently keep a misspelt field.
        if key not in known:
            raise ModelError(f"{name} has no configuration field {key!r}: {nearest(key, known)}")
    try:
        return row.config_class(**{"problem_type": "single_label_classification", **labels, **row.fields, **overrides})
    except StrictDataclassError as error:
        raise ModelError(f"{name}: {reason(error)}") from error


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
    try:
        return AutoModelForImageClassification.from_config(config, dtype=torch.float32)
    except ValueError as error:
        raise ModelError(f"{name}: {reason(error)}") from error


def image_processor(name: str, config: PreTrainedConfig, pixel_range: str | None = None) -> BaseImageProcessor:
    """
    The image processor for a new model: any image to RGB, to the configuration's size (cropped about the middle where
    the row says so), normalised as its source does.

    Gray networks take RGB pixel values as well, and make luma of them.

    Args:
        name (`str`): One of [`ARCHITECTURES`].
        config (`PreTrainedConfig`): Of the model.
        pixel_range (`str`, *optional*):
            One of [`PIXEL_RANGES`], instead of the source's own: `unit`, [0, 1], or `signed`, [-1, 1].
    """
    row = ARCHITECTURES[name]
    mean, std = row.image_mean, row.image_std
    if pixel_range is not None:
        mean, std = ([value] * 3 for value in PIXEL_RANGES[pixel_range])
    final, whole = config.image_size, round(config.image_size / row.center_crop)
    crop = {} if whole == final else {"do_center_crop": True, "crop_size": {"height": final, "width": final}}
    return ViTImageProcessor(
        do_convert_rgb=True,
        size={"height": whole, "width": whole},
        **crop,
        image_mean=list(mean),
        image_std=list(std),
    )


def describe(name: str, **config_overrides: Any) -> dict[str, Any]:
    """
    What one row of the zoo costs, without building its weights.

    Args:
        name (`str`): One of [`ARCHITECTURES`].
        config_overrides: Fields of its configuration to change, such as `image_size`.

    Returns:
        `dict`: `name`, `source`, `model_type`, `image_size` (pixels), `num_channels`, `parameters`, and
        `multiply_adds`: those of convolutions, matrix products and attention for one face, counted by torch.
    """
    with torch.device("meta"):
        model = build(name, **config_overrides).eval()
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
