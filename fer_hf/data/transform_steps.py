"""The steps of augmentation presets, each in two forms: a torchvision transform, and arithmetic on whole batches."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tvF


Size = tuple[int, int]  # height, width in pixels
_BILINEAR = v2.InterpolationMode.BILINEAR
_ATTEMPTS = 10  # torchvision's own, for boxes of random area and shape


class Step:
    """
    One step of a preset, in both forms. Sizes are relative: a step that its source gives in pixels takes the source's
    own numbers, and applies their ratio to whatever size the model has.

    On the plain path a step is a torchvision transform. On the fast path a geometric step is a matrix from output to
    input coordinates, in pixels from the center, x to the right and y down; those of a preset are multiplied, so that
    a face is resampled once. At the faces' own size, pixels that a chain would have lost on the way are kept. Where
    the model takes larger faces, these are enlarged first ([`Enlarging`]), and lost as on the plain path.
    """

    draws: ClassVar[int] = 0  # random numbers that the fast path needs
    geometric: ClassVar[bool] = False
    plain_only: ClassVar[bool] = False
    needs_gray: ClassVar[bool] = False  # on the fast path
    sets_size: ClassVar[bool] = False  # the plain form ends at the model's own size
    looks_outside: ClassVar[bool] = False  # a geometric step that may find black beyond its picture

    def plain(self, size: Size) -> Callable:
        """The torchvision transform for a model that takes `size`."""
        raise NotImplementedError

    def output_size(self, size: Size) -> Size:
        """Size of the faces after this step on the fast path."""
        return size

    def matrix(self, u: np.ndarray, size: Size) -> np.ndarray:
        """Matrices `(batch_size, 3, 3)` from uniform numbers `(batch_size, draws)`."""
        return affine(len(u))

    def pixels(self, u: np.ndarray, images: torch.Tensor) -> torch.Tensor:
        """What the step does to the gray levels of `(batch_size, channels, height, width)` in [0, 255]."""
        return images


def affine(count: int, xx=1.0, xy=0.0, x0=0.0, yx=0.0, yy=1.0, y0=0.0) -> np.ndarray:
    """Matrices `(count, 3, 3)` of x' = xx x + xy y + x0, y' = yx x + yy y + y0, of numbers or arrays `(count,)`."""
    matrix = np.zeros((count, 3, 3))
    for place, value in {(0, 0): xx, (0, 1): xy, (0, 2): x0, (1, 0): yx, (1, 1): yy, (1, 2): y0}.items():
        matrix[:, place[0], place[1]] = value
    matrix[:, 2, 2] = 1.0
    return matrix


def _boxes(u: np.ndarray, size: Size, scale: tuple, ratio: tuple, strict: bool) -> tuple[np.ndarray, ...]:
    """torchvision's boxes of random area and shape: height, width, top, left, and whether one of its tries fits."""
    height, width = size
    area = height * width * (scale[0] + (scale[1] - scale[0]) * u[:, :_ATTEMPTS])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    shape = np.exp(low + (high - low) * u[:, _ATTEMPTS : 2 * _ATTEMPTS])
    widths, heights = np.round(np.sqrt(area * shape)), np.round(np.sqrt(area / shape))
    fits = (widths + strict <= width) & (heights + strict <= height) & (widths > 0) & (heights > 0)
    first = fits.argmax(axis=1)[:, None]
    found = fits.any(axis=1)
    h = np.where(found, np.take_along_axis(heights, first, 1)[:, 0], height)
    w = np.where(found, np.take_along_axis(widths, first, 1)[:, 0], width)
    top, left = np.floor(u[:, -2] * (height - h + 1)), np.floor(u[:, -1] * (width - w + 1))
    return h, w, top, left, found


@dataclass(frozen=True)
class Flip(Step):
    """Mirror every other face."""

    draws = 1
    geometric = True

    def plain(self, size: Size) -> Callable:
        return v2.RandomHorizontalFlip()

    def matrix(self, u: np.ndarray, size: Size) -> np.ndarray:
        return affine(len(u), xx=np.where(u[:, 0] < 0.5, -1.0, 1.0))


