"""Attention and class activation: by hand, and of the models themselves."""

import numpy as np
import pytest
import torch
from conftest import tiny_vit_config
from scipy.stats import spearmanr
from small_networks import small
from test_loading import timm_model
from transformers import (
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    SwinConfig,
    SwinForImageClassification,
    ViTForImageClassification,
)

from fer_hf.data.collator import FaceCollator
from fer_hf.errors import BadInputError
from fer_hf.evaluation.attention import (
    attention,
    class_activation,
    class_means,
    maps_over_faces,
    rollout,
    rollout_map,
)
from fer_hf.models.loading import load_trained_classifier
from fer_hf.models.zoo import build


# Two layers, one face, two heads, three tokens. Means over heads: FIRST and SECOND below.
HEADS = np.array(
    [
        [[[[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[0, 1, 0], [0, 1, 0], [0, 1, 0]]]],
        [[[[0, 0, 1], [0, 0, 1], [0, 0, 1]], [[0, 0, 1], [1, 0, 0], [0, 0, 1]]]],
    ],
    dtype=float,
)
FIRST = np.array([[0.5, 0.5, 0], [0, 1, 0], [0, 0.5, 0.5]])
SECOND = np.array([[0, 0, 1], [0.5, 0, 0.5], [0, 0, 1]])


def test_a_rollout_is_the_one_worked_out_by_hand():
    # Half attention, half identity: rows of the first layer are (3/4, 1/4, 0), (0, 1, 0), (0, 1/4, 3/4), of the second
    # (1/2, 0, 1/2), (1/4, 1/2, 1/4), (0, 0, 1). The class token's row of their product, second times first:
    # 1/2 (3/4, 1/4, 0) + 1/2 (0, 1/4, 3/4) = (3/8, 1/4, 3/8).
    found = rollout(HEADS)
    assert found.shape == (1, 3, 3)
    assert found[0, 0] == pytest.approx([3 / 8, 1 / 4, 3 / 8])
    assert found[0, 2] == pytest.approx([0, 1 / 4, 3 / 4])
    eye = np.eye(3)
    assert found[0] == pytest.approx((0.5 * SECOND + 0.5 * eye) @ (0.5 * FIRST + 0.5 * eye))


def test_rows_of_a_rollout_sum_to_one_and_attention_to_oneself_moves_nothing():
    layers = np.random.default_rng(0).dirichlet(np.ones(10), size=(4, 2, 3, 10))
    assert rollout(layers).sum(axis=-1) == pytest.approx(1)
    assert rollout(np.broadcast_to(np.eye(10), layers.shape)) == pytest.approx(
        np.broadcast_to(np.eye(10), (2, 10, 10))
    )


def test_the_map_is_the_class_tokens_row_without_what_are_no_patches():
    assert rollout_map(HEADS, (1, 2))[0] == pytest.approx(np.array([[1 / 4, 3 / 8]]))
    # Token 1 as a register: one patch is left.
    assert rollout_map(HEADS, (1, 1))[0] == pytest.approx(np.array([[3 / 8]]))
    # All tokens are patches: the mean of the rows (3/8, 1/4, 3/8), (3/16, 5/8, 3/16) and (0, 1/4, 3/4).
    assert rollout_map(HEADS, (3, 1))[0] == pytest.approx(np.array([[9 / 48], [9 / 24], [21 / 48]]))


def test_a_grid_of_more_patches_than_tokens_is_refused():
    with pytest.raises(BadInputError, match="3 tokens cannot be a grid of 2 x 2"):
        rollout_map(HEADS, (2, 2))


@pytest.mark.numeric
def test_of_a_vision_transformer_the_rollout_is_that_of_its_own_probabilities():
    model = ViTForImageClassification(tiny_vit_config()).eval()
    images = torch.randn(2, 3, 48, 48)
    assert model.config._attn_implementation == "sdpa"
    found = attention(model.train(), images)
    assert model.training
    assert model.config._attn_implementation == "sdpa"
    assert list(found) == ["rollout"]
    model.eval().set_attn_implementation("eager")
    with torch.no_grad():
        layers = np.stack([layer.numpy() for layer in model(images, output_attentions=True).attentions])
    row = np.eye(10)[0]
    for layer in layers[::-1, 1]:  # by vectors, from the class token down
        row = 0.5 * row @ layer.mean(axis=0) + 0.5 * row
    assert found["rollout"][1].ravel() == pytest.approx(row[1:], abs=1e-6)
    assert found["rollout"].shape == (2, 3, 3)


def test_registers_are_left_out_of_the_map():
    config = Dinov2WithRegistersConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=48, patch_size=16, num_register_tokens=4
    )
    found = attention(Dinov2WithRegistersForImageClassification(config), torch.randn(1, 3, 48, 48))
    assert found["rollout"].shape == (1, 3, 3)
    assert 0 < found["rollout"].sum() < 1


