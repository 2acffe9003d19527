"""
Facial expression recognition on the Hugging Face stack.

Importing the package registers its models with Transformers' Auto classes, and its pipeline "facial-expression".
"""

from importlib.metadata import version

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
from fer_hf.models.loading import asset


_register_pipeline()


__version__ = version("fer_hf")

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
