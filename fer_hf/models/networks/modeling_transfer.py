"""TransFER: a face recognition stem, local attention branches and a Transformer encoder, for gray or RGB faces."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import gelu, scaled_dot_product_attention
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling, ImageClassifierOutput
from transformers.utils import can_return_tuple

from .configuration_transfer import TransFERConfig
from .modeling_classifier import FacePreTrainedModel, check_image_size, classification_loss, match_channels


@dataclass
class TransFERModelOutput(BaseModelOutputWithPooling):
    """
    Args:
        last_hidden_state (`torch.FloatTensor` of shape `(batch_size, 1 + height * width, hidden_size)`):
            The class token and one token per cell of the stem's map, after the last layer norm.
        pooler_output (`torch.FloatTensor` of shape `(batch_size, hidden_size)`):
            The class token of `last_hidden_state`.
        hidden_states (`tuple` of `num_hidden_layers + 1` tensors like `last_hidden_state`, *optional*):
            Tokens before the first layer and after each, without the last layer norm.
        attentions (`tuple` of `num_hidden_layers` tensors of shape
            `(batch_size, num_attention_heads, 1 + height * width, 1 + height * width)`, *optional*):
            Probabilities; rows are queries and sum to 1.
        local_attentions (`torch.FloatTensor` of shape `(batch_size, num_branches, height, width)`):
            The branches' maps in (0, 1); in training, after one of them may have been zeroed.
    """

    local_attentions: torch.Tensor | None = None


@dataclass
class TransFERClassifierOutput(ImageClassifierOutput):
    """
    Args:
        loss (`torch.FloatTensor`, *optional*):
            Cross-entropy in nats.
        logits (`torch.FloatTensor` of shape `(batch_size, num_labels)`):
            Before softmax.
        hidden_states, attentions, local_attentions:
            As in [`TransFERModelOutput`].
    """

    local_attentions: torch.Tensor | None = None


def _keep_all_but_one(batch_size: int, choices: int, probability: float, like: torch.Tensor) -> torch.Tensor:
    """
    Ones of shape `(batch_size, choices)`; in each row, with `probability`, a zero at a place that is drawn uniformly.

    A lone choice is never dropped: nothing would be left.
    """
    keep = like.new_ones(batch_size, choices)
    if choices == 1:
        return keep
    place = torch.randint(choices, (batch_size, 1), device=like.device)
    drop = torch.rand(batch_size, 1, device=like.device) < probability
    return keep.scatter(1, place, (~drop).to(keep.dtype))


class TransFERUnit(nn.Module):
    """A residual unit of face.evoLVe's IR networks, with its parameter names."""

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        if in_channels == channels:
            self.shortcut_layer = nn.MaxPool2d(1, stride)
        else:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
            nn.PReLU(channels),
            nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.res_layer(hidden) + self.shortcut_layer(hidden)


