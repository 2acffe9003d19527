"""Examples to batches, through the checkpoint's own image processor."""

import torch
from transformers import BaseImageProcessor


class FaceCollator:
    """
    Turns examples of our tables into what an image classifier takes, the way `pipeline("image-classification")` does.

    Args:
        processor (`BaseImageProcessor`): The image processor that is saved with the model.
        label_column (`str`, defaults to `"label"`): Column that becomes `labels`.
    """

    def __init__(self, processor: BaseImageProcessor, label_column: str = "label"):
        self.processor = processor
        self.label_column = label_column

    def __call__(self, examples: list[dict]) -> dict[str, torch.Tensor]:
        """
        Args:
            examples (`list[dict]`): With `image` (PIL, any mode) and the label column (a class id or a list of
                numbers).

        Returns:
            `dict`: `pixel_values` of shape `(batch_size, num_channels, height, width)` and `labels`, int64
            `(batch_size,)` for class ids.
        """
        # The pipeline turns every image into RGB before the processor sees it; so do we.
        images = [example["image"].convert("RGB") for example in examples]
        batch = self.processor(images, return_tensors="pt")
        labels = torch.tensor([example[self.label_column] for example in examples])
        return {"pixel_values": batch["pixel_values"], "labels": labels}
