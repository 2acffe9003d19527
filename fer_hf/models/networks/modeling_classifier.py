"""What all our classifiers share: gray and RGB faces, how layers start, the loss, the output."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.integrations.accelerate import force_accelerate_hooks
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling, ImageClassifierOutput
from transformers.utils import can_return_tuple


def match_channels(pixel_values: torch.Tensor, num_channels: int) -> torch.Tensor:
    """
    Images with the channels that a network takes. Gray networks meet RGB images because image processors and
    pipelines of Transformers make every image RGB.

    Args:
        pixel_values (`torch.FloatTensor` of shape `(batch_size, 1 or 3, height, width)`):
            Gray or RGB.
        num_channels (`int`):
            1 or 3.

    Returns:
        `torch.FloatTensor` of shape `(batch_size, num_channels, height, width)`: RGB as ITU-R 601 luma for a gray
        network; gray repeated for an RGB one.
    """
    if num_channels == 1 and pixel_values.shape[1] == 3:
        weights = pixel_values.new_tensor([0.299, 0.587, 0.114])
        return (pixel_values * weights[:, None, None]).sum(dim=1, keepdim=True)  # (batch_size, 1, height, width)
    return pixel_values.expand(-1, num_channels, -1, -1)


def check_image_size(pixel_values: torch.Tensor, image_size: int) -> None:
    """Raises `ValueError` if images do not have the one size that a network takes."""
    height, width = pixel_values.shape[-2:]
    if (height, width) != (image_size, image_size):
        raise ValueError(
            f"`pixel_values` must be {image_size}x{image_size} pixels (`image_size`), got {height}x{width}."
        )


def output_layers(output: str) -> list[nn.Module]:
    """What follows the last linear layer of a network with this `output`: logits, tanh, sigmoid or softmax."""
    layers = {"logits": [], "tanh": [nn.Tanh()], "sigmoid": [nn.Sigmoid()], "softmax": [nn.Softmax(dim=-1)]}
    return layers[output]


@torch.no_grad()
def init_as_pytorch(module: nn.Conv2d | nn.Linear | nn.MultiheadAttention) -> None:
    """Start a convolution or linear layer uniformly in +- 1 / sqrt(fan_in), and an attention by Xavier's rule."""
    if isinstance(module, nn.MultiheadAttention):
        init.xavier_uniform_(module.in_proj_weight)
        init.zeros_(module.in_proj_bias)
        return
    bound = module.weight[0].numel() ** -0.5
    init.uniform_(module.weight, -bound, bound)
    # The projection at the end of an attention is of this class, and starts without a bias.
    if isinstance(module, NonDynamicallyQuantizableLinear):
        init.zeros_(module.bias)
    elif module.bias is not None:
        init.uniform_(module.bias, -bound, bound)


class EncoderLayer(GradientCheckpointingLayer, nn.TransformerEncoderLayer):
    """PyTorch's encoder layer, with the batch first."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, batch_first=True, **kwargs)
        # Never PyTorch's fused kernel, which it takes without gradients: `torch.compile` cannot trace it.
        self.activation_relu_or_gelu = 0

    @property
    def out_proj(self) -> nn.Linear:
        """The projection at the end of the attention."""
        return self.self_attn.out_proj

    # Offloaded weights come when their layer is called, and the attention takes those of `out_proj` without a call.
    _sa_block = force_accelerate_hooks("out_proj")(nn.TransformerEncoderLayer._sa_block)


def count_faces(labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None) -> torch.Tensor | float | int:
    """The faces of an optimizer step: those of this batch, or the Trainer's count, which knows label elements only."""
    if num_items_in_batch is None:
        return len(labels)
    return num_items_in_batch * len(labels) / labels.numel()  # a soft label has num_labels elements


