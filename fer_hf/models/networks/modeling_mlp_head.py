"""A pre-trained vision transformer under a multi-layer classification head."""

import math

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling, ImageClassifierOutput

from .configuration_mlp_head import MLPHeadConfig


class MLPHead(nn.Sequential):
    """
    Linear, (BatchNorm,) ReLU, Dropout for each hidden width, then a linear layer to the logits.

    Args:
        config (`MLPHeadConfig`): Of the whole classifier.
        width (`int`): Of the features that come in.
    """

    def __init__(self, config: MLPHeadConfig, width: int):
        layers = []
        for hidden in config.head_hidden_sizes:
            layers.append(nn.Linear(width, hidden))
            if config.head_batch_norm:
                layers.append(nn.BatchNorm1d(hidden))
            layers += [nn.ReLU(), nn.Dropout(config.head_dropout)]
            width = hidden
        super().__init__(*layers, nn.Linear(width, config.num_labels))


class MLPHeadPreTrainedModel(PreTrainedModel):
    """What the two models below share: the library's own backbone, and how the head's weights start."""

    config: MLPHeadConfig
    base_model_prefix = "backbone"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    # All of it happens in the backbone, which knows what it supports; the head's BatchNorm is never recomputed.
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, config: MLPHeadConfig):
        super().__init__(config)
        # The pooler of a ViT or DeiT is a layer of its own, which the class token passes by.
        options = {"add_pooling_layer": False} if config.backbone_config.model_type in ("vit", "deit") else {}
        self.backbone = AutoModel.from_config(config.backbone_config, **options)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, MLPHead):
            # PyTorch's own initialization, as in the report: the ViT's N(0, 0.02) fades out over five narrow layers.
            for layer in module:
                if isinstance(layer, nn.Linear):
                    init.kaiming_uniform_(layer.weight, a=math.sqrt(5))
                    bound = 1 / math.sqrt(layer.in_features)
                    init.uniform_(layer.bias, -bound, bound)

    def _pooled(
        self,
        pixel_values: torch.Tensor,
        output_hidden_states: bool | None,
        output_attentions: bool | None,
        **kwargs,
    ) -> BaseModelOutputWithPooling:
        """The backbone's output, with what the head sees as `pooler_output`."""
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        if output_attentions is None:
            output_attentions = self.config.output_attentions
        outputs = self.backbone(
            _match_channels(pixel_values, self.config.num_channels),
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
            **kwargs,
        )
        if self.config.pooling == "pooler":
            pooled = outputs.pooler_output  # (batch_size, hidden_size)
        elif self.config.pooling == "cls":
            pooled = outputs.last_hidden_state[:, 0]  # (batch_size, hidden_size)
        else:
            pooled = outputs.last_hidden_state.mean(dim=1)  # (batch_size, hidden_size)
        return BaseModelOutputWithPooling(
            last_hidden_state=outputs.last_hidden_state,
            pooler_output=pooled,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


def _match_channels(pixel_values: torch.Tensor, num_channels: int) -> torch.Tensor:
    """RGB as luma for a gray network; gray repeated for an RGB one."""
    if num_channels == 1 and pixel_values.shape[1] == 3:
        weights = pixel_values.new_tensor([0.299, 0.587, 0.114])
        return (pixel_values * weights[:, None, None]).sum(dim=1, keepdim=True)  # (batch_size, 1, height, width)
    return pixel_values.expand(-1, num_channels, -1, -1)


class MLPHeadModel(MLPHeadPreTrainedModel):
    """The backbone of a [`MLPHeadForImageClassification`], for embeddings of faces."""

    def __init__(self, config: MLPHeadConfig):
        super().__init__(config)

        # Initialize weights and apply final processing
        self.post_init()

    def forward(
        self,
        pixel_values: torch.Tensor,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPooling:
        """
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 1 or 3, height, width)`):
                Faces as the image processor makes them; gray ones are repeated for a backbone that takes RGB.
            output_hidden_states, output_attentions (`bool`, *optional*):
                As for the backbone; attentions need `attn_implementation="eager"`.
            kwargs:
                For the backbone, such as `interpolate_pos_encoding`.

        Returns:
            [`~transformers.modeling_outputs.BaseModelOutputWithPooling`]: `last_hidden_state`, the tokens, and
            `pooler_output`, what the head sees, `(batch_size, hidden_size)`.
        """
        return self._pooled(pixel_values, output_hidden_states, output_attentions, **kwargs)


class MLPHeadForImageClassification(MLPHeadPreTrainedModel):
    """
    The library's own backbone, whose pooled features go through a multi-layer head: on a ViT, versions V1.3 (3
    layers), V1.5 (5 layers) and V1.6.7 (5 layers with BatchNorm) of the report on CNNs and pre-trained ViTs for
    FER-2013.
    """

    def __init__(self, config: MLPHeadConfig):
        super().__init__(config)
        self.classifier = MLPHead(config, config.backbone_config.hidden_size)

        # Initialize weights and apply final processing
        self.post_init()

    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **kwargs,
    ) -> ImageClassifierOutput:
        """
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 1 or 3, height, width)`):
                Faces as the image processor makes them; gray ones are repeated for a backbone that takes RGB.
            labels (`torch.LongTensor` of shape `(batch_size,)` or `torch.FloatTensor` of shape
                `(batch_size, num_labels)`, *optional*):
                Class ids, or probabilities; with them the output has a `loss` (cross-entropy in nats).
            num_items_in_batch (`torch.Tensor` or `int`, *optional*):
                The Trainer's count of label elements over all accumulated batches and processes. If `None`, the loss
                is the mean over this batch.
            output_hidden_states, output_attentions (`bool`, *optional*):
                As for the backbone; attentions need `attn_implementation="eager"`.
            kwargs:
                For the backbone, such as `interpolate_pos_encoding`.

        Returns:
            [`~transformers.modeling_outputs.ImageClassifierOutput`]: `logits` of shape `(batch_size, num_labels)`, and
            the backbone's `hidden_states` and `attentions` where they were asked for.
        """
        outputs = self._pooled(pixel_values, output_hidden_states, output_attentions, **kwargs)
        logits = self.classifier(outputs.pooler_output)  # (batch_size, num_labels)
        loss = None
        if labels is not None:
            # A soft label counts as num_labels items.
            faces = len(labels) if num_items_in_batch is None else num_items_in_batch * len(labels) / labels.numel()
            loss = cross_entropy(logits.float(), labels, reduction="sum") / faces
        return ImageClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


__all__ = ["MLPHeadForImageClassification", "MLPHeadModel", "MLPHeadPreTrainedModel"]
