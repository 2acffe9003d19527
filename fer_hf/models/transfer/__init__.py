from .configuration_transfer import TransFERConfig
from .modeling_transfer import TransFERForImageClassification, TransFERModel


__all__ = ["TransFERConfig", "TransFERForImageClassification", "TransFERModel"]
