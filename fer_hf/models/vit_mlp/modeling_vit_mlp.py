"""A ViT with a multi-layer classification head."""

import math

import torch
from torch import nn
from transformers import ViTModel, ViTPreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import ImageClassifierOutput

from .configuration_vit_mlp import ViTMLPConfig


class ViTMLPHead(nn.Sequential):
    """Linear, (BatchNorm,) ReLU, Dropout for each hidden width, then a linear layer to the logits."""

    def __init__(self, config: ViTMLPConfig):
        layers, width = [], config.hidden_size
        for hidden in config.head_hidden_sizes:
            layers.append(nn.Linear(width, hidden))
            if config.head_batch_norm:
                layers.append(nn.BatchNorm1d(hidden))
            layers += [nn.ReLU(), nn.Dropout(config.head_dropout)]
            width = hidden
        super().__init__(*layers, nn.Linear(width, config.num_labels))


class ViTMLPForImageClassification(ViTPreTrainedModel):
    """
    The library's own ViT, whose class token goes through a multi-layer head: versions V1.3 (3 layers), V1.5 (5 layers)
    and V1.6.7 (5 layers with BatchNorm) of the report on CNNs and pre-trained ViTs for FER-2013.

    It loads any ViT checkpoint's backbone with `from_pretrained(..., config=ViTMLPConfig(...))`.
    """

    config: ViTMLPConfig

    def __init__(self, config: ViTMLPConfig):
        super().__init__(config)
        self.vit = ViTModel(config, add_pooling_layer=False)
        self.classifier = ViTMLPHead(config)

        # Initialize weights and apply final processing
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ViTMLPHead):
            # PyTorch's own initialization, as in the report: the ViT's N(0, 0.02) fades out over five narrow layers.
            for layer in module:
                if isinstance(layer, nn.Linear):
                    init.kaiming_uniform_(layer.weight, a=math.sqrt(5))
                    bound = 1 / math.sqrt(layer.in_features)
                    init.uniform_(layer.bias, -bound, bound)

    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        interpolate_pos_encoding: bool | None = None,
        **kwargs,
    ) -> ImageClassifierOutput:
        """
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, num_channels, height, width)`):
                Faces as the image processor makes them.
            labels (`torch.LongTensor` of shape `(batch_size,)`, *optional*):
                Class ids; with them the output has a `loss` (cross-entropy, mean over the batch).
            interpolate_pos_encoding (`bool`, *optional*):
                Accept another image size than the config's.

        Returns:
            [`~transformers.modeling_outputs.ImageClassifierOutput`]: `logits` of shape `(batch_size, num_labels)`.
        """
        # Extra arguments for the loss (`num_items_in_batch`) stay out of the backbone.
        outputs = self.vit(pixel_values, interpolate_pos_encoding=interpolate_pos_encoding)
        logits = self.classifier(outputs.last_hidden_state[:, 0])  # (batch_size, num_labels)
        loss = None if labels is None else self.loss_function(labels, logits, self.config, **kwargs)
        return ImageClassifierOutput(loss=loss, logits=logits)


__all__ = ["ViTMLPForImageClassification"]
