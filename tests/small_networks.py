"""A smaller network of each architecture, of the same code: what tests of many networks run on."""

from transformers import PreTrainedModel

from fer_hf.models.zoo import build


_TINY_VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_ENCODER = {"num_hidden_layers": 2, "num_attention_heads": 2}

# What is smaller than in the zoo.
SMALL = {
    "resnet18": {"image_size": 32},
    "vgg-fer": {"stage_widths": (8, 16, 32, 32), "head_hidden_sizes": (64, 64)},
    "cnn-v1": {"stage_widths": (8, 16), "head_hidden_sizes": (32,)},
    "cnn-v2": {"stage_widths": (8, 16, 32, 64)},
    "prelu-cnn": {"widths": (8, 8, 8), "head_hidden_size": 16},
    "prelu-cnn-logits": {"widths": (8, 8, 8), "head_hidden_size": 16},
    "prelu-template": {"stage_widths": (16, 32), "head_hidden_sizes": (64,)},
    "compact-cnn": {"widths": (8, 8, 16, 32), "depths": (1, 1, 2), "image_size": 48},
    "compact-vit": {"num_hidden_layers": 3, "hidden_size": 48},
    "vit-mlp5-bn": {"backbone_config": {**_TINY_VIT, "image_size": 48, "model_type": "vit"}},
    "dacl-48": {"image_size": 32, "attention_hidden_sizes": (32, 16, 8)},
    "dacl-reduced": {"image_size": 32},
    "cnn-transformer": {**_ENCODER, "image_size": 48, "stem_widths": (8, 16, 32), "intermediate_size": 64},
    "transfer": {
        **_ENCODER, "image_size": 48, "stem_units": (1, 1, 1), "stem_widths": (8, 16, 32), "branch_reduction": 8,
        "hidden_size": 32,
    },
    "transfer-reduced": {
        **_ENCODER, "image_size": 48, "stem_blocks": (1, 1, 1, 1), "stem_widths": (8, 16, 32, 64), "hidden_size": 64,
        "intermediate_size": 64,
    },
}  # fmt: skip

# One architecture of each family of ours. (`compact-vit` is a stock ViT.)
FAMILIES = [
    "resnet18", "cnn-v2", "prelu-cnn", "compact-cnn", "vit-mlp5-bn", "dacl-48", "dacl-reduced", "cnn-transformer",
    "transfer", "transfer-reduced",
]  # fmt: skip


def small(name: str) -> PreTrainedModel:
    """A new small network."""
    return build(name, **SMALL[name])
