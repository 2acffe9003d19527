"""torchvision's ResNets as part of our models. Parameters keep torchvision's names, so that its checkpoints fit."""

import torch
from torch import nn
from torchvision import models


def add_resnet(model: nn.Module, network: str, num_channels: int, stem: str = "imagenet") -> None:
    """
    Give a model the layers of a ResNet, all but the last linear one, and their number of features.

    Args:
        model (`nn.Module`):
            Gets the layers, and `num_features` (`int`): the channels of the last map.
        network (`str`):
            Such as `resnet18`.
        num_channels (`int`):
            Of the first convolution: 1 (gray) or 3 (RGB).
        stem (`str`):
            `imagenet`, the network's own first layers, or `small`: one 3x3 convolution of stride 1 and no pooling.
    """
    resnet = getattr(models, network)()
    model.num_features = resnet.fc.in_features
    del resnet.fc
    if stem == "small":
        resnet.conv1 = nn.Conv2d(num_channels, 64, 3, padding=1, bias=False)
        resnet.maxpool = nn.Identity()
    elif num_channels != 3:
        resnet.conv1 = nn.Conv2d(num_channels, 64, 7, stride=2, padding=3, bias=False)
    for name, child in resnet.named_children():
        model.add_module(name, child)


def resnet_maps(model: nn.Module, hidden: torch.Tensor) -> list[torch.Tensor]:
    """The maps `(batch_size, channels, height, width)` after the stem and each stage of [`add_resnet`]'s layers."""
    maps = [model.maxpool(model.relu(model.bn1(model.conv1(hidden))))]
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        maps.append(stage(maps[-1]))
    return maps
