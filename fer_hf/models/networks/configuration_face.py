"""What the configurations of our networks share."""

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


@strict
class FaceConfig(PreTrainedConfig):
    """
    Base of the configurations of our networks.

    Args:
        num_channels (`int`, defaults to 1):
            Of the first convolution: 1 (gray) or 3 (RGB).
    """

    num_channels: int = 1
    problem_type: str | None = "single_label_classification"

    def validate_num_channels(self):
        """Raises `ValueError` on channels that no face has."""
        if self.num_channels not in (1, 3):
            raise ValueError(f"`num_channels` must be 1 or 3, got {self.num_channels}.")


__all__ = ["FaceConfig"]
