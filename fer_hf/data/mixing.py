"""
Mixed training batches: mixup and CutMix, which turn class ids into distributions.

torchvision's `v2.MixUp` and `v2.CutMix` are the same formulas, but draw from torch's global state, and take no bytes.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn.functional import one_hot

from fer_hf.errors import BadInputError


class MixingCollator:
    """
    A collator around another, for training with [`~fer_hf.losses.ExpressionLoss`]: mixes each face of a batch with the
    one before it.

    What is drawn is a pure function of the seed, the epoch and the rows of the batch, so that resumed runs repeat it.
    Only batches that tell these are changed, those of [`~fer_hf.data.training_set.TrainingFaces`]. Any other is passed
    on as it is, because the Trainer evaluates with the same collator.

    With both strengths above 0, every other batch on average is mixed in one way, the rest in the other. Faces of the
    fast path are mixed as bytes, before [`~fer_hf.data.training_set.ToPixelValues`].

    Args:
        collator: Such as [`~fer_hf.data.collator.FaceCollator`].
        num_labels (`int`): Number of expressions.
        mixup_alpha (`float`, defaults to 0): At least 0, which is off. The share of the face itself is drawn from
            Beta(alpha, alpha), one for the batch. Zhang et al., 2017, https://huggingface.co/papers/1710.09412.
        cutmix_alpha (`float`, defaults to 0): The same for CutMix, as the share of the area outside the box.
            Yun et al., 2019, https://huggingface.co/papers/1905.04899.
        seed (`int`, defaults to 0): Any integer.

    Raises:
        BadInputError: If a number is out of range.
    """

    def __init__(
        self,
        collator: Callable,
        num_labels: int,
        mixup_alpha: float = 0.0,
        cutmix_alpha: float = 0.0,
        seed: int = 0,
    ):
        for name, alpha in (("mixup_alpha", mixup_alpha), ("cutmix_alpha", cutmix_alpha)):
            if not 0 <= alpha < math.inf:
                raise BadInputError(f"`{name}` must be at least 0, got {alpha!r}.")
        self.collator, self.num_labels, self.seed = collator, num_labels, seed
        self.mixup_alpha, self.cutmix_alpha = mixup_alpha, cutmix_alpha

    def __call__(self, examples: Any) -> dict[str, torch.Tensor]:
        """
        Args:
            examples: What the wrapped collator takes. Mixed if it is a `dict` with `drawn`, int64 `(batch_size, 2)`:
                epoch and row of each face.

        Returns:
            `dict`: As from the wrapped collator. After mixing, `pixel_values` have the shape and type they had, and
            `labels` are float32 `(batch_size, num_labels)`, whose rows sum to 1.
        """
        drawn = examples.get("drawn") if isinstance(examples, dict) else None
        batch = self.collator(examples)
        if drawn is None:
            return batch
        labels = distributions(batch["labels"], self.num_labels)
        # One generator for a batch costs microseconds, and has the Beta distribution.
        key = drawn.numpy().astype(np.uint64).ravel().tolist()
        generator = np.random.default_rng([self.seed % 2**64, *key])
        mixed = self._mixed(batch["pixel_values"], labels, generator)
        return {**batch, "pixel_values": mixed[0], "labels": mixed[1]}

    def _mixed(
        self, images: torch.Tensor, labels: torch.Tensor, generator: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        alphas = {mixup: self.mixup_alpha, cutmix: self.cutmix_alpha}
        ways = [way for way, alpha in alphas.items() if alpha > 0]
        if not ways:
            return images, labels
        way = ways[generator.integers(len(ways))]
        share = generator.beta(alphas[way], alphas[way])
        if way is mixup:
            return mixup(images, labels, share)
        center = tuple(int(generator.integers(side)) for side in images.shape[-2:])
        return cutmix(images, labels, share, center)


def distributions(labels: torch.Tensor, num_labels: int) -> torch.Tensor:
    """
    Labels as distributions over expressions.

    Args:
        labels (`torch.LongTensor` of shape `(batch_size,)`): Class ids; or distributions already, `(batch_size,
            num_labels)`, rows of which sum to 1.
        num_labels (`int`): Number of expressions.

    Returns:
        `torch.FloatTensor` of shape `(batch_size, num_labels)`: Rows sum to 1.

    Raises:
        BadInputError: If the labels are neither.
    """
    shares = one_hot(labels, num_labels) if labels.dim() == 1 and not labels.is_floating_point() else labels
    if shares.dim() != 2 or shares.shape[1] != num_labels:
        raise BadInputError(f"`labels` must be class ids or {num_labels} numbers a face, got {tuple(labels.shape)}.")
    return shares.float()


def mixup(images: torch.Tensor, labels: torch.Tensor, share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Blend each face with the one before it in the batch (the first with the last), and their labels likewise: what
    torchvision's `v2.MixUp` does.

    Args:
        images (`torch.Tensor` of shape `(batch_size, channels, height, width)`): uint8 faces are rounded.
        labels (`torch.FloatTensor` of shape `(batch_size, num_labels)`): Distributions.
        share (`float`): Weight of the face itself, in [0, 1].

    Returns:
        `tuple`: Images and labels, of the shapes and types given.
    """
    blended = images * share + images.roll(1, 0) * (1 - share)
    blended = blended if images.is_floating_point() else blended.round().to(images.dtype)
    return blended, labels * share + labels.roll(1, 0) * (1 - share)


def cutmix(
    images: torch.Tensor, labels: torch.Tensor, share: float, center: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Paste a box of the face before into each face, at the same place, and weigh labels by area: what torchvision's
    `v2.CutMix` does.

    Args:
        images, labels: As for [`mixup`].
        share (`float`): Of the area outside the box, in [0, 1], if the box lies inside the face whole.
        center (`tuple[int, int]`): Row and column of the box's center. What stands over the edge is cut off, and the
            labels are weighed by what remains.

    Returns:
        `tuple`: Images and labels, of the shapes and types given.
    """
    spans = []
    for at, side in zip(center, images.shape[-2:], strict=True):
        half = int(0.5 * math.sqrt(1 - share) * side)
        spans.append(slice(max(at - half, 0), min(at + half, side)))
    pasted = images.clone()
    pasted[..., spans[0], spans[1]] = images.roll(1, 0)[..., spans[0], spans[1]]
    area = math.prod(span.stop - span.start for span in spans)
    kept = 1 - area / (images.shape[-2] * images.shape[-1])
    return pasted, labels * kept + labels.roll(1, 0) * (1 - kept)
