"""Loading checkpoints, with nothing but the head new, and the multi-layer heads."""

import logging

import pytest
import torch
from conftest import tiny_vit_config
from huggingface_hub.errors import StrictDataclassClassValidationError
from safetensors.torch import load_file
from transformers import (
    AutoModelForImageClassification,
    SwinConfig,
    SwinForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

from fer_hf import HEADS, ViTMLPConfig, ViTMLPForImageClassification, load_image_classifier
from fer_hf.models import ModelError


@pytest.fixture
def in21k(tmp_path, processor):
    """A small checkpoint in the form of google/vit-base-patch16-224-in21k: old names, a pooler, no classifier."""
    backbone = ViTModel(tiny_vit_config(id2label=None, label2id=None, problem_type=None), add_pooling_layer=True)
    backbone.save_pretrained(tmp_path / "in21k")
    processor.do_convert_rgb = None
    processor.save_pretrained(tmp_path / "in21k")
    keys = load_file(tmp_path / "in21k" / "model.safetensors").keys()
    assert "encoder.layer.2.attention.attention.query.weight" in keys
    assert "pooler.dense.weight" in keys
    return str(tmp_path / "in21k"), backbone


@pytest.mark.parametrize("head", list(HEADS))
def test_a_checkpoint_in_the_published_form_loads_with_only_the_head_new(in21k, names, head, caplog):
    path, backbone = in21k
    with caplog.at_level(logging.INFO, "fer_hf"):
        model, processor = load_image_classifier(path, names, head)
    new = next(record.message for record in caplog.records if "new weights" in record.message)
    assert "classifier" in new
    assert "vit." not in new
    assert "weights left aside: pooler.dense.bias, pooler.dense.weight" in caplog.text
    loaded = model.vit.state_dict()
    expected = {key: value for key, value in backbone.state_dict().items() if not key.startswith("pooler")}
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[key], expected[key]) for key in expected)
    assert model.config.id2label == dict(enumerate(names))
    assert processor.do_convert_rgb is True


def test_a_thousand_class_head_is_dropped(tmp_path, names, processor):
    ViTForImageClassification(tiny_vit_config(num_labels=1000, id2label=None, label2id=None)).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    model, _ = load_image_classifier(str(tmp_path), names)
    assert model.classifier.weight.shape == (7, 32)


def test_a_trained_head_of_the_same_form_is_kept(tmp_path, names, processor, tiny_vit):
    tiny_vit.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    model, _ = load_image_classifier(str(tmp_path), names)
    assert torch.equal(model.classifier.weight, tiny_vit.classifier.weight)


@pytest.mark.parametrize(("head", "parameters"), [("mlp3", 526_855), ("mlp5", 566_663), ("mlp5_bn", 568_583)])
def test_the_heads_have_the_reports_parameter_counts(head, parameters):
    config = ViTMLPConfig(**{**tiny_vit_config(hidden_size=768).to_dict(), **HEADS[head], "num_hidden_layers": 1})
    model = ViTMLPForImageClassification(config)
    assert sum(p.numel() for p in model.classifier.parameters()) == parameters


def test_a_multi_layer_head_survives_saving_and_the_auto_class(tmp_path):
    config = ViTMLPConfig(**{**tiny_vit_config().to_dict(), **HEADS["mlp5_bn"]})
    model = ViTMLPForImageClassification(config).eval()
    model.save_pretrained(tmp_path)
    again = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert type(again) is ViTMLPForImageClassification
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    )
    faces = torch.randn(2, 3, 48, 48)
    torch.testing.assert_close(again(faces).logits, model(faces).logits)
    # The code travels with the checkpoint, for machines without fer_hf.
    assert (tmp_path / "modeling_vit_mlp.py").is_file()
    assert (tmp_path / "configuration_vit_mlp.py").is_file()


def test_the_multi_layer_heads_loss_is_cross_entropy():
    model = ViTMLPForImageClassification(ViTMLPConfig(**tiny_vit_config().to_dict())).eval()
    faces, labels = torch.randn(4, 3, 48, 48), torch.tensor([0, 3, 6, 6])
    outputs = model(faces, labels=labels)
    torch.testing.assert_close(outputs.loss, torch.nn.functional.cross_entropy(outputs.logits, labels))


def test_bad_heads_and_checkpoints_are_refused_in_one_line(tmp_path, names, processor):
    with pytest.raises(ModelError, match="`head` must be one of linear, mlp3, mlp5, mlp5_bn, got 'mlp4'"):
        load_image_classifier("x", names, "mlp4")
    with pytest.raises(ModelError, match="Cannot load `model_name_or_path`"):
        load_image_classifier(str(tmp_path / "nothing"), names)
    swin = SwinConfig(image_size=32, patch_size=2, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4)
    SwinForImageClassification(swin).save_pretrained(tmp_path / "swin")
    processor.save_pretrained(tmp_path / "swin")
    with pytest.raises(ModelError, match="`head` 'mlp3' needs a ViT"):
        load_image_classifier(str(tmp_path / "swin"), names, "mlp3")
    with pytest.raises(StrictDataclassClassValidationError, match=r"`head_dropout` must be in \[0, 1\), got 1"):
        ViTMLPConfig(head_dropout=1)


def test_a_checkpoint_that_lacks_backbone_weights_is_refused(in21k, names):
    path, _ = in21k
    deeper = ViTConfig.from_pretrained(path)
    deeper.num_hidden_layers = 4
    deeper.save_pretrained(path)
    with pytest.raises(ModelError, match=r"16 of 70 backbone tensors are missing"):
        load_image_classifier(path, names)
