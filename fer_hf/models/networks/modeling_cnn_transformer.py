"""A small convolutional stem under a Transformer encoder, for gray or RGB faces."""

import torch
from torch import nn
from transformers import initialization as init

from .configuration_cnn_transformer import CNNTransformerConfig
from .modeling_classifier import (
    EncoderLayer,
    FaceBackboneMixin,
    FaceClassifierMixin,
    FacePreTrainedModel,
    check_image_size,
    init_as_pytorch,
)


class CNNTransformerEmbeddings(nn.Module):
    """Tokens of a face: one per cell of the stem's last map, plus position embeddings."""

    def __init__(self, config: CNNTransformerConfig):
        super().__init__()
        stages, channels = [], config.num_channels
        for width in config.stem_widths:
            stages += [
                nn.Conv2d(channels, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
            channels = width
        self.stem = nn.Sequential(*stages)
        side = config.image_size // 2 ** len(config.stem_widths)
        self.position_embeddings = nn.Parameter(torch.zeros(1, side**2, channels))

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        tokens = self.stem(pixel_values).flatten(2).transpose(1, 2)  # (batch_size, height * width, stem_widths[-1])
        return tokens + self.position_embeddings


class CNNTransformerPreTrainedModel(FacePreTrainedModel):
    """What the two models below share: how weights start, and what goes in."""

    config: CNNTransformerConfig
    # Of the encoder's layers only: recomputing the stem's BatchNorm layers would count their batches twice.
    supports_gradient_checkpointing = True
    _no_split_modules = ["CNNTransformerEmbeddings", "EncoderLayer"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """PyTorch's defaults, Kaiming's rule for the convolutions, and a truncated normal for the positions."""
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear | nn.MultiheadAttention):
            init_as_pytorch(module)
        elif isinstance(module, CNNTransformerEmbeddings):
            init.trunc_normal_(module.position_embeddings, std=self.config.initializer_range)
        else:
            super()._init_weights(module)


class CNNTransformerModel(FaceBackboneMixin, CNNTransformerPreTrainedModel):
    """Stem and encoder without the classifier."""

    def __init__(self, config: CNNTransformerConfig):
        super().__init__(config)
        width = config.stem_widths[-1]
        self.embeddings = CNNTransformerEmbeddings(config)
        self.layers = nn.ModuleList(
            EncoderLayer(
                width,
                config.num_attention_heads,
                config.intermediate_size,
                config.dropout,
                norm_first=config.norm_first,
            )
            for _ in range(config.num_hidden_layers)
        )
        # Layers with their norms first leave the sum of all of them without one.
        self.layernorm = nn.LayerNorm(width) if config.norm_first else nn.Identity()

        # Initialize weights and apply final processing
        self.post_init()

    def encode(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """
        Tokens `(batch_size, height * width, stem_widths[-1])` with the height and width of the stem's last map, 196 at
        224 pixels; and those before the first layer and after each.
        """
        check_image_size(pixel_values, self.config.image_size)
        states = [self.embeddings(pixel_values)]
        for layer in self.layers:
            states.append(layer(states[-1]))
        return self.layernorm(states[-1]), states

    def pool(self, tokens: torch.Tensor) -> torch.Tensor:
        """The mean of the tokens."""
        return tokens.mean(dim=1)


class CNNTransformerForImageClassification(FaceClassifierMixin, CNNTransformerPreTrainedModel):
    """
    A convolutional stem, a Transformer encoder and a linear layer on the mean of its tokens.

    The CNN comparison on FER-2013 names a "CustomCNN + Transformer" and publishes no architecture: this one is our
    choice, with the encoder layers of PyTorch's defaults. The comparison's runs all ended at the share of the most
    frequent expression: 25.52 % with Adam at 1e-4, 25.12 % with Adam at 1e-3, 24.71 % with SGD.
    """

    def __init__(self, config: CNNTransformerConfig):
        super().__init__(config)
        self.backbone = CNNTransformerModel(config)
        self.classifier = nn.Linear(config.stem_widths[-1], config.num_labels)

        # Initialize weights and apply final processing
        self.post_init()


__all__ = ["CNNTransformerForImageClassification", "CNNTransformerModel", "CNNTransformerPreTrainedModel"]
