"""A small residual CNN for 48-pixel gray faces, made for CPUs."""

import torch
from torch import nn
from transformers import initialization as init

from .configuration_compact_cnn import CompactCNNConfig
from .modeling_classifier import FaceBackboneMixin, FaceClassifierMixin, FacePreTrainedModel, init_as_pytorch


class CompactCNNPreTrainedModel(FacePreTrainedModel):
    """What the two models below share: how weights start, and what goes in."""

    config: CompactCNNConfig
    # Recomputing a BatchNorm layer would count its batch twice, so there is no gradient checkpointing.

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Kaiming normal for convolutions, PyTorch's defaults for linear layers."""
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            init_as_pytorch(module)


class CompactCNNConv(nn.Sequential):
    """A convolution without bias, BatchNorm, and ReLU unless `activation` is false."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1, activation: bool = True):
        layers = [nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outputs)]
        super().__init__(*layers, *([nn.ReLU(inplace=True)] if activation else []))


class CompactCNNSqueezeExcitation(nn.Module):
    """Scales channels by what their means say (Hu et al., 2018, https://huggingface.co/papers/1709.01507)."""

    def __init__(self, width: int, squeezed: int):
        super().__init__()
        self.squeeze = nn.Linear(width, squeezed)
        self.excite = nn.Linear(squeezed, width)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        scale = self.squeeze(hidden.mean(dim=(2, 3))).relu()
        return hidden * self.excite(scale).sigmoid()[:, :, None, None]


class CompactCNNBlock(nn.Module):
    """Two 3x3 convolutions, squeeze-and-excitation, and the input added."""

    def __init__(self, inputs: int, outputs: int, stride: int, se_ratio: float):
        super().__init__()
        self.layers = nn.Sequential(
            CompactCNNConv(inputs, outputs, 3, stride),
            CompactCNNConv(outputs, outputs, 3, activation=False),
            CompactCNNSqueezeExcitation(outputs, max(1, round(outputs * se_ratio))),
        )
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            # The mean of all pixels, where a convolution with a stride would drop three of four.
            mean = nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False)
            self.shortcut = nn.Sequential(mean, CompactCNNConv(inputs, outputs, 1, activation=False))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return (self.layers(hidden) + self.shortcut(hidden)).relu_()


class CompactCNNModel(FaceBackboneMixin, CompactCNNPreTrainedModel):
    """
    A 3x3 convolution, then stages of residual blocks (ResNet-D of He et al., 2018,
    https://huggingface.co/papers/1812.01187) with squeeze-and-excitation. Dense convolutions throughout: on a CPU,
    depthwise ones take more time than their few multiplications suggest.
    """

    def __init__(self, config: CompactCNNConfig):
        super().__init__(config)
        self.stem = CompactCNNConv(config.num_channels, config.widths[0], 3)
        self.stages = nn.ModuleList()
        width = config.widths[0]
        for stage_width, depth in zip(config.widths[1:], config.depths, strict=True):
            blocks = []
            for block in range(depth):
                blocks.append(CompactCNNBlock(width, stage_width, 2 if block == 0 else 1, config.se_ratio))
                width = stage_width
            self.stages.append(nn.Sequential(*blocks))

        # Initialize weights and apply final processing
        self.post_init()

    def encode(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The last map `(batch_size, channels, height, width)`; and those after the stem and each stage."""
        maps = [self.stem(pixel_values)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps[-1], maps

    def pool(self, last_map: torch.Tensor) -> torch.Tensor:
        """The map's mean over positions, `(batch_size, channels)`."""
        return last_map.mean(dim=(2, 3))


class CompactCNNForImageClassification(FaceClassifierMixin, CompactCNNPreTrainedModel):
    """Our own small network for 48-pixel faces: accuracy per multiply on a CPU, in under 1.4 million parameters."""

    def __init__(self, config: CompactCNNConfig):
        super().__init__(config)
        self.backbone = CompactCNNModel(config)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.widths[-1], config.num_labels)

        # Initialize weights and apply final processing
        self.post_init()

    def get_logits(self, pooled: torch.Tensor) -> torch.Tensor:
        return super().get_logits(self.dropout(pooled))


__all__ = ["CompactCNNForImageClassification", "CompactCNNModel", "CompactCNNPreTrainedModel"]
