"""TransFER: sizes, stem, local attention, the two droppings, the encoder, and what every model of the zoo must do."""

import math

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from learning import accuracy, drawn_batch, train
from torch import nn
from transformers import set_seed

from fer_hf.models import TransFERConfig, TransFERForImageClassification, TransFERModel
from fer_hf.models.heads import head_modules
from fer_hf.models.networks.modeling_transfer import (
    TransFERAttention,
    TransFEREmbeddings,
    TransFERLayer,
    TransFERLocalAttention,
    TransFERUnit,
)
from fer_hf.models.zoo import build
from fer_hf.training.unfreezing import unfreeze_order


def tiny_config(**changes) -> TransFERConfig:
    """Three units, two layers, 32 wide; 48-pixel gray faces become 6x6 tokens."""
    fields = {
        "image_size": 48,
        "num_channels": 1,
        "stem_units": (1, 1, 1),
        "stem_widths": (8, 16, 32),
        "branch_reduction": 8,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_labels": 7,
    }
    return TransFERConfig(**{**fields, **changes})


def tiny(**changes) -> TransFERForImageClassification:
    """A small model whose classifier is not zero, as if it had been trained."""
    model = TransFERForImageClassification(tiny_config(**changes))
    nn.init.normal_(model.classifier.weight, std=0.5)
    return model


@pytest.fixture(scope="module")
def faces(drawn_faces):
    return drawn_batch(drawn_faces)


def close_share(counts, share, total):
    """Whether `counts` of `total` draws fit a probability, within four standard deviations."""
    return bool(((counts / total - share).abs() < 4 * math.sqrt(share * (1 - share) / total)).all())


# Sizes


def test_the_parameters_are_those_of_the_released_network_to_the_digit():
    with torch.device("meta"):
        model = build("transfer")
    assert model.num_parameters() == 65_217_869
    assert sum(p.numel() for p in model.backbone.stem.parameters()) == 17_611_968
    assert sum(p.numel() for p in model.backbone.local_attention.parameters()) == 2 * 4_163
    assert sum(p.numel() for p in model.backbone.embeddings.projection.parameters()) == 197_376


def test_the_maps_have_the_papers_shapes_stage_by_stage():
    with torch.device("meta"):
        model = build("transfer").eval()
    seen = {}

    def watch(name):
        def hook(module, inputs, output):
            seen[name] = tuple(output.shape[1:])

        model.backbone.get_submodule(name).register_forward_hook(hook)

    stages = ("stem.input_layer", "stem.body.2", "stem.body.6", "stem.body.20")
    for name in (*stages, "local_attention.branches", "embeddings.projection", "embeddings"):
        watch(name)
    out = model(torch.empty(2, 3, 112, 112, device="meta"), output_attentions=True, output_hidden_states=True)
    assert [seen[name] for name in stages] == [(64, 112, 112), (64, 56, 56), (128, 28, 28), (256, 14, 14)]
    assert seen["local_attention.branches"] == (2, 14, 14)
    assert seen["embeddings.projection"] == (768, 14, 14)
    assert seen["embeddings"] == (197, 768)
    assert out.local_attentions.shape == (2, 2, 14, 14)
    assert [h.shape for h in out.hidden_states] == [(2, 197, 768)] * 9
    assert [a.shape for a in out.attentions] == [(2, 8, 197, 197)] * 8
    assert out.logits.shape == (2, 7)


@pytest.mark.parametrize(("size", "tokens"), [(40, 26), (44, 37), (48, 37), (49, 50)])
def test_the_position_embeddings_follow_the_stems_map(size, tokens):
    model = tiny(image_size=size).eval()
    assert model.backbone(torch.randn(1, 1, size, size)).last_hidden_state.shape == (1, tokens, 32)


# Stem


