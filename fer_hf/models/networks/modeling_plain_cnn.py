"""Plain convolutional networks: the VGG for FER-2013 and small networks of the reports."""

import torch
from torch import nn

from .configuration_plain_cnn import PlainCNNConfig
from .modeling_classifier import (
    FaceBackboneMixin,
    FaceClassifierMixin,
    FacePreTrainedModel,
    check_image_size,
    init_as_pytorch,
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


class PlainCNNModel(FaceBackboneMixin, PlainCNNPreTrainedModel):
    """Stages of 3x3 convolutions, each ending in 2x2 max pooling."""

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

    def encode(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The last map `(batch_size, channels, height, width)`; and those after each stage."""
        check_image_size(pixel_values, self.config.image_size)
        maps = []
        for stage in self.stages:
            pixel_values = stage(pixel_values)
            maps.append(pixel_values)
        return pixel_values, maps

    def pool(self, last_map: torch.Tensor) -> torch.Tensor:
        """The map in one row, `(batch_size, channels * height * width)`."""
        return last_map.flatten(1)


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
