"""Configuration of the compact CNN."""

from huggingface_hub.dataclasses import strict

from .configuration_face import FaceConfig


@strict
class CompactCNNConfig(FaceConfig):
    """
    Configuration of a [`CompactCNNModel`].

    Args:
        image_size (`int`, defaults to 40):
            Height and width in pixels of what the image processor makes: the middle of a 48-pixel face. The network
            takes other sizes too.
        num_channels (`int`, defaults to 1):
            Of the first convolution: 1 (gray) or 3 (RGB).
        widths (`list[int]`, defaults to `(32, 64, 128, 192)`):
            Channels of the stem and of each stage. A stage's first block halves height and width.
        depths (`list[int]`, defaults to `(1, 1, 1)`):
            Residual blocks in each stage.
        se_ratio (`float`, defaults to 0.25):
            Width of the squeeze-and-excitation in each block, as a share of the block's width.
        dropout (`float`, defaults to 0.2):
            Before the last linear layer, in [0, 1).
    """

    model_type = "compact_cnn"

    image_size: int = 40
    widths: list[int] | tuple[int, ...] = (32, 64, 128, 192)
    depths: list[int] | tuple[int, ...] = (1, 1, 1)
    se_ratio: float | int = 0.25
    dropout: float | int = 0.2

    def validate_layers(self):
        """Raises `ValueError` on stages that do not fit each other, and numbers that no layer has."""
        if len(self.widths) != len(self.depths) + 1:
            raise ValueError(
                f"`depths` must have one number for each stage, `widths` one more for the stem, got {self.depths}, "
                f"{self.widths}."
            )
        for name in ("widths", "depths"):
            if min(getattr(self, name), default=0) < 1:
                raise ValueError(f"`{name}` must be numbers >= 1, got {getattr(self, name)}.")
        if self.image_size < 2 ** len(self.depths):
            raise ValueError(f"`image_size` must be >= {2 ** len(self.depths)}, got {self.image_size}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"`dropout` must be in [0, 1), got {self.dropout}.")
        if not 0 < self.se_ratio <= 1:
            raise ValueError(f"`se_ratio` must be in (0, 1], got {self.se_ratio}.")


__all__ = ["CompactCNNConfig"]
