"""Our models, registered with Transformers' Auto classes; the zoo of named architectures; loading checkpoints."""

from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForImageClassification, ViTImageProcessor

from fer_hf.errors import ModelError
from fer_hf.models.backbone_weights import load_backbone_weights
from fer_hf.models.cnn_transformer import (
    CNNTransformerConfig,
    CNNTransformerForImageClassification,
    CNNTransformerModel,
)
from fer_hf.models.compact_cnn import CompactCNNConfig, CompactCNNForImageClassification, CompactCNNModel
from fer_hf.models.dacl import DACLConfig, DACLForImageClassification, DACLModel
from fer_hf.models.heads import HEADS, head_modules
from fer_hf.models.loading import load_image_classifier
from fer_hf.models.mlp_head import MLPHeadConfig, MLPHeadForImageClassification, MLPHeadModel
from fer_hf.models.plain_cnn import PlainCNNConfig, PlainCNNForImageClassification, PlainCNNModel
from fer_hf.models.prelu_cnn import PReLUCNNConfig, PReLUCNNForImageClassification, PReLUCNNModel
from fer_hf.models.reduced_dacl import ReducedDACLConfig, ReducedDACLForImageClassification, ReducedDACLModel
from fer_hf.models.reduced_transfer import (
    ReducedTransFERConfig,
    ReducedTransFERForImageClassification,
    ReducedTransFERModel,
)
from fer_hf.models.torchvision_cnn import (
    TorchvisionCNNConfig,
    TorchvisionCNNForImageClassification,
    TorchvisionCNNModel,
)
from fer_hf.models.transfer import TransFERConfig, TransFERForImageClassification, TransFERModel
from fer_hf.models.zoo import ARCHITECTURES, build, describe, image_processor


# Configuration, backbone and classifier of every family.
_FAMILIES = (
    (CNNTransformerConfig, CNNTransformerModel, CNNTransformerForImageClassification),
    (CompactCNNConfig, CompactCNNModel, CompactCNNForImageClassification),
    (DACLConfig, DACLModel, DACLForImageClassification),
    (PlainCNNConfig, PlainCNNModel, PlainCNNForImageClassification),
    (PReLUCNNConfig, PReLUCNNModel, PReLUCNNForImageClassification),
    (ReducedDACLConfig, ReducedDACLModel, ReducedDACLForImageClassification),
    (ReducedTransFERConfig, ReducedTransFERModel, ReducedTransFERForImageClassification),
    (TorchvisionCNNConfig, TorchvisionCNNModel, TorchvisionCNNForImageClassification),
    (TransFERConfig, TransFERModel, TransFERForImageClassification),
    (MLPHeadConfig, MLPHeadModel, MLPHeadForImageClassification),
)

for _config, _backbone, _classifier in _FAMILIES:
    AutoConfig.register(_config.model_type, _config, exist_ok=True)
    AutoModelForImageClassification.register(_config, _classifier, exist_ok=True)
    # Gray networks too: they take what this processor makes of any image.
    AutoImageProcessor.register(_config, image_processor_classes={"torchvision": ViTImageProcessor}, exist_ok=True)
    # A published checkpoint carries the code of the classes that Transformers does not have.
    _config.register_for_auto_class()
    _classifier.register_for_auto_class("AutoModelForImageClassification")
    AutoModel.register(_config, _backbone, exist_ok=True)
    _backbone.register_for_auto_class("AutoModel")


__all__ = [
    "ARCHITECTURES",
    "HEADS",
    "CNNTransformerConfig",
    "CNNTransformerForImageClassification",
    "CNNTransformerModel",
    "CompactCNNConfig",
    "CompactCNNForImageClassification",
    "CompactCNNModel",
    "DACLConfig",
    "DACLForImageClassification",
    "DACLModel",
    "MLPHeadConfig",
    "MLPHeadForImageClassification",
    "MLPHeadModel",
    "ModelError",
    "PReLUCNNConfig",
    "PReLUCNNForImageClassification",
    "PReLUCNNModel",
    "PlainCNNConfig",
    "PlainCNNForImageClassification",
    "PlainCNNModel",
    "ReducedDACLConfig",
    "ReducedDACLForImageClassification",
    "ReducedDACLModel",
    "ReducedTransFERConfig",
    "ReducedTransFERForImageClassification",
    "ReducedTransFERModel",
    "TorchvisionCNNConfig",
    "TorchvisionCNNForImageClassification",
    "TorchvisionCNNModel",
    "TransFERConfig",
    "TransFERForImageClassification",
    "TransFERModel",
    "build",
    "describe",
    "head_modules",
    "image_processor",
    "load_backbone_weights",
    "load_image_classifier",
]
