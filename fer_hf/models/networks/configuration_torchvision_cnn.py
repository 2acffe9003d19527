"""Configuration of torchvision's convolutional networks for faces."""

from huggingface_hub.dataclasses import strict

from .configuration_face import FaceConfig


NETWORKS = ("alexnet", "vgg16", "resnet18", "resnet34", "resnet50")


@strict
class TorchvisionCNNConfig(FaceConfig):
    """
    Configuration of a [`TorchvisionCNNModel`].

    Args:
        network (`str`, defaults to `"resnet18"`):
            `alexnet`, `vgg16` (without BatchNorm), `resnet18`, `resnet34` or `resnet50`, as torchvision builds it.
        image_size (`int`, defaults to 224):
            Height and width in pixels of the faces; what the image processor makes. The networks take other sizes too.
        num_channels (`int`, defaults to 1):
            Of the first convolution: 1 (gray) or 3 (RGB).
        stem (`str`, defaults to `"imagenet"`):
            `imagenet`, the network's own first layers, or, for ResNets, `small`: one 3x3 convolution of stride 1 and
            no pooling, for images of 32 to 64 pixels.
    """

    model_type = "torchvision_cnn"

    network: str = "resnet18"
    image_size: int = 224
    stem: str = "imagenet"

    def validate_network(self):
        """Raises `ValueError` on unknown networks and stems, and sizes that no face has."""
        if self.network not in NETWORKS:
            raise ValueError(f"`network` must be one of {', '.join(NETWORKS)}, got {self.network!r}.")
        if self.stem not in ("imagenet", "small"):
            raise ValueError(f"`stem` must be imagenet or small, got {self.stem!r}.")
        if self.stem == "small" and not self.network.startswith("resnet"):
            raise ValueError(f"`stem` small is for ResNets, and `network` is {self.network!r}.")
        if self.image_size < 1:
            raise ValueError(f"`image_size` must be >= 1, got {self.image_size}.")


__all__ = ["TorchvisionCNNConfig"]
