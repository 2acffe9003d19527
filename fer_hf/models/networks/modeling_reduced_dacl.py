"""The network that the CNN comparison on FER-2013 calls DACL: a ResNet-18 with attention over a single position."""

import torch
from torch import nn
from transformers import initialization as init

from .configuration_reduced_dacl import ReducedDACLConfig
from .modeling_classifier import FaceBackboneMixin, FaceClassifierMixin, FacePreTrainedModel, init_as_pytorch
from .modeling_resnet import add_resnet, resnet_maps


class ReducedDACLPreTrainedModel(FacePreTrainedModel):
    """What the two models below share: how weights start, and what goes in."""

    config: ReducedDACLConfig
    # Recomputing a BatchNorm layer would count its batch twice, so there is no gradient checkpointing.

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """torchvision's rule for the ResNet's convolutions, which have no bias, and PyTorch's for what was added."""
        if isinstance(module, nn.Conv2d) and module.bias is None:
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Conv2d | nn.Linear):
            init_as_pytorch(module)
        else:
            super()._init_weights(module)


class ReducedDACLAttention(nn.Module):
    """
    Self-attention over the positions of a map, by 1x1 convolutions, added to the map.

    Queries and keys share one projection, and their products are not scaled: both as in the report's code.
    """

    def __init__(self, channels: int, attention_size: int):
        super().__init__()
        self.query_key = nn.Conv2d(channels, attention_size, 1)
        self.value = nn.Conv2d(channels, channels, 1)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """A map `(batch_size, channels, height, width)` to one of the same shape."""
        query_key = self.query_key(hidden).flatten(2)  # (batch_size, attention_size, positions)
        value = self.value(hidden).flatten(2)  # (batch_size, channels, positions)
        weights = (query_key.mT @ query_key).softmax(dim=-1)  # (batch_size, positions, positions)
        return hidden + (value @ weights.mT).view_as(hidden)


class ReducedDACLModel(FaceBackboneMixin, ReducedDACLPreTrainedModel):
    """
    ResNet-18 and self-attention on its *pooled* map, without the last linear layer.

    The pooled map has one position, and a softmax over one element is 1. So the attention is the linear map
    x + Wx + b of its value projection, and its queries and keys neither matter nor learn: their gradient is zero.
    """

    def __init__(self, config: ReducedDACLConfig):
        super().__init__(config)
        add_resnet(self, "resnet18", config.num_channels)
        self.attention = ReducedDACLAttention(self.num_features, config.attention_size)

        # Initialize weights and apply final processing
        self.post_init()

    def encode(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The last map `(batch_size, num_features, height, width)`; and those after the stem and each stage."""
        maps = resnet_maps(self, pixel_values)
        return maps[-1], maps

    def pool(self, last_map: torch.Tensor) -> torch.Tensor:
        """The mean over positions, under the attention: `(batch_size, num_features)`."""
        return self.attention(self.avgpool(last_map)).flatten(1)


class ReducedDACLForImageClassification(FaceClassifierMixin, ReducedDACLPreTrainedModel):
    """
    What the CNN comparison on FER-2013 trains as DACL. It has neither the paper's attention network nor its center
    loss; those are in `DACLForImageClassification`.
    """

    def __init__(self, config: ReducedDACLConfig):
        super().__init__(config)
        self.backbone = ReducedDACLModel(config)
        self.classifier = nn.Linear(self.backbone.num_features, config.num_labels)

        # Initialize weights and apply final processing
        self.post_init()


__all__ = ["ReducedDACLForImageClassification", "ReducedDACLModel", "ReducedDACLPreTrainedModel"]
