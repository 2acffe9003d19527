"""Configuration of plain convolutional networks: stages of convolutions and pooling, then linear layers."""

from huggingface_hub.dataclasses import strict

from .configuration_face import FaceConfig


# What a network can end in.
OUTPUTS = ("logits", "tanh", "sigmoid", "softmax")


@strict
class PlainCNNConfig(FaceConfig):
    """
    Configuration of a [`PlainCNNModel`]. The defaults are the VGG for FER-2013.

    Args:
        image_size (`int`, defaults to 40):
            Height and width in pixels of the faces; the first linear layer follows it.
        num_channels (`int`, defaults to 1):
            Of the first convolution: 1 (gray) or 3 (RGB).
        stage_widths (`list[int]`, defaults to `(64, 128, 256, 512)`):
            Channels of each stage. A stage ends in 2x2 max pooling.
        convs_per_stage (`int`, defaults to 2):
            3x3 convolutions, each with its ReLU, in a stage.
        batch_norm (`bool`, defaults to `True`):
            BatchNorm between each convolution and its ReLU.
        stage_dropout (`list[float]`, defaults to none):
            Dropout after each stage, in [0, 1): one number for each, or none at all.
        head_hidden_sizes (`list[int]`, defaults to `(4096, 4096)`):
            Widths of the linear layers, each with ReLU and dropout, before the last one.
        head_dropout (`float`, defaults to 0.2):
            Dropout after those, in [0, 1).
        output (`str`, defaults to `"logits"`):
            What the network ends in: `logits`, as a cross-entropy wants them, or `tanh`, `sigmoid` or `softmax` of
            these, in logits' place. With bounded ones, the cross-entropy of 7 classes cannot fall below 0.5944 for
            `tanh`, and 1.1654 for `sigmoid` and `softmax`.
    """

    model_type = "plain_cnn"

    image_size: int = 40
    stage_widths: list[int] | tuple[int, ...] = (64, 128, 256, 512)
    convs_per_stage: int = 2
    batch_norm: bool = True
    stage_dropout: list[float] | tuple[float, ...] = ()
    head_hidden_sizes: list[int] | tuple[int, ...] = (4096, 4096)
    head_dropout: float | int = 0.2
    output: str = "logits"

    def __post_init__(self, **kwargs):
        softmax_output = kwargs.pop("softmax_output", None)  # what checkpoints had before `output`
        if softmax_output is not None:
            self.output = "softmax" if softmax_output else "logits"
        super().__post_init__(**kwargs)

    def validate_output(self):
        """Raises `ValueError` on an unknown output."""
        if self.output not in OUTPUTS:
            raise ValueError(f"`output` must be one of {', '.join(OUTPUTS)}, got {self.output!r}.")

    def validate_layers(self):
        """Raises `ValueError` on widths that no layer has, and images that pooling leaves nothing of."""
        if not self.stage_widths or min(self.stage_widths) < 1:
            raise ValueError(f"`stage_widths` must be one or more widths >= 1, got {self.stage_widths}.")
        if min(self.head_hidden_sizes, default=1) < 1:
            raise ValueError(f"`head_hidden_sizes` must be widths >= 1, got {self.head_hidden_sizes}.")
        if self.convs_per_stage < 1:
            raise ValueError(f"`convs_per_stage` must be >= 1, got {self.convs_per_stage}.")
        if self.image_size < 2 ** len(self.stage_widths):
            smallest = 2 ** len(self.stage_widths)
            raise ValueError(f"`image_size` must be >= {smallest} for so many stages, got {self.image_size}.")

    def validate_dropout(self):
        """Raises `ValueError` on dropout outside [0, 1), or for another number of stages."""
        if self.stage_dropout and len(self.stage_dropout) != len(self.stage_widths):
            raise ValueError(f"`stage_dropout` must have {len(self.stage_widths)} numbers, got {self.stage_dropout}.")
        for dropout in (self.head_dropout, *self.stage_dropout):
            if not 0 <= dropout < 1:
                raise ValueError(f"`stage_dropout` and `head_dropout` must be in [0, 1), got {dropout}.")


__all__ = ["PlainCNNConfig"]
