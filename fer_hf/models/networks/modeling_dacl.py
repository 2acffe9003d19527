"""DACL, deep attentive center loss (Farzaneh and Qi, 2021), for gray or RGB faces."""

from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.nn.functional import one_hot
from transformers import initialization as init
from transformers.modeling_outputs import ImageClassifierOutput
from transformers.utils import can_return_tuple

from .configuration_dacl import DACLConfig
from .modeling_classifier import (
    FaceBackboneMixin,
    FacePreTrainedModel,
    classification_loss,
    count_faces,
    init_as_pytorch,
)
from .modeling_resnet import add_resnet, resnet_maps


@dataclass
class DACLOutput(ImageClassifierOutput):
    """
    Output of [`DACLForImageClassification`].

    Args:
        loss (`torch.FloatTensor`, *optional*):
            Scalar, with `labels`: `softmax_loss + center_loss_weight * sparse_center_loss`, in nats per face.
        logits (`torch.FloatTensor` of shape `(batch_size, num_labels)`):
            Before softmax.
        hidden_states (`tuple[torch.FloatTensor]`, *optional*):
            The maps after the stem and each stage, `(batch_size, channels, height, width)`.
        features (`torch.FloatTensor` of shape `(batch_size, num_features)`):
            The last map's mean over positions: what the centers live among, and what the classifier sees.
        attention_weights (`torch.FloatTensor` of shape `(batch_size, num_features)`):
            In (0, 1), how much each feature counts in the center loss. `None` without an attention network.
        softmax_loss (`torch.FloatTensor`, *optional*):
            Scalar, with `labels`: the cross-entropy. It has its gradient, so that a trainer can put another loss of
            the logits in its place: `loss - softmax_loss + other`.
        sparse_center_loss (`torch.FloatTensor`, *optional*):
            Scalar without gradient, with `labels`: the center loss before weighting. `None` in mode `softmax`.
    """

    features: torch.FloatTensor | None = None
    attention_weights: torch.FloatTensor | None = None
    softmax_loss: torch.FloatTensor | None = None
    sparse_center_loss: torch.FloatTensor | None = None


class DACLPreTrainedModel(FacePreTrainedModel):
    """What the two models below share: how weights start, and what goes in."""

    config: DACLConfig
    # Recomputing a BatchNorm layer would count its batch twice, so there is no gradient checkpointing.

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """The official code's rules: He et al.'s normal for the network and the attention, PyTorch's classifier."""
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear) and module is getattr(self, "classifier", None):
            init_as_pytorch(module)
        elif isinstance(module, nn.Linear):
            init.kaiming_normal_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, SparseCenterLoss):
            # He et al.'s normal with one input per class.
            init.normal_(module.centers, 0, (2 / len(module.centers)) ** 0.5)
        else:
            super()._init_weights(module)


