from .configuration_plain_cnn import PlainCNNConfig
from .modeling_plain_cnn import PlainCNNForImageClassification, PlainCNNModel


__all__ = ["PlainCNNConfig", "PlainCNNForImageClassification", "PlainCNNModel"]