@dataclass(frozen=True)
class Rotation(Step):
    """Rotate about the center by up to `degrees` either way, with probability `p`."""

    degrees: float
    p: float = 1.0
    draws = 2
    geometric = True
    looks_outside = True

    def plain(self, size: Size) -> Callable:
        return v2.RandomApply([v2.RandomRotation(self.degrees, interpolation=_BILINEAR)], p=self.p)

    def matrix(self, u: np.ndarray, size: Size) -> np.ndarray:
        angle = np.radians(self.degrees) * (2 * u[:, 1] - 1) * (u[:, 0] < self.p)
        return affine(len(u), xx=np.cos(angle), xy=-np.sin(angle), yx=np.sin(angle), yy=np.cos(angle))


@dataclass(frozen=True)
class Shift(Step):
    """Shift by whole pixels, up to `share` of the side in each direction, with probability `p`."""

    share: float
    p: float = 1.0
    draws = 3
    geometric = True
    looks_outside = True

    def plain(self, size: Size) -> Callable:
        return v2.RandomApply([v2.RandomAffine(0, translate=(self.share, self.share))], p=self.p)

    def matrix(self, u: np.ndarray, size: Size) -> np.ndarray:
        by = np.round(self.share * (2 * u[:, 1:] - 1) * np.array(size)) * (u[:, :1] < self.p)  # (batch_size, 2): y, x
        return affine(len(u), x0=-by[:, 1], y0=-by[:, 0])


@dataclass(frozen=True)
class Enlarging(Step):
    """A step that brings what it keeps of a face to `of` where the model takes `to`. A preset has at most one."""

    geometric = True
    sets_size = True

    def frame(self, size: Size) -> Size:
        """Size after this step where the model takes `size`."""
        return round(size[0] * self.of / self.to), round(size[1] * self.of / self.to)

    def enlarged(self, u: np.ndarray, images: torch.Tensor, size: Size) -> torch.Tensor:
        """The plain form of the step on a `torch.ByteTensor` of faces, for a model that takes `size`."""
        raise NotImplementedError


@dataclass(frozen=True)
class Resize(Enlarging):
    """Resize the whole face to `of` where the model takes `to`."""

    of: int
    to: int

    def plain(self, size: Size) -> Callable:
        return v2.Resize(list(self.frame(size)), antialias=True)

    def enlarged(self, u: np.ndarray, images: torch.Tensor, size: Size) -> torch.Tensor:
        return tvF.resize(images, self.frame(size), antialias=True)


@dataclass(frozen=True)
class ResizedCrop(Enlarging):
    """
    Cut out a box of random area and shape (width over height in 3/4 to 4/3) and enlarge it to `of` where the model
    takes `to`. An area above 1 is torchvision's way to keep the whole face more often.
    """

    scale: tuple[float, float]
    of: int = 1
    to: int = 1
    draws = 2 * _ATTEMPTS + 2

    def plain(self, size: Size) -> Callable:
        return v2.RandomResizedCrop(list(self.frame(size)), scale=self.scale, interpolation=_BILINEAR, antialias=True)

    def matrix(self, u: np.ndarray, size: Size) -> np.ndarray:
        height, width = size
        h, w, top, left = self._crops(u, size)
        x0, y0 = left + (w - width) / 2, top + (h - height) / 2
        return affine(len(u), xx=w / width, x0=x0, yy=h / height, y0=y0)

    def enlarged(self, u: np.ndarray, images: torch.Tensor, size: Size) -> torch.Tensor:
        boxes = np.stack(self._crops(u, tuple(images.shape[-2:])), axis=1).astype(int).tolist()
        crops = (image[:, y : y + h, x : x + w] for image, (h, w, y, x) in zip(images, boxes, strict=True))
        return torch.stack([tvF.resize(crop, self.frame(size), antialias=True) for crop in crops])

    def _crops(self, u: np.ndarray, size: Size) -> tuple[np.ndarray, ...]:
        return _boxes(u, size, self.scale, (3 / 4, 4 / 3), strict=False)[:4]


@dataclass(frozen=True)
class FiveCrop(Step):
    """Of a face of side `of`, one of the five crops (corners and center) of side `to`."""

    of: int
    to: int
    draws = 1
    geometric = True
    sets_size = True

    def plain(self, size: Size) -> Callable:
        def one_of_five(image: Image.Image) -> Image.Image:
            return tvF.five_crop(image, list(size))[int(torch.randint(5, ()))]

        return one_of_five

    def output_size(self, size: Size) -> Size:
        return round(size[0] * self.to / self.of), round(size[1] * self.to / self.of)

    def matrix(self, u: np.ndarray, size: Size) -> np.ndarray:
        which = np.floor(u[:, 0] * 5)
        offsets = []
        for side, cut, far in zip(size, self.output_size(size), (which % 4 >= 2, which % 2 == 1), strict=True):
            start = np.where(which == 4, round((side - cut) / 2), np.where(far, side - cut, 0))
            offsets.append(start - (side - cut) / 2)
        return affine(len(u), x0=offsets[1], y0=offsets[0])


