"""Configuration of the network that the CNN comparison on FER-2013 calls DACL."""

from huggingface_hub.dataclasses import strict

from .configuration_face import FaceConfig


@strict
class ReducedDACLConfig(FaceConfig):
    """
    Configuration of a [`ReducedDACLModel`].

    Args:
        image_size (`int`, defaults to 224):
            Height and width in pixels of the faces; what the image processor makes. The network takes other sizes too.
        num_channels (`int`, defaults to 1):
            Of the first convolution: 1 (gray) or 3 (RGB).
        attention_size (`int`, defaults to 64):
            Channels of the attention's queries and keys.
    """

    model_type = "reduced_dacl"

    image_size: int = 224
    attention_size: int = 64

    def validate_sizes(self):
        """Raises `ValueError` on sizes that no face or layer has."""
        if self.image_size < 1:
            raise ValueError(f"`image_size` must be >= 1, got {self.image_size}.")
        if self.attention_size < 1:
            raise ValueError(f"`attention_size` must be >= 1, got {self.attention_size}.")


__all__ = ["ReducedDACLConfig"]
