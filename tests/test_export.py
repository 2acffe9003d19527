"""Export to ONNX, checked with ONNX Runtime."""

import copy
import json

import datasets
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import tiny_vit_config
from onnx import numpy_helper
from PIL import Image
from sklearn.metrics import accuracy_score
from small_networks import FAMILIES, small
from torch.optim.swa_utils import update_bn
from transformers import ResNetConfig, ResNetForImageClassification, ViTForImageClassification, ViTImageProcessor

from fer_hf.cli.main import main
from fer_hf.data.collator import FaceCollator
from fer_hf.errors import BadInputError
from fer_hf.inference import ExportError, ExportMismatchError, export_onnx
from fer_hf.inference import export as scored_export
from fer_hf.inference.export import _times, export_scored, quantize
from fer_hf.inference.onnx_file import TOLERANCE, _Logits, _trace
from fer_hf.models import build, image_processor


# The others are exported by the same code, which takes seconds for each.
NETWORKS = [
    name if name in ("compact-cnn", "dacl-48") else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES
]


def run(path, images):
    return torch.from_numpy(onnxruntime.InferenceSession(path).run(None, {"pixel_values": images.numpy()})[0])


def program_of(model):
    """What the export of a model saves. Tracing it takes seconds, and several tests share it."""
    side = model.config.image_size
    return _trace(_Logits(copy.deepcopy(model)).eval(), torch.randn(2, 3, side, side))


@pytest.fixture(scope="module")
def traced_vit():
    """A small ViT in training mode, and its program."""
    torch.manual_seed(0)
    model = ViTForImageClassification(tiny_vit_config()).train()
    return model, program_of(model)


@pytest.mark.numeric
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_the_zoo_have_the_same_logits_in_onnx_for_any_batch_size(name, tmp_path):
    model = small(name)
    if name == "transfer":  # starts at zero
        torch.nn.init.normal_(model.classifier.weight)
    side = model.config.image_size
    update_bn([torch.randn(16, 3, side, side)], model)  # fresh BatchNorm hides a deep network's input
    model.eval()
    path = tmp_path / "model.onnx"
    assert export_onnx(model, path) <= TOLERANCE
    for batch_size in (1, 2, 5):
        images = torch.randn(batch_size, 3, side, side)
        with torch.no_grad():
            logits = model(images).logits
        torch.testing.assert_close(run(path, images), logits, atol=TOLERANCE, rtol=0)
    assert (logits[0] - logits[1]).abs().max() > 100 * TOLERANCE  # the images do matter
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    model = onnx.load(path)
    for weights in model.graph.initializer:
        weights.ClearField("raw_data")  # any bytes at all
    assert b".py" not in model.SerializeToString()  # nor a path of this machine


def test_a_stock_vit_is_exported_with_its_labels_size_and_image_processor(
    traced_vit, processor, tmp_path, monkeypatch
):
    model, program = traced_vit
    monkeypatch.setattr(torch.onnx, "export", lambda *args, **kwargs: program)
    path = tmp_path / "new" / "vit.onnx"
    export_onnx(model, path, processor)
    assert model.training
    session = onnxruntime.InferenceSession(path)
    (pixel_values,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (pixel_values.name, pixel_values.shape) == ("pixel_values", ["batch_size", 3, 48, 48])
    assert (logits.name, logits.shape) == ("logits", ["batch_size", 7])
    metadata = {name: json.loads(value) for name, value in session.get_modelmeta().custom_metadata_map.items()}
    assert metadata["id2label"] == {str(label): name for label, name in model.config.id2label.items()}
    assert metadata["image_size"] == [48, 48]
    assert ViTImageProcessor.from_dict(metadata["image_processor"]).to_dict() == processor.to_dict()
    images = torch.randn(4, 3, 48, 48)
    expected = copy.deepcopy(model).eval()(images).logits.detach()
    torch.testing.assert_close(run(path, images), expected, atol=TOLERANCE, rtol=0)


def test_a_configuration_without_a_size_needs_one(tmp_path):
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic", num_labels=7)
    model = ResNetForImageClassification(config)
    with pytest.raises(ExportError, match="`image_size` must be given: a resnet configuration has none"):
        export_onnx(model, tmp_path / "model.onnx")
    export_onnx(model, tmp_path / "model.onnx", image_size=(32, 40))
    assert run(tmp_path / "model.onnx", torch.randn(3, 3, 32, 40)).shape == (3, 7)


@pytest.mark.parametrize(("change", "older"), [(2e-4, {"model.onnx": b"older"}), (float("nan"), {})])
def test_a_wrong_export_is_refused_and_leaves_what_was_there(change, older, traced_vit, monkeypatch, tmp_path):
    model, program = copy.deepcopy(traced_vit[0]), traced_vit[1]
    monkeypatch.setattr(torch.onnx, "export", lambda *args, **kwargs: program)
    model.classifier.bias.data[3] += change
    for name, content in older.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ExportMismatchError, match=r"was not written: its logits differ .* by up to (2\.0e-04|nan),"):
        export_onnx(model, tmp_path / "model.onnx")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == older


