"""Training on `Trainer`: flags, gradual unfreezing, and the trainer that makes both safe."""

from fer_hf.training.arguments import DataArguments, FerTrainingArguments, LossArguments, ModelArguments
from fer_hf.training.launch import run, start
from fer_hf.training.parsing import parse_arguments
from fer_hf.training.trainer import FerTrainer
from fer_hf.training.unfreezing import GradualUnfreezing, UnfreezingError, unfreeze_order


__all__ = [
    "DataArguments",
    "FerTrainer",
    "FerTrainingArguments",
    "GradualUnfreezing",
    "LossArguments",
    "ModelArguments",
    "UnfreezingError",
    "parse_arguments",
    "run",
    "start",
    "unfreeze_order",
]
