"""
The loss on logits, for `Trainer(compute_loss_func=...)`: cross-entropy and focal; and labels in which teachers have a
share. DACL's center loss stands in `models/networks/modeling_dacl.py`.
"""

import torch
from torch.nn.functional import cross_entropy, one_hot
from transformers.utils import ModelOutput

from fer_hf.errors import BadInputError, parse_map


class ExpressionLoss:
    """
    Cross-entropy or focal loss, with class weights and label smoothing, against class ids or distributions.

    Without arguments and against distributions it is the cross-entropy scheme of Barsoum et al., 2016
    (https://huggingface.co/papers/1608.01041), for annotators' votes divided by their sum, and the loss for batches of
    [`~fer_hf.data.mixing.MixingCollator`].

    All of them are one formula: a label is a distribution t over expressions (an id is a certain one), smoothing
    spreads a part of it evenly, and the loss of a face is what a label drawn from it costs on average,

        - sum_k  t_k * w_k * (1 - p_k)^gamma * log(p_k).

    So annotators' votes, mixed faces and smoothed labels go with class weights and the focal loss, and where PyTorch's
    `cross_entropy(reduction="sum")` is defined this is it. The sum over faces is divided by the number of faces, not
    by the sum of their weights, which would differ between the batches and processes of a step: pieces add up exactly.

    Args:
        focal_gamma (`float`, defaults to 0): How strongly faces that are already recognised are played down. Lin et
            al., 2017, https://huggingface.co/papers/1708.02002; 0 is the cross-entropy.
        class_weights (`torch.FloatTensor` of shape `(num_labels,)`, *optional*): Should be 1 on average over the
            training faces, so that the scale of the loss stays.
        label_smoothing (`float`, defaults to 0): In [0, 1): so much of each label is spread over all expressions, its
            own too.

    Raises:
        BadInputError: If a number is out of range.
    """

    def __init__(
        self, focal_gamma: float = 0.0, class_weights: torch.Tensor | None = None, label_smoothing: float = 0.0
    ):
        if not 0 <= focal_gamma < float("inf"):
            raise BadInputError(f"`focal_gamma` must be at least 0, got {focal_gamma!r}.")
        if not 0 <= label_smoothing < 1:
            raise BadInputError(f"`label_smoothing` must be in [0, 1), got {label_smoothing!r}.")
        self.focal_gamma, self.class_weights, self.label_smoothing = focal_gamma, class_weights, label_smoothing

    def __call__(
        self, outputs: ModelOutput, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """
        Args:
            outputs (`ModelOutput`):
                With `logits` of shape `(batch_size, num_labels)`, before softmax.
            labels (`torch.LongTensor` of shape `(batch_size,)` or `torch.FloatTensor` of shape
                `(batch_size, num_labels)`):
                Class ids, or probabilities; every row sums to 1.
            num_items_in_batch (`torch.Tensor` or `int`, *optional*):
                The Trainer's count of label elements over all accumulated batches and processes. If `None`, the mean
                over this batch is returned.

        Returns:
            `torch.FloatTensor`: Scalar, in nats per face.

        Raises:
            BadInputError: If the labels are neither.
        """
        logits = outputs.logits.float()
        are_ids = labels.dim() == 1 and not labels.is_floating_point()
        if not are_ids and labels.shape != logits.shape:
            raise BadInputError(
                f"`labels` must be class ids or have the logits' shape {tuple(logits.shape)}, "
                f"got {tuple(labels.shape)}."
            )
        labels = labels if are_ids else labels.to(logits.dtype)
        if self.class_weights is not None:
            self.class_weights = self.class_weights.to(logits.device)  # copied once
        # The Trainer counts the elements of `labels`, and a face has num_labels of them where they are soft.
        faces = len(labels) if num_items_in_batch is None else num_items_in_batch * len(labels) / labels.numel()
        return (self._focal_sum if self.focal_gamma > 0 else self._cross_entropy_sum)(logits, labels) / faces

    def _cross_entropy_sum(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return cross_entropy(
            logits, labels, weight=self.class_weights, label_smoothing=self.label_smoothing, reduction="sum"
        )

    def _focal_sum(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        shares = one_hot(labels, logits.shape[-1]) if labels.dim() == 1 else labels
        shares = shares * (1 - self.label_smoothing) + self.label_smoothing / logits.shape[-1]
        if self.class_weights is not None:
            shares = shares * self.class_weights
        log_p = logits.log_softmax(dim=-1)  # (batch_size, num_labels)
        # Kept above 0, where a power below 1 has no gradient.
        missed = (-log_p.expm1()).clamp(min=torch.finfo(log_p.dtype).tiny)
        return -(shares * missed**self.focal_gamma * log_p).sum()


def distilled(labels: torch.Tensor, scores: torch.Tensor, alpha: float, temperature: float) -> torch.Tensor:
    """
    Labels mixed with what teachers say: for every face

        (1 - alpha) * label + alpha * (mean over teachers of softmax(scores / temperature)).

    At temperature 1 the cross-entropy against it is the loss of Hinton et al., 2015
    (https://huggingface.co/papers/1503.02531), which weighs two of them, against labels and against a teacher. A
    higher temperature softens the teachers alone, and the student learns to be as unsure: one distribution per face
    goes with every loss, with mixup and with label smoothing.

    Args:
        labels (`torch.FloatTensor` of shape `(num_faces, num_labels)`): Distributions.
        scores (`torch.FloatTensor` of shape `(num_teachers, num_faces, num_labels)`): Logits or logarithms of shares.
            A teacher with NaN for a face says nothing of it; a face of which none says anything keeps its label.
        alpha (`float`): The teachers' share, in [0, 1].
        temperature (`float`): Above 0.

    Returns:
        `torch.FloatTensor` of shape `(num_faces, num_labels)`: Rows sum to 1.
    """
    said = (scores / temperature).softmax(dim=-1).nanmean(dim=0)
    return torch.where(said.isnan(), labels, (1 - alpha) * labels + alpha * said)


def class_weights(weights: str | dict[str, float], labels: torch.Tensor, names: list[str]) -> torch.Tensor | None:
    """
    The weight of each class in a loss.

    Args:
        weights (`str` or `dict`): `"none"`; `"auto"`, for n / (num_labels * n_k), so that the mean over all faces is
            1; or a map from expressions to weights (or its JSON), in which what is not named weighs 1.
        labels (`torch.LongTensor` of shape `(num_faces,)`): Class ids of the training faces.
        names (`list[str]`): The expressions, in label order.

    Returns:
        `torch.FloatTensor` of shape `(num_labels,)`, or `None` for `"none"`.

    Raises:
        BadInputError: If `weights` is none of these, a name is unknown, a weight is negative or no number, or a class
            has no face to be weighed by.
    """
    if weights == "none":
        return None
    if weights == "auto":
        counts = torch.bincount(labels, minlength=len(names))
        if (counts == 0).any():
            missing = ", ".join(name for name, count in zip(names, counts, strict=True) if count == 0)
            raise BadInputError(f"`class_weights` auto: the training faces have none of {missing}.")
        return (len(labels) / (len(names) * counts.double())).float()
    given = parse_map("class_weights", weights, "auto, none or a map from expressions to weights")
    for name, weight in given.items():
        if name not in names:
            raise BadInputError(f"`class_weights` names {name!r}; the expressions are {', '.join(names)}.")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
            raise BadInputError(f"`class_weights` of {name} must be a number of at least 0, got {weight!r}.")
    return torch.tensor([float(given.get(name, 1.0)) for name in names])