def test_weights_beside_the_file_arrive_with_it(traced_vit, monkeypatch, tmp_path):
    # PyTorch does so by itself only for models of gigabytes.
    save = torch.onnx.ONNXProgram.save
    monkeypatch.setattr(torch.onnx.ONNXProgram, "save", lambda program, path: save(program, path, external_data=True))
    model, program = traced_vit
    monkeypatch.setattr(torch.onnx, "export", lambda *args, **kwargs: program)
    export_onnx(model, tmp_path / "model.onnx")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    images = torch.randn(2, 3, 48, 48)
    expected = copy.deepcopy(model).eval()(images).logits.detach()
    torch.testing.assert_close(run(tmp_path / "model.onnx", images), expected, atol=TOLERANCE, rtol=0)


def test_a_missing_package_is_named_with_what_installs_it(tiny_vit, monkeypatch, tmp_path):
    monkeypatch.setattr("fer_hf.inference.onnx_file.find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(ExportError, match=r"Export needs onnxscript: pip install onnxscript\."):
        export_onnx(tiny_vit, tmp_path / "model.onnx")


@pytest.fixture(scope="module")
def traced_cnn(names):
    """A convolutional network, its image processor and program, and tables labelled with its surest answers."""
    torch.manual_seed(0)
    model = build("compact-cnn", widths=(8, 8, 16), depths=(1, 2))
    processor = image_processor("compact-cnn", model.config)
    patterns = np.random.default_rng(0).integers(0, 256, (400, 6, 6), dtype=np.uint8)
    images = [Image.fromarray(pattern).resize((48, 48)) for pattern in patterns]
    pixel_values = FaceCollator(processor)([{"image": image, "label": 0} for image in images])["pixel_values"]
    update_bn([pixel_values], model)
    with torch.no_grad():
        model.classifier.weight.normal_()
        best = model.eval()(pixel_values).logits.topk(2)
    surest = (best.values[:, 0] - best.values[:, 1]).argsort(descending=True)[:105].tolist()
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    columns = {"image": [images[row] for row in surest], "label": best.indices[surest, 0].tolist()}
    table = datasets.Dataset.from_dict(columns, features=features)
    return (
        model,
        processor,
        datasets.DatasetDict(train=table, validation=table, test=table),
        program_of(model),
    )


@pytest.fixture
def sure(traced_cnn, monkeypatch):
    model, processor, tables, program = traced_cnn
    monkeypatch.setattr(torch.onnx, "export", lambda *args, **kwargs: program)
    monkeypatch.setattr(scored_export, "_times", lambda networks, _, size: [1.0 * size] * len(networks))
    return copy.deepcopy(model), processor, tables


@pytest.mark.numeric
def test_an_int8_file_is_kept_with_its_figures_where_it_is_as_good(sure, tmp_path, capsys):
    model, processor, tables = sure
    path = tmp_path / "new" / "model.onnx"
    pytorch, whole, small = export_scored(model, processor, tables, path, "int8", max_drop=0.05, disable_tqdm=True)
    with torch.no_grad():
        batch = FaceCollator(processor)(list(tables["test"]))
        logits = model(batch["pixel_values"]).logits
    labels = batch["labels"]
    assert pytorch.accuracy == 1
    written = run(path, batch["pixel_values"])
    assert small.accuracy == pytest.approx(accuracy_score(labels, written.argmax(-1)))
    assert small.difference == pytest.approx((written - logits).abs().max().item(), rel=0.05)
    assert whole.difference <= TOLERANCE < small.difference
    assert small.megabytes * 1e6 == pytest.approx(path.stat().st_size)
    weights = {tensor.data_type for tensor in onnx.load(path).graph.initializer if len(tensor.dims) == 4}
    assert weights == {onnx.TensorProto.INT8}
    metadata = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    assert json.loads(metadata["image_processor"])["size"] == processor.to_dict()["size"]
    assert json.loads(metadata["id2label"])["3"] == "happy"
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]
    lines = capsys.readouterr().out.splitlines()
    assert [line[:10].strip() for line in lines[1:4]] == ["PyTorch", "ONNX", "ONNX int8"]
    assert lines[3].split()[3] == f"{small.accuracy:.2%}"
    assert "all 105 faces of validation" in lines[4]
    assert [form.milliseconds for form in (pytorch, whole, small)] == [{1: 1.0, 64: 64.0}] * 3


