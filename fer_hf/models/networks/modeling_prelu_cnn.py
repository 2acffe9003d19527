"""The PReLU residual CNN for 48-pixel faces."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndNoAttention, ImageClassifierOutput

from .configuration_prelu_cnn import PReLUCNNConfig


class PReLUCNNPreTrainedModel(PreTrainedModel):
    """What the two models below share: how weights start, and what goes in."""

    config: PReLUCNNConfig
    base_model_prefix = "backbone"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    # Recomputing a BatchNorm layer would count its batch twice, so there is no gradient checkpointing.

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """PyTorch's defaults: uniform in +- 1 / sqrt(fan_in)."""
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = module.weight[0].numel() ** -0.5
            init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, nn.PReLU):
            init.constant_(module.weight, 0.25)


class PReLUCNNModel(PReLUCNNPreTrainedModel):
    """
    Three convolutions with PReLU (one slope each) and BatchNorm; beside the second BatchNorm a 1x1 convolution takes
    the same map, and the two are added.

    The report's listings differ in the PReLUs of the third convolution (none, one, two); with one, the parameter count
    agrees. Gray networks (`num_channels=1`) take RGB faces too, as ITU-R 601 luma, because image processors and
    pipelines of Transformers make every image RGB.
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

    def forward(
        self, pixel_values: torch.Tensor, output_hidden_states: bool | None = None, **kwargs
    ) -> BaseModelOutputWithPoolingAndNoAttention:
        """
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 1 or 3, image_size, image_size)`):
                Faces as the image processor makes them.
            output_hidden_states (`bool`, *optional*):
                Also return the map after each of the three blocks.

        Returns:
            [`~transformers.modeling_outputs.BaseModelOutputWithPoolingAndNoAttention`]: `last_hidden_state`, the last
            feature map `(batch_size, 36, 7, 7)`, and `pooler_output`, the same map in one row, `(batch_size, 1764)`.

        Raises:
            ValueError: If the faces have another size than the configuration's.
        """
        size = self.config.image_size
        if tuple(pixel_values.shape[-2:]) != (size, size):
            raise ValueError(f"`pixel_values` must be {size}x{size} pixels, got shape {tuple(pixel_values.shape)}.")
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        hidden = _match_channels(pixel_values, self.config.num_channels)
        first = self.norm1(self.max_pool(self.act1(self.conv1(hidden))))  # (batch_size, 44, 22, 22)
        hidden = self.max_pool(self.act2(self.conv2(first)))  # (batch_size, 40, 9, 9)
        second = self.norm2(hidden) + self.residual2(hidden)
        third = self.norm3(self.average_pool(self.act3(self.conv3(second))))  # (batch_size, 36, 7, 7)
        return BaseModelOutputWithPoolingAndNoAttention(
            last_hidden_state=third,
            pooler_output=third.flatten(1),
            hidden_states=(first, second, third) if output_hidden_states else None,
        )


def _match_channels(pixel_values: torch.Tensor, num_channels: int) -> torch.Tensor:
    """RGB as luma for a gray network; gray repeated for an RGB one."""
    if num_channels == 1 and pixel_values.shape[1] == 3:
        weights = pixel_values.new_tensor([0.299, 0.587, 0.114])
        return (pixel_values * weights[:, None, None]).sum(dim=1, keepdim=True)  # (batch_size, 1, height, width)
    return pixel_values.expand(-1, num_channels, -1, -1)


class PReLUCNNForImageClassification(PReLUCNNPreTrainedModel):
    """The network of the report on a PReLU CNN for FER-2013: with its tanh output, or with plain logits."""

    def __init__(self, config: PReLUCNNConfig):
        super().__init__(config)
        self.backbone = PReLUCNNModel(config)
        layers = [
            nn.Dropout(config.dropout),
            nn.Linear(config.widths[-1] * config.map_size**2, config.head_hidden_size),
            nn.ELU(),
            nn.Linear(config.head_hidden_size, config.num_labels),
        ]
        self.classifier = nn.Sequential(*layers, *([nn.Tanh()] if config.tanh_output else []))

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
                As for [`PReLUCNNModel`].

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


__all__ = ["PReLUCNNForImageClassification", "PReLUCNNModel", "PReLUCNNPreTrainedModel"]