@dataclass(frozen=True)
class PaddedCrop(Step):
    """Of a face of side `of`, with a black rim of `padding`, a crop of side `to` anywhere."""

    of: int
    to: int
    padding: int
    draws = 2
    geometric = True
    looks_outside = True
    sets_size = True

    def plain(self, size: Size) -> Callable:
        return v2.RandomCrop(list(size), padding=round(size[0] * self.padding / self.to))

    def output_size(self, size: Size) -> Size:
        return round(size[0] * self.to / self.of), round(size[1] * self.to / self.of)

    def matrix(self, u: np.ndarray, size: Size) -> np.ndarray:
        room = self.of + 2 * self.padding - self.to
        off = (np.floor(u * (room + 1)) - room / 2) * np.array(size) / self.of  # (batch_size, 2): y, x
        (height, width), (oh, ow) = size, self.output_size(size)
        zoom = self.to / self.of
        return affine(len(u), xx=zoom * width / ow, x0=off[:, 1], yy=zoom * height / oh, y0=off[:, 0])


@dataclass(frozen=True)
class ColorJitter(Step):
    """Brightness, contrast and saturation times a factor in 1 +- the number given; hue turned by at most its own."""

    brightness: float
    contrast: float
    saturation: float
    hue: float = 0.0
    draws = 2
    needs_gray = True  # saturation and hue do nothing to gray faces

    def plain(self, size: Size) -> Callable:
        return v2.ColorJitter(self.brightness, self.contrast, self.saturation, self.hue)

    def pixels(self, u: np.ndarray, images: torch.Tensor) -> torch.Tensor:
        factors = torch.from_numpy(1 + np.array([self.brightness, self.contrast]) * (2 * u - 1)).to(images.dtype)
        brightness, contrast = factors[:, :, None, None, None].unbind(dim=1)  # (batch_size, 1, 1, 1) each
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        # In either order of the two, which torchvision draws, the result is the same but for early clipping.
        return (brightness * (contrast * images + (1 - contrast) * mean)).clamp(0, 255)


@dataclass(frozen=True)
class RandAugment(Step):
    """`num_ops` operations of RandAugment (Cubuk et al., 2019, https://huggingface.co/papers/1909.13719)."""

    num_ops: int
    magnitude: int
    plain_only = True

    def plain(self, size: Size) -> Callable:
        return v2.RandAugment(self.num_ops, self.magnitude, interpolation=_BILINEAR)


@dataclass(frozen=True)
class TrivialAugment(Step):
    """One operation of random strength (Müller and Hutter, 2021, https://huggingface.co/papers/2103.10158)."""

    plain_only = True

    def plain(self, size: Size) -> Callable:
        return v2.TrivialAugmentWide(interpolation=_BILINEAR)


@dataclass(frozen=True)
class Erasing(Step):
    """Blacken a box of random area (shares of the face) and shape (0.3 to 3.3), with probability `p`."""

    p: float
    scale: tuple[float, float]
    draws = 2 * _ATTEMPTS + 3

    def plain(self, size: Size) -> Callable:
        return v2.Compose([v2.PILToTensor(), v2.RandomErasing(self.p, self.scale), v2.ToPILImage()])

    def pixels(self, u: np.ndarray, images: torch.Tensor) -> torch.Tensor:
        size = images.shape[-2:]
        h, w, top, left, found = _boxes(u[:, 1:], size, self.scale, (0.3, 3.3), strict=True)
        h = h * (found & (u[:, 0] < self.p))
        box = torch.from_numpy(np.stack([top, top + h, left, left + w]))[:, :, None]  # (4, batch_size, 1)
        y, x = torch.arange(size[0]), torch.arange(size[1])
        rows, columns = (((at >= a) & (at < b)).to(images.dtype) for at, a, b in ((y, *box[:2]), (x, *box[2:])))
        return images * (1 - rows[:, :, None] * columns[:, None, :])[:, None]
