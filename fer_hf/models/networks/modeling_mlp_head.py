"""A pre-trained vision transformer under a multi-layer classification head."""

import math

import torch
from torch import nn
from torch.nn.functional import dropout
from transformers import AutoModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import can_return_tuple

from .configuration_mlp_head import MLPHeadConfig
from .modeling_classifier import FaceClassifierMixin, FacePreTrainedModel, match_channels


class MLPHead(nn.Sequential):
    """
    (Dropout of the features,) then Linear, (BatchNorm,) ReLU, Dropout for each hidden width, and a linear layer to the
    logits.

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
        # No module, which would give the layers other numbers than in checkpoints without it.
        self.input_dropout = config.input_dropout

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """Features `(batch_size, width)` to logits `(batch_size, num_labels)`."""
        return super().forward(dropout(pooled, self.input_dropout, self.training))


class MLPHeadPreTrainedModel(FacePreTrainedModel):
    """What the two models below share: the library's own backbone, and how the head's weights start."""

    config: MLPHeadConfig
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

    def get_features(self, pixel_values: torch.Tensor, **kwargs) -> BaseModelOutputWithPooling:
        """The backbone's output, with what the head sees as `pooler_output`."""
        for name in ("output_hidden_states", "output_attentions"):
            if kwargs.get(name) is None:
                kwargs[name] = getattr(self.config, name)
        outputs = self.backbone(match_channels(pixel_values, self.config.num_channels), return_dict=True, **kwargs)
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


class MLPHeadModel(MLPHeadPreTrainedModel):
    """The backbone of a [`MLPHeadForImageClassification`], for embeddings of faces."""

    def __init__(self, config: MLPHeadConfig):
        super().__init__(config)

        # Initialize weights and apply final processing
        self.post_init()

    @can_return_tuple
    def forward(self, pixel_values: torch.Tensor, **kwargs) -> BaseModelOutputWithPooling:
        """
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 1 or 3, height, width)`):
                Faces as the image processor makes them; gray ones are repeated for a backbone that takes RGB.
            kwargs:
                For the backbone, such as `output_hidden_states` and `interpolate_pos_encoding`; attentions need
                `attn_implementation="eager"`. And `return_dict`.

        Returns:
            [`~transformers.modeling_outputs.BaseModelOutputWithPooling`]: `last_hidden_state`, the tokens, and
            `pooler_output`, what the head sees, `(batch_size, hidden_size)`.
        """
        return self.get_features(pixel_values, **kwargs)


class MLPHeadForImageClassification(FaceClassifierMixin, MLPHeadPreTrainedModel):
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


__all__ = ["MLPHeadForImageClassification", "MLPHeadModel", "MLPHeadPreTrainedModel"]
