"""Multi-layer heads on the library's vision transformers."""

import copy

import pytest
import torch
from conftest import tiny_vit_config
from huggingface_hub.errors import StrictDataclassClassValidationError
from learning import accuracy, drawn_batch, train
from safetensors.torch import load_file
from transformers import (
    AutoModelForImageClassification,
    BeitConfig,
    BeitForImageClassification,
    DeiTConfig,
    Dinov2Config,
    Dinov2WithRegistersConfig,
    DINOv3ViTConfig,
    SiglipVisionConfig,
    SwinConfig,
    SwinForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

from fer_hf import HEADS, MLPHeadConfig, MLPHeadForImageClassification
from fer_hf.labels import id2label, label2id


SHAPE = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 48,
    "patch_size": 16,
}  # fmt: skip
BACKBONES = {
    "vit": ViTConfig(**SHAPE),
    "deit": DeiTConfig(**SHAPE),
    "beit": BeitConfig(**SHAPE),
    "dinov2": Dinov2Config(**SHAPE),
    "dinov2_with_registers": Dinov2WithRegistersConfig(**SHAPE),
    "dinov3_vit": DINOv3ViTConfig(**SHAPE),
    "swin": SwinConfig(
        image_size=48, patch_size=4, embed_dim=16, depths=[1, 1], num_heads=[1, 2], window_size=3, drop_path_rate=0.0
    ),
    "siglip_vision_model": SiglipVisionConfig(**SHAPE),
}
every_backbone = pytest.mark.parametrize("name", list(BACKBONES))


def make(name="vit", **fields):
    fields = {"backbone_config": copy.deepcopy(BACKBONES[name]), "head_hidden_sizes": [16, 8], **fields}
    config = MLPHeadConfig(id2label=id2label(), label2id=label2id(), **fields)
    return MLPHeadForImageClassification(config).eval()


def same(model, other):
    ours, theirs = model.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize(("head", "parameters"), [("mlp3", 526_855), ("mlp5", 566_663), ("mlp5_bn", 568_583)])
def test_the_heads_have_the_reports_parameter_counts(head, parameters):
    config = MLPHeadConfig(backbone_config=ViTConfig(), num_labels=7, **HEADS[head])
    with torch.device("meta"):
        model = MLPHeadForImageClassification(config)
    assert sum(p.numel() for p in model.classifier.parameters()) == parameters
    assert sum(p.numel() for p in model.backbone.parameters()) == 85_798_656  # ViT-B/16 without its pooler


@every_backbone
@pytest.mark.parametrize("original_names", [True, False])
def test_saving_keeps_every_tensor_under_either_names(name, original_names, tmp_path):
    model = make(name, head_batch_norm=True)
    model.save_pretrained(tmp_path, save_original_format=original_names)
    again, info = AutoModelForImageClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert type(again) is MLPHeadForImageClassification
    assert not any(info.values())
    assert same(model, again)
    assert again.config.pooling == model.config.pooling
    assert type(again.config.backbone_config) is type(BACKBONES[name])
    faces = torch.randn(2, 3, 48, 48)
    assert torch.equal(again(faces).logits, model(faces).logits)
    on_disk = load_file(tmp_path / "model.safetensors").keys()
    if name in ("vit", "swin"):  # names differ, so that the test above has something to test
        assert (on_disk == model.state_dict().keys()) is not original_names


def test_the_image_size_is_the_backbones_and_may_be_set():
    config = MLPHeadConfig(backbone_config=copy.deepcopy(BACKBONES["vit"]), image_size=64)
    assert config.backbone_config.image_size == config.image_size == 64
    config.image_size = 32
    assert MLPHeadForImageClassification(config)(torch.randn(1, 3, 32, 32)).logits.shape == (1, 2)
    assert "image_size" not in config.to_dict()


def test_a_checkpoint_of_a_backbone_alone_gets_a_new_head(tmp_path):
    backbone = ViTModel(BACKBONES["vit"], add_pooling_layer=False)
    backbone.save_pretrained(tmp_path)
    model, info = MLPHeadForImageClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert same(model.backbone, backbone)
    assert {key.partition(".")[0] for key in info["missing_keys"]} == {"classifier"}


