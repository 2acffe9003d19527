"""How training faces are drawn: orders that are pure functions of seed and epoch, and sampling weights by class."""

from collections.abc import Iterator

import datasets
import torch
from torch.utils.data import Sampler

from fer_hf.errors import BadInputError


SAMPLERS = ("none", "inverse_frequency")


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
    """

    def __init__(self, length: int, seed: int, weights: torch.Tensor | None = None):
        self.length, self.seed, self.weights, self.epoch = length, seed, weights, 0

    def __len__(self) -> int:
        return self.length

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of `epoch`; accelerate calls this at the start of each."""
        self.epoch = int(epoch)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        if self.weights is None:
            yield from torch.randperm(self.length, generator=generator).tolist()
        else:
            yield from torch.multinomial(self.weights, self.length, replacement=True, generator=generator).tolist()


def inverse_frequency_weights(labels: torch.Tensor) -> torch.Tensor:
    """
    One over the number of faces of its class, for every face: all classes are then drawn equally often.

    Args:
        labels (`torch.LongTensor` of shape `(num_faces,)`): Class ids.

    Returns:
        `torch.DoubleTensor` of shape `(num_faces,)`: Each present class sums to 1.
    """
    return (1.0 / torch.bincount(labels).double())[labels]


def sampling_weights(sampler: str, dataset: datasets.Dataset) -> torch.Tensor | None:
    """
    The weights that `sampler` gives the faces of `dataset` (with a `label` column), or `None` for a plain shuffle.

    Raises:
        BadInputError: If `sampler` is none of [`SAMPLERS`].
    """
    if sampler not in SAMPLERS:
        raise BadInputError(f"`sampler` must be one of {', '.join(SAMPLERS)}, got {sampler!r}.")
    if sampler == "none":
        return None
    return inverse_frequency_weights(torch.tensor(dataset["label"][:]))
