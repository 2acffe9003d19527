"""Progressive resizing: train on small faces first and on faces of the model's own size last."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.functional import interpolate
from transformers import PreTrainedModel

from fer_hf.errors import BadInputError
from fer_hf.training.tricks import Trick


class ProgressiveResizing(Trick):
    """
    Which size training faces have in which epoch (the idea of progressive learning in Tan and Le, 2021,
    https://huggingface.co/papers/2104.00298, without its growing regularisation). Half the side is a quarter of the
    multiply-adds; validation and the finished model always take faces of the model's own size.

    Args:
        schedule (`dict`): Map from 0-based epochs to the side in pixels from there on. Before the first one, and where
            it is empty, faces keep their size.

    Raises:
        BadInputError: If an epoch is no integer >= 0, or a side no integer >= 1.
    """

    def __init__(self, schedule: dict):
        self.sides = {}
        for epoch, side in schedule.items():
            if not str(epoch).isdecimal() or type(side) is not int or side < 1:
                raise BadInputError(
                    '`progressive_resizing` must be a map from epochs >= 0 to pixels, such as {"0": 24, "10": 40}, '
                    f"got {epoch!r}: {side!r}."
                )
            self.sides[int(epoch)] = side

    def side(self, epoch: float) -> int | None:
        """Height and width of the training faces in pixels at `epoch`; `None` for the model's own size."""
        begun = [start for start in self.sides if start <= epoch]
        return self.sides[max(begun)] if begun else None

    def check(self, model: PreTrainedModel) -> None:
        """
        Args:
            model (`PreTrainedModel`): The model to train.

        Raises:
            BadInputError: If the model cannot take faces of one of the sizes.
        """
        channels, device = getattr(model.config, "num_channels", 3), next(model.parameters()).device
        training = model.training
        model.eval()
        try:
            for side in sorted(set(self.sides.values())):
                with torch.no_grad():
                    model(pixel_values=torch.zeros(1, channels, side, side, device=device))
        except (RuntimeError, ValueError, AssertionError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise BadInputError(
                f"`progressive_resizing`: {type(model).__name__} takes no faces of {side} pixels: {reason}"
            ) from error
        finally:
            model.train(training)

    def training_forward(
        self, model: nn.Module, inputs: dict[str, Any], epoch: float
    ) -> AbstractContextManager[dict[str, Any]]:
        """With faces of the epoch's size."""
        return nullcontext({**inputs, "pixel_values": self.resized(inputs["pixel_values"], epoch)})

    def resized(self, pixel_values: torch.Tensor, epoch: float) -> torch.Tensor:
        """
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, channels, height, width)`): As the processor
                makes them.
            epoch (`float`): From 0, with fractions.

        Returns:
            `torch.FloatTensor`: The faces of this epoch's size, bilinear with antialiasing.
        """
        side = self.side(epoch)
        if side is None or pixel_values.shape[-2:] == (side, side):
            return pixel_values
        return interpolate(pixel_values, size=(side, side), mode="bilinear", antialias=True)
