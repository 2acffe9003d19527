"""`Trick`: the one form of what a flag adds to training, such as moving averages or smaller faces."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel, TrainerCallback


class Trick(TrainerCallback):
    """
    A callback that may also act around forward passes and evaluations, and keep a state in checkpoints.

    [`~fer_hf.training.FerTrainer`] calls the tricks among its callbacks, in their order. What a trick does not
    override does nothing.
    """

    def check(self, model: PreTrainedModel) -> None:
        """
        Whether `model` can be trained so.

        Raises:
            BadInputError: If it cannot.
        """

    def training_forward(
        self, model: nn.Module, inputs: dict[str, Any], epoch: float
    ) -> AbstractContextManager[dict[str, Any]]:
        """
        Around each forward pass in training.

        Args:
            model (`nn.Module`): Without the wrappers of DDP and `torch.compile`.
            inputs (`dict`): What the model is to be called with.
            epoch (`float`): From 0, with fractions.

        Returns:
            A context whose value is what the model is called with instead.
        """
        return nullcontext(inputs)

    def evaluation(self) -> AbstractContextManager:
        """Around each evaluation, also of a model that is not in training."""
        return nullcontext()

    def save(self, folder: Path) -> None:
        """Write a state, if there is one, beside the weights of a model; on the main process only."""

    def load(self, checkpoint: Path, model: nn.Module) -> None:
        """Take over the state of a checkpoint from which the training of `model` is about to go on."""


@contextmanager
def around_forward(
    tricks: list[Trick], model: nn.Module, inputs: dict[str, Any], epoch: float
) -> Iterator[dict[str, Any]]:
    """All tricks' [`Trick.training_forward`], each with the inputs of the one before."""
    with ExitStack() as stack:
        for trick in tricks:
            inputs = stack.enter_context(trick.training_forward(model, inputs, epoch))
        yield inputs


@contextmanager
def around_evaluation(tricks: list[Trick]) -> Iterator[None]:
    """All tricks' [`Trick.evaluation`]."""
    with ExitStack() as stack:
        for trick in tricks:
            stack.enter_context(trick.evaluation())
        yield
