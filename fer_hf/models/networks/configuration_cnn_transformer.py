"""Configuration of a small convolutional stem under a Transformer encoder."""

from huggingface_hub.dataclasses import strict

from .configuration_face import FaceConfig


@strict
class CNNTransformerConfig(FaceConfig):
    """
    Configuration of a [`CNNTransformerModel`].

    Args:
        image_size (`int`, defaults to 224):
            Height and width in pixels of the faces. The position embeddings belong to this size.
        num_channels (`int`, defaults to 1):
            Of the first convolution: 1 (gray) or 3 (RGB).
        stem_widths (`tuple[int, ...]`, defaults to (64, 128, 256, 512)):
            Channels of each stage: 3x3 convolution, BatchNorm, ReLU, 2x2 maximum. The last is the width of the tokens.
        num_hidden_layers, num_attention_heads, intermediate_size (`int`):
            Of the encoder.
        dropout (`float`, defaults to 0.1):
            Of the encoder.
        norm_first (`bool`, defaults to `False`):
            Norms before attention and perceptron instead of after the sums. Deep encoders train far more easily so.
        initializer_range (`float`, defaults to 0.02):
            Standard deviation of the truncated normal from which the position embeddings are drawn.
    """

    model_type = "cnn_transformer"

    image_size: int = 224
    stem_widths: list[int] | tuple[int, ...] = (64, 128, 256, 512)
    num_hidden_layers: int = 6
    num_attention_heads: int = 8
    intermediate_size: int = 2048
    dropout: int | float = 0.1
    norm_first: bool = False
    initializer_range: float = 0.02

    def validate_sizes(self):
        """Raises `ValueError` on numbers that no network has."""
        for name in ("num_hidden_layers", "num_attention_heads", "intermediate_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be >= 1, got {getattr(self, name)}.")
        if not self.stem_widths or min(self.stem_widths) < 1:
            raise ValueError(f"`stem_widths` must be one or more numbers >= 1, got {tuple(self.stem_widths)}.")
        if self.image_size < 2 ** len(self.stem_widths):
            raise ValueError(
                f"`image_size` must be >= {2 ** len(self.stem_widths)}, because each of {len(self.stem_widths)} "
                f"stages halves the map, got {self.image_size}."
            )
        if self.stem_widths[-1] % self.num_attention_heads:
            raise ValueError(
                "The last of `stem_widths` must be a multiple of `num_attention_heads`, got "
                f"{self.stem_widths[-1]} and {self.num_attention_heads}."
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"`dropout` must be in [0, 1), got {self.dropout}.")


__all__ = ["CNNTransformerConfig"]
