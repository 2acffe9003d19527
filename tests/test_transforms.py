"""Augmentation: right by torchvision, pure in (seed, epoch, row), and of the frequencies that a preset says."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tvF

from fer_hf.data.transform_steps import (
    ColorJitter,
    Enlarging,
    Erasing,
    FiveCrop,
    Flip,
    PaddedCrop,
    Resize,
    ResizedCrop,
    Rotation,
    Shift,
)
from fer_hf.data.transforms import (
    AUGMENTATIONS,
    BatchAugmentation,
    ImageAugmentation,
    augmentation_steps,
    row_uniforms,
    runs_on_batches,
    sets_size,
    warp,
)
from fer_hf.errors import BadInputError


pytestmark = pytest.mark.numeric

BILINEAR = v2.InterpolationMode.BILINEAR
SIZE = (48, 48)
FAST = [name for name in AUGMENTATIONS if runs_on_batches(name, 1)]


@pytest.fixture
def faces():
    """Smooth uint8 faces, so that a shift by half a pixel is a small change."""
    noise = torch.rand(12, 1, 12, 12) * 255
    return torch.nn.functional.interpolate(noise, size=SIZE, mode="bicubic").clamp(0, 255).byte()


def step_on(step, u, faces):
    """A geometric step with given uniform numbers, the same for every face."""
    rows = np.tile(np.array(u, dtype=float), (len(faces), 1))
    return warp(faces.float(), step.matrix(rows, SIZE), step.output_size(SIZE))


@pytest.mark.parametrize("angle", [-30.0, -7.5, 0.0, 12.0])
def test_a_rotation_is_torchvisions(faces, angle):
    ours = step_on(Rotation(30), [0.0, (angle / 30 + 1) / 2], faces)
    torch.testing.assert_close(ours, tvF.rotate(faces.float(), angle, BILINEAR), atol=0.01, rtol=0)


@pytest.mark.parametrize("by", [(0.5, 0.5), (0.0, 0.9), (1 - 1e-9, 0.2)])
def test_a_shift_is_torchvisions(faces, by):
    y, x = (round(0.2 * 48 * (2 * u - 1)) for u in by)
    theirs = tvF.affine(faces, angle=0.0, translate=[x, y], scale=1.0, shear=[0.0, 0.0])
    assert torch.equal(step_on(Shift(0.2), [0.0, *by], faces).round().byte(), theirs)


def test_one_map_equals_a_chain_of_torchvisions_where_nothing_is_lost(faces):
    # A shift by whole pixels, then a rotation.
    turn, shift = np.array([[0.0, 0.75]]), np.array([[0.0, 0.5, 0.75]])
    matrix = Shift(0.2).matrix(shift, SIZE) @ Rotation(10).matrix(turn, SIZE)
    ours = warp(faces.float(), np.tile(matrix, (len(faces), 1, 1)), SIZE)
    theirs = tvF.rotate(tvF.affine(faces.float(), 0.0, [5, 0], 1.0, [0.0, 0.0]), 5.0, BILINEAR)
    torch.testing.assert_close(ours[..., 8:-8, 14:-8], theirs[..., 8:-8, 14:-8], atol=0.01, rtol=0)


def test_the_jitter_of_the_rafdb_report_has_brightness_contrast_saturation_and_hue():
    jitter = augmentation_steps("vit_rafdb")[-1].plain(SIZE)
    assert (jitter.brightness, jitter.contrast, jitter.saturation) == ((0.8, 1.2),) * 3
    assert jitter.hue == (-0.1, 0.1)


def test_the_flip_is_exact(faces):
    flipped = BatchAugmentation("flip", seed=0)(faces, 0, np.arange(12))
    mirrored = row_uniforms(0, 0, np.arange(12), 1)[:, 0] < 0.5
    assert 0 < mirrored.sum() < 12
    for face, result, mirror in zip(faces, flipped, mirrored, strict=True):
        assert torch.equal(result, tvF.horizontal_flip(face) if mirror else face)
    assert torch.equal(step_on(Flip(), [0.0], faces).round().byte(), tvF.horizontal_flip(faces))


def test_the_five_crops_are_exactly_torchvisions(faces):
    for of, to, side in ((256, 224, 42), (48, 40, 40), (256, 200, 38)):
        five = tvF.five_crop(faces, [side, side])  # corners by rows, then the center
        for index in range(5):
            assert torch.equal(step_on(FiveCrop(of, to), [(index + 0.5) / 5], faces).round().byte(), five[index])


def test_a_resized_crop_is_torchvisions(faces):
    step = ResizedCrop((0.25, 0.25))
    u = [0.0] * 10 + [0.5] * 10 + [0.5, 0.25]  # a quarter of the area, square: 24 pixels from row 12, column 6
    theirs = tvF.resized_crop(faces.float(), 12, 6, 24, 24, [48, 48], BILINEAR, antialias=False)
    ours = step_on(step, u, faces)
    # At its rim torchvision repeats the crop's last pixel, and one map sees the face beyond.
    torch.testing.assert_close(ours[..., 1:-1, 1:-1], theirs[..., 1:-1, 1:-1], atol=0.01, rtol=0)


def test_an_area_above_one_keeps_the_whole_face(faces):
    assert torch.equal(step_on(ResizedCrop((1.2, 1.2)), [0.5] * 22, faces).round().byte(), faces)


def test_a_padded_crop_spans_its_room():
    step, middle = PaddedCrop(230, 224, padding=8), np.full((1, 2), 0.5)
    corners = step.matrix(np.array([[0.0, 0.0], [1 - 1e-9, 1 - 1e-9]]), SIZE)
    # 23 places per axis, from 11 of 230 pixels before the center to 11 after it
    assert corners[:, 0, 2] == pytest.approx([-11 * 48 / 230, 11 * 48 / 230])
    assert step.matrix(middle, SIZE)[0, :2, 2] == pytest.approx([0, 0])
    # and always 224 of 230 pixels wide
    assert step.matrix(middle, SIZE)[0, 0, 0] * step.output_size(SIZE)[1] == pytest.approx(48 * 224 / 230)


def test_brightness_and_contrast_are_torchvisions(faces):
    faces = faces * 0.8  # nothing is clipped on the way
    ours = ColorJitter(0.2, 0.4, 0).pixels(np.tile([[0.9, 0.1]], (12, 1)), faces.float())
    theirs = tvF.adjust_contrast(tvF.adjust_brightness(faces.float() / 255, 1.16), 0.68) * 255
    torch.testing.assert_close(ours, theirs, atol=0.01, rtol=0)


def test_erasing_blackens_a_box_of_the_right_area():
    u = row_uniforms(0, 0, np.arange(4000), Erasing.draws)
    erased = Erasing(0.5, (0.02, 0.4)).pixels(u, torch.full((4000, 1, 48, 48), 7, dtype=torch.uint8)) == 0
    share = erased.float().mean(dim=(1, 2, 3))
    hit = share > 0
    assert hit.float().mean() == pytest.approx(0.5, abs=0.03)
    assert 0.015 < share[hit].min() < 0.03
    assert 0.35 < share[hit].max() < 0.42
    rows, columns = erased.any(dim=-1).sum(dim=(1, 2)), erased.any(dim=-2).sum(dim=(1, 2))
    assert torch.equal(rows * columns, erased.sum(dim=(1, 2, 3)))  # one box each
    # torchvision's own law of areas
    theirs = torch.stack([v2.RandomErasing(1.0, (0.02, 0.4))(torch.ones(1, 48, 48)) == 0 for _ in range(2000)])
    theirs = theirs.float().mean(dim=(1, 2, 3))
    assert share[hit].mean().item() == pytest.approx(theirs.mean().item(), abs=0.015)
    assert share[hit].std().item() == pytest.approx(theirs.std().item(), abs=0.01)


def test_resized_crops_have_torchvisions_law():
    u = row_uniforms(1, 0, np.arange(4000), ResizedCrop.draws)
    matrices = ResizedCrop((0.08, 1.0)).matrix(u, SIZE)
    ours = np.stack([48 * matrices[:, 1, 1], 48 * matrices[:, 0, 0]], axis=1)
    crop, image = v2.RandomResizedCrop(48, (0.08, 1.0)), torch.zeros(1, 48, 48)
    drawn = [crop.make_params([image]) for _ in range(4000)]
    theirs = np.array([[params["height"], params["width"]] for params in drawn])
    assert ours.mean(axis=0) == pytest.approx(theirs.mean(axis=0), abs=0.6)
    assert ours.std(axis=0) == pytest.approx(theirs.std(axis=0), abs=0.6)
    assert np.corrcoef(ours.T)[0, 1] == pytest.approx(np.corrcoef(theirs.T)[0, 1], abs=0.05)


def test_uniform_numbers_are_uniform_and_apart():
    u = row_uniforms(0, 0, np.arange(20_000), 5)
    assert u.min() >= 0
    assert u.max() < 1
    assert u.mean(axis=0) == pytest.approx([0.5] * 5, abs=0.01)
    assert u.var(axis=0) == pytest.approx([1 / 12] * 5, abs=0.003)
    neighbours = [u[1:], row_uniforms(1, 0, np.arange(19_999), 5), row_uniforms(0, 1, np.arange(19_999), 5)]
    for other in neighbours:
        corner = np.corrcoef(np.concatenate([u[:-1], other], axis=1).T) - np.eye(10)
        assert np.abs(corner).max() < 0.03
    for part in np.histogram(u[:, 0], bins=20, range=(0, 1))[0]:
        assert part == pytest.approx(1000, abs=150)
    assert np.array_equal(row_uniforms(-3, 2, np.array([7]), 3), row_uniforms(-3, 2, np.array([2, 7]), 4)[1:, :3])


@pytest.mark.parametrize("name", FAST)
def test_a_batch_is_a_pure_function_of_seed_epoch_and_row(faces, name):
    augment, rows = BatchAugmentation(name, seed=5), np.arange(12)
    whole = augment(faces, 2, rows)
    assert whole.dtype == torch.uint8
    torch.rand(3)
    order = np.array([7, 3, 11])
    assert torch.equal(augment(faces[order], 2, order), whole[order])
    assert torch.equal(augment(faces[3:4], 2, order[1:2]), whole[3:4])
    if name != "none":
        assert not torch.equal(augment(faces, 3, rows), whole)
        assert not torch.equal(augment(faces, 2, rows + 12), whole)
        assert not torch.equal(BatchAugmentation(name, seed=6)(faces, 2, rows), whole)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_image_is_a_pure_function_of_seed_epoch_and_row(faces, name):
    images = [Image.fromarray(face[0].numpy()).convert("RGB") for face in faces]
    augment = ImageAugmentation(name, (40, 40), seed=5)

    def seen(epoch, rows, augment=augment):
        return [np.asarray(augment(images[row % 12], epoch, row)) for row in rows]

    state = torch.get_rng_state()
    first = seen(2, range(12))
    assert torch.equal(torch.get_rng_state(), state)  # what else draws is not disturbed
    torch.rand(3)
    again = seen(2, reversed(range(12)))[::-1]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert {image.shape for image in first} == {(40, 40, 3) if sets_size(name) else (48, 48, 3)}
    if name != "none":
        for other in (
            seen(3, range(12)),
            seen(2, range(12, 24)),
            seen(2, range(12), ImageAugmentation(name, SIZE, 6)),
        ):
            assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("name", [name for name in FAST if name != "none"])
def test_both_paths_augment_by_one_law(name):
    """Mean and spread over many draws of one face, which has a dark and a light part."""
    face = torch.full((1, 1, 48, 48), 60, dtype=torch.uint8)
    face[..., 8:24, 20:40] = 200
    rows = np.arange(800)
    fast = BatchAugmentation(name, seed=0)(face.expand(800, -1, -1, -1), 0, rows)
    # The plain path enlarges within its steps; ask it for the size that the fast path has.
    plain, image = ImageAugmentation(name, tuple(fast.shape[-2:]), seed=1), Image.fromarray(face[0, 0].numpy())
    images = torch.stack([v2.functional.pil_to_tensor(plain(image, 0, row)) for row in rows.tolist()])
    for ours, theirs in [(fast.float(), images.float())]:
        ours, theirs = (v2.functional.resize(part, [8, 8], antialias=True) for part in (ours, theirs))
        assert (ours.mean(dim=0) - theirs.mean(dim=0)).abs().max() < 12
        assert (ours.std(dim=0) - theirs.std(dim=0)).abs().max() < 12


def step_of_pillow(step, u, image, size):
    """One step on a PIL image by torchvision's functions, with the numbers that the fast path draws."""
    own = image.height, image.width
    match step:
        case Flip():
            return tvF.horizontal_flip(image) if u[0] < 0.5 else image
        case Rotation() if u[0] < step.p:
            return tvF.rotate(image, step.degrees * (2 * u[1] - 1), BILINEAR)
        case Shift() if u[0] < step.p:
            y, x = (round(step.share * side * (2 * v - 1)) for side, v in zip(own, u[1:], strict=True))
            return tvF.affine(image, 0.0, [x, y], 1.0, [0.0, 0.0])
        case Resize():
            return tvF.resize(image, step.frame(size), antialias=True)
        case ResizedCrop():
            matrix = step.matrix(u[None], own)[0]
            h, w = round(own[0] * matrix[1, 1]), round(own[1] * matrix[0, 0])
            y, x = round(matrix[1, 2] + (own[0] - h) / 2), round(matrix[0, 2] + (own[1] - w) / 2)
            return tvF.resized_crop(image, y, x, h, w, step.frame(size), BILINEAR, antialias=True)
        case FiveCrop():
            return tvF.five_crop(image, list(size))[int(5 * u[0])]
        case PaddedCrop():
            image = tvF.pad(image, step.padding)
            y, x = (int(v * (side - cut + 1)) for v, side, cut in zip(u, image.size[::-1], size, strict=True))
            return tvF.crop(image, y, x, *size)
    return image


