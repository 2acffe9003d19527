"""The network that the CNN comparison on FER-2013 calls DACL: its attention over one position is a linear map."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from learning import accuracy, drawn_batch, train
from torch import nn
from torchvision import models

from fer_hf.models import build
from fer_hf.models.networks.configuration_reduced_dacl import ReducedDACLConfig
from fer_hf.models.networks.modeling_reduced_dacl import ReducedDACLAttention
from fer_hf.models.zoo import architecture_config, image_processor


@pytest.fixture
def model():
    return build("dacl-reduced", image_size=32)


FACES, LABELS = torch.randn(6, 1, 32, 32, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 3, 3, 6, 0, 5])


def test_it_has_the_parameters_of_the_reports_code_and_its_pixel_values():
    with torch.device("meta"):
        model = build("dacl-reduced")
        outputs = model.eval()(torch.empty(2, 1, 224, 224), output_hidden_states=True)
    assert model.num_parameters() == 11_469_319
    assert [tuple(maps.shape[1:]) for maps in outputs.hidden_states] == [
        (64, 56, 56), (64, 56, 56), (128, 28, 28), (256, 14, 14), (512, 7, 7),
    ]  # fmt: skip
    processor = image_processor("dacl-reduced", architecture_config("dacl-reduced"))
    white = torch.full((3, 8, 8), 255, dtype=torch.uint8)
    torch.testing.assert_close(processor(white, return_tensors="pt")["pixel_values"], torch.ones(1, 3, 224, 224))


@pytest.mark.numeric
def test_its_attention_is_the_linear_map_of_its_value_projection(model):
    model.double().eval()
    reference = models.resnet18()
    reference.fc = nn.Identity()
    reference.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    attention = model.backbone.attention
    reference.load_state_dict(
        {name: value for name, value in model.backbone.state_dict().items() if not name.startswith("attention")}
    )
    faces = torch.randn(2, 1, 64, 64, dtype=torch.float64)  # a map of four positions, which are pooled first
    x = reference.double().eval()(faces)
    linear = x + x @ attention.value.weight[:, :, 0, 0].T + attention.value.bias
    torch.testing.assert_close(model.backbone(faces).pooler_output, linear)


@pytest.mark.numeric
def test_the_same_attention_over_several_positions_is_attention():
    attention = ReducedDACLAttention(6, 4).double()
    hidden = torch.randn(2, 6, 2, 3, dtype=torch.float64)
    tokens = hidden.flatten(2).mT
    projected = tokens @ attention.query_key.weight[:, :, 0, 0].T + attention.query_key.bias
    value = tokens @ attention.value.weight[:, :, 0, 0].T + attention.value.bias
    attended = nn.functional.scaled_dot_product_attention(projected, projected, value, scale=1.0)
    torch.testing.assert_close(attention(hidden), hidden + attended.mT.unflatten(2, (2, 3)))


@pytest.mark.numeric
def test_queries_and_keys_and_nothing_else_have_a_zero_gradient(model):
    model.train()(FACES, labels=LABELS).loss.backward()
    zero = {name for name, parameter in model.named_parameters() if not parameter.grad.any()}
    assert zero == {"backbone.attention.query_key.weight", "backbone.attention.query_key.bias"}


def test_weights_start_by_torchvisions_and_pytorchs_rules(model):
    assert model.backbone.conv1.weight.std().item() == pytest.approx((2 / (64 * 49)) ** 0.5, rel=0.05)
    for module in (model.backbone.attention.query_key, model.backbone.attention.value, model.classifier):
        assert 0.95 * 512**-0.5 < module.weight.abs().max() <= 512**-0.5
        assert module.bias.any()


@pytest.mark.numeric
def test_it_learns_the_drawn_faces(model, drawn_faces):
    images, labels = drawn_batch(drawn_faces, 56)
    images = nn.functional.interpolate(images, size=32, mode="area")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    losses, logits = train(model, optimizer, images, labels, steps=8)
    assert losses[-1] < losses[0] / 2
    assert accuracy(logits, labels) > 0.5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_channels": 4}, "`num_channels` must be 1 or 3, got 4"),
        ({"image_size": 0}, "`image_size` must be >= 1, got 0"),
        ({"attention_size": 0}, "`attention_size` must be >= 1, got 0"),
    ],
)
def test_bad_configurations_are_refused(fields, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        ReducedDACLConfig(**fields)
