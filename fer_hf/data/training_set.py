"""
The training split as whole batches: all faces decoded once into one uint8 tensor and augmented a batch at a time (the
fast path), or PIL images through torchvision and the image processor (the plain path).
"""

import logging

import datasets
import numpy as np
import torch
from PIL import Image
from transformers import BaseImageProcessor
from transformers.image_processing_backends import TorchvisionBackend
from transformers.image_utils import SizeDict

from fer_hf.data.builder import content_fingerprint
from fer_hf.data.collator import FaceCollator
from fer_hf.data.transforms import (
    BatchAugmentation,
    ImageAugmentation,
    Size,
    augmentation_steps,
    runs_on_batches,
    sets_size,
)
from fer_hf.errors import BadInputError


logger = logging.getLogger(__name__)

DATA_PATHS = ("auto", "fast", "plain")


class TrainingFaces(torch.utils.data.Dataset):
    """
    A training split that gives whole batches, augmented as a pure function of (seed, epoch, row).

    Indices from `len(self)` on are faces drawn again: `i + k * len(self)` is face `i`, augmented in a k-th other way.

    Args:
        table (`datasets.Dataset`): With `image` and the label column.
        label_column (`str`): Column that becomes `labels`.
    """

    path: str

    def __init__(self, table: datasets.Dataset, label_column: str = "label"):
        self.table = table
        self.labels = torch.tensor(table[label_column][:])
        # In shared memory, so that the workers of a DataLoader see the epoch change.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.table)

    def fingerprint(self) -> str | None:
        """[`~fer_hf.data.content_fingerprint`] of the faces; `None` where the table names their files only."""
        try:
            return content_fingerprint(self.table)
        except ValueError:
            return None

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose augmentation is drawn."""
        self._epoch.fill_(int(epoch))

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        """One face, as the one of a batch."""
        return {key: value[0] for key, value in self.__getitems__([row]).items()}

    def __getitems__(self, rows: list[int]) -> dict[str, torch.Tensor]:
        """
        Args:
            rows (`list[int]`): What a sampler has drawn.

        Returns:
            `dict`: `pixel_values` and `labels` of the batch, which [`FaceCollator`] passes on; and `drawn`, int64
            `(batch_size, 2)`: epoch and row of each face, for collators that draw something of their own.
        """
        raise NotImplementedError

    def _drawn(self, rows: list[int]) -> torch.Tensor:
        drawn = torch.as_tensor(rows, dtype=torch.int64)
        return torch.stack([torch.full_like(drawn, int(self._epoch)), drawn], dim=1)  # (batch_size, 2)


class PlainFaces(TrainingFaces):
    """
    The plain path: images through torchvision, then through the processor.

    Args:
        table, label_column: As for [`TrainingFaces`].
        processor (`BaseImageProcessor`): The image processor that is saved with the model.
        augmentation (`str`): One of [`~fer_hf.data.transforms.AUGMENTATIONS`].
        seed (`int`): Any integer.
    """

    path = "plain"

    def __init__(
        self,
        table: datasets.Dataset,
        processor: BaseImageProcessor,
        augmentation: str,
        seed: int,
        label_column: str = "label",
    ):
        super().__init__(table, label_column)
        size = model_size(processor)
        if size is None and sets_size(augmentation):
            raise BadInputError(f"`augmentation` {augmentation!r} needs an image processor with one fixed size.")
        # A face that the preset has cut out has its final size, and the processor's own crop would cut it again.
        options = {"do_resize": False, "do_center_crop": False} if sets_size(augmentation) else {}
        self.collate = FaceCollator(processor, label_column, **options)
        self.augment = ImageAugmentation(augmentation, size, seed)

    def __getitems__(self, rows: list[int]) -> dict[str, torch.Tensor]:
        """As [`TrainingFaces`], with `pixel_values` as the processor makes them."""
        epoch = int(self._epoch)
        columns = self.table[[row % len(self) for row in rows]]
        examples = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        for row, example in zip(rows, examples, strict=True):
            example["image"] = self.augment(example["image"].convert("RGB"), epoch, row)
        return {**self.collate(examples), "drawn": self._drawn(rows)}


class FastFaces(TrainingFaces):
    """
    The fast path: `pixel_values` are the faces' bytes, and [`ToPixelValues`] enlarges, converts and normalises them in
    one step on the model's device. They are at their own size, unless the preset itself sizes faces and the model
    takes larger ones.

    Args:
        table, label_column: As for [`TrainingFaces`].
        images (`torch.ByteTensor` of shape `(num_faces, channels, height, width)`): From [`decode_faces`].
        to_pixel_values (`ToPixelValues`): For the consumer of the batches.
        augmentation (`str`): One of [`~fer_hf.data.transforms.AUGMENTATIONS`] that runs on batches.
        seed (`int`): Any integer.
    """

    path = "fast"

    def __init__(
        self,
        table: datasets.Dataset,
        images: torch.Tensor,
        to_pixel_values: "ToPixelValues",
        augmentation: str,
        seed: int,
        label_column: str = "label",
    ):
        super().__init__(table, label_column)
        self.images, self.to_pixel_values = images, to_pixel_values
        self.augment = BatchAugmentation(augmentation, seed, to_pixel_values.final_size)

    def __getitems__(self, rows: list[int]) -> dict[str, torch.Tensor]:
        """As [`TrainingFaces`], with uint8 `pixel_values`."""
        draws = np.asarray(rows, dtype=np.int64)
        index = torch.from_numpy(draws % len(self))
        images = self.augment(self.images.index_select(0, index), int(self._epoch), draws)
        return {"pixel_values": images, "labels": self.labels[index], "drawn": self._drawn(rows)}


class ToPixelValues:
    """
    What an image processor does to RGB faces, on a uint8 batch and on its device: resize, crop, rescale, normalise.

    Args:
        processor (`TorchvisionBackend`): The image processor that is saved with the model.
        cropped (`bool`): The faces are cut already: enlarge them to the final size, without the processor's own crop.
        num_channels (`int`): That the model takes; gray faces are repeated.
    """

    def __init__(self, processor: TorchvisionBackend, cropped: bool = False, num_channels: int = 3):
        self.processor, self.cropped, self.num_channels = processor, cropped, num_channels
        self.final_size = model_size(processor)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """
        Args:
            images (`torch.ByteTensor` of shape `(batch_size, channels, height, width)`): Gray or RGB.

        Returns:
            `torch.FloatTensor` of shape `(batch_size, num_channels, *size)`.
        """
        processor = self.processor
        if self.cropped:
            final = SizeDict(height=self.final_size[0], width=self.final_size[1])
            # Not the processor's own, which may crop as it resizes.
            images = TorchvisionBackend.resize(processor, images, final, processor.resample)
        elif processor.do_resize:
            images = processor.resize(images, processor.size, processor.resample)
        if processor.do_center_crop and not self.cropped:
            images = processor.center_crop(images, processor.crop_size)
        # Gray stays one channel up to here, at a third of the work.
        images = images.expand(-1, self.num_channels, -1, -1)
        return processor.rescale_and_normalize(
            images, processor.do_rescale, processor.rescale_factor, processor.do_normalize,
            processor.image_mean, processor.image_std,
        )  # fmt: skip


def model_size(processor: BaseImageProcessor) -> Size | None:
    """Height and width of what the processor gives, where they are the same for every image; else `None`."""
    # Asked, not read: processors have their own ways of saying it.
    blank = [Image.new("RGB", size) for size in ((48, 48), (60, 50))]
    sizes = {tuple(processor(image, return_tensors="pt")["pixel_values"].shape[-2:]) for image in blank}
    return sizes.pop() if len(sizes) == 1 else None


def own_sizes(processor: BaseImageProcessor, *tables: datasets.Dataset) -> set[tuple[int, int]]:
    """Width and height of the tables' images, where the processor leaves each at its own size; else nothing."""
    if model_size(processor) is not None:
        return set()
    return {image.size for table in tables for image in table.with_format(None)["image"]}


