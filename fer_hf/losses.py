"""Losses in the form in which `Trainer(compute_loss_func=...)` calls them."""

import torch
from torch.nn.functional import one_hot
from transformers.utils import ModelOutput

from fer_hf.errors import BadInputError


def soft_cross_entropy(
    outputs: ModelOutput, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
) -> torch.Tensor:
    """
    Cross-entropy against a distribution over expressions: the cross-entropy scheme of Barsoum et al., 2016
    (https://huggingface.co/papers/1608.01041), for annotator votes divided by their sum, and for the labels of
    [`~fer_hf.data.mixing.MixingCollator`].

    Args:
        outputs (`ModelOutput`):
            With `logits` of shape `(batch_size, num_labels)`, before softmax.
        labels (`torch.FloatTensor` of shape `(batch_size, num_labels)`):
            Probabilities; every row sums to 1. Class ids, int64 `(batch_size,)`, are taken as certain: the Trainer
            calls its loss on evaluation batches too, whose labels stay ids.
        num_items_in_batch (`torch.Tensor` or `int`, *optional*):
            The Trainer's count over all accumulated batches. If `None`, the mean over this batch is returned.

    Returns:
        `torch.FloatTensor`: Scalar, in nats per face.

    Raises:
        BadInputError: If the labels are neither.
    """
    logits = outputs.logits.float()
    count = labels.numel()
    if labels.dim() == 1 and not labels.is_floating_point():
        labels = one_hot(labels, logits.shape[-1]).to(logits.dtype)  # (batch_size, num_labels)
    if labels.shape != logits.shape:
        raise BadInputError(
            f"`labels` must be class ids or have the logits' shape {tuple(logits.shape)}, got {tuple(labels.shape)}."
        )
    per_face = -(labels * logits.log_softmax(dim=-1)).sum(dim=-1)  # (batch_size,)
    if num_items_in_batch is None:
        return per_face.mean()
    # The Trainer counts the elements of `labels`, and a face has num_labels of them where they are soft.
    return per_face.sum() * (count / len(per_face)) / num_items_in_batch
