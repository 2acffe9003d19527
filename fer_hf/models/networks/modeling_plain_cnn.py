"""Plain convolutional networks: the VGG for FER-2013 and small networks of the reports."""

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndNoAttention

from .configuration_plain_cnn import PlainCNNConfig
from .modeling_classifier import (
    FaceClassifierMixin,
    FacePreTrainedModel,
    check_image_size,
    init_as_pytorch,
    match_channels,
    output_layers,
)


class PlainCNNPreTrainedModel(FacePreTrainedModel):
    """What the two models below share: how weights start, and what goes in."""

    config: PlainCNNConfig
    # Recomputing a BatchNorm layer would count its batch twice, so there is no gradient checkpointing.

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """PyTorch's defaults: uniform in +- 1 / sqrt(fan_in)."""
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d | nn.Linear):
            init_as_pytorch(module)


class PlainCNNModel(PlainCNNPreTrainedModel):
    """
    Stages of 3x3 convolutions, each ending in 2x2 max pooling.
    """

    def __init__(self, config: PlainCNNConfig):
        super().__init__(config)
        self.stages = nn.ModuleList()
        width = config.num_channels
        for number, stage_width in enumerate(config.stage_widths):
            layers = []
            for _ in range(config.convs_per_stage):
                layers.append(nn.Conv2d(width, stage_width, 3, padding=1))
                if config.batch_norm:
                    layers.append(nn.BatchNorm2d(stage_width))
                layers.append(nn.ReLU())
                width = stage_width
            layers.append(nn.MaxPool2d(2))
            if config.stage_dropout:
                layers.append(nn.Dropout(config.stage_dropout[number]))
            self.stages.append(nn.Sequential(*layers))

        # Initialize weights and apply final processing
        self.post_init()

    def forward(
        self, pixel_values: torch.Tensor, output_hidden_states: bool | None = None, **kwargs
    ) -> BaseModelOutputWithPoolingAndNoAttention:
        """
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 1 or 3, image_size, image_size)`):
                Faces as the image processor makes them.
            output_hidden_states (`bool`, *optional*):
                Also return the maps after each stage.

        Returns:
            [`~transformers.modeling_outputs.BaseModelOutputWithPoolingAndNoAttention`]: `last_hidden_state`, the last
            feature map `(batch_size, channels, height, width)`, and `pooler_output`, the same map in one row,
            `(batch_size, channels * height * width)`.

        Raises:
            ValueError: If the faces have another size than the configuration's.
        """
        check_image_size(pixel_values, self.config.image_size)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        hidden = match_channels(pixel_values, self.config.num_channels)
        maps = []
        for stage in self.stages:
            hidden = stage(hidden)
            maps.append(hidden)
        return BaseModelOutputWithPoolingAndNoAttention(
            last_hidden_state=hidden,
            pooler_output=hidden.flatten(1),
            hidden_states=tuple(maps) if output_hidden_states else None,
        )


class PlainCNNForImageClassification(FaceClassifierMixin, PlainCNNPreTrainedModel):
    """
    With the defaults, the VGG for FER-2013 of Khaireddin and Chen, 2021 (https://huggingface.co/papers/2105.03588),
    which the report that compares CNNs on FER-2013 trains too. Other settings give CNN V1 and V2 of the report on CNNs
    and pre-trained ViTs, and the template that the report on a PReLU CNN was measured against: see
    `fer_hf.models.ARCHITECTURES`, which says what of them is unpublished and our choice.
    """

    def __init__(self, config: PlainCNNConfig):
        super().__init__(config)
        self.backbone = PlainCNNModel(config)
        side = config.image_size // 2 ** len(config.stage_widths)
        width, layers = config.stage_widths[-1] * side * side, []
        for hidden in config.head_hidden_sizes:
            layers += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(config.head_dropout)]
            width = hidden
        layers.append(nn.Linear(width, config.num_labels))
        self.classifier = nn.Sequential(*layers, *output_layers(config.output))

        # Initialize weights and apply final processing
        self.post_init()


__all__ = ["PlainCNNForImageClassification", "PlainCNNModel", "PlainCNNPreTrainedModel"]