def classification_loss(
    logits: torch.Tensor, labels: torch.Tensor | None, num_items_in_batch: torch.Tensor | int | None = None
) -> torch.Tensor | None:
    """
    Cross-entropy, a share of the mean over an optimizer step.

    Args:
        logits (`torch.FloatTensor` of shape `(batch_size, num_labels)`):
            Before softmax.
        labels (`torch.LongTensor` of shape `(batch_size,)` or `torch.FloatTensor` of shape
            `(batch_size, num_labels)`, *optional*):
            Class ids, or probabilities.
        num_items_in_batch (`torch.Tensor` or `int`, *optional*):
            The Trainer's count of label elements over all accumulated batches and processes. If `None`, this batch is
            the whole step.

    Returns:
        `torch.FloatTensor`: Scalar, in nats per face; `None` without labels.
    """
    if labels is None:
        return None
    return cross_entropy(logits.float(), labels, reduction="sum") / count_faces(labels, num_items_in_batch)


class FacePreTrainedModel(PreTrainedModel):
    """
    Base of all our models: what goes in, and what their parts are called.

    Raises:
        ValueError: If the configuration's `problem_type` is another than one right answer for each face.
    """

    base_model_prefix = "backbone"
    main_input_name = "pixel_values"
    input_modalities = ("image",)

    def __init__(self, config: PreTrainedConfig):
        if config.problem_type not in (None, "single_label_classification"):
            raise ValueError(f"`problem_type` must be single_label_classification, got {config.problem_type!r}.")
        super().__init__(config)

    def get_features(self, pixel_values: torch.Tensor, **kwargs) -> BaseModelOutputWithPooling:
        """What the backbone makes of images."""
        return self.backbone(pixel_values, return_dict=True, **kwargs)


class FaceBackboneMixin:
    """The forward of a backbone: `encode`, then `pool`, of which a network writes its own."""

    @can_return_tuple
    def forward(
        self, pixel_values: torch.Tensor, output_hidden_states: bool | None = None, **kwargs
    ) -> BaseModelOutputWithPooling:
        """
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 1 or 3, height, width)`):
                Faces as the image processor makes them.
            output_hidden_states (`bool`, *optional*):
                Also return the states on the way, as `encode` says.
            return_dict (`bool`, *optional*):
                As for all models of Transformers: `False` gives a tuple.

        Returns:
            [`~transformers.modeling_outputs.BaseModelOutputWithPooling`]: `last_hidden_state`, as `encode` gives it,
            and `pooler_output`, as `pool` gives it: what the classifier sees.

        Raises:
            ValueError: If the faces have another size than the network takes.
        """
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        last, states = self.encode(match_channels(pixel_values, self.config.num_channels))
        return BaseModelOutputWithPooling(
            last_hidden_state=last,
            pooler_output=self.pool(last),
            hidden_states=tuple(states) if output_hidden_states else None,
        )


class FaceClassifierMixin:
    """The forward of a classifier: the backbone, then `classifier` on what it pools."""

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs,
    ) -> ImageClassifierOutput:
        """
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 1 or 3, height, width)`):
                Faces as the image processor makes them.
            labels, num_items_in_batch (*optional*):
                As for [`classification_loss`]; with labels the output has a `loss`.
            kwargs:
                For the backbone, such as `output_hidden_states` and `output_attentions`; and `return_dict`.

        Returns:
            [`~transformers.modeling_outputs.ImageClassifierOutput`]: `logits` of shape `(batch_size, num_labels)`, and
            the backbone's `hidden_states` and `attentions` where they were asked for.
        """
        features = self.get_features(pixel_values, **kwargs)
        logits = self.get_logits(features.pooler_output)  # (batch_size, num_labels)
        return ImageClassifierOutput(
            loss=classification_loss(logits, labels, num_items_in_batch),
            logits=logits,
            hidden_states=features.hidden_states,
            attentions=features.attentions,
        )

    def get_logits(self, pooled: torch.Tensor) -> torch.Tensor:
        """Features `(batch_size, num_features)` to logits `(batch_size, num_labels)`."""
        return self.classifier(pooled)


__all__ = ["FaceBackboneMixin", "FaceClassifierMixin", "FacePreTrainedModel"]
