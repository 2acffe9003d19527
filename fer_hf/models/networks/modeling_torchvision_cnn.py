"""torchvision's AlexNet, VGG16 and ResNets as Transformers models, for gray or RGB faces."""

import torch
from torch import nn
from torchvision import models
from transformers import initialization as init

from .configuration_torchvision_cnn import TorchvisionCNNConfig
from .modeling_classifier import FaceBackboneMixin, FaceClassifierMixin, FacePreTrainedModel, init_as_pytorch
from .modeling_resnet import add_resnet, resnet_maps


class TorchvisionCNNPreTrainedModel(FacePreTrainedModel):
    """What the two models below share: how weights start, and what goes in."""

    config: TorchvisionCNNConfig
    # Recomputing a BatchNorm layer would count its batch twice, so there is no gradient checkpointing.

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """torchvision's own rules, which differ between its networks."""
        if self.config.network == "alexnet":
            if isinstance(module, nn.Conv2d | nn.Linear):
                init_as_pytorch(module)
        elif isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Linear) and self.config.network == "vgg16":
            init.normal_(module.weight, 0, 0.01)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            init_as_pytorch(module)
        else:
            super()._init_weights(module)


class TorchvisionCNNModel(FaceBackboneMixin, TorchvisionCNNPreTrainedModel):
    """The network without its last linear layer. Parameters keep torchvision's names, so that its checkpoints fit."""

    def __init__(self, config: TorchvisionCNNConfig):
        super().__init__(config)
        if config.network.startswith("resnet"):
            add_resnet(self, config.network, config.num_channels, config.stem)
        else:
            network = getattr(models, config.network)()
            self.num_features = network.classifier[-1].in_features
            del network.classifier[-1]
            if config.num_channels != 3:
                network.features[0] = _with_input_channels(network.features[0], config.num_channels)
            for name, child in network.named_children():
                self.add_module(name, child)

        # Initialize weights and apply final processing
        self.post_init()

    def encode(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """
        The last map `(batch_size, channels, height, width)`; and those after the stem and each stage (ResNets), or
        after each pooling (AlexNet, VGG16).
        """
        if self.config.network.startswith("resnet"):
            maps = resnet_maps(self, pixel_values)
            return maps[-1], maps
        hidden, maps = pixel_values, []
        for layer in self.features:
            hidden = layer(hidden)
            if isinstance(layer, nn.MaxPool2d):
                maps.append(hidden)
        return hidden, maps

    def pool(self, last_map: torch.Tensor) -> torch.Tensor:
        """What the last linear layer sees, `(batch_size, num_features)`."""
        pooled = self.avgpool(last_map).flatten(1)
        return pooled if self.config.network.startswith("resnet") else self.classifier(pooled)


def _with_input_channels(conv: nn.Conv2d, channels: int) -> nn.Conv2d:
    return nn.Conv2d(
        channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, bias=conv.bias is not None
    )


class TorchvisionCNNForImageClassification(FaceClassifierMixin, TorchvisionCNNPreTrainedModel):
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


__all__ = ["TorchvisionCNNForImageClassification", "TorchvisionCNNModel", "TorchvisionCNNPreTrainedModel"]
