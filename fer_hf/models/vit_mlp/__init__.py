from .configuration_vit_mlp import ViTMLPConfig
from .modeling_vit_mlp import ViTMLPForImageClassification


__all__ = ["ViTMLPConfig", "ViTMLPForImageClassification"]