def faces_of_all_frequencies(count, side=48):
    """uint8 faces whose power falls as that of photographs, with the square of the frequency."""
    frequency = torch.fft.fftfreq(side) * side
    distance = (frequency[:, None] ** 2 + frequency**2).sqrt().clamp(min=1)
    faces = torch.fft.ifft2(torch.fft.fft2(torch.randn(count, 1, side, side)) / distance).real
    return (128 + 45 * faces / faces.std(dim=(-1, -2), keepdim=True)).clamp(0, 255).byte()


def power_by_band(images):
    """Mean power at 1 to 6, 6 to 12, 12 to 18 and 18 to 24 cycles a face; a window keeps the rims out."""
    side = images.shape[-1]
    window = torch.hann_window(side, periodic=False)
    images = images.float() - images.float().mean(dim=(-1, -2), keepdim=True)
    power = (torch.fft.fft2(images * window * window[:, None]).abs() ** 2).mean(dim=(0, 1))
    frequency = torch.fft.fftfreq(side) * side
    distance = (frequency[:, None] ** 2 + frequency**2).sqrt()
    return torch.stack([power[(distance >= low) & (distance < low + 6)].sum() for low in (1, 6, 12, 18)])


# Padded crops at the size of their source, where both paths choose among the same places.
SIZES = {"cnn_comparison": 224, "dacl": 224, "dacl_200": 200, "vit_rafdb": 224, "compact_vit": 96, "fer48": 80}


