from .configuration_reduced_dacl import ReducedDACLConfig
from .modeling_reduced_dacl import ReducedDACLForImageClassification, ReducedDACLModel


__all__ = ["ReducedDACLConfig", "ReducedDACLForImageClassification", "ReducedDACLModel"]
