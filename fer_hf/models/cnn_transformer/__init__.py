from .configuration_cnn_transformer import CNNTransformerConfig
from .modeling_cnn_transformer import CNNTransformerForImageClassification, CNNTransformerModel


__all__ = ["CNNTransformerConfig", "CNNTransformerForImageClassification", "CNNTransformerModel"]
