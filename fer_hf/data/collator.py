"""Examples to batches, through the checkpoint's own image processor."""

from typing import Any

import torch
from transformers import BaseImageProcessor


class FaceCollator:
    """
    Turns examples of our tables into what an image classifier takes, the way `pipeline("image-classification")` does.

    Args:
        processor (`BaseImageProcessor`): The image processor that is saved with the model.
        label_column (`str`, defaults to `"label"`): Column that becomes `labels`.
        options (keyword arguments): For the processor, such as `do_center_crop=False`.
    """

    def __init__(self, processor: BaseImageProcessor, label_column: str = "label", **options: Any):
        self.processor = processor
        self.label_column = label_column
        self.options = options

    def __call__(self, examples: list[dict] | dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """
        Args:
            examples (`list[dict]`): With `image` (PIL, any mode) and the label column (a class id or a list of
                numbers). A `dict` is a batch already, from [`~fer_hf.data.training_set.TrainingFaces`], and passes
                through but for `drawn`, of which models know nothing.

        Returns:
            `dict`: `pixel_values` of shape `(batch_size, num_channels, height, width)`, whatever else the processor
            makes (patch masks), and `labels`, int64 `(batch_size,)` for class ids.
        """
        if isinstance(examples, dict):
            return {key: value for key, value in examples.items() if key != "drawn"}
        # The pipeline turns every image into RGB before the processor sees it; so do we.
        images = [example["image"].convert("RGB") for example in examples]
        batch = self.processor(images, return_tensors="pt", **self.options)
        labels = torch.tensor([example[self.label_column] for example in examples])
        return {**batch, "labels": labels}
