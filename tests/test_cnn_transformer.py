"""The small CNN under an encoder, and the ViT from scratch: two networks that the reports could not train."""

from itertools import pairwise

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from learning import ENTROPY, accuracy, happy_quarter, train
from torch import nn
from transformers import ViTForImageClassification

from fer_hf.models import CNNTransformerConfig, CNNTransformerForImageClassification
from fer_hf.models.heads import head_modules
from fer_hf.models.zoo import build
from fer_hf.training.unfreezing import unfreeze_order


def tiny(**changes) -> CNNTransformerForImageClassification:
    """Three stages and two layers, 32 wide; 48-pixel faces become 6x6 tokens."""
    fields = {
        "image_size": 48,
        "stem_widths": (8, 16, 32),
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "num_labels": 7,
    }
    return CNNTransformerForImageClassification(CNNTransformerConfig(**{**fields, **changes}))


@pytest.fixture(scope="module")
def faces(drawn_faces):
    return happy_quarter(drawn_faces)


def test_the_default_has_196_tokens_of_512_and_twenty_million_parameters():
    with torch.device("meta"):
        model = build("cnn-transformer").eval()
        x = torch.empty(2, 1, 224, 224)
    widths, tokens, d = (1, 64, 128, 256, 512), 196, 512
    stem = sum(9 * a * b + 2 * b for a, b in pairwise(widths))
    layer = 4 * (d * d + d) + (d * 2048 + 2048) + (2048 * d + d) + 4 * d
    assert model.num_parameters() == stem + tokens * d + 6 * layer + 7 * d + 7 == 20_569_031
    out = model.backbone(x, output_hidden_states=True)
    assert [h.shape for h in out.hidden_states] == [(2, tokens, d)] * 7


@pytest.mark.numeric
@pytest.mark.parametrize("norm_first", [False, True])
def test_a_face_passes_stages_positions_layers_and_the_mean(norm_first):
    model, x = tiny(norm_first=norm_first).double().eval(), torch.randn(2, 1, 48, 48, dtype=torch.float64)
    hidden = x
    convs = [module for module in model.backbone.embeddings.stem if isinstance(module, nn.Conv2d)]
    for conv in convs:  # a fresh BatchNorm divides by sqrt(1 + 1e-5)
        hidden = nn.functional.conv2d(hidden, conv.weight, padding=1) / (1 + 1e-5) ** 0.5
        hidden = hidden.relu().unfold(2, 2, 2).unfold(3, 2, 2).amax(dim=(-2, -1))
    tokens = torch.stack([hidden[:, :, i, j] for i in range(6) for j in range(6)], dim=1)
    tokens = tokens + model.backbone.embeddings.position_embeddings
    out = model.backbone(x, output_hidden_states=True)
    torch.testing.assert_close(out.hidden_states[0], tokens)
    for layer in model.backbone.layers:
        attend = lambda t, a=layer.self_attn: a(t, t, t)[0]  # noqa: E731
        perceive = lambda t, m=layer: m.linear2(m.linear1(t).relu())  # noqa: E731
        if norm_first:
            tokens = tokens + attend(layer.norm1(tokens))
            tokens = tokens + perceive(layer.norm2(tokens))
        else:
            tokens = layer.norm1(tokens + attend(tokens))
            tokens = layer.norm2(tokens + perceive(tokens))
    if norm_first:
        tokens = nn.functional.layer_norm(tokens, (32,))
    torch.testing.assert_close(out.last_hidden_state, tokens)
    torch.testing.assert_close(model(x).logits, model.classifier(tokens.mean(dim=1)))


def test_weights_start_after_the_named_rules():
    backbone = tiny(stem_widths=(8, 16, 64), num_attention_heads=8).backbone
    assert backbone.embeddings.position_embeddings.std().item() == pytest.approx(0.02, rel=0.1)
    attention = backbone.layers[0].self_attn
    assert not attention.in_proj_bias.any()
    assert not attention.out_proj.bias.any()
    assert attention.in_proj_weight.abs().max().item() == pytest.approx((6 / (64 + 3 * 64)) ** 0.5, rel=0.01)
    assert backbone.layers[0].linear1.bias.any()


def test_gradual_unfreezing_goes_from_the_encoders_top_to_the_stem():
    model = tiny(norm_first=True)
    assert head_modules(model) == ["classifier"]
    assert unfreeze_order(model) == [
        ["backbone.layers.1", "backbone.layernorm"],
        ["backbone.layers.0"],
        ["backbone.embeddings"],
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_channels": 2}, "`num_channels` must be 1 or 3, got 2"),
        ({"num_hidden_layers": 0}, "`num_hidden_layers` must be >= 1, got 0"),
        ({"stem_widths": ()}, r"`stem_widths` must be one or more numbers >= 1, got \(\)"),
        ({"image_size": 7}, "`image_size` must be >= 8, because each of 3 stages halves the map, got 7"),
        ({"num_attention_heads": 5}, "must be a multiple of `num_attention_heads`, got 32 and 5"),
        ({"dropout": 1}, r"`dropout` must be in \[0, 1\), got 1"),
    ],
)
def test_bad_configurations_are_refused(fields, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        tiny(**fields)


@pytest.mark.numeric
@pytest.mark.parametrize("norm_first", [False, True])
def test_a_small_network_learns_64_faces(faces, norm_first):
    images = nn.functional.interpolate(faces[0], size=32, mode="area")
    model = tiny(image_size=32, norm_first=norm_first)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses, logits = train(model, optimizer, images, faces[1], steps=30, warmup_steps=10)
    assert losses[-1] < losses[0] / 2
    assert accuracy(logits, faces[1]) > 0.5  # a quarter by one answer for all


# ViT from scratch


def small_vit() -> ViTForImageClassification:
    """Of the row `vit-scratch`, narrower and with two layers."""
    return build("vit-scratch", hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128)


def test_the_vit_from_scratch_is_the_stock_class_on_48_pixels():
    with torch.device("meta"):
        model = build("vit-scratch")
    assert type(model) is ViTForImageClassification
    d, layers = 256, 6
    layer = 4 * (d * d + d) + (d * 1024 + 1024) + (1024 * d + d) + 4 * d
    embeddings = (3 * 64 * d + d) + d + 37 * d
    assert model.num_parameters() == embeddings + layers * layer + 2 * d + 7 * d + 7 == 4_800_007
    assert model.config.problem_type == "single_label_classification"


@pytest.mark.numeric
def test_a_small_vit_learns_64_faces_with_warm_up(faces):
    model = small_vit()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses, logits = train(model, optimizer, faces[0].expand(-1, 3, -1, -1), faces[1], steps=50, warmup_steps=10)
    assert losses[-1] < losses[0] / 2
    assert accuracy(logits, faces[1]) > 0.5


@pytest.mark.numeric
def test_a_small_vit_at_too_high_a_rate_learns_nothing(faces):
    # The report's network stayed at 25 % accuracy and a loss of 1.81; its optimizer is not known. Plain Adam at 0.1
    # without warm-up does that here. At 0.01 this small network still learns.
    model = small_vit()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    losses, logits = train(model, optimizer, faces[0].expand(-1, 3, -1, -1), faces[1], steps=40)
    assert losses[-1] > ENTROPY - 0.3
    assert accuracy(logits, faces[1]) < 0.4