def ir50_keys():
    """Names of the tensors of face.evoLVe's IR-50, written down from its structure."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    keys = ["input_layer.0.weight", *(f"input_layer.1.{n}" for n in norm), "input_layer.2.weight"]
    for i in range(3 + 4 + 14 + 3):
        if i in (3, 7, 21):  # where the width changes
            keys += [f"body.{i}.shortcut_layer.0.weight", *(f"body.{i}.shortcut_layer.1.{n}" for n in norm)]
        keys += [f"body.{i}.res_layer.{j}.weight" for j in (1, 2, 3)]
        keys += [f"body.{i}.res_layer.{j}.{n}" for j in (0, 4) for n in norm]
    return keys


def test_the_state_dict_of_an_ir_50_fits_the_stem_as_it_is():
    with torch.device("meta"):
        stem = build("transfer").backbone.stem
    fourth = [key for key in ir50_keys() if key.split(".")[1] in ("21", "22", "23")]
    assert set(stem.state_dict()) == set(ir50_keys()) - set(fourth)
    ir50 = {**stem.state_dict(), **dict.fromkeys([*fourth, "output_layer.3.weight"], torch.zeros(1))}
    missing, unexpected = stem.load_state_dict(ir50, strict=False, assign=True)
    assert missing == []
    assert set(unexpected) == {*fourth, "output_layer.3.weight"}


@pytest.mark.numeric
@pytest.mark.parametrize(("channels", "stride"), [(8, 1), (8, 2), (12, 2)])
def test_a_unit_adds_its_residual_to_a_thinned_or_projected_shortcut(channels, stride):
    unit = TransFERUnit(8, channels, stride).double().eval()
    for module in unit.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    x = torch.randn(2, 8, 6, 6, dtype=torch.float64)
    norm1, conv1, prelu, conv2, norm2 = unit.res_layer
    bn = lambda m, t: (t - m.running_mean[:, None, None]) / (m.running_var[:, None, None] + 1e-5).sqrt()  # noqa: E731
    h = nn.functional.conv2d(bn(norm1, x), conv1.weight, padding=1)
    h = torch.where(h > 0, h, h * prelu.weight[:, None, None])
    h = bn(norm2, nn.functional.conv2d(h, conv2.weight, stride=stride, padding=1))
    shortcut = x[:, :, ::stride, ::stride]
    if channels != 8:
        conv, norm = unit.shortcut_layer
        shortcut = bn(norm, torch.einsum("oi,bihw->bohw", conv.weight[:, :, 0, 0], shortcut))
    torch.testing.assert_close(unit(x), h + shortcut)


# Local attention


@pytest.mark.numeric
def test_the_map_is_multiplied_by_the_greatest_branch_and_then_projected():
    config = tiny_config(num_branches=3)
    attention, embeddings = TransFERLocalAttention(config).double().eval(), TransFEREmbeddings(config).double()
    nn.init.normal_(embeddings.cls_token)
    nn.init.normal_(embeddings.position_embeddings)
    x = torch.randn(2, 32, 6, 6, dtype=torch.float64)
    conv1, norm1, _, conv2, norm2, _ = attention.branches
    for norm in (norm1, norm2):
        nn.init.normal_(norm.running_mean)
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    maps = []
    for i in range(3):  # each branch by itself: 32 -> 4 -> 1 channels
        inner = slice(4 * i, 4 * i + 4)
        h = torch.einsum("oi,bihw->bohw", conv1.weight[inner, :, 0, 0], x) + conv1.bias[inner, None, None]
        h = (h - norm1.running_mean[inner, None, None]) / (1 + 1e-5) ** 0.5
        h = (h * norm1.weight[inner, None, None] + norm1.bias[inner, None, None]).relu()
        h = torch.einsum("i,bihw->bhw", conv2.weight[i, :, 0, 0], h) + conv2.bias[i]
        h = (h - norm2.running_mean[i]) / (1 + 1e-5) ** 0.5 * norm2.weight[i] + norm2.bias[i]
        maps.append(1 / (1 + (-h).exp()))
    attended, ours = attention(x)
    torch.testing.assert_close(ours, torch.stack(maps, dim=1))
    expected = x * torch.maximum(torch.maximum(*maps[:2]), maps[2])[:, None]
    torch.testing.assert_close(attended, expected)

    cells = expected.reshape(2, 32, 36).permute(0, 2, 1)
    tokens = cells @ embeddings.projection.weight[:, :, 0, 0].T + embeddings.projection.bias
    positions = embeddings.position_embeddings
    out = embeddings(attended)
    torch.testing.assert_close(out[:, 1:], tokens + positions[:, 1:])
    torch.testing.assert_close(out[:, :1], (embeddings.cls_token + positions[:, :1]).expand(2, -1, -1))


@pytest.mark.numeric
def test_multi_attention_dropping_zeroes_one_branch_of_six_faces_in_ten():
    n, branches = 20_000, 4
    attention = TransFERLocalAttention(tiny_config(num_branches=branches)).train()
    x = torch.randn(n, 32, 1, 1)
    with torch.no_grad():
        whole = attention.branches(x)
        attended, maps = attention(x)
    assert whole.min() > 0
    dropped = (maps == 0).flatten(1)
    assert dropped.sum(dim=1).max() == 1
    assert close_share(dropped.any(dim=1).sum(), 0.6, n)
    assert close_share(dropped.sum(dim=0), 0.6 / branches, n)
    # The others keep their values, and the maximum is taken of what is left.
    assert torch.equal(maps, torch.where(dropped[:, :, None, None], 0, whole))
    assert torch.equal(attended, x * maps.amax(dim=1, keepdim=True))


def test_multi_attention_dropping_spares_evaluation_and_a_lone_branch():
    x = torch.randn(1000, 32, 1, 1)
    assert TransFERLocalAttention(tiny_config(mad_probability=1.0)).eval()(x)[1].min() > 0
    assert TransFERLocalAttention(tiny_config(mad_probability=1.0, num_branches=1)).train()(x)[1].min() > 0
    assert (TransFERLocalAttention(tiny_config(mad_probability=1.0)).train()(x)[1] == 0).sum() == 1000


# Encoder


def attention_of_heads(**changes) -> TransFERAttention:
    """An attention that returns its heads side by side, because nothing is projected after them."""
    config = tiny_config(**changes)
    config._attn_implementation = "sdpa"
    attention = TransFERAttention(config)
    nn.init.eye_(attention.o_proj.weight)
    nn.init.zeros_(attention.o_proj.bias)
    return attention


@pytest.mark.numeric
def test_head_dropping_zeroes_the_output_of_one_head_of_three_faces_in_ten():
    n = 20_000
    attention = attention_of_heads()
    x = torch.randn(n, 2, 32)
    with torch.no_grad():
        whole = attention.eval()(x)[0].unflatten(-1, (4, 8))  # (faces, tokens, heads, head size)
        heads = attention.train()(x)[0].unflatten(-1, (4, 8))
    dropped = (heads == 0).all(dim=-1).all(dim=1)
    assert dropped.sum(dim=1).max() == 1
    assert close_share(dropped.any(dim=1).sum(), 0.3, n)
    assert close_share(dropped.sum(dim=0), 0.3 / 4, n)
    torch.testing.assert_close(heads, torch.where(dropped[:, None, :, None], 0, whole))


def test_head_dropping_spares_evaluation_and_a_lone_head():
    x = torch.randn(1000, 2, 32)
    assert (attention_of_heads(msad_probability=1.0).eval()(x)[0] != 0).all()
    assert (attention_of_heads(msad_probability=1.0, num_attention_heads=1).train()(x)[0] != 0).all()
    assert ((attention_of_heads(msad_probability=1.0).train()(x)[0] == 0).sum(dim=(1, 2)) == 16).all()


def test_the_droppings_follow_the_seed_and_rest_in_evaluation():
    model, x = tiny(), torch.randn(16, 1, 48, 48)

    def logits(seed):
        set_seed(seed)
        return model(x).logits

    with torch.no_grad():
        model.train()
        assert torch.equal(logits(1), logits(1))
        assert not torch.equal(logits(1), logits(2))
        model.eval()
        assert torch.equal(logits(1), logits(2))


@pytest.mark.numeric
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_a_layer_equals_pytorchs_with_the_same_weights(implementation):
    config = tiny_config()
    config._attn_implementation = implementation
    layer = TransFERLayer(config).double().eval()
    other = nn.TransformerEncoderLayer(
        32, 4, 96, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    )
    attention = layer.attention
    qkv = torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])
    other.load_state_dict(
        {
            "self_attn.in_proj_weight": qkv,
            "self_attn.in_proj_bias": torch.zeros(96),
            "self_attn.out_proj.weight": attention.o_proj.weight,
            "self_attn.out_proj.bias": attention.o_proj.bias,
            **{f"linear{i}.{n}": getattr(getattr(layer, f"fc{i}"), n) for i in (1, 2) for n in ("weight", "bias")},
            **{f"norm1.{n}": p for n, p in layer.layernorm_before.named_parameters()},
            **{f"norm2.{n}": p for n, p in layer.layernorm_after.named_parameters()},
        }
    )
    other.double().eval()
    x = torch.randn(3, 5, 32, dtype=torch.float64)
    ours, _ = layer(x)
    single = {"atol": 1e-6, "rtol": 1e-6}  # our probabilities are float32
    torch.testing.assert_close(ours, other(x), **single)
    _, probabilities = layer(x, output_attentions=True)
    normed = other.norm1(x)
    _, expected = other.self_attn(normed, normed, normed, average_attn_weights=False)
    torch.testing.assert_close(probabilities, expected, **single)


@pytest.mark.numeric
def test_eager_and_fused_attention_agree_and_only_eager_returns_probabilities():
    model, x = tiny().double().eval(), torch.randn(4, 1, 48, 48, dtype=torch.float64)
    assert model.config._attn_implementation == "sdpa"
    with torch.no_grad():
        fused = model(x, output_hidden_states=True)
        asked = model(x, output_attentions=True)
        model.set_attn_implementation("eager")
        eager = model(x)
    assert fused.attentions is None
    assert eager.attentions is None
    torch.testing.assert_close(asked.logits, fused.logits, atol=1e-5, rtol=1e-5)  # eager probabilities are float32
    torch.testing.assert_close(eager.logits, asked.logits)
    for probabilities in asked.attentions:
        torch.testing.assert_close(probabilities.sum(dim=-1), torch.ones(4, 4, 37).double(), atol=1e-5, rtol=0)
    with torch.no_grad():
        last = model.backbone.layernorm(fused.hidden_states[-1])
        torch.testing.assert_close(model.classifier(last[:, 0]), fused.logits)


def test_outputs_may_be_asked_for_in_the_configuration():
    model = TransFERForImageClassification._from_config(
        tiny_config(output_attentions=True, output_hidden_states=True), attn_implementation="eager"
    )
    out = model(torch.randn(2, 1, 48, 48))
    assert len(out.attentions) == 2
    assert len(out.hidden_states) == 3


# Beginning, training, saving


def test_weights_start_after_the_sources_rules():
    model = TransFERForImageClassification(tiny_config(hidden_size=64, num_attention_heads=8))
    assert model(torch.randn(3, 1, 48, 48), labels=torch.tensor([0, 3, 6])).loss.item() == pytest.approx(math.log(7))
    assert model.backbone.embeddings.position_embeddings.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.backbone.layers[0].fc1.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.backbone.embeddings.cls_token.abs().max() > 0
    conv = model.backbone.stem.body[2].res_layer[3].weight  # 32 -> 32 channels, 3x3
    assert conv.abs().max().item() == pytest.approx(math.sqrt(6 / (2 * 32 * 9)), rel=0.01)
    assert (model.backbone.stem.input_layer[2].weight == 0.25).all()


def test_a_backbones_checkpoint_gets_a_classifier_at_zero(tmp_path):
    backbone = TransFERModel(tiny_config())
    backbone.save_pretrained(tmp_path)
    model, info = TransFERForImageClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert set(info["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    assert not model.classifier.weight.any()
    assert not model.classifier.bias.any()
    assert all(torch.equal(p, model.backbone.state_dict()[n]) for n, p in backbone.state_dict().items())


@pytest.mark.numeric
def test_every_parameter_gets_a_gradient():
    model = tiny().double().train()
    model(torch.randn(16, 1, 48, 48).double(), labels=torch.arange(16) % 7).loss.backward()
    grads = {name: p.grad.abs().max().item() for name, p in model.named_parameters()}
    # BatchNorm subtracts what a bias before it adds, and so these do nothing, in the released network too: those of
    # the branches, and of units whose successor changes the width, where both ways begin or end with BatchNorm.
    still = {f"backbone.local_attention.branches.{i}.bias" for i in (0, 3)}
    still |= {f"backbone.stem.body.{i}.res_layer.4.bias" for i in (0, 1)}
    still |= {"backbone.stem.body.1.shortcut_layer.1.bias"}
    assert {name for name, value in grads.items() if value < 1e-12} == still


@pytest.mark.numeric
def test_a_small_network_learns_64_faces(faces):
    images = nn.functional.interpolate(faces[0], size=32, mode="area")
    model = TransFERForImageClassification(tiny_config(image_size=32))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses, logits = train(model, optimizer, images, faces[1], steps=24)
    assert losses[-1] < losses[0] / 2
    assert accuracy(logits, faces[1]) > 0.5


def test_gradual_unfreezing_goes_from_the_encoders_top_through_the_stem():
    model = tiny(stem_units=(1, 2, 1))
    assert head_modules(model) == ["classifier"]
    assert unfreeze_order(model) == [
        ["backbone.layers.1", "backbone.layernorm"],
        ["backbone.layers.0"],
        ["backbone.stem.body.3", "backbone.local_attention", "backbone.embeddings"],
        ["backbone.stem.body.2"],
        ["backbone.stem.body.1"],
        ["backbone.stem.body.0"],
        ["backbone.stem.input_layer"],
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_channels": 2}, "`num_channels` must be 1 or 3, got 2"),
        ({"num_branches": 0}, "`num_branches` must be >= 1, got 0"),
        ({"num_attention_heads": 5}, "`hidden_size` must be a multiple of `num_attention_heads`, got 32 and 5"),
        ({"mlp_ratio": 0}, "`mlp_ratio` must be > 0, got 0"),
        ({"stem_units": (1, 1)}, r"must name the same stages, at least one, got \(1, 1\) and \(8, 16, 32\)"),
        ({"stem_units": (1, 0, 1)}, r"`stem_units` and `stem_widths` must be >= 1, got \(1, 0, 1\)"),
        ({"branch_reduction": 5}, "must be a multiple of `branch_reduction`, got 32 and 5"),
        ({"mad_probability": 1.5}, r"`mad_probability` must be in \[0, 1\], got 1.5"),
        ({"msad_probability": -0.1}, r"`msad_probability` must be in \[0, 1\], got -0.1"),
    ],
)
def test_bad_configurations_are_refused(fields, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        tiny_config(**fields)
