"""The reduced TransFER of the CNN comparison on FER-2013: ResNet-18, two masked branches, a plain encoder."""

import torch
from torch import nn
from torchvision.models.resnet import BasicBlock
from transformers import initialization as init

from .configuration_reduced_transfer import ReducedTransFERConfig
from .modeling_classifier import (
    EncoderLayer,
    FaceBackboneMixin,
    FaceClassifierMixin,
    FacePreTrainedModel,
    init_as_pytorch,
)


class ReducedTransFERStem(nn.Module):
    """torchvision's ResNet-18 up to its last map, with its parameter names, so that its checkpoints fit."""

    def __init__(self, config: ReducedTransFERConfig):
        super().__init__()
        width = config.stem_widths[0]
        self.conv1 = nn.Conv2d(config.num_channels, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        for stage, (blocks, channels) in enumerate(zip(config.stem_blocks, config.stem_widths, strict=True), start=1):
            stride = 1 if stage == 1 else 2
            downsample = None
            if stride != 1 or width != channels:
                downsample = nn.Sequential(nn.Conv2d(width, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))
            first = BasicBlock(width, channels, stride, downsample)
            rest = (BasicBlock(channels, channels) for _ in range(blocks - 1))
            self.add_module(f"layer{stage}", nn.Sequential(first, *rest))
            width = channels

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        hidden = self.maxpool(self.relu(self.bn1(self.conv1(pixel_values))))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            hidden = stage(hidden)
        return hidden  # (batch_size, stem_widths[-1], height, width)


class ReducedTransFERBranches(nn.Module):
    """
    Two 3x3 convolutions of one map, each element of theirs dropped by itself, put below each other.

    In training an element is kept with probability 0.4 and is not rescaled, so that training sees values 2.5 times
    smaller on average than evaluation does. The comparison calls this multi-attention dropping.
    """

    def __init__(self, config: ReducedTransFERConfig):
        super().__init__()
        self.keep_probability = config.branch_keep_probability
        self.convs = nn.ModuleList(
            nn.Conv2d(config.stem_widths[-1], config.hidden_size, 3, padding=1) for _ in range(config.num_branches)
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        maps = [conv(hidden) for conv in self.convs]
        if self.training:
            maps = [m * torch.empty_like(m).bernoulli_(self.keep_probability) for m in maps]
        return torch.cat(maps, dim=2)  # (batch_size, hidden_size, num_branches * height, width)


class ReducedTransFERPreTrainedModel(FacePreTrainedModel):
    """What the two models below share: how weights start, and what goes in."""

    config: ReducedTransFERConfig
    # Of the encoder's layers only: recomputing the stem's BatchNorm layers would count their batches twice.
    supports_gradient_checkpointing = True
    _no_split_modules = ["BasicBlock", "EncoderLayer"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """torchvision's rule for the ResNet, PyTorch's defaults for everything else."""
        if isinstance(module, nn.Conv2d) and module.bias is None:
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Conv2d | nn.Linear | nn.MultiheadAttention):
            init_as_pytorch(module)
        else:
            super()._init_weights(module)


class ReducedTransFERModel(FaceBackboneMixin, ReducedTransFERPreTrainedModel):
    """The reduced TransFER without its classifier."""

    def __init__(self, config: ReducedTransFERConfig):
        super().__init__(config)
        self.stem = ReducedTransFERStem(config)
        self.branches = ReducedTransFERBranches(config)
        self.layers = nn.ModuleList(
            EncoderLayer(
                config.hidden_size,
                config.num_attention_heads,
                config.intermediate_size,
                config.dropout,
            )
            for _ in range(config.num_hidden_layers)
        )

        # Initialize weights and apply final processing
        self.post_init()

    def encode(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """
        Tokens `(batch_size, num_branches * height * width, hidden_size)` with the height and width of the stem's map,
        98 at 224 pixels; and those before the first layer and after each.
        """
        states = [self.branches(self.stem(pixel_values)).flatten(2).transpose(1, 2)]
        for layer in self.layers:
            states.append(layer(states[-1]))
        return states[-1], states

    def pool(self, tokens: torch.Tensor) -> torch.Tensor:
        """The mean of the tokens."""
        return tokens.mean(dim=1)


class ReducedTransFERForImageClassification(FaceClassifierMixin, ReducedTransFERPreTrainedModel):
    """
    What the CNN comparison on FER-2013 trains under the name TransFER.

    Against the paper (Xue et al., 2021, https://huggingface.co/papers/2108.11116; here
    [`TransFERForImageClassification`]) it lacks the face recognition stem, the attention maps
    of the local branches (no 1x1 bottleneck, no sigmoid) and their maximum, the dropping of whole branches and of
    heads, the class token and the position embeddings: without these the encoder cannot tell where a token comes from,
    beyond what the convolutions put into it. Norms stand after the residual sums.

    With SGD the comparison reports 67.6 % accuracy after 40 epochs, from ImageNet weights for the stem. Its runs
    with Adam, at 1e-3 and 1e-4, end at 25.1 %: the share of the most frequent expression, so every face gets the
    same answer.
    """

    def __init__(self, config: ReducedTransFERConfig):
        super().__init__(config)
        self.backbone = ReducedTransFERModel(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

        # Initialize weights and apply final processing
        self.post_init()


__all__ = ["ReducedTransFERForImageClassification", "ReducedTransFERModel", "ReducedTransFERPreTrainedModel"]
