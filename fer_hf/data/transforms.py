"""
Augmentation presets, each named after its source, on two paths with one law: PIL images through torchvision, and whole
uint8 batches as one tensor.

Augmentation is a pure function of (seed, epoch, row): it does not matter which faces share a batch, which process or
worker draws them, or whether the run was resumed in between.
"""

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import grid_sample
from torchvision.transforms import v2

from fer_hf.data.transform_steps import (
    ColorJitter,
    Enlarging,
    Erasing,
    FiveCrop,
    Flip,
    PaddedCrop,
    RandAugment,
    Resize,
    ResizedCrop,
    Rotation,
    Shift,
    Size,
    Step,
    TrivialAugment,
    affine,
)
from fer_hf.errors import BadInputError


_GOLDEN = 0x9E3779B97F4A7C15
_WARPED = 4  # large faces that are moved at a time


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


# Where a source does not say a number, we chose one, and the comment says so. Every rotation is bilinear and fills
# with black (chosen).
AUGMENTATIONS: dict[str, tuple[Step, ...]] = {
    "none": (),
    "flip": (Flip(),),
    # The report on a ViT-B/16 (ImageNet-21k) fine-tuned on RAF-DB: flip, rotation 10, RandomResizedCrop 224,
    # ColorJitter with hue. Unsaid: the crop's scale (the library's default) and the jitter's strengths (0.2, hue 0.1).
    "vit_rafdb": (Flip(), Rotation(10), ResizedCrop((0.08, 1.0)), ColorJitter(0.2, 0.2, 0.2, 0.1)),
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


def warp(images: torch.Tensor, matrices: np.ndarray, size: Size) -> torch.Tensor:
    """
    Resample every face under its own affine map, bilinearly; outside of it is black.

    Args:
        images (`torch.Tensor` of shape `(batch_size, channels, height, width)`): Any type and range.
        matrices (`np.ndarray` of shape `(batch_size, 3, 3)`):
            From output to input coordinates, in pixels from the center, x to the right and y down.
        size (`tuple[int, int]`): Height and width of the output.

    Returns:
        `torch.FloatTensor` of shape `(batch_size, channels, *size)`.
    """
    maps = _unit_maps(matrices, images.shape[-2:])
    y, x = (torch.arange(side) - (side - 1) / 2 for side in size)
    grid = maps[:, None, None, :, 2] + y[:, None, None] * maps[:, None, None, :, 1]
    grid = grid + x[:, None] * maps[:, None, None, :, 0]  # (batch_size, *size, 2)
    return grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def warp_enlarged(images: torch.Tensor, chain: list[tuple[np.ndarray, Size]], size: Size) -> torch.Tensor:
    """
    As [`warp`], but black is what any step of a chain has found outside of its picture, with a sharp rim, as Pillow
    leaves it. Large faces are moved a few at a time, in memory that is used again: twice as quick.

    Args:
        images (`torch.Tensor` of shape `(batch_size, channels, height, width)`): Any type and range.
        chain (`list`):
            For each step the matrices `(batch_size, 3, 3)` from output coordinates to those of the picture that the
            step is given, and the size of that picture; the first is given the images.
        size (`tuple[int, int]`): Height and width of the output.

    Returns:
        `torch.FloatTensor` of shape `(batch_size, channels, *size)`.
    """
    maps = [_unit_maps(matrix, picture) for matrix, picture in chain]
    y, x = (torch.arange(side) - (side - 1) / 2 for side in size)
    rows = [(m[:, :, 2, None] + m[:, :, 1, None] * y)[..., None] for m in maps]  # (batch_size, 2, height, 1)
    columns = [(m[:, :, 0, None] * x)[:, :, None] for m in maps]  # (batch_size, 2, 1, width)
    result = torch.empty((*images.shape[:2], *size))
    points, distances = torch.empty(2, _WARPED, 2, *size)
    for start in range(0, len(images), _WARPED):
        part = slice(start, min(start + _WARPED, len(images)))
        points, distances = points[: part.stop - start], distances[: part.stop - start]
        inside = True
        for row, column in zip(rows[::-1], columns[::-1], strict=True):  # the first step's points are what remains
            torch.add(row[part], column[part], out=points)
            torch.abs(points, out=distances)
            inside = (torch.maximum(distances[:, :1], distances[:, 1:]) <= 1) & inside
        grid = points.permute(0, 2, 3, 1)
        faces = grid_sample(images[part].float(), grid, padding_mode="border", align_corners=False)
        torch.mul(faces, inside, out=result[part])
    return result


def _unit_maps(matrices: np.ndarray, size: Size) -> torch.Tensor:
    """Maps `(batch_size, 2, 3)` to grid_sample's coordinates, which run from -1 to 1, edge to edge of `size`."""
    height, width = size
    return torch.from_numpy(matrices[:, :2] * np.array([[2 / width], [2 / height]])).float()


class BatchAugmentation:
    """
    The fast path: preset `name` on a batch of faces, with every row's own parameters.

    Faces keep their own size, or what a preset cuts out of it. But where a preset sizes faces itself and the model
    takes larger ones, they are enlarged where the preset says, and moved at that size: enlarged last, they would be
    blurred by having been moved at their own.

    Args:
        name (`str`): One of [`AUGMENTATIONS`] that [`runs_on_batches`].
        seed (`int`): Any integer.
        size (`tuple[int, int]`, *optional*): Height and width that the model takes. By default no face is enlarged.
    """

    def __init__(self, name: str, seed: int, size: Size | None = None):
        self.steps, self.seed = augmentation_steps(name), seed
        self.size = size if sets_size(name) else None

    def __call__(self, images: torch.Tensor, epoch: int, rows: np.ndarray) -> torch.Tensor:
        """
        Args:
            images (`torch.ByteTensor` of shape `(batch_size, channels, height, width)`): The faces.
            epoch (`int`): From 0.
            rows (`np.ndarray` of shape `(batch_size,)`): Which faces of the set they are.

        Returns:
            `torch.ByteTensor`: The faces as they are seen in `epoch`; of the model's size where they are enlarged.
        """
        if not self.steps:
            return images
        counts = [step.draws for step in self.steps]
        uniforms = row_uniforms(self.seed, epoch, rows, sum(counts))
        draws = np.split(uniforms, np.cumsum(counts)[:-1], axis=1)
        parts = list(zip(self.steps, draws, strict=True))
        moves = [(step, u) for step, u in parts if step.geometric]
        is_smaller = self.size is not None and any(a < b for a, b in zip(images.shape[-2:], self.size, strict=True))
        result = self._enlarged(images, moves) if is_smaller else _moved(images, moves)
        for step, u in parts:
            if not step.geometric:
                result = step.pixels(u, result)
        return _bytes(result)

    def _enlarged(self, images: torch.Tensor, moves: list[tuple[Step, np.ndarray]]) -> torch.Tensor:
        """The images after all geometric steps, at the model's size: what the plain path does, in the same order."""
        at = next(index for index, (step, _) in enumerate(moves) if isinstance(step, Enlarging))
        step, u = moves[at]
        images = step.enlarged(u, _bytes(_moved(images, moves[:at])), self.size)
        return _moved_large(images, moves[at + 1 :])


def _bytes(images: torch.Tensor) -> torch.Tensor:
    return images if images.dtype == torch.uint8 else images.add_(0.5).clamp_(0, 255).byte()


def _moved(images: torch.Tensor, moves: list[tuple[Step, np.ndarray]]) -> torch.Tensor:
    """The images after geometric steps: bytes where these only mirror, else resampled once, as floats."""
    size = tuple(images.shape[-2:])
    if all(isinstance(step, Flip) for step, _ in moves):
        for step, u in moves:
            mirrored = torch.from_numpy(np.flatnonzero(step.matrix(u, size)[:, 0, 0] < 0))
            images = images.index_copy(0, mirrored, images.index_select(0, mirrored).flip(-1))
        return images
    matrix = affine(len(images))
    for step, u in moves:
        matrix, size = matrix @ step.matrix(u, size), step.output_size(size)
    return warp(images, matrix, size)


def _moved_large(images: torch.Tensor, moves: list[tuple[Step, np.ndarray]]) -> torch.Tensor:
    """As [`_moved`], in floats, but what a step moves out of its picture is lost to the next, as on the plain path."""
    if all(isinstance(step, Flip) for step, _ in moves):
        return _moved(images, moves).float()
    matrices, sizes = [], [tuple(images.shape[-2:])]
    for step, u in moves:
        matrices.append(step.matrix(u, sizes[-1]))
        sizes.append(step.output_size(sizes[-1]))
    chain, matrix = [], affine(len(images))
    for (step, _), own, size in reversed(list(zip(moves, matrices, sizes, strict=False))):
        matrix = own @ matrix
        chain.insert(0, (matrix, size, step.looks_outside))
    kept = [(matrix, size) for at, (matrix, size, outside) in enumerate(chain) if outside or at == 0]
    return warp_enlarged(images, kept, sizes[-1])
