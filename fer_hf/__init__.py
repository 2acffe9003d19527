"""
Facial expression recognition on the Hugging Face stack.

Importing the package registers its models with Transformers' Auto classes, and its pipeline "facial-expression".
"""

__version__ = "0.1.0"

from fer_hf.assets import asset
from fer_hf.inference.pipeline import register as _register_pipeline
from fer_hf.labels import EXPRESSIONS
from fer_hf.models import (
    ARCHITECTURES,
    HEADS,
    MLPHeadConfig,
    MLPHeadForImageClassification,
    build,
    load_image_classifier,
)


_register_pipeline()


__all__ = [
    "ARCHITECTURES",
    "EXPRESSIONS",
    "HEADS",
    "MLPHeadConfig",
    "MLPHeadForImageClassification",
    "asset",
    "build",
    "load_image_classifier",
]
