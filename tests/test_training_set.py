"""Two data paths, one result; and what closes the fast one."""

import logging

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from transformers import ConvNextImageProcessor, ViTImageProcessor, ViTImageProcessorPil

from fer_hf.data.collator import FaceCollator
from fer_hf.data.training_set import FastFaces, PlainFaces, ToPixelValues, decode_faces, model_size, training_faces
from fer_hf.data.transforms import AUGMENTATIONS, runs_on_batches
from fer_hf.errors import BadInputError


pytestmark = pytest.mark.numeric


def processor_of(side, **changes):
    return ViTImageProcessor(size={"height": side, "width": side}, do_convert_rgb=True, **changes)


def table_of(images):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    return datasets.Dataset.from_dict({"image": images, "label": list(range(len(images)))}, features=features)


def noise(*shape):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


PROCESSORS = {
    "as it is": processor_of(48),
    "enlarged": processor_of(224),
    "bicubic": processor_of(96, resample=3),
    "reduced": processor_of(32),
    "cropped": processor_of(60, do_center_crop=True, crop_size={"height": 50, "width": 50}),
    "not normalised": processor_of(48, do_normalize=False),
    "with a way of its own": ConvNextImageProcessor(size={"shortest_edge": 64}, do_convert_rgb=True),
    "shortest edge": ViTImageProcessor(size={"shortest_edge": 64}, do_convert_rgb=True),
}


@pytest.mark.parametrize("kind", PROCESSORS)
@pytest.mark.parametrize("colour", [False, True])
def test_without_augmentation_both_paths_give_the_same_tensor(drawn_faces, kind, colour):
    table, processor = drawn_faces["train"].select(range(8)), PROCESSORS[kind]
    if colour:
        table = table_of([noise(48, 48, 3) for _ in range(8)])
    fast = training_faces(table, processor, data_path="fast")
    rows = [5, 0, 3]
    batch = fast.__getitems__(rows)
    assert batch["pixel_values"].dtype == torch.uint8
    assert batch["pixel_values"].shape[1] == (3 if colour else 1)
    plain = training_faces(table, processor, data_path="plain").__getitems__(rows)
    collated = FaceCollator(processor)([table[row] for row in rows])
    for other in (plain, collated):
        assert torch.equal(other["pixel_values"], fast.to_pixel_values(batch["pixel_values"]))
        assert torch.equal(other["labels"], batch["labels"])
    assert torch.equal(batch["labels"], torch.tensor([table[row]["label"] for row in rows]))


@pytest.mark.parametrize("name", [name for name in AUGMENTATIONS if runs_on_batches(name, 1)])
def test_both_paths_give_the_models_own_size(drawn_faces, name):
    table = drawn_faces["train"].select(range(4))
    processors = {50: PROCESSORS["cropped"], 64: PROCESSORS["with a way of its own"]}
    for side, processor in processors.items():
        for path in ("fast", "plain"):
            faces = training_faces(table, processor, name, path)
            values = faces.__getitems__([0, 1])["pixel_values"]
            values = faces.to_pixel_values(values) if path == "fast" else values
            assert values.shape == (2, 3, side, side)
            assert values.dtype == torch.float32
            assert -1 <= values.min() < values.max() <= 1


def test_a_face_that_a_preset_has_cut_is_not_cut_again():
    # White rim, black middle: the processor's own crop would remove the rim, and five-crop keeps one side of it.
    face = np.zeros((48, 48), np.uint8)
    face[:6] = face[-6:] = face[:, :6] = face[:, -6:] = 255
    table = table_of([Image.fromarray(face)] * 20)
    processor = processor_of(48, do_center_crop=True, crop_size={"height": 36, "width": 36})
    for path in ("fast", "plain"):
        faces = training_faces(table, processor, "dacl", path)
        values = faces.__getitems__(list(range(20)))["pixel_values"]
        values = faces.to_pixel_values(values) if path == "fast" else values
        assert (values.amax(dim=(1, 2, 3)) == 1).all()
    faces = training_faces(table, processor, "none", "plain")
    assert faces[0]["pixel_values"].max() == -1


def test_batches_come_whole_from_a_loader_with_workers(drawn_faces, processor):
    faces = training_faces(drawn_faces["train"], processor, "fer48", seed=3)
    faces.set_epoch(4)
    for workers in (0, 2):
        loader = DataLoader(faces, batch_size=16, collate_fn=FaceCollator(processor), num_workers=workers)
        batches = list(loader)
        assert [len(batch["labels"]) for batch in batches] == [16, 16, 16, 8]
        assert torch.equal(batches[1]["pixel_values"], faces.__getitems__(list(range(16, 32)))["pixel_values"])