@pytest.mark.numeric
@pytest.mark.parametrize(
    ("name", "stock"), [("vit", ViTForImageClassification), ("swin", SwinForImageClassification),
                        ("beit", BeitForImageClassification)]
)  # fmt: skip
def test_one_linear_layer_answers_as_the_stock_classifier_does(name, stock):
    ours = make(name, head_hidden_sizes=[])
    config = copy.deepcopy(BACKBONES[name])
    config.update({"num_labels": 7})
    theirs = stock(config).eval()
    getattr(theirs, theirs.base_model_prefix).load_state_dict(ours.backbone.state_dict())
    theirs.classifier.load_state_dict(ours.classifier[0].state_dict())
    faces = torch.randn(2, 3, 48, 48)
    torch.testing.assert_close(ours(faces).logits, theirs(faces).logits)


@pytest.mark.numeric
def test_the_head_sees_the_class_token_or_the_mean_of_all():
    for name, pooling in (("dinov2", "cls"), ("siglip_vision_model", "mean"), ("vit", "mean")):
        model = make(name, head_hidden_sizes=[], pooling=pooling)
        faces = torch.randn(2, 3, 48, 48)
        tokens = model.backbone(faces).last_hidden_state
        features = tokens[:, 0] if pooling == "cls" else tokens.mean(dim=1)
        torch.testing.assert_close(model(faces).logits, model.classifier(features))


@every_backbone
def test_every_trainable_parameter_gets_a_gradient(name):
    model = make(name, head_batch_norm=True).train()
    model(torch.randn(8, 3, 48, 48), labels=torch.arange(8) % 7).loss.backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == [n for n in without if "mask_token" in n]  # used in pre-training only


@every_backbone
def test_hidden_states_and_attentions_are_the_backbones(name):
    model, faces = make(name), torch.randn(1, 3, 48, 48)
    assert model(faces).hidden_states is None
    outputs = model(faces, output_hidden_states=True)
    expected = model.backbone(faces, output_hidden_states=True).hidden_states
    assert len(outputs.hidden_states) == 3
    assert all(torch.equal(a, b) for a, b in zip(outputs.hidden_states, expected, strict=True))
    model.set_attn_implementation("eager")
    assert len(model(faces, output_attentions=True).attentions) == 2


def test_the_config_may_ask_for_hidden_states():
    assert len(make(output_hidden_states=True)(torch.randn(1, 3, 48, 48)).hidden_states) == 3


def test_another_image_size_is_refused_or_interpolated():
    model = make()
    with pytest.raises(ValueError, match=r"\(64\*64\).*\(48\*48\)"):
        model(torch.randn(1, 3, 64, 64))
    assert model(torch.randn(1, 3, 64, 64), interpolate_pos_encoding=True).logits.shape == (1, 7)


@pytest.mark.numeric
def test_a_small_one_learns_drawn_faces(drawn_faces):
    images, labels = drawn_batch(drawn_faces, 56)
    backbone = ViTConfig(**{**SHAPE, "initializer_range": 32**-0.5})  # 0.02 is for wider ones
    model = make(backbone_config=backbone, head_hidden_sizes=[32, 16], head_dropout=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses, logits = train(model, optimizer, images, labels, steps=90)
    assert losses[-1] < 0.8 * losses[0]
    assert accuracy(logits, labels) > 0.5


def test_bad_configurations_are_refused():
    refused = StrictDataclassClassValidationError
    with pytest.raises(refused, match=r"`head_dropout` must be in \[0, 1\), got 1"):
        MLPHeadConfig(head_dropout=1)
    with pytest.raises(refused, match="`head_hidden_sizes` must be widths >= 1"):
        MLPHeadConfig(head_hidden_sizes=[8, 0])
    with pytest.raises(refused, match=r"`backbone_config` must be of vit, deit, .*, got 'resnet'"):
        MLPHeadConfig(backbone_config={"model_type": "resnet"})
    with pytest.raises(refused, match="`pooling` cls needs a class token, and a swin has none"):
        MLPHeadConfig(backbone_config=BACKBONES["swin"], pooling="cls")
    with pytest.raises(refused, match="`pooling` must be cls, mean or pooler, got 'max'"):
        MLPHeadConfig(pooling="max")
    with pytest.raises(refused, match="`pooling` pooler: a vit is built without"):
        MLPHeadConfig(pooling="pooler")


def test_the_backbone_is_the_librarys_own():
    model = MLPHeadForImageClassification(MLPHeadConfig(backbone_config=tiny_vit_config()))
    assert type(model.base_model) is ViTModel
    assert model.base_model.pooler is None
