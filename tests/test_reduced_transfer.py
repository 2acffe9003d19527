"""The CNN comparison's reduced TransFER: sizes, parts, what Adam does to it, and the duties of every model."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from learning import ENTROPY, accuracy, happy_quarter, train
from torch import nn
from torchvision.models import resnet18

from fer_hf.models import ReducedTransFERConfig, ReducedTransFERForImageClassification
from fer_hf.models.heads import head_modules
from fer_hf.models.networks.modeling_reduced_transfer import ReducedTransFERBranches, ReducedTransFERStem
from fer_hf.models.zoo import build
from fer_hf.training.unfreezing import unfreeze_order


def tiny(**changes) -> ReducedTransFERForImageClassification:
    """One block a stage, two layers, 64 wide; 48-pixel faces become 2x2 maps."""
    fields = {
        "image_size": 48,
        "stem_blocks": (1, 1, 1, 1),
        "stem_widths": (8, 16, 32, 64),
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_labels": 7,
    }
    return ReducedTransFERForImageClassification(ReducedTransFERConfig(**{**fields, **changes}))


@pytest.fixture(scope="module")
def faces(drawn_faces):
    return happy_quarter(drawn_faces)


def test_the_parameters_are_those_of_the_comparisons_network_to_the_digit():
    with torch.device("meta"):
        model = build("transfer-reduced")
    assert model.num_parameters() == 231_553_479
    assert sum(p.numel() for p in model.backbone.branches.parameters()) == 18_878_464
    assert sum(p.numel() for p in model.backbone.layers.parameters()) == 201_490_432


def test_two_maps_below_each_other_make_98_tokens():
    with torch.device("meta"):
        model = build("transfer-reduced").eval()
        x = torch.empty(2, 1, 224, 224)
    assert model.backbone.stem(x).shape == (2, 512, 7, 7)
    assert model.backbone.branches(model.backbone.stem(x)).shape == (2, 2048, 14, 7)
    out = model.backbone(x, output_hidden_states=True)
    assert [h.shape for h in out.hidden_states] == [(2, 98, 2048)] * 9
    assert out.pooler_output.shape == (2, 2048)


@pytest.mark.numeric
def test_the_stem_is_torchvisions_resnet_18():
    network = resnet18().eval()
    network.avgpool = network.fc = nn.Identity()
    stem = ReducedTransFERStem(ReducedTransFERConfig(num_channels=3)).eval()
    stem.load_state_dict(network.state_dict())
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(stem(x).flatten(1), network(x))


@pytest.mark.numeric
def test_elements_of_the_branches_are_kept_four_times_in_ten_and_not_rescaled():
    branches = ReducedTransFERBranches(tiny().config)
    x = torch.randn(40, 64, 2, 2)
    with torch.no_grad():
        whole, masked = branches.eval()(x), branches.train()(x)
    first, second = (nn.functional.conv2d(x, conv.weight, conv.bias, padding=1) for conv in branches.convs)
    torch.testing.assert_close(whole, torch.cat([first, second], dim=2))
    kept = masked != 0
    assert torch.equal(masked, torch.where(kept, whole, 0))
    n = kept.numel()  # 40 * 64 * 4 * 2 = 20,480
    assert abs(kept.float().mean().item() - 0.4) < 4 * (0.24 / n) ** 0.5
    # Each element by itself: the branches agree as often as two independent coins do.
    assert abs((kept[:, :, :2] & kept[:, :, 2:]).float().mean().item() - 0.16) < 4 * (0.1344 / (n / 2)) ** 0.5


@pytest.mark.numeric
def test_the_head_is_linear_on_the_mean_of_the_tokens():
    model, x = tiny().double().eval(), torch.randn(2, 1, 48, 48, dtype=torch.float64)
    out = model.backbone(x, output_hidden_states=True)
    hidden = model.backbone.branches(model.backbone.stem(x))
    tokens = torch.stack([hidden[:, :, i, j] for i in range(4) for j in range(2)], dim=1)
    torch.testing.assert_close(out.hidden_states[0], tokens)
    for layer in model.backbone.layers:
        tokens = nn.TransformerEncoderLayer.forward(layer, tokens)
    torch.testing.assert_close(out.last_hidden_state, tokens)
    torch.testing.assert_close(model(x).logits, model.classifier(tokens.mean(dim=1)))


def test_attention_starts_as_pytorchs_does():
    attention = tiny().backbone.layers[0].self_attn
    assert not attention.in_proj_bias.any()
    assert not attention.out_proj.bias.any()
    assert attention.in_proj_weight.abs().max().item() == pytest.approx((6 / (64 + 3 * 64)) ** 0.5, rel=0.01)
    assert attention.out_proj.weight.abs().max().item() == pytest.approx(64**-0.5, rel=0.01)


def test_gradual_unfreezing_goes_from_the_encoders_top_through_the_stem():
    model = tiny(stem_blocks=(2, 1, 1, 2))
    assert head_modules(model) == ["classifier"]
    order = unfreeze_order(model)
    assert order[:2] == [["backbone.layers.1"], ["backbone.layers.0"]]
    covered = [name for group in order for name in group]
    unfrozen = {n for n, _ in model.backbone.named_parameters(prefix="backbone") if n.startswith(tuple(covered))}
    assert len(unfrozen) == len(list(model.backbone.parameters()))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_channels": 2}, "`num_channels` must be 1 or 3, got 2"),
        ({"image_size": 0}, "`image_size` must be >= 1, got 0"),
        ({"stem_blocks": (1, 1)}, r"`stem_blocks` must be four numbers >= 1, got \(1, 1\)"),
        ({"stem_widths": (8, 8, 8, 0)}, r"`stem_widths` must be four numbers >= 1, got \(8, 8, 8, 0\)"),
        ({"num_attention_heads": 5}, "`hidden_size` must be a multiple of `num_attention_heads`, got 64 and 5"),
        ({"branch_keep_probability": 0}, r"`branch_keep_probability` must be in \(0, 1\], got 0"),
        ({"dropout": 1}, r"`dropout` must be in \[0, 1\), got 1"),
    ],
)
def test_bad_configurations_are_refused(fields, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        tiny(**fields)


@pytest.mark.numeric
def test_a_small_network_learns_64_faces(faces):
    model = tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses, logits = train(model, optimizer, *faces, steps=20)
    assert losses[-1] < losses[0] / 2
    assert accuracy(logits, faces[1]) > 0.5


def deep(num_hidden_layers: int = 16) -> ReducedTransFERForImageClassification:
    """As the comparison's, with twice the layers and an eighth of the width."""
    return tiny(hidden_size=256, intermediate_size=256, num_hidden_layers=num_hidden_layers)


@pytest.mark.numeric
def test_under_adam_a_deep_network_gives_every_face_the_same_answer(faces):
    # What the comparison reports as 25.1 % accuracy, at its rate. Norms that follow the sums, depth and width are to
    # blame: after some steps the output no longer depends on the input, and the loss rests at the labels' entropy. It
    # happens without dropout and without the branches' masks too (8 layers, 512 wide).
    model = deep()
    losses, logits = train(model, torch.optim.Adam(model.parameters(), lr=1e-3), *faces, steps=7)
    assert losses[-1] > ENTROPY - 0.05
    assert logits.std(dim=0).max() < 0.02


@pytest.mark.numeric
def test_with_sgd_the_same_network_learns(faces):
    model = deep()
    losses, _ = train(model, torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9), *faces, steps=12)
    assert min(losses[-3:]) < ENTROPY - 0.3


@pytest.mark.numeric
def test_under_adam_a_shallow_network_of_that_width_learns(faces):
    model = deep(num_hidden_layers=2)
    losses, _ = train(model, torch.optim.Adam(model.parameters(), lr=1e-3), *faces, steps=15)
    assert min(losses[-3:]) < ENTROPY - 0.3
