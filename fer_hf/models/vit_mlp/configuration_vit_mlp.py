"""Configuration of a ViT with a multi-layer head."""

from huggingface_hub.dataclasses import strict
from transformers import ViTConfig


@strict
class ViTMLPConfig(ViTConfig):
    """
    A [`~transformers.ViTConfig`] with a multi-layer perceptron as classification head.

    Args:
        head_hidden_sizes (`list[int]`, defaults to `[512, 256]`):
            Widths of the head's hidden layers. `[512, 256]` and `[512, 256, 128, 64]` are the 3-layer and 5-layer
            heads of the report on pre-trained ViTs for FER-2013.
        head_dropout (`float`, defaults to 0.5):
            Dropout after each hidden layer's ReLU, in [0, 1).
        head_batch_norm (`bool`, defaults to `False`):
            BatchNorm between each hidden layer and its ReLU.
    """

    model_type = "vit_mlp"

    head_hidden_sizes: list[int] | tuple[int, ...] = (512, 256)
    head_dropout: float | int = 0.5
    head_batch_norm: bool = False

    def validate_head(self):
        """Raises `ValueError` on widths below 1 and dropout outside [0, 1)."""
        if not self.head_hidden_sizes or min(self.head_hidden_sizes) < 1:
            raise ValueError(f"`head_hidden_sizes` must be one or more widths >= 1, got {self.head_hidden_sizes}.")
        if not 0 <= self.head_dropout < 1:
            raise ValueError(f"`head_dropout` must be in [0, 1), got {self.head_dropout}.")


__all__ = ["ViTMLPConfig"]
