"""Weights from elsewhere: which keys meet, what is refused, and what ends in the network."""

import logging
import subprocess
import sys

import pytest
import torch
from conftest import tiny_vit_config
from safetensors.torch import load_file, save_file
from torchvision.models import resnet18
from transformers import ViTForImageClassification, ViTModel

from fer_hf import build
from fer_hf.errors import ModelError
from fer_hf.models import load_backbone_weights


@pytest.fixture
def gray():
    return build("resnet50", network="resnet18", image_size=48)


@pytest.fixture
def rgb():
    return build("resnet50", network="resnet18", image_size=48, num_channels=3)


def write(path, state):
    save_file({key: value.contiguous() for key, value in state.items()}, path)
    return str(path)


@pytest.fixture(scope="module")
def published():
    """torchvision's state dict, which has a classifier of its own."""
    torch.manual_seed(1)
    return resnet18().state_dict()


def without_head(state):
    return {key: value for key, value in state.items() if not key.startswith("fc.")}


def test_a_head_in_the_file_is_refused_unless_it_may_be_left_aside(rgb, published, tmp_path, caplog):
    path = write(tmp_path / "r18.safetensors", published)
    before = {key: value.clone() for key, value in rgb.state_dict().items()}
    with pytest.raises(
        ModelError, match=r"2 tensor\(s\) of the file without a place in the backbone: fc.bias, fc.weight"
    ):
        load_backbone_weights(rgb, path)
    assert all(torch.equal(value, before[key]) for key, value in rgb.state_dict().items())
    with caplog.at_level(logging.INFO, "fer_hf"):
        mapping = load_backbone_weights(rgb, path, allow_unmatched=True)
    assert mapping["layer1.0.conv1.weight"] == "backbone.layer1.0.conv1.weight"
    assert len(mapping) == 120
    assert "120 of 120 backbone tensors loaded, such as " in caplog.text
    assert "left aside: 2 tensor(s) of the file without a place in the backbone: fc.bias, fc.weight" in caplog.text
    assert all(torch.equal(rgb.backbone.state_dict()[key], value) for key, value in without_head(published).items())
    assert torch.equal(rgb.classifier.weight, before["classifier.weight"])


def test_the_whole_mapping_is_told_to_those_who_debug(rgb, published, tmp_path, caplog):
    path = write(tmp_path / "r18.safetensors", without_head(published))
    with caplog.at_level(logging.DEBUG, "fer_hf"):
        load_backbone_weights(rgb, path)
    assert sum(" -> " in record.message for record in caplog.records if record.levelname == "DEBUG") == 120
    assert "layer4.1.bn2.running_var -> backbone.layer4.1.bn2.running_var" in caplog.text


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "model.", "module.encoder.", "state.net.trunk."])
def test_any_common_prefix_is_found(rgb, published, tmp_path, prefix):
    state = {prefix + key: value for key, value in without_head(published).items()}
    load_backbone_weights(rgb, write(tmp_path / "x.safetensors", state))
    assert torch.equal(rgb.backbone.layer3[0].conv2.weight, published["layer3.0.conv2.weight"])


def test_a_second_network_in_the_file_is_not_mixed_in(rgb, published, tmp_path):
    # As momentum contrast leaves them: the query encoder has a head, which the key encoder here lacks.
    query = {f"module.encoder_q.{key}": value for key, value in without_head(published).items()}
    key = {f"module.encoder_k.{key}": value + 1 for key, value in published.items() if key.startswith("layer")}
    mapping = load_backbone_weights(rgb, write(tmp_path / "x.safetensors", query | key), allow_unmatched=True)
    assert all(theirs.startswith("module.encoder_q.") for theirs in mapping)
    assert len(mapping) == 120