def decode_faces(table: datasets.Dataset) -> torch.Tensor | None:
    """
    All faces of a table in one tensor: a byte per pixel, 83 MB for the 35,887 of FER-2013.

    Args:
        table (`datasets.Dataset`): With `image`.

    Returns:
        `torch.ByteTensor` of shape `(num_faces, channels, height, width)`: One channel if all faces are gray, else
        RGB. `None` if the faces differ in size, or there are none.
    """
    decoded: np.ndarray | None = None
    gray = True
    for row, example in enumerate(table.select_columns(["image"])):
        image = example["image"]
        if gray and image.mode != "L":
            if row > 0:  # the gray ones so far become RGB
                decoded = np.repeat(decoded, 3, axis=-1)
            gray = False
        pixels = np.asarray(image if gray else image.convert("RGB"))
        pixels = pixels[:, :, None] if gray else pixels
        if decoded is None:
            decoded = np.empty((len(table), *pixels.shape), np.uint8)
        elif pixels.shape != decoded.shape[1:]:
            return None
        decoded[row] = pixels
    return None if decoded is None else torch.from_numpy(decoded).permute(0, 3, 1, 2).contiguous()


def training_faces(
    table: datasets.Dataset,
    processor: BaseImageProcessor,
    augmentation: str = "none",
    data_path: str = "auto",
    seed: int = 0,
    label_column: str = "label",
) -> TrainingFaces:
    """
    The training split for [`~fer_hf.training.FerTrainer`], on the fast path where that gives what the plain one does.

    Args:
        table (`datasets.Dataset`): With `image` and the label column.
        processor (`BaseImageProcessor`): The image processor that is saved with the model.
        augmentation (`str`): One of [`~fer_hf.data.transforms.AUGMENTATIONS`].
        data_path (`str`): One of [`DATA_PATHS`].
        seed (`int`): Any integer.
        label_column (`str`): Column that becomes `labels`.

    Returns:
        `TrainingFaces`: Whole batches, for a DataLoader with [`FaceCollator`].

    Raises:
        BadInputError: If a name is unknown, or the fast path is asked for where it cannot go.
    """
    augmentation_steps(augmentation)
    if data_path not in DATA_PATHS:
        raise BadInputError(f"`data_path` must be one of {', '.join(DATA_PATHS)}, got {data_path!r}.")
    if data_path != "plain":
        found = _fast_faces(table, processor, augmentation)
        if not isinstance(found, str):
            return FastFaces(table, *found, augmentation, seed, label_column)
        if data_path == "fast":
            raise BadInputError(f"`data_path` fast does not work here: {found}. Use auto or plain.")
        logger.info(f"training faces take the plain path: {found}")
    return PlainFaces(table, processor, augmentation, seed, label_column)


