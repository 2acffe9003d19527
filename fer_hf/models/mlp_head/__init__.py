from .configuration_mlp_head import MLPHeadConfig
from .modeling_mlp_head import MLPHeadForImageClassification, MLPHeadModel


__all__ = ["MLPHeadConfig", "MLPHeadForImageClassification", "MLPHeadModel"]