@pytest.mark.parametrize(("name", "side"), SIZES.items())
def test_an_enlarged_face_is_what_the_plain_path_makes_of_it(name, side):
    faces, rows, size = faces_of_all_frequencies(40), np.arange(40), (side, side)
    steps = [step for step in augmentation_steps(name) if step.geometric]
    augment = BatchAugmentation(name, seed=0, size=size)
    augment.steps = steps  # of gray levels, other tests tell
    ours = augment(faces, 0, rows)
    u = row_uniforms(0, 0, rows, sum(step.draws for step in steps))
    parts = np.split(u, np.cumsum([step.draws for step in steps])[:-1], axis=1)
    images = [Image.fromarray(face[0].numpy()) for face in faces]
    for step, draws in zip(steps, parts, strict=True):
        images = [step_of_pillow(step, drawn, image, size) for drawn, image in zip(draws, images, strict=True)]
    plain = torch.stack([tvF.pil_to_tensor(image) for image in images])
    assert ours.shape == plain.shape == (40, 1, side, side)
    assert (power_by_band(ours) / power_by_band(plain) - 1).abs().max() < 0.1
    # Each of up to three steps rounds to whole gray levels, by at most one, and rims may lie half a pixel apart: 3
    # of 255. Enlarged last, as moved at 48 pixels, faces were 5 to 23 away.
    assert (ours.float() - plain.float()).square().mean().sqrt() < 3


