"""Configuration of a pre-trained vision transformer under a multi-layer head."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig


# The backbones by `model_type`, and what their stock classifiers pool. BEiT's pooler holds the norm of its last layer.
BACKBONE_POOLING = {
    "vit": "cls",
    "deit": "cls",
    "beit": "pooler",
    "dinov2": "cls",
    "dinov2_with_registers": "cls",
    "dinov3_vit": "cls",
    "swin": "mean",
    "swinv2": "mean",
    "siglip_vision_model": "mean",
}


@strict
class MLPHeadConfig(PreTrainedConfig):
    """
    Configuration of a [`MLPHeadForImageClassification`].

    Args:
        backbone_config (`PreTrainedConfig` or `dict`, *optional*):
            Of a ViT, DeiT, BEiT, DINOv2 (with or without registers), DINOv3 ViT, Swin, Swin v2 or SigLIP vision model;
            a default ViT if `None`.
        head_hidden_sizes (`list[int]`, defaults to `[512, 256]`):
            Widths of the head's hidden layers. `[512, 256]` and `[512, 256, 128, 64]` are the 3-layer and 5-layer
            heads of the report on CNNs and pre-trained ViTs for FER-2013; `[]` is one linear layer.
        head_dropout (`float`, defaults to 0.5):
            Dropout after each hidden layer's ReLU, in [0, 1).
        input_dropout (`float`, defaults to 0.0):
            Dropout of the features before the head's first layer, in [0, 1): for a head of one linear layer.
        head_batch_norm (`bool`, defaults to `False`):
            BatchNorm between each hidden layer and its ReLU.
        pooling (`str`, *optional*):
            What the head sees: `cls`, the first token; `mean`, over all tokens; `pooler`, the backbone's own
            `pooler_output`. Chosen by the backbone's type if `None`: `mean` for Swin and SigLIP, which have no class
            token, `pooler` for BEiT, else `cls`. (The stock DINOv2 classifier sees class token and mean side by side.)
    """

    model_type = "mlp_head"
    sub_configs = {"backbone_config": AutoConfig}

    backbone_config: dict | PreTrainedConfig | None = None
    head_hidden_sizes: list[int] | tuple[int, ...] = (512, 256)
    head_dropout: float | int = 0.5
    input_dropout: float | int = 0.0
    head_batch_norm: bool = False
    pooling: str | None = None
    problem_type: str | None = "single_label_classification"

    def __post_init__(self, **kwargs):
        if not isinstance(self.backbone_config, PreTrainedConfig):
            self.backbone_config = AutoConfig.for_model(**{"model_type": "vit", **(self.backbone_config or {})})
        if self.backbone_config.model_type == "siglip_vision_model":
            self.backbone_config.vision_use_head = False  # its attention pooling, which the stock classifier ignores
        if self.pooling is None:
            self.pooling = BACKBONE_POOLING.get(self.backbone_config.model_type)
        super().__post_init__(**kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs) -> "MLPHeadConfig":
        """As for all configurations. That of a backbone alone, such as a stock checkpoint's, goes under a new head."""
        if config_dict.get("model_type") in BACKBONE_POOLING:
            config_dict = {"backbone_config": config_dict}
        return super().from_dict(config_dict, **kwargs)

    @property
    def image_size(self) -> int:
        """Height and width in pixels of the faces."""
        return self.backbone_config.image_size

    @image_size.setter
    def image_size(self, value: int) -> None:
        self.backbone_config.image_size = value

    @property
    def num_channels(self) -> int:
        """Channels of the faces."""
        return self.backbone_config.num_channels

    def validate_backbone(self):
        """Raises `ValueError` on backbones that are none of the above, and on poolings that they do not have."""
        backbone = self.backbone_config.model_type
        if backbone not in BACKBONE_POOLING:
            raise ValueError(f"`backbone_config` must be of {', '.join(BACKBONE_POOLING)}, got {backbone!r}.")
        if self.pooling not in ("cls", "mean", "pooler"):
            raise ValueError(f"`pooling` must be cls, mean or pooler, got {self.pooling!r}.")
        if self.pooling == "cls" and BACKBONE_POOLING[backbone] == "mean":
            raise ValueError(f"`pooling` cls needs a class token, and a {backbone} has none.")
        if self.pooling == "pooler" and backbone in ("vit", "deit", "siglip_vision_model"):
            raise ValueError(f"`pooling` pooler: a {backbone} is built without its pooler here.")

    def validate_head(self):
        """Raises `ValueError` on widths below 1 and dropout outside [0, 1)."""
        if min(self.head_hidden_sizes, default=1) < 1:
            raise ValueError(f"`head_hidden_sizes` must be widths >= 1, got {self.head_hidden_sizes}.")
        for name in ("head_dropout", "input_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be in [0, 1), got {getattr(self, name)}.")


__all__ = ["MLPHeadConfig"]
