"""Configuration of the compact CNN."""

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


@strict
class CompactCNNConfig(PreTrainedConfig):
    """
    Configuration of a [`CompactCNNModel`].

    Args:
        image_size (`int`, defaults to 48):
            Height and width in pixels of the faces; what the image processor makes. The network takes other sizes too.
        num_channels (`int`, defaults to 1):
            Of the first convolution: 1 (gray) or 3 (RGB).
        widths (`list[int]`, defaults to `(24, 32, 64, 128)`):
            Channels of the stem and of each stage. A stage's first block halves height and width.
        depths (`list[int]`, defaults to `(2, 3, 4)`):
            Blocks in each stage.
        expand_ratios (`list[int]`, defaults to `(2, 4, 4)`):
            How many times wider the blocks of each stage are inside.
        fused_stages (`int`, defaults to 1):
            The first so many stages expand with one dense 3x3 convolution instead of a 1x1 and a depthwise 3x3 one.
        se_ratio (`float`, defaults to 0.25):
            Width of the squeeze-and-excitation in the other stages, as a share of the block's input width.
        dropout (`float`, defaults to 0.2):
            Before the last linear layer, in [0, 1).
    """

    model_type = "compact_cnn"

    image_size: int = 48
    num_channels: int = 1
    widths: list[int] | tuple[int, ...] = (24, 32, 64, 128)
    depths: list[int] | tuple[int, ...] = (2, 3, 4)
    expand_ratios: list[int] | tuple[int, ...] = (2, 4, 4)
    fused_stages: int = 1
    se_ratio: float | int = 0.25
    dropout: float | int = 0.2
    problem_type: str | None = "single_label_classification"

    def validate_layers(self):
        """Raises `ValueError` on stages that do not fit each other, and numbers that no layer has."""
        if len(self.widths) != len(self.depths) + 1 or len(self.depths) != len(self.expand_ratios):
            raise ValueError(
                "`depths` and `expand_ratios` must have one number for each stage, `widths` one more for the stem, "
                f"got {self.widths}, {self.depths}, {self.expand_ratios}."
            )
        for name in ("widths", "depths", "expand_ratios"):
            if min(getattr(self, name), default=0) < 1:
                raise ValueError(f"`{name}` must be numbers >= 1, got {getattr(self, name)}.")
        if self.num_channels not in (1, 3):
            raise ValueError(f"`num_channels` must be 1 or 3, got {self.num_channels}.")
        if self.image_size < 2 ** len(self.depths):
            raise ValueError(f"`image_size` must be >= {2 ** len(self.depths)}, got {self.image_size}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"`dropout` must be in [0, 1), got {self.dropout}.")
        if not 0 < self.se_ratio <= 1:
            raise ValueError(f"`se_ratio` must be in (0, 1], got {self.se_ratio}.")


__all__ = ["CompactCNNConfig"]
