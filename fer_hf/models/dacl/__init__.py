from .configuration_dacl import DACLConfig
from .modeling_dacl import DACLForImageClassification, DACLModel, DACLOutput, SparseCenterLoss


__all__ = ["DACLConfig", "DACLForImageClassification", "DACLModel", "DACLOutput", "SparseCenterLoss"]
