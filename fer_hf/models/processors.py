"""Image processors: the settings that a checkpoint gives them, checked, and timm's own as one of Transformers."""

import math
from collections.abc import Callable, Collection
from typing import Any

import torch
from PIL import Image
from transformers import BaseImageProcessor, CLIPImageProcessor, PreTrainedModel
from transformers.image_utils import PILImageResampling

from fer_hf.errors import ModelError


FILE = "preprocessor_config.json"
MAX_SIDE = 4096  # pixels of a face; no classifier of images takes more
_SOME_SIZES = ((48, 48), (60, 50))


def is_number(value: Any, above: float = -math.inf) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and above < value < math.inf


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool)


def _is_size(value: Any) -> bool:
    sides = [side for side in dict(value or {}).values() if side is not None]
    return bool(sides) and all(isinstance(side, int) and 0 < side <= MAX_SIDE for side in sides)


def _are_channels(value: Any, above: float = -math.inf) -> bool:
    values = value if isinstance(value, list | tuple) else [value]
    return len(values) in (1, 3) and all(is_number(one, above) for one in values)


_FILTERS = [*PILImageResampling, *(entry.name.lower() for entry in PILImageResampling)]
_SWITCH = (_is_switch, "true or false")
_SIZE = (_is_size, f"sides from 1 to {MAX_SIDE:,} pixels")
# By key: the key that must be true for it to matter, what is right, and that in words.
_RULES: dict[str, tuple[str | None, Callable[[Any], bool], str]] = {
    **dict.fromkeys(("do_resize", "do_center_crop", "do_rescale", "do_normalize"), (None, *_SWITCH)),
    "size": ("do_resize", *_SIZE),
    "resample": ("do_resize", lambda value: value in _FILTERS, "one of Pillow's filters, 0 to 5"),
    "crop_size": ("do_center_crop", *_SIZE),
    "rescale_factor": ("do_rescale", lambda value: is_number(value, above=0), "a number above 0"),
    "image_mean": ("do_normalize", _are_channels, "a number, or one for each of 3 channels"),
    "image_std": (
        "do_normalize",
        lambda value: _are_channels(value, above=0),
        "a number above 0, or one for each of 3 channels",
    ),
    "face_margin": (None, lambda value: is_number(value, above=-0.5), "a number above -0.5"),
}


def check_processor(processor: BaseImageProcessor, name_or_path: str) -> None:
    """
    Refuse the settings of an image processor that do not work: Transformers reads them as they stand in the file.

    Args:
        processor (`BaseImageProcessor`): Of a checkpoint.
        name_or_path (`str`): The checkpoint, for the message.

    Raises:
        ModelError: Names the file and the key.
    """
    file = f"{name_or_path}/{FILE}"
    for key, (switch, is_right, wanted) in _RULES.items():
        value = getattr(processor, key, None)
        left_open = value is None and getattr(type(processor), key, None) is None
        is_on = switch is None or getattr(processor, switch, None)
        if is_on and not left_open and not is_right(value):
            raise ModelError(f"{file}: `{key}` must be {wanted}, got {value!r:.60}.")
    try:
        processor(Image.new("RGB", (50, 60)), return_tensors="pt")
    except Exception as error:
        raise ModelError(
            f"{file} holds settings that do not work: {str(error).strip().partition(chr(10))[0]}"
        ) from error


def check_fit(
    model: PreTrainedModel, processor: BaseImageProcessor, sizes: Collection[tuple[int, int]] | None = None
) -> None:
    """
    Refuse an image processor that gives a model images of sizes which it does not take, or which fit into no batch.

    Args:
        model (`PreTrainedModel`): An image classifier, in eval mode.
        processor (`BaseImageProcessor`): Its image processor.
        sizes (collection of `(width, height)`, *optional*):
            Of the images, as [`~fer_hf.data.training_set.own_sizes`] gives them. By default they are not known yet,
            and nothing is said of a processor that leaves each at a size of its own.

    Raises:
        ModelError: Names the file and what to set there.
    """
    found = {}
    for size in sorted(_SOME_SIZES if sizes is None else sizes):
        inputs = processor(Image.new("RGB", size), return_tensors="pt")
        found.setdefault(inputs["pixel_values"].shape[1:], (size, inputs))
    if not found or (sizes is None and len(found) > 1):
        return
    file, wanted = f"{model.name_or_path}/{FILE}", "`do_resize` must be true, and `size` what the model takes"
    if len(found) > 1:
        (one, _), (other, _), *_ = found.values()
        raise ModelError(f"{file}: images of {_text(one)} and {_text(other)} pixels fit into no batch; {wanted}.")
    [(size, inputs)] = found.values()
    try:
        with torch.no_grad():
            model(**inputs.to(model.device, model.dtype))
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"{file}: the model does not take images of {_text(size)} pixels as they come out ({reason}); {wanted}."
        ) from error


def _text(size: tuple[int, int]) -> str:
    return "x".join(map(str, size))


def for_any_image(processor: BaseImageProcessor) -> BaseImageProcessor:
    """
    The processor, set to make every image RGB.

    timm's own takes RGB only and cannot be saved beside a model, so one of the library's replaces it: the same steps.
    """
    if hasattr(processor, "val_transforms"):
        processor = _like_timms(processor.data_config)
    # Faces are often grayscale, and the pipeline hands the processor RGB: say so in what is saved.
    processor.do_convert_rgb = True
    return processor


def _like_timms(data_config: dict[str, Any]) -> BaseImageProcessor:
    """timm's evaluation transform of square faces (`timm.data.create_transform`) as a processor of Transformers."""
    _, height, width = data_config["input_size"]
    scaled = [math.floor(side / data_config["crop_pct"]) for side in (height, width)]
    squash = data_config["crop_mode"] == "squash" or height != width
    return CLIPImageProcessor(
        size={"height": scaled[0], "width": scaled[1]} if squash else {"shortest_edge": scaled[0]},
        crop_size={"height": height, "width": width},
        resample=PILImageResampling[data_config["interpolation"].upper()],
        image_mean=list(data_config["mean"]),
        image_std=list(data_config["std"]),
    )