@pytest.mark.numeric
def test_a_gray_first_convolution_sees_in_gray_what_the_rgb_one_saw(gray, published, tmp_path, caplog):
    path = write(tmp_path / "r18.safetensors", without_head(published))
    with caplog.at_level(logging.INFO, "fer_hf"):
        load_backbone_weights(gray, path)
    assert "conv1.weight is summed over its 3 input channels, for gray faces" in caplog.text
    torch.testing.assert_close(gray.backbone.conv1.weight, published["conv1.weight"].sum(dim=1, keepdim=True))
    network = resnet18()
    network.load_state_dict(published)
    network.fc = torch.nn.Identity()
    faces = torch.randn(2, 1, 48, 48)
    expected = network.eval()(faces.expand(-1, 3, -1, -1))
    torch.testing.assert_close(gray.eval().backbone(faces).pooler_output, expected, rtol=1e-4, atol=1e-4)


def test_wrong_shapes_and_missing_tensors_are_named(rgb, published, tmp_path):
    state = without_head(published)
    state["layer1.0.conv1.weight"] = torch.zeros(64, 64, 5, 5)
    del state["bn1.weight"]
    path = write(tmp_path / "x.safetensors", state)
    with pytest.raises(ModelError) as error:
        load_backbone_weights(rgb, path)
    assert "1 tensor(s) of the backbone that the file lacks: backbone.bn1.weight" in str(error.value)
    assert (
        "1 tensor(s) of another shape: layer1.0.conv1.weight (64, 64, 5, 5) for backbone.layer1.0.conv1.weight "
        "(64, 64, 3, 3)"
    ) in str(error.value)
    assert "\n" not in str(error.value)
    before = rgb.backbone.layer1[0].conv1.weight.clone()
    assert len(load_backbone_weights(rgb, path, allow_unmatched=True)) == 118
    assert torch.equal(rgb.backbone.layer1[0].conv1.weight, before)
    assert torch.equal(rgb.backbone.conv1.weight, published["conv1.weight"])


def test_counts_of_batches_may_be_absent(rgb, published, tmp_path):
    state = {key: value for key, value in without_head(published).items() if "num_batches" not in key}
    assert len(load_backbone_weights(rgb, write(tmp_path / "x.safetensors", state))) == 100


def test_a_file_of_something_else_is_refused_even_when_much_is_allowed(rgb, tmp_path):
    path = write(tmp_path / "x.safetensors", {"decoder.weight": torch.zeros(2)})
    with pytest.raises(ModelError, match=r"none of its 1 tensors, such as decoder.weight, has the name of one of"):
        load_backbone_weights(rgb, path, allow_unmatched=True)


def test_a_folder_of_a_vision_transformer_gives_its_backbone(tmp_path):
    source = ViTModel(tiny_vit_config(), add_pooling_layer=False)
    source.save_pretrained(tmp_path, save_original_format=False)
    model = ViTForImageClassification(tiny_vit_config())
    load_backbone_weights(model, str(tmp_path))
    assert all(torch.equal(model.vit.state_dict()[key], value) for key, value in source.state_dict().items())


@pytest.mark.parametrize("suffix", ["pth", "pt", "bin", "ckpt", "tar"])
def test_a_pickle_is_refused_with_the_command_that_converts_it(rgb, published, tmp_path, suffix):
    path = tmp_path / f"my weights.{suffix}"
    torch.save({"state_dict": published, "epoch": 3}, path)
    with pytest.raises(ModelError, match="is a pickle, which may run any code") as error:
        load_backbone_weights(rgb, str(path))
    first, command = str(error.value).splitlines()
    assert "Convert it first" in first
    if suffix == "tar":  # once is enough: it takes seconds
        command = command.replace("python", sys.executable, 1)
        subprocess.run(command, shell=True, check=True, cwd=tmp_path)
        converted = load_file(tmp_path / "my weights.safetensors")
        assert converted.keys() == published.keys()
        assert all(torch.equal(converted[key], published[key]) for key in published)


def test_files_that_are_not_there_or_broken_are_one_line(rgb, tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no")
    for source, message in [
        (str(tmp_path / "none.safetensors"), "does not exist"),
        (str(tmp_path), "model.safetensors does not exist"),
        (str(broken), "broken.safetensors is cut off or no safetensors file"),
        ("nobody/nothing", "is no file, and the Hub does not give it"),
    ]:
        with pytest.raises(ModelError, match=message) as error:
            load_backbone_weights(rgb, source)
        assert "\n" not in str(error.value)
