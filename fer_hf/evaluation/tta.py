"""Test-time augmentation: the mean of a model's logits over several views of each image."""

from collections.abc import Iterator

import torch
from PIL import Image
from torch.nn.functional import interpolate
from torchvision.transforms.v2.functional import ten_crop
from transformers import BaseImageProcessor, PreTrainedModel

from fer_hf.errors import BadInputError


TTA = ("none", "flip", "ten_crop")
# Khaireddin and Chen, 2021 (https://huggingface.co/papers/2105.03588), on FER-2013 at 48 pixels;
# https://github.com/WuJie1010/Facial-Expression-Recognition.Pytorch has 44 / 48.
CROP = 40 / 48


class TestTimeAugmentation:
    """
    Test-time augmentation as an image processor allows it.

    Where the processor crops about the center (48 pixels to 40), ten crops of that size are taken of what it would
    have cropped. Where it does not, crops are a share of the image ([`CROP`]), enlarged to the whole again.

    Args:
        preset (`str`): One of [`TTA`].
        processor (`BaseImageProcessor`): The model's.
    """

    def __init__(self, preset: str, processor: BaseImageProcessor):
        self.preset, self.crop, self.processor_options = preset, None, {}
        if preset == "ten_crop" and getattr(processor, "do_center_crop", None):
            self.crop = processor.crop_size["height"]  # in pixels
            self.processor_options = {"do_center_crop": False}
        self.needs_square = self.crop is not None and bool(getattr(processor.size, "shortest_edge", None))

    def check(self, images: list[Image.Image]) -> None:
        """
        Raises:
            BadInputError: If the processor would leave the images at different sizes, of which no crops are the same.
        """
        for image in images if self.needs_square else ():
            if image.width != image.height:
                raise _not_square("crops", image.width, image.height)

    def logits(self, model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """
        Args:
            model (`PreTrainedModel`): An image classifier, in eval mode.
            inputs (`dict[str, torch.Tensor]`): From its processor, with `processor_options`.

        Returns:
            `torch.FloatTensor` of shape `(batch_size, num_labels)`: The mean over views, in float32.

        Raises:
            BadInputError: If the model takes more than `pixel_values`, or a crop does not fit into them.
        """
        if self.preset == "none":
            return model(**inputs).logits.float()
        pixel_values = inputs.get("pixel_values")
        if len(inputs) > 1 or pixel_values is None or pixel_values.ndim != 4:
            kind = model.config.model_type
            raise BadInputError(f"`tta` {self.preset!r} needs faces as plain pixels, and a {kind} takes more.")
        if self.crop is None:
            return averaged_logits(model, pixel_values, self.preset)
        height, width = pixel_values.shape[-2:]
        if height != width or self.crop > height:
            raise _not_square(f"{self.crop}-pixel crops", width, height)
        return averaged_logits(model, pixel_values, self.preset, self.crop / height, enlarge=False)


def _not_square(crops: str, width: int, height: int) -> BadInputError:
    return BadInputError(f"`tta` 'ten_crop' takes {crops} of square faces, and one has {width}x{height}.")


def views(pixel_values: torch.Tensor, preset: str, crop: float = CROP, enlarge: bool = True) -> Iterator[torch.Tensor]:
    """
    What the model sees of each image, one view after another: never more than one is enlarged in memory.

    `flip` is the image and its mirror image. `ten_crop` is torchvision's: the four corners and the center, then the
    same of the mirror image.

    Args:
        pixel_values (`torch.FloatTensor` of shape `(batch_size, channels, height, width)`): Any range.
        preset (`str`): One of [`TTA`].
        crop (`float`, defaults to 40 / 48): Side of a crop as a share of the image's side, in (0, 1].
        enlarge (`bool`, defaults to `True`): Enlarge crops back to `height` and `width`, bilinearly. `False` is for
            models that take other sizes than the one they were trained at.

    Yields:
        `torch.FloatTensor` of shape `(batch_size, channels, height, width)`: 1, 2 or 10 views, of height and width
        times `crop`, rounded, where crops are not enlarged.

    Raises:
        BadInputError: If `preset` or `crop` is out of range.
    """
    if preset not in TTA:
        raise BadInputError(f"`preset` must be one of {', '.join(TTA)}, got {preset!r}.")
    if not 0 < crop <= 1:
        raise BadInputError(f"`crop` must be in (0, 1], a share of the image's side, got {crop!r}.")
    if preset != "ten_crop":
        yield pixel_values
        if preset == "flip":
            yield pixel_values.flip(-1)
        return
    sides = list(pixel_values.shape[-2:])
    for view in ten_crop(pixel_values, [max(1, round(side * crop)) for side in sides]):
        yield interpolate(view, size=sides, mode="bilinear", align_corners=False) if enlarge else view


@torch.no_grad()
def averaged_logits(
    model: PreTrainedModel, pixel_values: torch.Tensor, preset: str, crop: float = CROP, enlarge: bool = True
) -> torch.Tensor:
    """
    The mean of the logits over the views, before softmax, as the sources of [`CROP`] average.

    Args:
        model (`PreTrainedModel`): An image classifier, in eval mode (the caller's business: dropout is left as it is).
        pixel_values, preset, crop, enlarge: As for [`views`].

    Returns:
        `torch.FloatTensor` of shape `(batch_size, num_labels)`: float32, without gradients.

    Raises:
        BadInputError: As [`views`].
    """
    total, count = 0, 0
    for view in views(pixel_values, preset, crop, enlarge):
        total, count = total + model(pixel_values=view).logits.float(), count + 1
    return total / count
