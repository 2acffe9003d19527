"""Configuration of the PReLU residual CNN."""

from huggingface_hub.dataclasses import strict

from .configuration_face import FaceConfig
from .configuration_plain_cnn import OUTPUTS


@strict
class PReLUCNNConfig(FaceConfig):
    """
    Configuration of a [`PReLUCNNModel`]. The defaults are the report's network, as published.

    Args:
        image_size (`int`, defaults to 48):
            Height and width in pixels of the faces; the first linear layer follows it.
        num_channels (`int`, defaults to 1):
            Of the first convolution: 1 (gray) or 3 (RGB).
        widths (`list[int]`, defaults to `(44, 40, 36)`):
            Channels of the three convolutions.
        head_hidden_size (`int`, defaults to 70):
            Width of the first linear layer.
        dropout (`float`, defaults to 0.5):
            Before the first linear layer, in [0, 1).
        output (`str`, defaults to `"tanh"`):
            What the network ends in: `logits`, as a cross-entropy wants them, or `tanh` (as published), `sigmoid` or
            `softmax` of these, in logits' place. With bounded ones, the cross-entropy of 7 classes cannot fall below
            0.5944 for `tanh`, and 1.1654 for `sigmoid` and `softmax`.
        unused_convs (`bool`, defaults to `True`):
            Keep the two 1x1 convolutions that the published code defines and never calls: 3,312 parameters for
            nothing, frozen here.
    """

    model_type = "prelu_cnn"

    image_size: int = 48
    widths: list[int] | tuple[int, ...] = (44, 40, 36)
    head_hidden_size: int = 70
    dropout: float | int = 0.5
    output: str = "tanh"
    unused_convs: bool = True

    def __post_init__(self, **kwargs):
        tanh_output = kwargs.pop("tanh_output", None)  # what checkpoints had before `output`
        if tanh_output is not None:
            self.output = "tanh" if tanh_output else "logits"
        super().__post_init__(**kwargs)

    def validate_output(self):
        """Raises `ValueError` on an unknown output."""
        if self.output not in OUTPUTS:
            raise ValueError(f"`output` must be one of {', '.join(OUTPUTS)}, got {self.output!r}.")

    def validate_layers(self):
        """Raises `ValueError` on widths that no layer has, dropout outside [0, 1), and images that are too small."""
        if len(self.widths) != 3 or min(self.widths) < 1:
            raise ValueError(f"`widths` must be three widths >= 1, got {self.widths}.")
        if self.head_hidden_size < 1:
            raise ValueError(f"`head_hidden_size` must be >= 1, got {self.head_hidden_size}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"`dropout` must be in [0, 1), got {self.dropout}.")
        if self.image_size < 24:
            raise ValueError(f"`image_size` must be >= 24, got {self.image_size}.")

    @property
    def map_size(self) -> int:
        """Height and width of the last feature map: 7 for 48-pixel faces."""
        side = (self.image_size - 2 - 3) // 2 + 1  # convolution 5, padding 1; pooling 3, stride 2
        side = (side - 2 - 3) // 2 + 1
        return side - 2  # average pooling 3, stride 1


__all__ = ["PReLUCNNConfig"]
