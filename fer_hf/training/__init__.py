"""Training: `FerTrainer`, gradual unfreezing, optimizers, exact resuming."""

from fer_hf.training.arguments import FerTrainingArguments
from fer_hf.training.trainer import FerTrainer
from fer_hf.training.unfreezing import GradualUnfreezing, UnfreezingError, unfreeze_order


__all__ = ["FerTrainer", "FerTrainingArguments", "GradualUnfreezing", "UnfreezingError", "unfreeze_order"]
