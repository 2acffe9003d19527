"""Patch dropout: a ViT trains on a random part of each face's patches, at a fraction of the cost."""

import torch
from transformers import DeiTModel, PreTrainedModel, ViTModel

from fer_hf.errors import BadInputError


class PatchDropout:
    """
    Hides a share of each face's patches from the encoder in training (Liu et al., 2022,
    https://huggingface.co/papers/2208.07220). Position embeddings are added before, and the class token stays. In eval
    mode the model sees every patch.

    A forward hook on the embeddings, so that it goes with frozen layers and stock models, and nothing of it is saved.

    Args:
        rate (`float`): Share of the patches to hide, in (0, 1).
        model (`PreTrainedModel`): A [`~transformers.ViTModel`] or [`~transformers.DeiTModel`], with or without a head.

    Raises:
        BadInputError: If `rate` leaves every patch or none, or the model is none of these.
    """

    def __init__(self, rate: float, model: PreTrainedModel):
        if not isinstance(model.base_model, (ViTModel, DeiTModel)):
            raise BadInputError(f"`patch_dropout` is for ViT and DeiT, got {type(model).__name__}.")
        embeddings = model.base_model.embeddings
        self.model = model
        self.num_patches = embeddings.patch_embeddings.num_patches
        self.num_kept = round(self.num_patches * (1 - rate))
        if not 0 < self.num_kept < self.num_patches:
            raise BadInputError(
                f"`patch_dropout` must hide some of the {self.num_patches} patches and leave some, got {rate}."
            )
        embeddings.register_forward_hook(self)

    def __call__(self, module: torch.nn.Module, args: tuple, tokens: torch.Tensor) -> torch.Tensor:
        """
        Args:
            module (`torch.nn.Module`), args (`tuple`): Not read.
            tokens (`torch.FloatTensor` of shape `(batch_size, 1 or 2 + num_patches, hidden_size)`): The embeddings.

        Returns:
            `torch.FloatTensor` of shape `(batch_size, 1 or 2 + num_kept, hidden_size)`: In training, without the
            hidden patches.
        """
        # The whole model's mode: embeddings that are frozen are in eval mode in training, too.
        if not self.model.training:
            return tokens
        batch_size, length, hidden_size = tokens.shape
        first = length - self.num_patches
        kept = torch.rand(batch_size, self.num_patches, device=tokens.device).argsort(dim=1)[:, : self.num_kept]
        patches = tokens[:, first:].gather(1, kept.unsqueeze(-1).expand(-1, -1, hidden_size))
        return torch.cat([tokens[:, :first], patches], dim=1)
