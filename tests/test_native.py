"""What Transformers and PyTorch do with any of their models, they do with every family of ours."""

import pytest
import torch
from small_networks import FAMILIES, small
from transformers import AutoModelForImageClassification, set_seed
from transformers.utils import ModelOutput


every_family = pytest.mark.parametrize("name", FAMILIES)


def answering(name):
    """A small network in eval mode that looks at its images, and four of them with labels."""
    model = small(name).eval()
    if name == "transfer":  # starts at zero
        torch.nn.init.normal_(model.classifier.weight)
    side = model.config.image_size
    return model, torch.randn(4, model.config.num_channels, side, side), torch.tensor([3, 0, 6, 1])


def same(one, other):
    """Whether two outputs, as a tuple or a dictionary, hold the same tensors."""
    one, other = (output.to_tuple() if isinstance(output, ModelOutput) else output for output in (one, other))
    return len(one) == len(other) and all(
        same(a, b) if isinstance(a, tuple) else torch.equal(a, b) for a, b in zip(one, other, strict=True)
    )


@every_family
def test_an_output_is_a_tuple_where_one_is_asked_for(name):
    model, pixels, labels = answering(name)
    flags = {"output_hidden_states": True}
    for network, inputs in ((model, {"labels": labels, **flags}), (model.base_model, flags)):
        expected = network(pixels, **inputs)
        asked = network(pixels, return_dict=False, **inputs)
        assert isinstance(asked, tuple)
        assert same(asked, expected)
    model.config.return_dict = False
    assert same(
        model(pixels, labels=labels, **flags), asked := model(pixels, labels=labels, return_dict=True, **flags)
    )
    assert isinstance(asked, ModelOutput)


@pytest.mark.numeric
@every_family
def test_a_compiled_network_is_one_graph_with_the_same_loss_and_gradients(name):
    model, pixels, labels = answering(name)
    torch.compiler.reset()  # a network compiled before counts as a version of this one
    gradients = []
    for network in (model, torch.compile(model, backend="aot_eager", fullgraph=True)):
        model.zero_grad()
        loss = network(pixels, labels=labels).loss
        loss.backward()
        gradients.append([loss, *(p.grad for p in model.parameters() if p.grad is not None)])
    assert any(gradient.any() for gradient in gradients[0][1:])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@every_family
@pytest.mark.parametrize("gradients", [False, True])
def test_inductor_compiles_a_network_as_one_graph(name, gradients):
    model, pixels, _ = answering(name)
    torch.compiler.reset()
    with torch.set_grad_enabled(gradients):
        compiled = torch.compile(model, fullgraph=True)(pixels).logits
        torch.testing.assert_close(compiled, model(pixels).logits, atol=1e-5, rtol=1e-4)


@pytest.mark.numeric
@every_family
def test_an_exported_program_takes_batches_of_any_size(name):
    model, pixels, _ = answering(name)
    program = torch.export.export(model, (pixels,), dynamic_shapes={"pixel_values": {0: torch.export.Dim("batch")}})
    for batch in (pixels[:1], pixels[:3], pixels.repeat(2, 1, 1, 1)):
        torch.testing.assert_close(program.module()(batch).logits, model(batch).logits, atol=1e-5, rtol=1e-4)


@pytest.mark.numeric
@every_family
def test_weights_on_the_disk_come_when_they_are_needed(name, tmp_path):
    model, pixels, _ = answering(name)
    model.save_pretrained(tmp_path)
    places = {child: "disk" for child, _ in model.named_children()}
    options = {"device_map": places, "offload_folder": tmp_path / "offloaded", "offload_buffers": True}
    offloaded = AutoModelForImageClassification.from_pretrained(tmp_path, **options)
    assert all(parameter.is_meta for parameter in offloaded.parameters())
    with torch.no_grad():
        torch.testing.assert_close(offloaded(pixels).logits, model(pixels).logits, atol=1e-5, rtol=1e-4)
    assert all(parameter.is_meta for parameter in offloaded.parameters())


@pytest.mark.numeric
@pytest.mark.parametrize("name", ["vit-mlp5-bn", "cnn-transformer", "transfer", "transfer-reduced"])
def test_recomputed_layers_drop_the_same_elements_and_every_parameter_gets_a_gradient(name):
    (plain, pixels, labels), checkpointed = answering(name), small(name)
    checkpointed.load_state_dict(plain.state_dict())
    checkpointed.gradient_checkpointing_enable()
    calls = []
    for layer in checkpointed.base_model.layers:
        next(layer.children()).register_forward_hook(lambda *_: calls.append(1))
    for model in (plain.train(), checkpointed.train()):
        set_seed(5)
        model(pixels, labels=labels).loss.backward()
    assert len(calls) == 4  # two layers, each once more for the gradients
    for (parameter, p), q in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        # Some parameters do nothing: biases of keys, and those whose sum a BatchNorm takes away.
        assert name in ("vit-mlp5-bn", "transfer") or p.grad.abs().max() > 1e-7, parameter
        torch.testing.assert_close(p.grad, q.grad, msg=parameter)
    for p, q in zip(plain.buffers(), checkpointed.buffers(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("name", ["cnn-transformer", "transfer"])
def test_faces_of_another_size_are_refused(name):
    model, pixels, _ = answering(name)
    with pytest.raises(ValueError, match=r"`pixel_values` must be 48x48 pixels \(`image_size`\), got 64x48"):
        model(torch.cat([pixels, pixels[:, :, :16]], dim=2))