@pytest.mark.parametrize("name", [name for name in FAST if sets_size(name)])
def test_a_face_that_is_not_enlarged_is_what_it_was_whatever_the_models_size(faces, name):
    rows = np.arange(12)
    own = BatchAugmentation(name, seed=0)(faces, 1, rows)
    for side in (32, 40, 48):
        assert torch.equal(BatchAugmentation(name, seed=0, size=(side, side))(faces, 1, rows), own)
    assert BatchAugmentation(name, seed=0, size=(56, 50))(faces, 1, rows).shape == (12, 1, 56, 50)
    assert any(isinstance(step, Enlarging) for step in augmentation_steps(name))


def test_faces_are_enlarged_in_groups_of_any_size(faces):
    augment = BatchAugmentation("cnn_comparison", seed=0, size=(64, 64))
    whole = augment(faces.expand(-1, 3, -1, -1), 0, np.arange(12))
    assert torch.equal(augment(faces[5:10], 0, np.arange(5, 10)), whole[5:10, :1])


def test_every_preset_holds_the_numbers_of_its_source():
    assert augmentation_steps("cnn_comparison")[0].plain((224, 224)).size == [230, 230]
    assert augmentation_steps("cnn_comparison")[2].plain((224, 224)).padding == [8, 8, 8, 8]
    assert augmentation_steps("dacl")[0].plain((224, 224)).size == [256, 256]
    assert augmentation_steps("dacl_200")[0].plain((200, 200)).size == [256, 256]
    assert augmentation_steps("transfer")[0].plain((112, 112)).size == [112, 112]
    assert augmentation_steps("fer48")[0].plain((40, 40)).size == [48, 48]
    fast = {name: BatchAugmentation(name, 0)(torch.zeros(1, 1, 48, 48).byte(), 0, np.array([0])) for name in FAST}
    assert {name: face.shape[-1] for name, face in fast.items()} == {
        "none": 48, "flip": 48, "vit_rafdb": 48, "cnn_comparison": 47, "dacl": 42, "dacl_200": 38, "fer48": 40,
        "compact": 40, "compact_vit": 48,
    }  # fmt: skip


def test_colour_and_randaugment_stay_on_images():
    assert not runs_on_batches("transfer", 1)
    assert not runs_on_batches("trivial", 1)
    assert runs_on_batches("vit_rafdb", 1)
    assert not runs_on_batches("vit_rafdb", 3)
    assert runs_on_batches("fer48", 3)


def test_an_unknown_preset_is_refused():
    with pytest.raises(BadInputError, match=r"`augmentation` must be one of none, flip, .* got 'strong'"):
        augmentation_steps("strong")