def _fast_faces(
    table: datasets.Dataset, processor: BaseImageProcessor, augmentation: str
) -> tuple[torch.Tensor, ToPixelValues] | str:
    """The decoded faces and what makes them pixel values, or why the fast path is closed."""
    if not runs_on_batches(augmentation, num_channels=1):
        return f"augmentation {augmentation!r} works on images"
    if not isinstance(processor, TorchvisionBackend):
        return f"{type(processor).__name__} does not work on tensors"
    cropped = sets_size(augmentation)
    if cropped and model_size(processor) is None:
        return "the image processor has no fixed size"
    images = decode_faces(table)
    if images is None:
        return "the faces differ in size"
    channels = images.shape[1]
    if not runs_on_batches(augmentation, channels):
        return f"augmentation {augmentation!r} works on images where faces have colour"
    # A processor may have steps of its own: what the two paths make of noise of the faces' size decides.
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, *images.shape[1:]), dtype=np.uint8))
    image = Image.fromarray(noise[0].permute(1, 2, 0).squeeze(dim=-1).numpy())
    plain = FaceCollator(processor)([{"image": image, "label": 0}])["pixel_values"]
    if plain.dim() == 4 and channels in (1, plain.shape[1]):  # some processors cut images into patches
        ours = ToPixelValues(processor, num_channels=plain.shape[1])(noise)
        if ours.shape == plain.shape and torch.equal(ours, plain):
            return images, ToPixelValues(processor, cropped, plain.shape[1])
    return f"{type(processor).__name__} has steps of its own"
