"""
Augmentation presets, each named after its source, on two paths with one law: PIL images through torchvision, and whole
uint8 batches as one tensor. The only importer of torchvision's transforms.

Augmentation is a pure function of (seed, epoch, row): it does not matter which faces share a batch, which process or
worker draws them, or whether the run was resumed in between.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import grid_sample
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tvF

from fer_hf.errors import BadInputError


Size = tuple[int, int]  # height, width in pixels
_BILINEAR = v2.InterpolationMode.BILINEAR
_ATTEMPTS = 10  # torchvision's own, for boxes of random area and shape
_GOLDEN = 0x9E3779B97F4A7C15


def row_uniforms(seed: int, epoch: int, rows: np.ndarray, count: int) -> np.ndarray:
    """
    `count` uniform numbers for every row, by hashing (seed, epoch, row, position) with splitmix64's finalizer (Steele
    et al., 2014, https://doi.org/10.1145/2660193.2660195): a generator for each face would cost more than its
    augmentation.

    Args:
        seed, epoch (`int`): Any integers.
        rows (`np.ndarray` of shape `(batch_size,)`): Which faces.
        count (`int`): Numbers per face.

    Returns:
        `np.ndarray` of shape `(batch_size, count)`: float64 in [0, 1).
    """
    return (_row_bits(seed, epoch, rows, count) >> np.uint64(11)) * 2.0**-53


def _row_bits(seed: int, epoch: int, rows: np.ndarray, count: int) -> np.ndarray:
    key = _mix(_mix(np.array([seed % 2**64], np.uint64)) + np.uint64(epoch % 2**64))
    start = _mix(key ^ _mix(np.asarray(rows).astype(np.uint64) + np.uint64(_GOLDEN)))
    return _mix(start[:, None] + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN))


def _mix(bits: np.ndarray) -> np.ndarray:
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


class Step:
    """
    One step of a preset, in both forms. Sizes are relative: a step that its source gives in pixels takes the source's
    own numbers, and applies their ratio to whatever size the model has.

    On the plain path a step is a torchvision transform. On the fast path a geometric step is a matrix from output to
    input coordinates, in pixels from the centre, x to the right and y down; those of a preset are multiplied, so that
    a face is resampled once, and pixels that a chain would have lost on the way are kept.
    """

    draws: ClassVar[int] = 0  # random numbers that the fast path needs
    geometric: ClassVar[bool] = False
    plain_only: ClassVar[bool] = False
    needs_gray: ClassVar[bool] = False  # on the fast path
    sets_size: ClassVar[bool] = False  # the plain form ends at the model's own size

    def plain(self, size: Size) -> Callable:
        """The torchvision transform for a model that takes `size`."""
        raise NotImplementedError

    def output_size(self, size: Size) -> Size:
        """Size of the faces after this step on the fast path."""
        return size

    def matrix(self, u: np.ndarray, size: Size) -> np.ndarray:
        """Matrices `(batch_size, 3, 3)` from uniform numbers `(batch_size, draws)`."""
        return _affine(len(u))

    def pixels(self, u: np.ndarray, faces: torch.Tensor) -> torch.Tensor:
        """What the step does to the gray levels of `(batch_size, channels, height, width)` in [0, 255]."""
        return faces


def _affine(count: int, xx=1.0, xy=0.0, x0=0.0, yx=0.0, yy=1.0, y0=0.0) -> np.ndarray:
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
        return _affine(len(u), xx=np.where(u[:, 0] < 0.5, -1.0, 1.0))


@dataclass(frozen=True)
class Rotation(Step):
    """Rotate about the centre by up to `degrees` either way, with probability `p`."""

    degrees: float
    p: float = 1.0
    draws = 2
    geometric = True

    def plain(self, size: Size) -> Callable:
        return v2.RandomApply([v2.RandomRotation(self.degrees, interpolation=_BILINEAR)], p=self.p)

    def matrix(self, u: np.ndarray, size: Size) -> np.ndarray:
        angle = np.radians(self.degrees) * (2 * u[:, 1] - 1) * (u[:, 0] < self.p)
        return _affine(len(u), xx=np.cos(angle), xy=-np.sin(angle), yx=np.sin(angle), yy=np.cos(angle))


@dataclass(frozen=True)
class Shift(Step):
    """Shift by whole pixels, up to `share` of the side in each direction, with probability `p`."""

    share: float
    p: float = 1.0
    draws = 3
    geometric = True

    def plain(self, size: Size) -> Callable:
        return v2.RandomApply([v2.RandomAffine(0, translate=(self.share, self.share))], p=self.p)

    def matrix(self, u: np.ndarray, size: Size) -> np.ndarray:
        by = np.round(self.share * (2 * u[:, 1:] - 1) * np.array(size)) * (u[:, :1] < self.p)  # (batch_size, 2): y, x
        return _affine(len(u), x0=-by[:, 1], y0=-by[:, 0])


@dataclass(frozen=True)
class Resize(Step):
    """Enlarge to `of` where the model takes `to`; the fast path stays at the faces' own size."""

    of: int
    to: int
    geometric = True
    sets_size = True

    def plain(self, size: Size) -> Callable:
        return v2.Resize([round(side * self.of / self.to) for side in size], antialias=True)


