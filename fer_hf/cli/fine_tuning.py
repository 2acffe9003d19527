"""The flags of fine-tuning, and its words on the terminal. Its steps are `recipes/vit_gradual_unfreeze.py`."""

import json
from typing import NamedTuple

import numpy as np
from datasets import Dataset, DatasetDict
from transformers import EarlyStoppingCallback, TrainerCallback

from fer_hf.cli.arguments import DataArguments, LossArguments, ModelArguments
from fer_hf.cli.distillation import FERPLUS, with_teachers
from fer_hf.errors import BadInputError
from fer_hf.models.loading import locate
from fer_hf.training import FerTrainingArguments


class Flags(NamedTuple):
    """All flags of a fine-tuning recipe, by the part of the run that they shape."""

    model: ModelArguments
    data: DataArguments
    loss: LossArguments
    training: FerTrainingArguments

    def tables(self) -> DatasetDict:
        """
        The faces, with the splits that the run needs. Without `test` it ends on validation; without `validation` it
        must be told to keep its last weights, and ends on test. Where teachers are asked for, the training faces have
        what they say of them.

        Raises:
            BadInputError: As [`ModelArguments.check`], [`DataArguments.load`] and
                [`~fer_hf.cli.distillation.with_teachers`], if a split is missing, and if an expression has no face to
                learn from.
        """
        self.model.check()
        for teacher in self.loss.teacher or ():
            if teacher != FERPLUS:
                locate(teacher)
        tables = self.data.load()
        missing = [split for split in ("train", "validation", "test") if split not in tables]
        unvalidated = "validation" in missing and self.training.eval_strategy != "no"
        if "train" in missing or unvalidated or len(missing) > 1:
            hint = "; `eval_strategy` no keeps the last epoch" if missing == ["validation"] else ""
            raise BadInputError(
                f"{self.data.dataset_name} has no {' and no '.join(missing)} split, which a run needs{hint}. Most "
                f"loaders take one out of train: see `validation_fraction` in `dataset_options`."
            )
        _check_expressions(tables["train"], self.data.max_train_samples)
        if self.loss.distills:
            tables["train"] = with_teachers(tables["train"], self.loss, self.data, self.model, self.training)
        return tables

    def record(self) -> dict:
        """What shapes the result beside `training`, for the run's record."""
        kept = {name: getattr(self.data, name) for name in ("sampler", "oversample", "augmentation")}
        limits = {name: getattr(self.data, name) for name in ("max_train_samples", "max_eval_samples")}
        limits = {name: limit for name, limit in limits.items() if limit is not None}
        return {**self.loss.record(), **kept, **limits}

    def callbacks(self, *others: TrainerCallback | None) -> list[TrainerCallback]:
        """These callbacks, without `None`, and early stopping if it is asked for."""
        patience = self.training.early_stopping_patience
        stopping = EarlyStoppingCallback(patience) if patience else None
        return [callback for callback in (*others, stopping) if callback is not None]


def _check_expressions(train: Dataset, limit: int | None) -> None:
    names = train.features["label"].names
    counts = np.bincount(np.array(train["label"][:]), minlength=len(names))
    there = [name for name, count in zip(names, counts, strict=True) if count]
    missing = ", ".join(name for name in names if name not in there)
    if len(there) < 2:
        raise BadInputError(f"Every training face is {there[0]}: there is nothing to tell apart.")
    if missing:
        more = "add some" if limit is None else "add some or raise `max_train_samples`"
        raise BadInputError(
            f"No training face is {missing}: {more}, or train on the others by `dataset_options` "
            f"'{json.dumps({'classes': there})}'."
        )


# For `parse_arguments`, in their order.
FLAGS = tuple(Flags.__annotations__.values())


def headline(recipe: str, flags: Flags) -> str:
    """The first line on the terminal: what runs."""
    return f"{recipe}: {flags.model.start_point} on {flags.data.dataset_name}"


# The line that follows it in a demo.
DEMO_NOTE = "\nThis is the demo, on faces that the package draws: its accuracy says nothing about people."
