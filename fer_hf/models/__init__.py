"""Our models, registered with the Auto classes; the zoo (`zoo.py`), and loading checkpoints (`loading.py`)."""

from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForImageClassification, ViTImageProcessor

from fer_hf.models.backbone_weights import load_backbone_weights
from fer_hf.models.heads import HEADS, head_modules
from fer_hf.models.loading import load_image_classifier
from fer_hf.models.mlp_head import MLPHeadConfig, MLPHeadForImageClassification
from fer_hf.models.torchvision_cnn import (
    TorchvisionCNNConfig,
    TorchvisionCNNForImageClassification,
    TorchvisionCNNModel,
)
from fer_hf.models.zoo import ARCHITECTURES, ModelError, build


# Configuration, backbone (if it has a class of its own) and classifier of every family.
_FAMILIES = (
    (TorchvisionCNNConfig, TorchvisionCNNModel, TorchvisionCNNForImageClassification),
    (MLPHeadConfig, None, MLPHeadForImageClassification),
)

for _config, _backbone, _classifier in _FAMILIES:
    AutoConfig.register(_config.model_type, _config, exist_ok=True)
    AutoModelForImageClassification.register(_config, _classifier, exist_ok=True)
    # Gray networks too: they take what this processor makes of any image.
    AutoImageProcessor.register(_config, image_processor_classes={"torchvision": ViTImageProcessor}, exist_ok=True)
    # A published checkpoint carries the code of the classes that Transformers does not have.
    _config.register_for_auto_class()
    _classifier.register_for_auto_class("AutoModelForImageClassification")
    if _backbone is not None:
        AutoModel.register(_config, _backbone, exist_ok=True)
        _backbone.register_for_auto_class("AutoModel")


__all__ = [
    "ARCHITECTURES",
    "HEADS",
    "MLPHeadConfig",
    "MLPHeadForImageClassification",
    "ModelError",
    "TorchvisionCNNConfig",
    "TorchvisionCNNForImageClassification",
    "TorchvisionCNNModel",
    "build",
    "head_modules",
    "load_backbone_weights",
    "load_image_classifier",
]
