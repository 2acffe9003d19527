from .configuration_reduced_transfer import ReducedTransFERConfig
from .modeling_reduced_transfer import ReducedTransFERForImageClassification, ReducedTransFERModel


__all__ = ["ReducedTransFERConfig", "ReducedTransFERForImageClassification", "ReducedTransFERModel"]