def test_workers_see_the_epoch_change(drawn_faces, processor):
    for path in ("fast", "plain"):
        faces = training_faces(drawn_faces["train"], processor, "fer48", path)
        loader = DataLoader(faces, 28, collate_fn=FaceCollator(processor), num_workers=1, persistent_workers=True)
        epochs = []
        for epoch in (0, 1, 0):
            faces.set_epoch(epoch)
            epochs.append(torch.cat([batch["pixel_values"] for batch in loader]))
        assert torch.equal(epochs[0], epochs[2])
        assert not torch.equal(epochs[0], epochs[1])


def test_a_face_drawn_again_is_augmented_in_another_way(drawn_faces, processor):
    for path in ("fast", "plain"):
        faces = training_faces(drawn_faces["train"], processor, "fer48", path)
        first, again, first_again = faces.__getitems__([3, 3 + 56, 3])["pixel_values"]
        assert torch.equal(first, first_again)
        assert not torch.equal(first, again)
        assert faces.__getitems__([3, 3 + 56])["labels"].unique().numel() == 1


def test_faces_are_decoded_as_they_are():
    def pixels(image):
        return torch.tensor(np.array(image))

    gray, colour = noise(6, 5), noise(6, 5, 3)
    assert decode_faces(table_of([gray, gray])).shape == (2, 1, 6, 5)
    mixed = decode_faces(table_of([gray, colour, gray]))
    assert torch.equal(mixed[0], pixels(gray).expand(3, -1, -1))
    assert torch.equal(mixed[1], pixels(colour).permute(2, 0, 1))
    palette = colour.convert("P")
    expected = pixels(palette.convert("RGB")).permute(2, 0, 1)
    assert torch.equal(decode_faces(table_of([palette]))[0], expected)
    assert decode_faces(table_of([gray, noise(5, 6)])) is None
    assert decode_faces(table_of([])) is None


class Negative(ViTImageProcessor):
    """A processor with a step that no attribute tells of."""

    def _preprocess(self, images, *args, **kwargs):
        return super()._preprocess([255 - image for image in images], *args, **kwargs)


CLOSED = [
    ([noise(48, 48), noise(50, 50)], processor_of(48), "flip", "the faces differ in size"),
    ([noise(48, 48)], processor_of(48), "transfer", "augmentation 'transfer' works on images"),
    (
        [noise(48, 48, 3)],
        processor_of(48),
        "vit_rafdb",
        "augmentation 'vit_rafdb' works on images where faces have colour",
    ),
    ([noise(48, 48)], ViTImageProcessorPil(do_convert_rgb=True), "flip", "ViTImageProcessorPil does not work on"),
    (
        [noise(48, 48)],
        Negative(size={"height": 48, "width": 48}),
        "flip",
        "Negative has steps of its own",
    ),
]


@pytest.mark.parametrize(("images", "processor", "augmentation", "why"), CLOSED)
def test_where_the_fast_path_is_closed_the_plain_one_is_taken_and_the_log_says_why(
    caplog, images, processor, augmentation, why
):
    with caplog.at_level(logging.INFO, logger="fer_hf"):
        faces = training_faces(table_of(images), processor, augmentation)
    assert isinstance(faces, PlainFaces)
    assert f"training faces take the plain path: {why}" in caplog.text
    assert faces.__getitems__([0])["pixel_values"].dtype == torch.float32
    with pytest.raises(BadInputError, match="`data_path` fast does not work here: "):
        training_faces(table_of(images), processor, augmentation, "fast")


def test_the_open_path_says_nothing(caplog, drawn_faces, processor):
    with caplog.at_level(logging.INFO, logger="fer_hf"):
        assert isinstance(training_faces(drawn_faces["train"], processor, "fer48"), FastFaces)
    assert caplog.text == ""


def test_bad_names_are_one_clear_line(drawn_faces, processor):
    with pytest.raises(BadInputError, match=r"`data_path` must be one of auto, fast, plain, got 'quick'"):
        training_faces(drawn_faces["train"], processor, data_path="quick")
    with pytest.raises(BadInputError, match=r"`augmentation` must be one of .* got 'strong'"):
        training_faces(drawn_faces["train"], processor, "strong")
    loose = ViTImageProcessor(size={"shortest_edge": 64}, do_convert_rgb=True)
    with pytest.raises(BadInputError, match="'dacl' needs an image processor with one fixed size"):
        training_faces(drawn_faces["train"], loose, "dacl")


def test_a_one_channel_model_gets_one_channel(drawn_faces):
    processor = ViTImageProcessor(size={"height": 48, "width": 48}, image_mean=[0.5], image_std=[0.25])
    faces = decode_faces(drawn_faces["train"].select(range(3)))
    values = ToPixelValues(processor, num_channels=1)(faces)
    torch.testing.assert_close(values, (faces.float() / 255 - 0.5) / 0.25)


def test_the_models_size_is_the_processors_last():
    assert model_size(processor_of(48)) == (48, 48)
    assert model_size(PROCESSORS["cropped"]) == (50, 50)
    assert model_size(PROCESSORS["with a way of its own"]) == (64, 64)
    assert model_size(PROCESSORS["shortest edge"]) is None
