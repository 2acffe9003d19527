"""Configuration of DACL: a ResNet with deep attentive center loss."""

from huggingface_hub.dataclasses import strict

from .configuration_face import FaceConfig


@strict
class DACLConfig(FaceConfig):
    """
    Configuration of a [`DACLForImageClassification`]. The defaults are those of Farzaneh and Qi, "Facial Expression
    Recognition in the Wild via Deep Attentive Center Loss", WACV 2021 (https://github.com/amirhfarzaneh/dacl).

    Args:
        network (`str`, defaults to `"resnet18"`):
            `resnet18`, `resnet34` or `resnet50`, as torchvision builds it.
        image_size (`int`, defaults to 224):
            Height and width in pixels of the faces. In mode `dacl` it sets how many inputs the attention network has.
        num_channels (`int`, defaults to 3):
            Of the first convolution: 1 (gray) or 3 (RGB).
        stem (`str`, defaults to `"imagenet"`):
            `imagenet`, the network's own first layers, or `small`: one 3x3 convolution of stride 1 and no pooling, for
            faces of 32 to 64 pixels.
        attention_hidden_sizes (`list[int]`, defaults to `[3584, 512, 64]`):
            Widths of the attention network's hidden layers.
        mode (`str`, defaults to `"dacl"`):
            What a checkpoint stores of its loss; for a new model, `--loss` sets it. `dacl` (`--loss sparse_center`),
            or one of the paper's two baselines, which have no attention network: `center`, the center loss of Wen et
            al., 2016 (attention 1 everywhere), or `softmax`, cross-entropy alone.
        center_loss_weight (`float`, defaults to 0.01):
            Weight (lambda) of the sparse center loss beside the cross-entropy.
        center_rate (`float`, defaults to 0.5):
            Rate (alpha) at which the centers follow the faces; on no schedule.
    """

    model_type = "dacl"
    # What an evaluation loop need not collect beside the logits.
    keys_to_ignore_at_inference = [
        "hidden_states",
        "features",
        "attention_weights",
        "softmax_loss",
        "sparse_center_loss",
    ]

    network: str = "resnet18"
    image_size: int = 224
    num_channels: int = 3
    stem: str = "imagenet"
    attention_hidden_sizes: list[int] | tuple[int, ...] = (3584, 512, 64)
    mode: str = "dacl"
    center_loss_weight: float | int = 0.01
    center_rate: float | int = 0.5

    def validate_network(self):
        """Raises `ValueError` on unknown networks and stems, and sizes that no face has."""
        if self.network not in ("resnet18", "resnet34", "resnet50"):
            raise ValueError(f"`network` must be one of resnet18, resnet34, resnet50, got {self.network!r}.")
        if self.stem not in ("imagenet", "small"):
            raise ValueError(f"`stem` must be imagenet or small, got {self.stem!r}.")
        if self.image_size < 1:
            raise ValueError(f"`image_size` must be >= 1, got {self.image_size}.")

    def validate_center_loss(self):
        """Raises `ValueError` on unknown modes, widths below 1, and weights and rates that make no loss."""
        if self.mode not in ("softmax", "center", "dacl"):
            raise ValueError(f"`mode` must be softmax, center or dacl, got {self.mode!r}.")
        if not self.attention_hidden_sizes or min(self.attention_hidden_sizes) < 1:
            raise ValueError(
                f"`attention_hidden_sizes` must be one or more widths >= 1, got {self.attention_hidden_sizes}."
            )
        if self.center_loss_weight < 0:
            raise ValueError(f"`center_loss_weight` must be >= 0, got {self.center_loss_weight}.")
        if not 0 <= self.center_rate <= 1:
            raise ValueError(f"`center_rate` must be in [0, 1], got {self.center_rate}.")


__all__ = ["DACLConfig"]
