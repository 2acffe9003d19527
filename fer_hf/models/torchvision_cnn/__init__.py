from .configuration_torchvision_cnn import TorchvisionCNNConfig
from .modeling_torchvision_cnn import TorchvisionCNNForImageClassification, TorchvisionCNNModel


__all__ = ["TorchvisionCNNConfig", "TorchvisionCNNForImageClassification", "TorchvisionCNNModel"]
