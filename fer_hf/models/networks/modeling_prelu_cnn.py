"""The PReLU residual CNN for 48-pixel faces."""

import torch
from torch import nn
from transformers import initialization as init

from .configuration_prelu_cnn import PReLUCNNConfig
from .modeling_classifier import (
    FaceBackboneMixin,
    FaceClassifierMixin,
    FacePreTrainedModel,
    check_image_size,
    init_as_pytorch,
    output_layers,
)


class PReLUCNNPreTrainedModel(FacePreTrainedModel):
    """What the two models below share: how weights start, and what goes in."""

    config: PReLUCNNConfig
    # Recomputing a BatchNorm layer would count its batch twice, so there is no gradient checkpointing.

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """PyTorch's defaults: uniform in +- 1 / sqrt(fan_in)."""
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d | nn.Linear):
            init_as_pytorch(module)
        elif isinstance(module, nn.PReLU):
            init.constant_(module.weight, 0.25)


class PReLUCNNModel(FaceBackboneMixin, PReLUCNNPreTrainedModel):
    """
    Three convolutions with PReLU (one slope each) and BatchNorm; beside the second BatchNorm a 1x1 convolution takes
    the same map, and the two are added.

    The report's listings differ in the PReLUs of the third convolution (none, one, two); with one, the parameter count
    agrees.
    """

    def __init__(self, config: PReLUCNNConfig):
        super().__init__(config)
        first, second, third = config.widths
        self.conv1 = nn.Conv2d(config.num_channels, first, 5, padding=1)
        self.act1 = nn.PReLU()
        self.norm1 = nn.BatchNorm2d(first)
        self.conv2 = nn.Conv2d(first, second, 5, padding=1)
        self.act2 = nn.PReLU()
        self.norm2 = nn.BatchNorm2d(second)
        self.residual2 = nn.Conv2d(second, second, 1)
        self.conv3 = nn.Conv2d(second, third, 3, padding=1)
        self.act3 = nn.PReLU()
        self.norm3 = nn.BatchNorm2d(third)
        self.max_pool = nn.MaxPool2d(3, stride=2)
        self.average_pool = nn.AvgPool2d(3, stride=1)
        if config.unused_convs:
            self.residual1 = nn.Conv2d(first, first, 1).requires_grad_(False)
            self.residual3 = nn.Conv2d(third, third, 1).requires_grad_(False)

        # Initialize weights and apply final processing
        self.post_init()

    def encode(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The last map `(batch_size, 36, 7, 7)`; and those after each of the three blocks."""
        check_image_size(pixel_values, self.config.image_size)
        first = self.norm1(self.max_pool(self.act1(self.conv1(pixel_values))))  # (batch_size, 44, 22, 22)
        hidden = self.max_pool(self.act2(self.conv2(first)))  # (batch_size, 40, 9, 9)
        second = self.norm2(hidden) + self.residual2(hidden)
        third = self.norm3(self.average_pool(self.act3(self.conv3(second))))  # (batch_size, 36, 7, 7)
        return third, [first, second, third]

    def pool(self, last_map: torch.Tensor) -> torch.Tensor:
        """The map in one row, `(batch_size, 1764)`."""
        return last_map.flatten(1)


class PReLUCNNForImageClassification(FaceClassifierMixin, PReLUCNNPreTrainedModel):
    """The network of the report on a PReLU CNN for FER-2013: with its tanh output, or another."""

    def __init__(self, config: PReLUCNNConfig):
        super().__init__(config)
        self.backbone = PReLUCNNModel(config)
        layers = [
            nn.Dropout(config.dropout),
            nn.Linear(config.widths[-1] * config.map_size**2, config.head_hidden_size),
            nn.ELU(),
            nn.Linear(config.head_hidden_size, config.num_labels),
        ]
        self.classifier = nn.Sequential(*layers, *output_layers(config.output))

        # Initialize weights and apply final processing
        self.post_init()


__all__ = ["PReLUCNNForImageClassification", "PReLUCNNModel", "PReLUCNNPreTrainedModel"]
