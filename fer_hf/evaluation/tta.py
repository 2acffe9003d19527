"""Test-time averaging: the mean of a model's logits over several views of each face."""

from collections.abc import Iterator

import torch
from torch.nn.functional import interpolate
from transformers import PreTrainedModel

from fer_hf.errors import BadInputError


TTA = ("none", "flip", "ten_crop")
# Khaireddin and Chen, 2021 (https://huggingface.co/papers/2105.03588), on FER-2013 at 48 pixels;
# https://github.com/WuJie1010/Facial-Expression-Recognition.Pytorch has 44 / 48.
CROP = 40 / 48


def views(pixel_values: torch.Tensor, preset: str, crop: float | None = None, enlarge: bool = True) -> torch.Tensor:
    """
    What the model sees of each face.

    `flip` is the face and its mirror image. `ten_crop` is the four corners (top left, top right, bottom left, bottom
    right) and the centre, then the same of the mirror image, in torchvision's order.

    Args:
        pixel_values (`torch.FloatTensor` of shape `(batch_size, channels, height, width)`): Any range.
        preset (`str`): One of [`TTA`].
        crop (`float`, *optional*): Side of a crop as a share of the face's side, in (0, 1]. Default: [`CROP`].
        enlarge (`bool`, defaults to `True`): Enlarge crops back to `height` and `width`, bilinearly. `False` is for
            models that take other sizes than the one they were trained at.

    Returns:
        `torch.FloatTensor` of shape `(num_views, batch_size, channels, height, width)`: 1, 2 or 10 views, of height
        and width times `crop`, rounded, where crops are not enlarged.

    Raises:
        BadInputError: If `preset` or `crop` is out of range.
    """
    return torch.stack(list(_each_view(pixel_values, preset, crop, enlarge)))


@torch.no_grad()
def averaged_logits(
    model: PreTrainedModel, pixel_values: torch.Tensor, preset: str, crop: float | None = None, enlarge: bool = True
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
    # One view after another, at the memory of one.
    for view in _each_view(pixel_values, preset, crop, enlarge):
        total, count = total + model(pixel_values=view).logits.float(), count + 1
    return total / count


def _each_view(
    pixel_values: torch.Tensor, preset: str, crop: float | None = None, enlarge: bool = True
) -> Iterator[torch.Tensor]:
    crop = CROP if crop is None else crop
    if preset not in TTA:
        raise BadInputError(f"`preset` must be one of {', '.join(TTA)}, got {preset!r}.")
    if not 0 < crop <= 1:
        raise BadInputError(f"`crop` must be in (0, 1], a share of the face's side, got {crop!r}.")
    yield from (
        view
        for faces in ((pixel_values,) if preset == "none" else (pixel_values, pixel_values.flip(-1)))
        for view in (_five_crops(faces, crop, enlarge) if preset == "ten_crop" else (faces,))
    )


def _five_crops(faces: torch.Tensor, crop: float, enlarge: bool) -> Iterator[torch.Tensor]:
    height, width = faces.shape[-2:]
    h, w = max(1, round(height * crop)), max(1, round(width * crop))
    bottom, right = height - h, width - w
    # torchvision rounds the centre's corner in the same way.
    for top, left in ((0, 0), (0, right), (bottom, 0), (bottom, right), (round(bottom / 2), round(right / 2))):
        view = faces[..., top : top + h, left : left + w]
        yield interpolate(view, size=(height, width), mode="bilinear", align_corners=False) if enlarge else view