def test_a_file_that_loses_more_than_allowed_is_not_kept(sure, tmp_path, monkeypatch, capsys):
    model, processor, tables = sure
    other = (tables["test"]["label"][0] + 1) % 7

    def spoil(source, path, calibration):
        network = onnx.load(source)
        for tensor in network.graph.initializer:
            if list(tensor.dims) == [7]:  # the classifier's bias
                values = numpy_helper.to_array(tensor).copy()
                values[other] += 100
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        onnx.save(network, path)

    monkeypatch.setattr(scored_export, "quantize", spoil)
    path = tmp_path / "model.onnx"
    path.write_bytes(b"older")
    with pytest.raises(
        ExportError, match=r"falls from 100\.00% to \d+\.\d+%, by [01]\.\d+, and `max_drop` allows 0\.1"
    ):
        export_scored(model, processor, tables, path, "int8", max_drop=0.1, disable_tqdm=True)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"model.onnx": b"older"}
    share = np.mean(np.array(tables["test"]["label"]) == other)
    assert f"{share:.2%}" in capsys.readouterr().out.splitlines()[3]


def test_times_are_medians_of_whole_batches_taken_in_turns():
    now, turns = [0.0], []

    def network(name, seconds):
        def run(images):
            turns.append(name)
            now[0] += seconds[turns.count(name) - 1] * len(images)

        return run

    networks = [network("a", [1, 2, 9]), network("b", [3, 3, 3])]
    times = _times(networks, np.zeros((3, 1, 2, 2)), size=2, seconds=0, clock=lambda: now[0])
    assert times == [4000, 6000]
    assert turns == ["a", "b"] * 3


def test_a_convolutional_network_needs_faces_to_calibrate_with(tmp_path):
    weights = numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "weights")
    nodes = [onnx.helper.make_node("Conv", [a, "weights"], [b]) for a, b in (("pixel_values", "x"), ("x", "logits"))]
    ends = [
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 3, 8, 8]) for n in ("pixel_values", "logits")
    ]
    network = onnx.helper.make_model(onnx.helper.make_graph(nodes, "two", ends[:1], ends[1:], [weights]))
    network.ir_version = 10
    onnx.save(network, tmp_path / "float.onnx")
    with pytest.raises(ExportError, match="needs a `train` split to calibrate with"):
        quantize(tmp_path / "float.onnx", tmp_path / "int8.onnx", None)


def test_faces_of_other_labels_are_refused(sure, tmp_path):
    model, processor, tables = sure
    model.config.id2label = dict(enumerate("abcdefg"))
    with pytest.raises(BadInputError, match="The model's labels are a, b, c, d, e, f, g, and the data set's angry"):
        export_scored(model, processor, tables, tmp_path / "model.onnx")


@pytest.mark.numeric
def test_the_command_writes_int8_of_a_transformer_with_ranges_computed_as_it_runs(
    tiny_vit, processor, tmp_path, capsys
):
    torch.nn.init.normal_(tiny_vit.classifier.weight, std=0.5)
    tiny_vit.eval().save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    path = tmp_path / "model.onnx"
    words = ["export", "--model", str(tmp_path / "model"), "--output", str(path), "--disable_tqdm"]
    words += ["--dataset_options", '{"train": 7, "validation": 7, "test": 14}']
    assert main([*words, "--format", "int8", "--max_drop", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"written: {path}"
    images = torch.randn(4, 3, 48, 48)
    with torch.no_grad():
        logits = tiny_vit(images).logits
    written = run(path, images)
    assert not torch.equal(written, logits)
    assert torch.corrcoef(torch.stack([written.flatten(), logits.flatten()]))[0, 1] > 0.9
    assert "MatMulInteger" in {node.op_type for node in onnx.load(path).graph.node}