@dataclass(frozen=True)
class ResizedCrop(Step):
    """
    Cut out a box of random area and shape (width over height in 3/4 to 4/3) and enlarge it to `of` where the model
    takes `to`. An area above 1 is torchvision's way to keep the whole face more often.
    """

    scale: tuple[float, float]
    of: int = 1
    to: int = 1
    draws = 2 * _ATTEMPTS + 2
    geometric = True
    sets_size = True

    def plain(self, size: Size) -> Callable:
        larger = [round(side * self.of / self.to) for side in size]
        return v2.RandomResizedCrop(larger, scale=self.scale, interpolation=_BILINEAR, antialias=True)

    def matrix(self, u: np.ndarray, size: Size) -> np.ndarray:
        height, width = size
        h, w, top, left, _ = _boxes(u, size, self.scale, (3 / 4, 4 / 3), strict=False)
        x0, y0 = left + (w - width) / 2, top + (h - height) / 2
        return _affine(len(u), xx=w / width, x0=x0, yy=h / height, y0=y0)


@dataclass(frozen=True)
class FiveCrop(Step):
    """Of a face of side `of`, one of the five crops (corners and centre) of side `to`."""

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
        return _affine(len(u), x0=offsets[1], y0=offsets[0])


@dataclass(frozen=True)
class PaddedCrop(Step):
    """Of a face of side `of`, with a black rim of `padding`, a crop of side `to` anywhere."""

    of: int
    to: int
    padding: int
    draws = 2
    geometric = True
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
        return _affine(len(u), xx=zoom * width / ow, x0=off[:, 1], yy=zoom * height / oh, y0=off[:, 0])


@dataclass(frozen=True)
class ColorJitter(Step):
    """Brightness, contrast and saturation times a factor in 1 +- the number given."""

    brightness: float
    contrast: float
    saturation: float
    draws = 2
    needs_gray = True  # saturation does nothing to gray faces

    def plain(self, size: Size) -> Callable:
        return v2.ColorJitter(self.brightness, self.contrast, self.saturation)

    def pixels(self, u: np.ndarray, faces: torch.Tensor) -> torch.Tensor:
        factors = torch.from_numpy(1 + np.array([self.brightness, self.contrast]) * (2 * u - 1)).to(faces.dtype)
        brightness, contrast = factors[:, :, None, None, None].unbind(dim=1)  # (batch_size, 1, 1, 1) each
        mean = faces.mean(dim=(1, 2, 3), keepdim=True)
        # In either order of the two, which torchvision draws, the result is the same but for early clipping.
        return (brightness * (contrast * faces + (1 - contrast) * mean)).clamp(0, 255)


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

    def pixels(self, u: np.ndarray, faces: torch.Tensor) -> torch.Tensor:
        size = faces.shape[-2:]
        h, w, top, left, found = _boxes(u[:, 1:], size, self.scale, (0.3, 3.3), strict=True)
        h = h * (found & (u[:, 0] < self.p))
        box = torch.from_numpy(np.stack([top, top + h, left, left + w]))[:, :, None]  # (4, batch_size, 1)
        y, x = torch.arange(size[0]), torch.arange(size[1])
        rows, columns = (((at >= a) & (at < b)).to(faces.dtype) for at, a, b in ((y, *box[:2]), (x, *box[2:])))
        return faces * (1 - rows[:, :, None] * columns[:, None, :])[:, None]


