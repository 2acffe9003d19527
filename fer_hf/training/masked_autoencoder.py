"""Masked autoencoding of faces (He et al., 2021, https://huggingface.co/papers/2111.06377): model, masks, backbone."""

import numpy as np
import torch
from transformers import BaseImageProcessor, ViTConfig, ViTMAEConfig, ViTMAEForPreTraining, ViTModel

from fer_hf.data.collator import FaceCollator
from fer_hf.data.transforms import row_uniforms
from fer_hf.errors import BadInputError


def build_masked_autoencoder(config: ViTConfig, mask_ratio: float, norm_pix_loss: bool, **decoder: int):
    """
    A masked autoencoder whose encoder is the ViT of `config`, with fresh weights from torch's random state.

    Args:
        config (`ViTConfig`): Of the encoder; its number of patches must be a square.
        mask_ratio (`float`): Share of the patches that the encoder does not see, in (0, 1).
        norm_pix_loss (`bool`): Reconstruct each patch's pixels standardised by their own mean and deviation.
        decoder (`int`): `decoder_hidden_size` and the like, of [`~transformers.ViTMAEConfig`].

    Returns:
        `ViTMAEForPreTraining`: With the fixed sine-cosine position embeddings of the paper in encoder and decoder.

    Raises:
        BadInputError: If the parts do not fit together.
    """
    patches = (config.image_size // config.patch_size) ** 2
    if not 1 <= int(patches * (1 - mask_ratio)) < patches:
        raise BadInputError(f"`mask_ratio` must leave some of the {patches} patches and mask some, got {mask_ratio}.")
    for name, width in (("hidden_size", config.hidden_size), ("decoder_hidden_size", decoder["decoder_hidden_size"])):
        if width % 4:
            raise BadInputError(f"`{name}` must be a multiple of 4 for sine-cosine positions, got {width}.")
    if decoder["decoder_hidden_size"] % decoder["decoder_num_attention_heads"]:
        raise BadInputError(
            f"`decoder_hidden_size` {decoder['decoder_hidden_size']} is no multiple of "
            f"`decoder_num_attention_heads` {decoder['decoder_num_attention_heads']}."
        )
    shared = {name: value for name, value in config.to_dict().items() if name in ViTMAEConfig().to_dict()}
    shared = {name: value for name, value in shared.items() if name not in ("model_type", "architectures")}
    model = ViTMAEForPreTraining(
        ViTMAEConfig(**{**shared, **decoder}, mask_ratio=mask_ratio, norm_pix_loss=norm_pix_loss)
    )
    # Transformers 5.17 to 5.23 leave new models without positions: the base class marks the projection as initialised
    # before the embeddings look at it, and the decoder's positions are set to zero. Delete when the test
    # test_positions_are_those_of_the_paper passes without.
    model.vit.embeddings.patch_embeddings.projection._is_hf_initialized = False
    model.vit.embeddings.initialize_weights()
    model.decoder.initialize_weights(patches)
    return model


def backbone(model: ViTMAEForPreTraining, config: ViTConfig, gray: bool = False) -> ViTModel:
    """
    The encoder alone, for fine-tuning: a ViT that sees every patch.

    Args:
        model (`ViTMAEForPreTraining`): After training.
        config (`ViTConfig`): What it was built from.
        gray (`bool`): Whether every face was gray. These leave open how a pixel's weight is shared out among its
            channels: each gets the same, so that a colour photo is seen as its mean over channels.
    """
    vit = ViTModel(config, add_pooling_layer=False)
    vit.load_state_dict(model.vit.state_dict())
    if gray:
        weight = vit.embeddings.patch_embeddings.projection.weight.data
        weight.copy_(weight.mean(dim=1, keepdim=True))
    return vit


class MaskingCollator(FaceCollator):
    """
    Batches for [`~transformers.ViTMAEForPreTraining`]: pixel values and the noise that draws each face's mask, without
    labels.

    A mask is a pure function of (seed, epoch, row): resumed runs repeat it, and a validation set, whose epoch stays 0,
    is masked alike in every evaluation, whatever the batch size.

    Args:
        processor (`BaseImageProcessor`): The image processor that is saved with the backbone.
        num_patches (`int`): Of a face.
        seed (`int`): Any integer.
    """

    def __init__(self, processor: BaseImageProcessor, num_patches: int, seed: int):
        super().__init__(processor)
        # Another stream than augmentation's, which hashes the same numbers.
        self.num_patches, self.seed = num_patches, int(np.random.default_rng([seed % 2**64, 1]).integers(2**63))

    def __call__(self, examples: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """
        Args:
            examples (`dict`): A batch of [`~fer_hf.data.training_set.TrainingFaces`].

        Returns:
            `dict`: `pixel_values`, and `noise`, float32 of shape `(batch_size, num_patches)`: the patches with the
            smallest are seen.
        """
        drawn = examples["drawn"].numpy()
        noise = row_uniforms(self.seed, int(drawn[0, 0]), drawn[:, 1], self.num_patches)
        return {"pixel_values": super().__call__(examples)["pixel_values"], "noise": torch.from_numpy(noise).float()}


@torch.no_grad()
def reconstruct(
    model: ViTMAEForPreTraining, pixel_values: torch.Tensor, noise: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    What the model sees of faces, and what it makes of the rest.

    Args:
        model (`ViTMAEForPreTraining`): In eval mode.
        pixel_values (`torch.FloatTensor` of shape `(batch_size, num_channels, height, width)`): Faces.
        noise (`torch.Tensor` of shape `(batch_size, num_patches)`): As from [`MaskingCollator`].

    Returns:
        `tuple`: Faces whose masked patches are 0; and faces whose masked patches are the model's, with the mean and
        the deviation of the true ones where the model predicts standardised pixels. Both of `pixel_values`' shape.
    """
    output = model(pixel_values, noise=noise)
    patches, predicted = model.patchify(pixel_values), output.logits  # (batch_size, num_patches, values)
    if model.config.norm_pix_loss:
        predicted = predicted * (patches.var(dim=-1, keepdim=True) + 1e-6) ** 0.5 + patches.mean(dim=-1, keepdim=True)
    masked = output.mask.unsqueeze(-1)
    return model.unpatchify(patches * (1 - masked)), model.unpatchify(torch.where(masked == 1, predicted, patches))