class DACLModel(FaceBackboneMixin, DACLPreTrainedModel):
    """The ResNet without its last linear layer. Parameters keep torchvision's names, so that its checkpoints fit."""

    def __init__(self, config: DACLConfig):
        super().__init__(config)
        add_resnet(self, config.network, config.num_channels, config.stem)

        # Initialize weights and apply final processing
        self.post_init()

    def encode(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The last map `(batch_size, num_features, height, width)`; and those after the stem and each stage."""
        maps = resnet_maps(self, pixel_values)
        return maps[-1], maps

    def pool(self, last_map: torch.Tensor) -> torch.Tensor:
        """The map's mean over positions, `(batch_size, num_features)`."""
        return self.avgpool(last_map).flatten(1)


class DACLAttention(nn.Module):
    """The CE-Unit: from the whole last map, one weight in (0, 1) for each feature."""

    def __init__(self, config: DACLConfig, num_features: int):
        super().__init__()
        # Strided layers halve the map and round up: five in the ImageNet stem's network, three in the small one's.
        self.side = -(-config.image_size // (32 if config.stem == "imagenet" else 8))
        layers = []
        size = num_features * self.side**2
        for width in config.attention_hidden_sizes:
            layers += [nn.Linear(size, width), nn.BatchNorm1d(width), nn.ReLU()]
            size = width
        layers[-1] = nn.Tanh()
        self.layers = nn.Sequential(*layers)
        # For each feature a pair of scores, out and in.
        self.heads = nn.Linear(size, 2 * num_features)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """The last map `(batch_size, num_features, side, side)` to weights `(batch_size, num_features)`."""
        hidden = self.layers(hidden.flatten(1))  # (batch_size, attention_hidden_sizes[-1])
        scores = self.heads(hidden).unflatten(1, (-1, 2))  # (batch_size, num_features, 2)
        return scores.softmax(dim=-1)[..., 1]


class SparseCenterLoss(nn.Module):
    """
    Weighted squared distances of features to the center of their class, and the rule by which the centers follow.

    The centers are no parameters: they move by the official code's own rule, which knows neither the loss's weight nor
    its division by the number of faces, nor the optimizer. A soft label is a face of each class, as much as it says.

    Args:
        num_labels (`int`): Number of classes.
        num_features (`int`): Number of features.
        rate (`float`): How far the centers go (alpha).
    """

    def __init__(self, num_labels: int, num_features: int, rate: float):
        super().__init__()
        self.rate = rate
        self.register_buffer("centers", torch.zeros(num_labels, num_features))
        # What the optimizer step has summed so far, and its number of faces. No buffers: checkpoints are written
        # between steps, where these mean nothing.
        self._sums = None
        self._faces = None

    def train(self, mode: bool = True) -> "SparseCenterLoss":
        """Leaving train mode also forgets an optimizer step that was left unfinished."""
        if not mode:
            self._sums = None
        return super().train(mode)

    def _differences(self, features: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Each label's share of a face, and the difference between features and centers, in float32 under autocast."""
        if labels.dim() == 1:
            labels = one_hot(labels, len(self.centers))
        return labels.float(), features.float()[:, None] - self.centers.float()  # (batch_size, num_labels, features)

    def forward(self, features: torch.Tensor, attention: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """
        Args:
            features, attention (`torch.FloatTensor` of shape `(batch_size, num_features)`):
                The features, and how much each counts.
            labels (`torch.LongTensor` of shape `(batch_size,)` or `torch.FloatTensor` of shape
                `(batch_size, num_labels)`):
                Class ids, or probabilities.

        Returns:
            `torch.FloatTensor`: Scalar, half the weighted squared distances, summed over the batch.
        """
        shares, differences = self._differences(features, labels)
        squares = (shares[:, :, None] * differences**2).sum(dim=1)  # (batch_size, num_features)
        return 0.5 * (attention.float() * squares).sum()

    @torch.no_grad()
    def update(
        self,
        features: torch.Tensor,
        attention: torch.Tensor,
        labels: torch.Tensor,
        num_faces: torch.Tensor | float | None = None,
    ) -> None:
        """
        Move each center c by `rate * sum(a * (f - c)) / (1 + n)`, over the n faces of its class in one optimizer step.

        Sums add up over processes, which must all come here together, and over calls, until they hold `num_faces`
        faces; only then do the centers move. A step that was left unfinished (an interrupted run) is dropped when the
        next one has another number of faces or would get too many, and in eval mode.

        Args:
            features, attention, labels:
                As for `forward`.
            num_faces (`torch.Tensor` or `float`, *optional*):
                Faces of the optimizer step in all batches and processes. If `None`, this batch is the whole step.
        """
        shares, differences = self._differences(features, labels)
        pull = (shares[:, :, None] * attention.float()[:, None] * differences).sum(dim=0)  # (num_labels, features)
        counts = shares.sum(dim=0)  # (num_labels,)
        sums = torch.cat([pull.flatten(), counts, counts.new_full((1,), len(shares))])
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(sums)
        if num_faces is None:
            self._sums = None
            self.centers.copy_(self._moved(sums))
            return

        # No `if` on numbers: it would make the processor wait for the accelerator at each batch.
        num_faces = torch.as_tensor(num_faces, dtype=torch.float32, device=sums.device).round()
        if self._sums is None or self._sums.device != sums.device:
            self._sums, self._faces = torch.zeros_like(sums), num_faces.clone()
        # After a finished step any further face is one too many, so that this starts the next one too.
        same_step = (self._faces == num_faces) & (self._sums[-1] + sums[-1] <= num_faces)
        sums = sums + torch.where(same_step, self._sums, 0)
        finished = sums[-1] >= num_faces
        self.centers.copy_(torch.where(finished, self._moved(sums), self.centers))
        self._sums.copy_(sums)
        self._faces.copy_(num_faces)

    def _moved(self, sums: torch.Tensor) -> torch.Tensor:
        pull, counts, _ = sums.split([self.centers.numel(), len(self.centers), 1])
        return self.centers + self.rate * pull.view_as(self.centers) / (1 + counts[:, None])


class DACLForImageClassification(DACLPreTrainedModel):
    """
    A ResNet whose features are drawn to the center of their class, each as much as an attention network finds it
    matters for this face: DACL of Farzaneh and Qi, 2021, after the official code (https://github.com/amirhfarzaneh/dacl).

    The centers ([`SparseCenterLoss`]) move in training forwards with `labels`, after the loss is computed, once per
    optimizer step. That is right for any number of batches and processes if `num_items_in_batch` counts all of them,
    as the Trainer's does by default. BatchNorm in the attention network needs at least two faces in a training batch.
    """

    # What `loss` is made of, by its names in the output: `FerTrainer` logs them, and may replace the first.
    loss_parts = ("softmax_loss", "sparse_center_loss")

    def __init__(self, config: DACLConfig):
        super().__init__(config)
        self.backbone = DACLModel(config)
        num_features = self.backbone.num_features
        self.classifier = nn.Linear(num_features, config.num_labels)
        if config.mode == "dacl":
            self.attention = DACLAttention(config, num_features)
        if config.mode != "softmax":
            self.center_loss = SparseCenterLoss(config.num_labels, num_features, config.center_rate)

        # Initialize weights and apply final processing
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs,
    ) -> DACLOutput:
        """
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 1 or 3, height, width)`):
                Faces as the image processor makes them.
            labels (`torch.LongTensor` of shape `(batch_size,)` or `torch.FloatTensor` of shape
                `(batch_size, num_labels)`, *optional*):
                Class ids, or probabilities; with them the output has a `loss` and its parts.
            num_items_in_batch (`torch.Tensor` or `int`, *optional*):
                The Trainer's count of label elements over all accumulated batches and processes. If `None`, the loss
                is the mean over this batch, and the centers move at once.
            kwargs:
                For the backbone, such as `output_hidden_states`; and `return_dict`.

        Returns:
            [`DACLOutput`]

        Raises:
            ValueError: If the attention network cannot take faces of this size.
        """
        outputs = self.backbone(pixel_values, return_dict=True, **kwargs)
        features = outputs.pooler_output  # (batch_size, num_features)
        logits = self.classifier(features)  # (batch_size, num_labels)
        attention = self._attention_weights(outputs.last_hidden_state, pixel_values)

        loss = softmax_loss = classification_loss(logits, labels, num_items_in_batch)
        center_loss = None
        if labels is not None and self.config.mode != "softmax":
            faces = count_faces(labels, num_items_in_batch)
            weights = torch.ones_like(features) if attention is None else attention
            center_loss = self.center_loss(features, weights, labels) / faces
            loss = softmax_loss + self.config.center_loss_weight * center_loss
            # Centers move with a training step, and without a gradient there is none.
            if self.center_loss.training and loss.requires_grad:
                step_faces = None if num_items_in_batch is None else faces
                self.center_loss.update(features, weights, labels, step_faces)
        return DACLOutput(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            features=features,
            attention_weights=attention,
            softmax_loss=softmax_loss,
            sparse_center_loss=None if center_loss is None else center_loss.detach(),
        )

    def _attention_weights(self, last_map: torch.Tensor, pixel_values: torch.Tensor) -> torch.Tensor | None:
        """How much each feature counts, `(batch_size, num_features)`; `None` without an attention network."""
        if self.config.mode != "dacl":
            return None
        if last_map.shape[-2:] != (self.attention.side, self.attention.side):
            size = self.config.image_size
            raise ValueError(
                f"`pixel_values` are {' x '.join(map(str, pixel_values.shape[-2:]))} pixels, and this model's "
                f"attention network takes `image_size` {size} x {size}."
            )
        return self.attention(last_map)


__all__ = ["DACLForImageClassification", "DACLModel", "DACLOutput", "DACLPreTrainedModel", "SparseCenterLoss"]
