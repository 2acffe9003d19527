"""Our models, registered with Transformers' Auto classes; the zoo of named architectures; loading checkpoints."""

from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForImageClassification, ViTImageProcessor

from fer_hf.models.backbone_weights import load_backbone_weights
from fer_hf.models.heads import HEADS
from fer_hf.models.loading import asset, load_image_classifier, load_trained_classifier
from fer_hf.models.networks.configuration_cnn_transformer import CNNTransformerConfig
from fer_hf.models.networks.configuration_compact_cnn import CompactCNNConfig
from fer_hf.models.networks.configuration_dacl import DACLConfig
from fer_hf.models.networks.configuration_mlp_head import MLPHeadConfig
from fer_hf.models.networks.configuration_plain_cnn import PlainCNNConfig
from fer_hf.models.networks.configuration_prelu_cnn import PReLUCNNConfig
from fer_hf.models.networks.configuration_reduced_dacl import ReducedDACLConfig
from fer_hf.models.networks.configuration_reduced_transfer import ReducedTransFERConfig
from fer_hf.models.networks.configuration_torchvision_cnn import TorchvisionCNNConfig
from fer_hf.models.networks.configuration_transfer import TransFERConfig
from fer_hf.models.networks.modeling_cnn_transformer import CNNTransformerForImageClassification, CNNTransformerModel
from fer_hf.models.networks.modeling_compact_cnn import CompactCNNForImageClassification, CompactCNNModel
from fer_hf.models.networks.modeling_dacl import DACLForImageClassification, DACLModel
from fer_hf.models.networks.modeling_mlp_head import MLPHeadForImageClassification, MLPHeadModel
from fer_hf.models.networks.modeling_plain_cnn import PlainCNNForImageClassification, PlainCNNModel
from fer_hf.models.networks.modeling_prelu_cnn import PReLUCNNForImageClassification, PReLUCNNModel
from fer_hf.models.networks.modeling_reduced_dacl import ReducedDACLForImageClassification, ReducedDACLModel
from fer_hf.models.networks.modeling_reduced_transfer import (
    ReducedTransFERForImageClassification,
    ReducedTransFERModel,
)
from fer_hf.models.networks.modeling_torchvision_cnn import TorchvisionCNNForImageClassification, TorchvisionCNNModel
from fer_hf.models.networks.modeling_transfer import TransFERForImageClassification, TransFERModel
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
    "CompactCNNConfig",
    "CompactCNNForImageClassification",
    "DACLConfig",
    "DACLForImageClassification",
    "MLPHeadConfig",
    "MLPHeadForImageClassification",
    "PReLUCNNConfig",
    "PReLUCNNForImageClassification",
    "PlainCNNConfig",
    "PlainCNNForImageClassification",
    "ReducedDACLConfig",
    "ReducedDACLForImageClassification",
    "ReducedTransFERConfig",
    "ReducedTransFERForImageClassification",
    "TorchvisionCNNConfig",
    "TorchvisionCNNForImageClassification",
    "TransFERConfig",
    "TransFERForImageClassification",
    "asset",
    "build",
    "describe",
    "image_processor",
    "load_backbone_weights",
    "load_image_classifier",
    "load_trained_classifier",
]