@pytest.mark.numeric
def test_our_models_give_their_attention_by_name():
    dacl = build("dacl-48", attention_hidden_sizes=[16, 8])
    images = torch.randn(2, 3, 48, 48)
    found = attention(dacl, images)
    assert list(found) == ["features"]
    with torch.no_grad():
        assert found["features"] == pytest.approx(dacl.eval()(images).attention_weights.numpy())
    assert found["features"].shape == (2, 512)

    transfer = build(
        "transfer", image_size=32, stem_units=[1, 1], stem_widths=[16, 32], hidden_size=16, num_hidden_layers=2,
        num_attention_heads=2, num_branches=3,
    )  # fmt: skip
    images = torch.randn(2, 3, 32, 32)
    found = attention(transfer, images)
    with torch.no_grad():
        assert found["local"] == pytest.approx(transfer.eval()(images).local_attentions.numpy())
    assert found["local"].shape == (2, 3, 8, 8)
    assert found["rollout"].shape == (2, 8, 8)


def test_a_network_without_attention_over_the_whole_image_gives_none():
    sizes = {
        "image_size": 48,
        "patch_size": 4,
        "embed_dim": 8,
        "depths": [1, 1],
        "num_heads": [1, 2],
        "window_size": 3,
    }
    swin = SwinForImageClassification(SwinConfig(**sizes))
    resnet = ResNetForImageClassification(ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1]))
    for model in (swin, resnet, build("cnn-v1"), timm_model("resnet10t", [3, 64, 64])):
        assert attention(model, torch.randn(2, 3, 48, 48)) == {}
    assert maps_over_faces(swin, torch.randn(2, 3, 48, 48), {}) == {}


@pytest.mark.numeric
def test_under_a_mean_over_positions_class_activation_is_the_classifiers_own_weighting_of_the_last_map():
    # The gradient of logit c by any position of channel k is weight[c, k] / positions: the map of Zhou et al., 2016.
    model, images, class_ids = small("compact-cnn"), torch.randn(3, 3, 48, 48), [4, 0, 2]
    found = class_activation(model, images, class_ids)
    assert model.training
    kept = []
    hook = model.backbone.stages[-1].register_forward_hook(lambda module, inputs, output: kept.append(output))
    with torch.no_grad():
        model.eval()(pixel_values=images)
    hook.remove()
    weights = model.classifier.weight.detach()[class_ids] / 36
    expected = torch.einsum("fc,fcrs->frs", weights, kept[0]).relu()
    assert found.shape == (3, 6, 6)
    assert found == pytest.approx(expected.numpy(), abs=1e-6)
    assert found.max() > 0


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: small("cnn-v2"), (6, 6)),
        (lambda: small("cnn-transformer"), (12, 12)),
        (lambda: build("dacl-48", attention_hidden_sizes=[16, 8]), (2, 2)),
        (lambda: small("prelu-cnn"), (9, 9)),
        (lambda: timm_model("resnet10t", [3, 64, 64]), (2, 2)),
        (
            lambda: ResNetForImageClassification(ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1])),
            (6, 6),
        ),
        (lambda: ViTForImageClassification(tiny_vit_config()), None),
    ],
    ids=["cnn-v2", "cnn-transformer", "dacl-48", "prelu-cnn", "timm resnet", "resnet", "vit"],
)
def test_class_activation_is_of_the_last_map_of_a_convolutional_network(make, shape):
    found = class_activation(make(), torch.randn(2, 3, 48, 48))
    assert (found if found is None else found.shape) == (shape and (2, *shape))


def test_class_activation_depends_on_the_weights_and_on_the_class(drawn_faces):
    # The sanity check of Adebayo et al., 2018 (https://huggingface.co/papers/1810.03292): weights are made random from
    # the head down. Likeness is rank correlation, over all faces: 1 is the same map.
    model, processor = load_trained_classifier("fer-compact-cnn")
    images = FaceCollator(processor)(list(drawn_faces["test"]))["pixel_values"]
    answers = model(pixel_values=images).logits.argmax(dim=-1)
    own = class_activation(model, images, answers)

    def likeness(class_ids):
        return spearmanr(own, class_activation(model, images, class_ids), axis=None).statistic

    assert likeness(answers) == pytest.approx(1)
    assert class_activation(model, images) == pytest.approx(own)
    assert abs(likeness((answers + 1) % 7)) < 0.5
    fresh = type(model)(model.config)
    model.classifier.load_state_dict(fresh.classifier.state_dict())
    assert likeness(answers) < 0.8
    for number in reversed(range(len(model.backbone.stages))):
        model.backbone.stages[number].load_state_dict(fresh.backbone.stages[number].state_dict())
        assert abs(likeness(answers)) < 0.4


def test_of_each_expression_there_is_a_mean_and_none_without_faces():
    weights = np.array([[0.1, 0.2, 0.3], [0.3, 0.4, 0.5], [0.9, 0.5, 0.1]])
    means = class_means(weights, [0, 0, 2], 3)
    assert means[0] == pytest.approx([0.2, 0.3, 0.4])
    assert np.isnan(means[1]).all()
    assert means[2] == pytest.approx(weights[2])