# What a source leaves unsaid is chosen, and marked so; every rotation is bilinear and fills with black (chosen).
AUGMENTATIONS: dict[str, tuple[Step, ...]] = {
    "none": (),
    "flip": (Flip(),),
    # The report on a ViT-B/16 (ImageNet-21k) fine-tuned on RAF-DB: flip, rotation 10, RandomResizedCrop 224,
    # ColorJitter. Unsaid: the crop's scale (the library's default) and the jitter's strengths (0.2).
    "vit_rafdb": (Flip(), Rotation(10), ResizedCrop((0.08, 1.0)), ColorJitter(0.2, 0.2, 0.2)),
    # The report that compares CNNs on FER-2013 at 224 pixels: resize 230, rotation 15, crop 224 with padding 8, flip.
    "cnn_comparison": (Resize(230, 224), Rotation(15), PaddedCrop(230, 224, padding=8), Flip()),
    # DACL (Farzaneh and Qi, WACV 2021; https://github.com/amirhfarzaneh/dacl): resize 256, one of five crops, flip.
    "dacl": (Resize(256, 224), FiveCrop(256, 224), Flip()),
    # The same, as the report that re-implements DACL on FER-2013 found best.
    "dacl_200": (Resize(256, 200), FiveCrop(256, 200), Flip()),
    # TransFER (Xue et al., 2021, https://huggingface.co/papers/2108.11116), released configuration for RAF-DB.
    # Unsaid: what erases (black).
    "transfer": (ResizedCrop((0.08, 1.0)), Flip(), RandAugment(2, 5), Erasing(0.5, (0.02, 0.4))),
    # Khaireddin and Chen, 2021 (https://huggingface.co/papers/2105.03588), single nets from scratch on FER-2013 at 48
    # pixels. Their ten crops of every face are ten samples of a batch; here one of the ten is drawn in each epoch
    # (chosen). Unsaid: the erased share (the library's default) and what erases (black).
    "fer48": (
        ResizedCrop((0.8, 1.2), of=48, to=40), Shift(0.2, p=0.5), Flip(), Rotation(10, p=0.5), FiveCrop(48, 40),
        Erasing(0.5, (0.02, 0.33)),
    ),
    # Ours, for the compact ViT: most of a face.
    "compact_vit": (ResizedCrop((0.7, 1.2)), Rotation(10), Flip(), ColorJitter(0.2, 0.2, 0.0)),
    # Ours, for the compact CNN: any 40 pixels of a 48-pixel face.
    "compact": (
        ResizedCrop((0.8, 1.2), of=48, to=40), Rotation(10), PaddedCrop(48, 40, padding=0), Flip(),
        ColorJitter(0.2, 0.2, 0.0),
    ),
    "trivial": (TrivialAugment(),),
}  # fmt: skip


def augmentation_steps(name: str) -> tuple[Step, ...]:
    """
    The steps of a preset.

    Raises:
        BadInputError: If `name` is none of [`AUGMENTATIONS`].
    """
    if name not in AUGMENTATIONS:
        raise BadInputError(f"`augmentation` must be one of {', '.join(AUGMENTATIONS)}, got {name!r}.")
    return AUGMENTATIONS[name]


def runs_on_batches(name: str, num_channels: int) -> bool:
    """Whether the fast path can do preset `name` to faces of so many channels."""
    return not any(step.plain_only or (step.needs_gray and num_channels > 1) for step in augmentation_steps(name))


def sets_size(name: str) -> bool:
    """Whether preset `name` cuts and sizes faces itself, so that the processor must not crop them again."""
    return any(step.sets_size for step in augmentation_steps(name))


