"""torchvision's AlexNet, VGG16 and ResNets as Transformers models, for gray or RGB faces."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torchvision import models
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndNoAttention, ImageClassifierOutput

from .configuration_torchvision_cnn import TorchvisionCNNConfig


class TorchvisionCNNPreTrainedModel(PreTrainedModel):
    """What the two models below share: how weights start, and what goes in."""

    config: TorchvisionCNNConfig
    base_model_prefix = "backbone"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    # Recomputing a BatchNorm layer would count its batch twice, so there is no gradient checkpointing.

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """torchvision's own rules, which differ between its networks."""
        if self.config.network == "alexnet":
            if isinstance(module, nn.Conv2d | nn.Linear):
                _init_as_pytorch(module)
        elif isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Linear) and self.config.network == "vgg16":
            init.normal_(module.weight, 0, 0.01)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            _init_as_pytorch(module)
        else:
            super()._init_weights(module)


def _init_as_pytorch(module: nn.Conv2d | nn.Linear) -> None:
    """PyTorch's default for convolutions and linear layers: uniform in +- 1 / sqrt(fan_in)."""
    bound = module.weight[0].numel() ** -0.5
    init.uniform_(module.weight, -bound, bound)
    if module.bias is not None:
        init.uniform_(module.bias, -bound, bound)


class TorchvisionCNNModel(TorchvisionCNNPreTrainedModel):
    """
    The network without its last linear layer. Parameters keep torchvision's names, so that its checkpoints fit.

    Gray networks (`num_channels=1`) take RGB faces too, as ITU-R 601 luma, because image processors and pipelines of
    Transformers make every image RGB.
    """

    def __init__(self, config: TorchvisionCNNConfig):
        super().__init__(config)
        network = getattr(models, config.network)()
        if config.network.startswith("resnet"):
            self.num_features = network.fc.in_features
            del network.fc
            if config.stem == "small":
                network.conv1 = nn.Conv2d(config.num_channels, 64, 3, padding=1, bias=False)
                network.maxpool = nn.Identity()
            elif config.num_channels != 3:
                network.conv1 = _with_input_channels(network.conv1, config.num_channels)
        else:
            self.num_features = network.classifier[-1].in_features
            del network.classifier[-1]
            if config.num_channels != 3:
                network.features[0] = _with_input_channels(network.features[0], config.num_channels)
        for name, child in network.named_children():
            self.add_module(name, child)

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
                Also return the maps after the stem and each stage (ResNets), or after each pooling (AlexNet, VGG16).

        Returns:
            [`~transformers.modeling_outputs.BaseModelOutputWithPoolingAndNoAttention`]: `last_hidden_state`, the last
            feature map `(batch_size, channels, height, width)`, and `pooler_output`, what the last linear layer sees,
            `(batch_size, num_features)`.
        """
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        hidden = _match_channels(pixel_values, self.config.num_channels)
        maps = []
        if self.config.network.startswith("resnet"):
            hidden = self.maxpool(self.relu(self.bn1(self.conv1(hidden))))
            maps.append(hidden)
            for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
                hidden = stage(hidden)
                maps.append(hidden)
            pooled = self.avgpool(hidden).flatten(1)  # (batch_size, num_features)
        else:
            for layer in self.features:
                hidden = layer(hidden)
                if isinstance(layer, nn.MaxPool2d):
                    maps.append(hidden)
            pooled = self.classifier(self.avgpool(hidden).flatten(1))  # (batch_size, num_features)
        return BaseModelOutputWithPoolingAndNoAttention(
            last_hidden_state=hidden, pooler_output=pooled, hidden_states=tuple(maps) if output_hidden_states else None
        )


def _with_input_channels(conv: nn.Conv2d, channels: int) -> nn.Conv2d:
    return nn.Conv2d(
        channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, bias=conv.bias is not None
    )


def _match_channels(pixel_values: torch.Tensor, num_channels: int) -> torch.Tensor:
    """RGB as luma for a gray network; gray repeated for an RGB one."""
    if num_channels == 1 and pixel_values.shape[1] == 3:
        weights = pixel_values.new_tensor([0.299, 0.587, 0.114])
        return (pixel_values * weights[:, None, None]).sum(dim=1, keepdim=True)  # (batch_size, 1, height, width)
    return pixel_values.expand(-1, num_channels, -1, -1)


class TorchvisionCNNForImageClassification(TorchvisionCNNPreTrainedModel):
    """
    AlexNet, VGG16 and ResNet-18/34/50 as the report that compares CNNs on FER-2013 trains them: torchvision's
    networks, the first convolution on gray faces, the last linear layer on the expressions.

    AlexNet and VGG16 have no BatchNorm and start slowly from scratch: with Adam at 1e-4 on 64 drawn faces, AlexNet (64
    pixels) knew 91 % of them after 150 steps and VGG16 (32 pixels) 30 % after 40; a ResNet-18 knows them after ten.
    """

    def __init__(self, config: TorchvisionCNNConfig):
        super().__init__(config)
        self.backbone = TorchvisionCNNModel(config)
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
                As for [`TorchvisionCNNModel`].

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


__all__ = ["TorchvisionCNNForImageClassification", "TorchvisionCNNModel", "TorchvisionCNNPreTrainedModel"]
