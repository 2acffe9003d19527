"""
The order of training faces: pure functions of seed and epoch, weights that balance classes, and oversampling.
"""

import logging
from collections.abc import Iterator
from typing import Any

import datasets
import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import Sampler

from fer_hf.errors import BadInputError


logger = logging.getLogger(__name__)

SAMPLERS = ("none", "inverse_frequency", "class_balanced", "effective_number")


class EpochSampler(Sampler[int]):
    """
    A random order that depends on (seed, epoch) alone, so that all processes agree on it and resumed runs repeat it.

    PyTorch's random samplers draw from a running generator, whose state is lost on resume and differs between
    processes once anything else draws from it.

    Args:
        length (`int`): Number of faces in the set, and of draws in an epoch.
        seed (`int`): Any integer.
        weights (`torch.Tensor` of shape `(length,)`, *optional*): Faces are drawn with replacement in proportion to
            these; without them every face is drawn once.
        number_repeats (`bool`, defaults to `False`): The k-th other time that face `i` is drawn in an epoch, yield
            `i + k * length`, for a data set that augments it in another way then.
    """

    def __init__(self, length: int, seed: int, weights: torch.Tensor | None = None, number_repeats: bool = False):
        self.length, self.seed, self.weights, self.epoch = length, seed, weights, 0
        self.number_repeats = number_repeats

    def __len__(self) -> int:
        return self.length

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of `epoch`; accelerate calls this at the start of each."""
        self.epoch = int(epoch)

    def __iter__(self) -> Iterator[int]:
        order = self._order(torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch))
        yield from (order + self.length * _repeats(order) if self.number_repeats else order).tolist()

    def _order(self, generator: torch.Generator) -> torch.Tensor:
        if self.weights is None:
            return torch.randperm(self.length, generator=generator)
        return torch.multinomial(self.weights, self.length, replacement=True, generator=generator)


class ClassBalancedSampler(EpochSampler):
    """
    All classes equally often in every epoch, not only on average, and within a class all faces equally often: a face
    comes again only when its whole class has been drawn.

    Args:
        labels (`torch.LongTensor` of shape `(num_faces,)`): Class ids.
        seed, number_repeats: As for [`EpochSampler`].
    """

    def __init__(self, labels: torch.Tensor, seed: int, number_repeats: bool = False):
        super().__init__(len(labels), seed, number_repeats=number_repeats)
        self.members = [(labels == label).nonzero()[:, 0] for label in labels.unique()]

    def _order(self, generator: torch.Generator) -> torch.Tensor:
        share, rest = divmod(self.length, len(self.members))
        one_more = torch.randperm(len(self.members), generator=generator)[:rest].tolist()
        drawn = []
        for index, members in enumerate(self.members):
            count = share + (index in one_more)
            rounds = max(1, -(-count // len(members)))
            orders = [members[torch.randperm(len(members), generator=generator)] for _ in range(rounds)]
            drawn.append(torch.cat(orders)[:count])
        drawn = torch.cat(drawn)
        return drawn[torch.randperm(len(drawn), generator=generator)]


def _repeats(order: torch.Tensor) -> torch.Tensor:
    """For each entry of `order`, how often it came before."""
    by_face = order.argsort(stable=True)
    new = torch.ones(len(order), dtype=torch.bool)
    new[1:] = order[by_face][1:] != order[by_face][:-1]
    places = torch.arange(len(order))
    first = torch.where(new, places, 0).cummax(dim=0).values
    return torch.empty_like(order).scatter_(0, by_face, places - first)


def inverse_frequency_weights(labels: torch.Tensor) -> torch.Tensor:
    """
    One over the number of faces of its class, for every face: all classes are then drawn equally often.

    Args:
        labels (`torch.LongTensor` of shape `(num_faces,)`): Class ids.

    Returns:
        `torch.DoubleTensor` of shape `(num_faces,)`: Each present class sums to 1.
    """
    return (1.0 / torch.bincount(labels).double())[labels]


def effective_number_weights(labels: torch.Tensor, beta: float = 0.999) -> torch.Tensor:
    """
    One over the effective number of faces of its class, (1 - beta^n) / (1 - beta), for every face: between drawing all
    faces equally often (beta 0) and all classes (beta near 1). Cui et al., 2019, https://huggingface.co/papers/1901.05555.

    Args:
        labels (`torch.LongTensor` of shape `(num_faces,)`): Class ids.
        beta (`float`, defaults to 0.999): In [0, 1); one of the paper's four values.

    Returns:
        `torch.DoubleTensor` of shape `(num_faces,)`.

    Raises:
        BadInputError: If `beta` is out of range.
    """
    if not 0 <= beta < 1:
        raise BadInputError(f"`beta` must be in [0, 1), got {beta}.")
    counts = torch.bincount(labels).double()
    return ((1 - beta) / (1 - beta**counts))[labels]


def epoch_sampler(sampler: str, dataset: Any, seed: int) -> EpochSampler:
    """
    The order in which `sampler` draws the faces of `dataset`.

    Args:
        sampler (`str`): One of [`SAMPLERS`].
        dataset: A `datasets.Dataset` with a `label` column, or [`~fer_hf.data.training_set.TrainingFaces`], for which
            repeated draws are numbered.
        seed (`int`): Any integer.

    Raises:
        BadInputError: If `sampler` is none of [`SAMPLERS`].
    """
    if sampler not in SAMPLERS:
        raise BadInputError(f"`sampler` must be one of {', '.join(SAMPLERS)}, got {sampler!r}.")
    if sampler == "none":
        return EpochSampler(len(dataset), seed)
    table = getattr(dataset, "table", dataset)
    labels, number_repeats = torch.tensor(table["label"][:]), table is not dataset
    if sampler == "class_balanced":
        return ClassBalancedSampler(labels, seed, number_repeats)
    rule = {"inverse_frequency": inverse_frequency_weights, "effective_number": effective_number_weights}[sampler]
    return EpochSampler(len(labels), seed, rule(labels), number_repeats)


def oversample(table: datasets.Dataset, expression: str, degrees: float = 10.0, seed: int = 0) -> datasets.Dataset:
    """
    Make the faces of one expression four times as many: a mirror image of each, then of both a copy rotated by up to
    `degrees` either way. With the report on a PReLU network for FER-2013, 349 disgusted faces of 22,967 become 1,396
    of 24,014. Only for training faces: a copy in another split would be a leak.

    Args:
        table (`datasets.Dataset`): With `image` and `label`.
        expression (`str`): Name of the class.
        degrees (`float`, defaults to 10): Largest rotation; corners are filled with black.
        seed (`int`): Of the angles.

    Returns:
        `datasets.Dataset`: The table's rows in their order, then the made ones, told apart by the new column `made`.

    Raises:
        BadInputError: If no face shows `expression`.
    """
    names = table.features["label"].names
    label = names.index(expression) if expression in names else -1
    rows = [row for row, value in enumerate(table["label"][:]) if value == label]
    if not rows:
        raise BadInputError(f"`oversample` needs an expression of the training faces, got {expression!r}.")
    angles = np.random.default_rng(seed).uniform(-degrees, degrees, 2 * len(rows)).tolist()
    features = table.features.copy()
    features["made"] = datasets.Value("bool")
    shown = table.select(rows)
    originals = list(shown["image"])
    mirrored = [ImageOps.mirror(image) for image in originals]
    turned = [
        image.rotate(angle, resample=Image.Resampling.BILINEAR)
        for image, angle in zip([*originals, *mirrored], angles, strict=True)
    ]
    columns = {name: shown[name][:] * 3 for name in shown.column_names if name != "image"}
    columns |= {"image": [*mirrored, *turned], "made": [True] * (3 * len(rows))}
    made = datasets.Dataset.from_dict(columns, features=features)
    kept = table.add_column("made", [False] * len(table)).cast(features)
    larger = datasets.concatenate_datasets([kept, made])
    logger.info(
        f"oversampled {expression}: {len(rows):,} -> {4 * len(rows):,} faces; "
        f"training faces: {len(table):,} -> {len(larger):,}"
    )
    return larger
