"""Configuration of the reduced TransFER of the CNN comparison on FER-2013."""

from huggingface_hub.dataclasses import strict

from .configuration_face import FaceConfig


@strict
class ReducedTransFERConfig(FaceConfig):
    """
    Configuration of a [`ReducedTransFERModel`]; the defaults are the comparison's.

    Args:
        image_size (`int`, defaults to 224):
            Height and width in pixels of the faces; what the image processor makes. The network takes other sizes too.
        num_channels (`int`, defaults to 1):
            Of the first convolution: 1 (gray) or 3 (RGB).
        stem_blocks, stem_widths (`tuple[int, int, int, int]`):
            Basic blocks and channels of each stage of the ResNet; the defaults make ResNet-18.
        num_branches (`int`, defaults to 2):
            Local branches, one 3x3 convolution each.
        branch_keep_probability (`float`, defaults to 0.4):
            How often an element of a branch's map is kept in training. The others become zero; nothing is rescaled.
        hidden_size, intermediate_size, num_hidden_layers, num_attention_heads (`int`):
            Of the encoder.
        dropout (`float`, defaults to 0.1):
            Of the encoder.
    """

    model_type = "reduced_transfer"

    image_size: int = 224
    stem_blocks: list[int] | tuple[int, ...] = (2, 2, 2, 2)
    stem_widths: list[int] | tuple[int, ...] = (64, 128, 256, 512)
    num_branches: int = 2
    branch_keep_probability: int | float = 0.4
    hidden_size: int = 2048
    intermediate_size: int = 2048
    num_hidden_layers: int = 8
    num_attention_heads: int = 8
    dropout: int | float = 0.1

    def validate_sizes(self):
        """Raises `ValueError` on numbers that no network has."""
        for name in ("image_size", "num_branches", "hidden_size", "intermediate_size", "num_hidden_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be >= 1, got {getattr(self, name)}.")
        for name in ("stem_blocks", "stem_widths"):
            stages = tuple(getattr(self, name))
            if len(stages) != 4 or min(stages) < 1:
                raise ValueError(f"`{name}` must be four numbers >= 1, got {stages}.")
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"`hidden_size` must be a multiple of `num_attention_heads`, got {self.hidden_size} and "
                f"{self.num_attention_heads}."
            )

    def validate_probabilities(self):
        """Raises `ValueError` on probabilities that leave nothing to learn from."""
        if not 0 < self.branch_keep_probability <= 1:
            raise ValueError(f"`branch_keep_probability` must be in (0, 1], got {self.branch_keep_probability}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"`dropout` must be in [0, 1), got {self.dropout}.")


__all__ = ["ReducedTransFERConfig"]
