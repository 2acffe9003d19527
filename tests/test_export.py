"""Export to ONNX, checked with ONNX Runtime."""

import json

import onnxruntime
import pytest
import torch
from torch.optim.swa_utils import update_bn
from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessor

from fer_hf.inference import ExportError, ExportMismatchError, export_onnx
from fer_hf.models import build


NETWORKS = {
    "compact-cnn": {"widths": (8, 8, 16), "depths": (1, 2)},
    "compact-vit": {"num_hidden_layers": 2},
    "dacl-48": {"attention_hidden_sizes": (32, 16, 8)},
}


def run(path, faces):
    return torch.from_numpy(onnxruntime.InferenceSession(path).run(None, {"pixel_values": faces.numpy()})[0])


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_the_zoo_have_the_same_logits_in_onnx_for_any_batch_size(name, tmp_path):
    model = build(name, **NETWORKS[name])
    side = model.config.image_size
    update_bn([torch.randn(16, 3, side, side)], model)  # fresh BatchNorm hides a deep network's input
    model.eval()
    path = tmp_path / "model.onnx"
    assert export_onnx(model, path) <= 1e-4
    for batch_size in (1, 2, 5):
        faces = torch.randn(batch_size, 3, side, side)
        with torch.no_grad():
            logits = model(faces).logits
        torch.testing.assert_close(run(path, faces), logits, atol=1e-4, rtol=0)
    assert (logits[0] - logits[1]).abs().max() > 0.01  # the faces do matter
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_a_stock_vit_is_exported_with_its_labels_size_and_image_processor(tiny_vit, processor, tmp_path):
    path = tmp_path / "new" / "vit.onnx"
    tiny_vit.train()
    export_onnx(tiny_vit, path, processor)
    assert tiny_vit.training
    session = onnxruntime.InferenceSession(path)
    (pixel_values,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (pixel_values.name, pixel_values.shape) == ("pixel_values", ["batch_size", 3, 48, 48])
    assert (logits.name, logits.shape) == ("logits", ["batch_size", 7])
    metadata = {name: json.loads(value) for name, value in session.get_modelmeta().custom_metadata_map.items()}
    assert metadata["id2label"] == {str(label): name for label, name in tiny_vit.config.id2label.items()}
    assert metadata["image_size"] == [48, 48]
    assert ViTImageProcessor.from_dict(metadata["image_processor"]).to_dict() == processor.to_dict()
    faces = torch.randn(4, 3, 48, 48)
    torch.testing.assert_close(run(path, faces), tiny_vit.eval()(faces).logits.detach(), atol=1e-4, rtol=0)


def test_a_configuration_without_a_size_needs_one(tmp_path):
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic", num_labels=7)
    model = ResNetForImageClassification(config)
    with pytest.raises(ExportError, match="`image_size` must be given: a resnet configuration has none"):
        export_onnx(model, tmp_path / "model.onnx")
    export_onnx(model, tmp_path / "model.onnx", image_size=(32, 40))
    assert run(tmp_path / "model.onnx", torch.randn(3, 3, 32, 40)).shape == (3, 7)


@pytest.mark.parametrize(("change", "older"), [(2e-4, {"model.onnx": b"older"}), (float("nan"), {})])
def test_a_wrong_export_is_refused_and_leaves_what_was_there(change, older, tiny_vit, monkeypatch, tmp_path):
    export = torch.onnx.export

    def wrong_export(network, *args, **kwargs):
        network.model.classifier.bias.data[3] += change
        return export(network, *args, **kwargs)

    monkeypatch.setattr(torch.onnx, "export", wrong_export)
    for name, content in older.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ExportMismatchError, match=r"was not written: its logits differ .* by up to (2\.0e-04|nan),"):
        export_onnx(tiny_vit, tmp_path / "model.onnx")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == older


def test_weights_beside_the_file_arrive_with_it(tiny_vit, monkeypatch, tmp_path):
    # PyTorch does so by itself only for models of gigabytes.
    save = torch.onnx.ONNXProgram.save
    monkeypatch.setattr(torch.onnx.ONNXProgram, "save", lambda program, path: save(program, path, external_data=True))
    export_onnx(tiny_vit, tmp_path / "model.onnx")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    faces = torch.randn(2, 3, 48, 48)
    torch.testing.assert_close(
        run(tmp_path / "model.onnx", faces), tiny_vit.eval()(faces).logits.detach(), atol=1e-4, rtol=0
    )


def test_a_missing_package_is_named_with_the_extra_that_brings_it(tiny_vit, monkeypatch, tmp_path):
    monkeypatch.setattr("fer_hf.inference.export.find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(ExportError, match=r"Export needs onnxscript: pip install 'fer_hf\[onnx\]'"):
        export_onnx(tiny_vit, tmp_path / "model.onnx")
