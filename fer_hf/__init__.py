"""
Facial expression recognition on the Hugging Face stack.

Importing the package is quick, and loads neither torch nor Transformers. Its models are registered with Transformers'
Auto classes, and its pipeline "facial-expression" with `pipeline`, as soon as the process has imported Transformers.
"""

from importlib import import_module
from typing import Any

from wrapt import register_post_import_hook


# The public names and the modules that define them: imported at first use.
_PUBLIC = {
    "fer_hf.data": ["load_dataset"],
    "fer_hf.inference": ["FacialExpressionPipeline", "export_onnx"],
    "fer_hf.inference.predict": ["predict"],
    "fer_hf.labels": ["EXPRESSIONS"],
    "fer_hf.models": [
        "ARCHITECTURES",
        "HEADS",
        "CNNTransformerForImageClassification",
        "CompactCNNForImageClassification",
        "DACLForImageClassification",
        "MLPHeadConfig",
        "MLPHeadForImageClassification",
        "PReLUCNNForImageClassification",
        "PlainCNNForImageClassification",
        "ReducedDACLForImageClassification",
        "ReducedTransFERForImageClassification",
        "TorchvisionCNNForImageClassification",
        "TransFERForImageClassification",
        "asset",
        "build",
        "load_image_classifier",
        "load_trained_classifier",
    ],
    "fer_hf.training": ["FerTrainer", "FerTrainingArguments", "GradualUnfreezing"],
}
_HOME = {name: module for module, names in _PUBLIC.items() for name in names}
_PARTS = ("data", "evaluation", "inference", "losses", "metrics", "models", "plots", "runs", "training")

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return import_module(f"{__name__}.{name}")
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
    elif name == "__version__":
        value = import_module("importlib.metadata").version(__name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, *_PARTS, "__version__"])


# Both modules register what they define when they are imported: now, if Transformers is there, or else as it comes.
register_post_import_hook(lambda _: import_module("fer_hf.models"), "transformers")
register_post_import_hook(lambda _: import_module("fer_hf.inference.pipeline"), "transformers.pipelines")
