"""Patch dropout: a ViT trains on a random part of each face's patches, at a fraction of the cost."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import DeiTModel, Dinov2Model, PreTrainedModel, ViTModel

from fer_hf.errors import BadInputError
from fer_hf.training.tricks import Trick


class PatchDropout(Trick):
    """
    Hides a share of each face's patches from the encoder in training (Liu et al., 2022,
    https://huggingface.co/papers/2208.07220). Position embeddings are added before, and the class token stays.

    Args:
        rate (`float`): Share of the patches to hide, in [0, 1); 0 hides none.

    Raises:
        BadInputError: If the rate is none.
    """

    def __init__(self, rate: float):
        if not 0 <= rate < 1:
            raise BadInputError(f"`patch_dropout` must be in [0, 1), got {rate}.")
        self.rate = rate

    def check(self, model: PreTrainedModel) -> None:
        """
        Args:
            model (`PreTrainedModel`): The model to train.

        Raises:
            BadInputError: If it is no [`~transformers.ViTModel`], [`~transformers.DeiTModel`] or
                [`~transformers.Dinov2Model`], with or without a head, or would see no patch.
        """
        if not isinstance(model.base_model, (ViTModel, DeiTModel, Dinov2Model)):
            raise BadInputError(f"`patch_dropout` is for ViT, DeiT and DINOv2, got {type(model).__name__}.")
        count = model.base_model.embeddings.patch_embeddings.num_patches
        if self.num_kept(count) == 0:
            raise BadInputError(f"`patch_dropout` {self.rate} hides all of the {count} patches of a face.")

    def num_kept(self, num_patches: int) -> int:
        """Of so many patches, how many an encoder sees in training."""
        return round(num_patches * (1 - self.rate))

    @contextmanager
    def training_forward(
        self, model: PreTrainedModel, inputs: dict[str, Any], epoch: float
    ) -> Iterator[dict[str, Any]]:
        """Within it, a model that [`check`] lets through sees a part of the patches."""
        embeddings = model.base_model.embeddings
        num_prefix_tokens = 2 if isinstance(model.base_model, DeiTModel) else 1

        def hide(module: torch.nn.Module, args: tuple, tokens: torch.Tensor) -> torch.Tensor:
            batch_size, length, hidden_size = tokens.shape
            order = torch.rand(batch_size, length - num_prefix_tokens, device=tokens.device).argsort(dim=1)
            kept = num_prefix_tokens + order[:, : self.num_kept(order.shape[1])]
            patches = tokens.gather(1, kept.unsqueeze(-1).expand(-1, -1, hidden_size))
            return torch.cat([tokens[:, :num_prefix_tokens], patches], dim=1)

        hook = embeddings.register_forward_hook(hide)
        try:
            yield inputs
        finally:
            hook.remove()
