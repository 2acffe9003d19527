from .configuration_prelu_cnn import PReLUCNNConfig
from .modeling_prelu_cnn import PReLUCNNForImageClassification, PReLUCNNModel


__all__ = ["PReLUCNNConfig", "PReLUCNNForImageClassification", "PReLUCNNModel"]