class TransFERStem(nn.Module):
    """
    The first stages of face.evoLVe's IR-50 (by default all but the last).

    A state dict of that network fits as it is: `load_state_dict(ir50, strict=False)` takes `input_layer.*` and
    `body.0` to `body.20`, and leaves the fourth stage and `output_layer` aside.
    """

    def __init__(self, config: TransFERConfig):
        super().__init__()
        width = config.stem_widths[0]
        self.input_layer = nn.Sequential(
            nn.Conv2d(config.num_channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.PReLU(width)
        )
        units = []
        for count, channels in zip(config.stem_units, config.stem_widths, strict=True):
            for i in range(count):
                units.append(TransFERUnit(width, channels, stride=2 if i == 0 else 1))
                width = channels
        self.body = nn.Sequential(*units)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.body(self.input_layer(pixel_values))  # (batch_size, stem_widths[-1], height, width)


class TransFERLocalAttention(nn.Module):
    """
    The local attention branches (LANets) and multi-attention dropping (MAD).

    The branches are computed together: grouped convolutions keep them apart, and make no difference to separate ones.
    """

    def __init__(self, config: TransFERConfig):
        super().__init__()
        self.probability = config.mad_probability
        channels, branches = config.stem_widths[-1], config.num_branches
        inner = branches * (channels // config.branch_reduction)
        self.branches = nn.Sequential(
            nn.Conv2d(channels, inner, 1),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, branches, 1, groups=branches),
            nn.BatchNorm2d(branches),
            nn.Sigmoid(),
        )

    def forward(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The map times the greatest of the branches' maps, and those maps `(batch_size, branches, height, width)`."""
        maps = self.branches(hidden)
        if self.training:
            maps = maps * _keep_all_but_one(*maps.shape[:2], self.probability, like=maps)[:, :, None, None]
        return hidden * maps.amax(dim=1, keepdim=True), maps


class TransFEREmbeddings(nn.Module):
    """Tokens of a map: projection to the encoder's width, the class token before them, position embeddings."""

    def __init__(self, config: TransFERConfig):
        super().__init__()
        side = -(-config.image_size // 2 ** len(config.stem_units))
        self.projection = nn.Conv2d(config.stem_widths[-1], config.hidden_size, 1)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.position_embeddings = nn.Parameter(torch.zeros(1, 1 + side**2, config.hidden_size))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        tokens = self.projection(hidden).flatten(2).transpose(1, 2)  # (batch_size, height * width, hidden_size)
        tokens = torch.cat([self.cls_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        return tokens + self.position_embeddings


class TransFERAttention(nn.Module):
    """Self-attention with multi-head self-attention dropping (MSAD)."""

    def __init__(self, config: TransFERConfig):
        super().__init__()
        self.config = config
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(
        self, hidden: torch.Tensor, output_attentions: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        split = (self.config.num_attention_heads, -1)
        query, key, value = (
            projection(hidden).unflatten(-1, split).transpose(1, 2)  # (batch_size, heads, tokens, head size)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        probabilities = None
        if output_attentions or self.config._attn_implementation == "eager":
            scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
            probabilities = scores.softmax(dim=-1, dtype=torch.float32).to(value.dtype)
            heads = probabilities @ value
        else:
            heads = scaled_dot_product_attention(query, key, value)
        if self.training:
            keep = _keep_all_but_one(*heads.shape[:2], self.config.msad_probability, like=heads)
            heads = heads * keep[:, :, None, None]
        return self.o_proj(heads.transpose(1, 2).flatten(2)), probabilities


class TransFERLayer(GradientCheckpointingLayer):
    """
    A layer of the encoder: norms first.

    A checkpointed layer draws the same heads when it is recomputed, because torch restores its random state for that.
    """

    def __init__(self, config: TransFERConfig):
        super().__init__()
        self.layernorm_before = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = TransFERAttention(config)
        self.layernorm_after = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.fc1 = nn.Linear(config.hidden_size, int(config.mlp_ratio * config.hidden_size))
        self.fc2 = nn.Linear(int(config.mlp_ratio * config.hidden_size), config.hidden_size)

    def forward(
        self, hidden: torch.Tensor, output_attentions: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        attended, probabilities = self.attention(self.layernorm_before(hidden), output_attentions)
        hidden = hidden + attended
        return hidden + self.fc2(gelu(self.fc1(self.layernorm_after(hidden)))), probabilities


class TransFERClassifier(nn.Linear):
    """The linear layer on the class token, which starts at zero."""


class TransFERPreTrainedModel(FacePreTrainedModel):
    """What the two models below share: how weights start, and what goes in."""

    config: TransFERConfig
    # Of the encoder's layers only: recomputing the stem's BatchNorm layers would count their batches twice.
    supports_gradient_checkpointing = True
    _no_split_modules = ["TransFERUnit", "TransFERLayer"]
    _supports_sdpa = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """
        face.evoLVe's rule for the convolutions, ViT's for the encoder, and the classifier at zero as in the released
        code: the first predictions are uniform, and the first step moves nothing but the classifier.
        """
        std = self.config.initializer_range
        if isinstance(module, nn.Conv2d):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.PReLU):
            init.constant_(module.weight, 0.25)
        elif isinstance(module, TransFERClassifier):
            init.zeros_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            init.trunc_normal_(module.weight, std=std)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, TransFEREmbeddings):
            init.trunc_normal_(module.cls_token, std=std)
            init.trunc_normal_(module.position_embeddings, std=std)
        else:
            super()._init_weights(module)


class TransFERModel(TransFERPreTrainedModel):
    """
    TransFER without its classifier.
    """

    def __init__(self, config: TransFERConfig):
        super().__init__(config)
        self.stem = TransFERStem(config)
        self.local_attention = TransFERLocalAttention(config)
        self.embeddings = TransFEREmbeddings(config)
        self.layers = nn.ModuleList(TransFERLayer(config) for _ in range(config.num_hidden_layers))
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

        # Initialize weights and apply final processing
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs,
    ) -> TransFERModelOutput:
        """
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 1 or 3, image_size, image_size)`):
                Faces as the image processor makes them.
            output_attentions (`bool`, *optional*):
                Also return the encoder's attention probabilities; they are then computed one by one ("eager").
            output_hidden_states (`bool`, *optional*):
                Also return the tokens before the first layer and after each.

        Returns:
            [`TransFERModelOutput`]

        Raises:
            ValueError: If the faces have another size than the position embeddings.
        """
        if output_attentions is None:
            output_attentions = self.config.output_attentions
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        check_image_size(pixel_values, self.config.image_size)
        features = self.stem(match_channels(pixel_values, self.config.num_channels))
        features, maps = self.local_attention(features)
        hidden = self.embeddings(features)  # (batch_size, 1 + height * width, hidden_size)
        hidden_states, attentions = [hidden], []
        for layer in self.layers:
            hidden, probabilities = layer(hidden, output_attentions)
            hidden_states.append(hidden)
            attentions.append(probabilities)
        hidden = self.layernorm(hidden)
        return TransFERModelOutput(
            last_hidden_state=hidden,
            pooler_output=hidden[:, 0],
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
            local_attentions=maps,
        )


class TransFERForImageClassification(TransFERPreTrainedModel):
    """
    TransFER of Xue et al., 2021 (https://huggingface.co/papers/2108.11116), as its authors' code builds it.

    In one place we follow the paper instead: multi-head self-attention dropping zeroes the output of one head. The
    released code applies its mask to another axis, and so zeroes query, key and value of one of the first tokens.
    """

    def __init__(self, config: TransFERConfig):
        super().__init__(config)
        self.backbone = TransFERModel(config)
        self.classifier = TransFERClassifier(config.hidden_size, config.num_labels)

        # Initialize weights and apply final processing
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs,
    ) -> TransFERClassifierOutput:
        """
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 1 or 3, image_size, image_size)`):
                Faces as the image processor makes them.
            labels, num_items_in_batch (*optional*):
                As for [`classification_loss`]; with labels the output has a `loss`.
            kwargs:
                As for [`TransFERModel`]: `output_attentions`, `output_hidden_states`.

        Returns:
            [`TransFERClassifierOutput`]: `logits` of shape `(batch_size, num_labels)` and `local_attentions`.
        """
        features = self.backbone(pixel_values, return_dict=True, **kwargs)
        logits = self.classifier(features.pooler_output)  # (batch_size, num_labels)
        return TransFERClassifierOutput(
            loss=classification_loss(logits, labels, num_items_in_batch),
            logits=logits,
            hidden_states=features.hidden_states,
            attentions=features.attentions,
            local_attentions=features.local_attentions,
        )


__all__ = ["TransFERForImageClassification", "TransFERModel", "TransFERPreTrainedModel"]
