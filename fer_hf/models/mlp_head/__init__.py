from .configuration_mlp_head import MLPHeadConfig
from .modeling_mlp_head import MLPHeadForImageClassification


__all__ = ["MLPHeadConfig", "MLPHeadForImageClassification"]
