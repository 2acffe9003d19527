"""The network that the CNN comparison on FER-2013 calls DACL: a ResNet-18 with attention over a single position."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torchvision import models
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndNoAttention, ImageClassifierOutput

from .configuration_reduced_dacl import ReducedDACLConfig


class ReducedDACLPreTrainedModel(PreTrainedModel):
    """What the two models below share: how weights start, and what goes in."""

    config: ReducedDACLConfig
    base_model_prefix = "backbone"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    # Recomputing a BatchNorm layer would count its batch twice, so there is no gradient checkpointing.

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """torchvision's rule for the ResNet's convolutions, which have no bias, and PyTorch's for what was added."""
        if isinstance(module, nn.Conv2d) and module.bias is None:
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Conv2d | nn.Linear):
            bound = module.weight[0].numel() ** -0.5
            init.uniform_(module.weight, -bound, bound)
            init.uniform_(module.bias, -bound, bound)
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


class ReducedDACLModel(ReducedDACLPreTrainedModel):
    """
    ResNet-18 and self-attention on its *pooled* map, without the last linear layer. The ResNet's parameters keep
    torchvision's names, so that its checkpoints fit.

    The pooled map has one position, and a softmax over one element is 1. So the attention is the linear map
    x + Wx + b of its value projection, and its queries and keys neither matter nor learn: their gradient is zero.

    Gray networks (`num_channels=1`) take RGB faces too, as ITU-R 601 luma, because image processors and pipelines of
    Transformers make every image RGB.
    """

    def __init__(self, config: ReducedDACLConfig):
        super().__init__(config)
        network = models.resnet18()
        self.num_features = network.fc.in_features
        del network.fc
        if config.num_channels != 3:
            network.conv1 = nn.Conv2d(config.num_channels, 64, 7, stride=2, padding=3, bias=False)
        for name, child in network.named_children():
            self.add_module(name, child)
        self.attention = ReducedDACLAttention(self.num_features, config.attention_size)

        # Initialize weights and apply final processing
        self.post_init()

    def forward(
        self, pixel_values: torch.Tensor, output_hidden_states: bool | None = None, **kwargs
    ) -> BaseModelOutputWithPoolingAndNoAttention:
        """
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 1 or 3, height, width)`):
                Faces as the image processor makes them.
            output_hidden_states (`bool`, *optional*):
                Also return the maps after the stem and each stage.

        Returns:
            [`~transformers.modeling_outputs.BaseModelOutputWithPoolingAndNoAttention`]: `last_hidden_state`, the last
            feature map `(batch_size, num_features, height, width)`, and `pooler_output`, what the last linear layer
            sees, `(batch_size, num_features)`.
        """
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        hidden = _match_channels(pixel_values, self.config.num_channels)
        hidden = self.maxpool(self.relu(self.bn1(self.conv1(hidden))))
        maps = [hidden]
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            hidden = stage(hidden)
            maps.append(hidden)
        pooled = self.attention(self.avgpool(hidden)).flatten(1)  # (batch_size, num_features)
        return BaseModelOutputWithPoolingAndNoAttention(
            last_hidden_state=hidden, pooler_output=pooled, hidden_states=tuple(maps) if output_hidden_states else None
        )


def _match_channels(pixel_values: torch.Tensor, num_channels: int) -> torch.Tensor:
    """RGB as luma for a gray network; gray repeated for an RGB one."""
    if num_channels == 1 and pixel_values.shape[1] == 3:
        weights = pixel_values.new_tensor([0.299, 0.587, 0.114])
        return (pixel_values * weights[:, None, None]).sum(dim=1, keepdim=True)  # (batch_size, 1, height, width)
    return pixel_values.expand(-1, num_channels, -1, -1)


class ReducedDACLForImageClassification(ReducedDACLPreTrainedModel):
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

    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        output_hidden_states: bool | None = None,
        **kwargs,
    ) -> ImageClassifierOutput:
        """
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 1 or 3, height, width)`):
                Faces as the image processor makes them.
            labels (`torch.LongTensor` of shape `(batch_size,)` or `torch.FloatTensor` of shape
                `(batch_size, num_labels)`, *optional*):
                Class ids, or probabilities; with them the output has a `loss` (cross-entropy in nats).
            num_items_in_batch (`torch.Tensor` or `int`, *optional*):
                The Trainer's count of label elements over all accumulated batches and processes. If `None`, the loss
                is the mean over this batch.
            output_hidden_states (`bool`, *optional*):
                As for [`ReducedDACLModel`].

        Returns:
            [`~transformers.modeling_outputs.ImageClassifierOutput`]: `logits` of shape `(batch_size, num_labels)`.
        """
        features = self.backbone(pixel_values, output_hidden_states=output_hidden_states)
        logits = self.classifier(features.pooler_output)  # (batch_size, num_labels)
        loss = None
        if labels is not None:
            # A soft label counts as num_labels items.
            faces = len(labels) if num_items_in_batch is None else num_items_in_batch * len(labels) / labels.numel()
            loss = cross_entropy(logits.float(), labels, reduction="sum") / faces
        return ImageClassifierOutput(loss=loss, logits=logits, hidden_states=features.hidden_states)


__all__ = ["ReducedDACLForImageClassification", "ReducedDACLModel", "ReducedDACLPreTrainedModel"]
