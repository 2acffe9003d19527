"""Test-time augmentation: which views, and which mean."""

import pytest
import torch
from torchvision.transforms.v2 import functional as tvF
from transformers import ResNetConfig, ResNetForImageClassification
from transformers.utils import ModelOutput

from fer_hf.errors import BadInputError
from fer_hf.evaluation.tta import CROP, TTA, averaged_logits, views


class Probe(torch.nn.Module):
    """Logits that name pixels: the first one, the last one, and the mean of the face."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, pixel_values):
        self.sizes.append(tuple(pixel_values.shape))
        flat = pixel_values[:, 0].flatten(1)
        return ModelOutput(logits=torch.stack([flat[:, 0], flat[:, -1], flat.mean(dim=1)], dim=1))


def random_images(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.numeric
@pytest.mark.parametrize(("shape", "crop", "size"), [((2, 3, 48, 48), CROP, [40, 40]), ((1, 1, 9, 14), 0.5, [4, 7])])
def test_crops_have_their_share_of_the_sides_and_are_enlarged_as_torchvision_does(shape, crop, size):
    pixel_values = random_images(*shape)
    crops = list(views(pixel_values, "ten_crop", crop, enlarge=False))
    assert {tuple(view.shape) for view in crops} == {(*shape[:2], *size)}
    for view, enlarged in zip(crops, views(pixel_values, "ten_crop", crop), strict=True):
        torch.testing.assert_close(enlarged, tvF.resize(view, list(shape[-2:]), antialias=False))


def test_the_corners_of_a_small_face_are_what_they_are_by_hand():
    pixel_values = torch.arange(16.0).reshape(1, 1, 4, 4)
    first_pixels = [view[0, 0, 0, 0].item() for view in views(pixel_values, "ten_crop", crop=0.5, enlarge=False)]
    assert first_pixels == [0, 2, 8, 10, 5, 3, 1, 11, 9, 6]
    # One row of two pixels, 0 and 1, made four wide: a quarter and three quarters lie between.
    assert next(views(pixel_values, "ten_crop", crop=0.5))[0, 0, 0].tolist() == [0, 0.25, 0.75, 1]


def test_flip_is_the_face_and_its_mirror_image():
    pixel_values = random_images(2, 3, 5, 6)
    first, second = views(pixel_values, "flip")
    assert torch.equal(first, pixel_values)
    assert torch.equal(second, tvF.horizontal_flip(pixel_values))
    (only,) = views(pixel_values, "none")
    assert torch.equal(only, pixel_values)


def test_the_mean_is_over_logits():
    pixel_values = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert averaged_logits(Probe(), pixel_values, "none").tolist() == [[0, 15, 7.5]]
    assert averaged_logits(Probe(), pixel_values, "flip").tolist() == [[1.5, 13.5, 7.5]]
    by_hand = averaged_logits(Probe(), pixel_values, "ten_crop", crop=0.5, enlarge=False)
    # First pixels as above, last ones five further on where the face is as it is, and three where it is mirrored.
    torch.testing.assert_close(by_hand, torch.tensor([[5.5, 9.5, 7.5]]))


@pytest.mark.numeric
@pytest.mark.parametrize("preset", TTA)
def test_the_average_is_that_of_all_views_in_one_batch(tiny_vit, preset):
    pixel_values = random_images(2, 3, 48, 48)
    tiny_vit.double().eval()
    with torch.no_grad():
        seen = torch.stack(list(views(pixel_values, preset)))  # (num_views, batch_size, channels, height, width)
        expected = tiny_vit(pixel_values=seen.flatten(0, 1)).logits.unflatten(0, seen.shape[:2]).mean(dim=0)
    logits = averaged_logits(tiny_vit, pixel_values, preset)
    assert logits.shape == (2, 7)
    assert not logits.requires_grad
    torch.testing.assert_close(logits, expected.float())


def test_to_a_model_that_sees_no_left_and_right_flip_is_none():
    class Symmetric(torch.nn.Module):
        def forward(self, pixel_values):
            return ModelOutput(logits=pixel_values.mean(dim=(1, 3)))  # (batch_size, height)

    pixel_values = random_images(3, 3, 6, 8)
    for preset in ("flip", "none"):
        torch.testing.assert_close(averaged_logits(Symmetric(), pixel_values, preset), pixel_values.mean(dim=(1, 3)))


@pytest.mark.numeric
def test_ten_crop_gives_a_face_and_its_mirror_image_the_same_logits(tiny_vit):
    # 40 of 48 leaves an even rim, so that the center of the mirror image is the mirror image of the center.
    pixel_values = random_images(2, 3, 48, 48)
    tiny_vit.double().eval()
    logits, mirrored = (
        averaged_logits(tiny_vit, given, "ten_crop") for given in (pixel_values, pixel_values.flip(-1))
    )
    torch.testing.assert_close(logits, mirrored)


def test_crops_have_the_models_own_size_unless_it_takes_others(tiny_vit):
    probe = Probe()
    averaged_logits(probe, random_images(2, 3, 48, 48), "ten_crop")
    averaged_logits(probe, random_images(2, 3, 48, 48), "ten_crop", crop=44 / 48, enlarge=False)
    assert probe.sizes == [(2, 3, 48, 48)] * 10 + [(2, 3, 44, 44)] * 10
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=7)
    resnet = ResNetForImageClassification(config).eval()
    assert averaged_logits(resnet, random_images(2, 3, 48, 48), "ten_crop", enlarge=False).shape == (2, 7)
    with pytest.raises(ValueError, match="40"):
        averaged_logits(tiny_vit, random_images(2, 3, 48, 48), "ten_crop", enlarge=False)


def test_what_is_out_of_range_is_refused():
    for preset, crop in (("five_crop", CROP), ("ten_crop", 0), ("ten_crop", 40), ("flip", -0.5)):
        with pytest.raises(BadInputError):
            list(views(random_images(1, 1, 4, 4), preset, crop))