class ImageAugmentation:
    """
    The plain path: preset `name` on one PIL image.

    Args:
        name (`str`): One of [`AUGMENTATIONS`].
        size (`tuple[int, int]`): Height and width that the model takes.
        seed (`int`): Any integer.
    """

    def __init__(self, name: str, size: Size, seed: int):
        steps = [step.plain(size) for step in augmentation_steps(name)]
        self.transform, self.seed = v2.Compose(steps) if steps else None, seed

    def __call__(self, image: Image.Image, epoch: int, row: int) -> Image.Image:
        """The image as it is seen in `epoch`; torch's own random state stays as it was."""
        if self.transform is None:
            return image
        state = torch.get_rng_state()
        try:
            bits = int(_row_bits(self.seed, epoch, np.array([row]), 1)[0, 0])
            torch.default_generator.manual_seed(bits >> 1)
            return self.transform(image)
        finally:
            torch.set_rng_state(state)


class BatchAugmentation:
    """
    The fast path: preset `name` on a batch of faces at their own size, with every row's own parameters.

    Args:
        name (`str`): One of [`AUGMENTATIONS`] that [`runs_on_batches`].
        seed (`int`): Any integer.
    """

    def __init__(self, name: str, seed: int):
        self.steps, self.seed = augmentation_steps(name), seed

    def __call__(self, faces: torch.Tensor, epoch: int, rows: np.ndarray) -> torch.Tensor:
        """
        Args:
            faces (`torch.ByteTensor` of shape `(batch_size, channels, height, width)`): The faces.
            epoch (`int`): From 0.
            rows (`np.ndarray` of shape `(batch_size,)`): Which faces of the set they are.

        Returns:
            `torch.ByteTensor`: The faces as they are seen in `epoch`; smaller where the preset crops.
        """
        if not self.steps:
            return faces
        counts = [step.draws for step in self.steps]
        u = row_uniforms(self.seed, epoch, rows, sum(counts))
        draws = np.split(u, np.cumsum(counts)[:-1], axis=1)
        moves = [(step, part) for step, part in zip(self.steps, draws, strict=True) if step.geometric]
        if all(isinstance(step, Flip) for step, _ in moves):
            for step, part in moves:
                mirrored = torch.from_numpy(np.flatnonzero(step.matrix(part, faces.shape[-2:])[:, 0, 0] < 0))
                faces = faces.index_copy(0, mirrored, faces.index_select(0, mirrored).flip(-1))
            result = faces
        else:
            size, matrix = tuple(faces.shape[-2:]), _affine(len(u))
            for step, part in moves:
                matrix, size = matrix @ step.matrix(part, size), step.output_size(size)
            result = warp(faces.float(), matrix, size)
        for step, part in zip(self.steps, draws, strict=True):
            if not step.geometric:
                result = step.pixels(part, result)
        return result if result.dtype == torch.uint8 else result.add_(0.5).clamp_(0, 255).byte()


def warp(faces: torch.Tensor, matrices: np.ndarray, size: Size) -> torch.Tensor:
    """
    Resample every face under its own affine map, bilinearly; outside of it is black.

    Args:
        faces (`torch.FloatTensor` of shape `(batch_size, channels, height, width)`): Any range.
        matrices (`np.ndarray` of shape `(batch_size, 3, 3)`):
            From output to input coordinates, in pixels from the centre, x to the right and y down.
        size (`tuple[int, int]`): Height and width of the output.

    Returns:
        `torch.FloatTensor` of shape `(batch_size, channels, *size)`.
    """
    height, width = faces.shape[-2:]
    to_unit = np.array([[2 / width], [2 / height]])  # grid_sample's coordinates run from -1 to 1, edge to edge
    maps = torch.from_numpy(matrices[:, :2] * to_unit).float()  # (batch_size, 2, 3)
    y, x = (torch.arange(side) - (side - 1) / 2 for side in size)
    grid = maps[:, None, None, :, 2] + y[:, None, None] * maps[:, None, None, :, 1]
    grid = grid + x[:, None] * maps[:, None, None, :, 0]  # (batch_size, *size, 2)
    return grid_sample(faces, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
