"""Configuration of TransFER."""

from huggingface_hub.dataclasses import strict

from .configuration_face import FaceConfig


@strict
class TransFERConfig(FaceConfig):
    """
    Configuration of a [`TransFERModel`]; the defaults are those of the released code.

    Args:
        image_size (`int`, defaults to 112):
            Height and width in pixels of the faces. The position embeddings belong to this size.
        num_channels (`int`, defaults to 3):
            Of the first convolution: 1 (gray) or 3 (RGB).
        stem_units, stem_widths (`tuple[int, ...]`):
            Residual units and channels of each stage of the IR stem; every stage halves the map.
        num_branches (`int`, defaults to 2):
            Local attention branches. The paper's own number is not known to us; this is the released configuration's.
        branch_reduction (`int`, defaults to 16):
            How many times fewer channels a branch has inside.
        mad_probability (`float`, defaults to 0.6):
            Multi-attention dropping: how often, per face in training, the map of one branch is zeroed.
        msad_probability (`float`, defaults to 0.3):
            Multi-head self-attention dropping: how often, per face and layer in training, the output of one head is
            zeroed.
        hidden_size, num_hidden_layers, num_attention_heads (`int`):
            Of the encoder.
        mlp_ratio (`int` or `float`, defaults to 3):
            Width of the encoder's two-layer perceptrons, in units of `hidden_size`.
        layer_norm_eps (`float`, defaults to 1e-6):
            Of the encoder's layer norms.
        initializer_range (`float`, defaults to 0.02):
            Standard deviation of the truncated normal from which the encoder's weights are drawn.
    """

    model_type = "transfer"

    image_size: int = 112
    num_channels: int = 3
    stem_units: list[int] | tuple[int, ...] = (3, 4, 14)
    stem_widths: list[int] | tuple[int, ...] = (64, 128, 256)
    num_branches: int = 2
    branch_reduction: int = 16
    mad_probability: int | float = 0.6
    msad_probability: int | float = 0.3
    hidden_size: int = 768
    num_hidden_layers: int = 8
    num_attention_heads: int = 8
    mlp_ratio: int | float = 3
    layer_norm_eps: float = 1e-6
    initializer_range: float = 0.02

    def validate_sizes(self):
        """Raises `ValueError` on numbers that no network has."""
        for name in ("image_size", "num_branches", "branch_reduction", "hidden_size", "num_hidden_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be >= 1, got {getattr(self, name)}.")
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"`hidden_size` must be a multiple of `num_attention_heads`, got {self.hidden_size} and "
                f"{self.num_attention_heads}."
            )
        if self.mlp_ratio <= 0:
            raise ValueError(f"`mlp_ratio` must be > 0, got {self.mlp_ratio}.")

    def validate_stem(self):
        """Raises `ValueError` if the stem's stages do not fit together or are too narrow for the branches."""
        if not self.stem_units or len(self.stem_units) != len(self.stem_widths):
            raise ValueError(
                "`stem_units` and `stem_widths` must name the same stages, at least one, got "
                f"{tuple(self.stem_units)} and {tuple(self.stem_widths)}."
            )
        if min(*self.stem_units, *self.stem_widths) < 1:
            raise ValueError(
                f"`stem_units` and `stem_widths` must be >= 1, got {tuple(self.stem_units)} and "
                f"{tuple(self.stem_widths)}."
            )
        if self.stem_widths[-1] % self.branch_reduction:
            raise ValueError(
                f"The last of `stem_widths` must be a multiple of `branch_reduction`, got {self.stem_widths[-1]} and "
                f"{self.branch_reduction}."
            )

    def validate_probabilities(self):
        """Raises `ValueError` on probabilities outside [0, 1]."""
        for name in ("mad_probability", "msad_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be in [0, 1], got {getattr(self, name)}.")


__all__ = ["TransFERConfig"]
