"""Progressive resizing: which size when, resampled as PIL does, in training only; models that cannot say so."""

import numpy as np
import pytest
import torch
from helpers import tensor_trainer
from PIL import Image

from fer_hf import build
from fer_hf.errors import BadInputError
from fer_hf.training.masked_autoencoder import build_masked_autoencoder
from fer_hf.training.resizing import ProgressiveResizing


def small_cnn():
    torch.manual_seed(0)
    return build("compact-cnn", num_channels=3, widths=(4, 4, 4, 4))


def test_each_size_lasts_from_its_epoch_to_the_next():
    resizing = ProgressiveResizing({"10": 40, 2: 24})
    assert [resizing.side(epoch) for epoch in (0, 1.99, 2.0, 9.5, 10.0, 300.0)] == [None, None, 24, 24, 40, 40]
    assert ProgressiveResizing({}).side(5) is None


@pytest.mark.numeric
@pytest.mark.parametrize("side", [17, 24, 40])
def test_faces_are_resampled_as_pil_does(side):
    faces = np.random.default_rng(0).normal(size=(2, 1, 40, 40)).astype(np.float32)
    resized = ProgressiveResizing({"0": side}).resized(torch.from_numpy(faces), 0.0)
    expected = [Image.fromarray(face[0]).resize((side, side), Image.Resampling.BILINEAR) for face in faces]
    torch.testing.assert_close(resized[:, 0], torch.from_numpy(np.stack(expected)), atol=1e-5, rtol=0)


def test_training_sees_the_sizes_of_its_epochs_and_validation_never(tmp_path):
    trainer, seen = (
        tensor_trainer(small_cnn(), tmp_path, num_train_epochs=4, progressive_resizing='{"0": 16, "1": 24, "3": 48}'),
        [],
    )

    def note(module, args, kwargs):
        seen.append((module.training, *kwargs["pixel_values"].shape[-2:]))

    trainer.model.register_forward_pre_hook(note, with_kwargs=True)
    trainer.train()
    validation = [(False, 48, 48)] * (len(seen) // 4 - 3)
    assert validation
    assert seen == [size for side in (16, 24, 24, 48) for size in [(True, side, side)] * 3 + validation]


def test_without_the_flag_faces_go_in_as_they_are(tmp_path):
    trainer, seen = tensor_trainer(small_cnn().train(), tmp_path), []
    trainer.model.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs), with_kwargs=True)
    faces = torch.rand(2, 3, 48, 48)
    trainer.compute_loss(trainer.model, {"pixel_values": faces, "labels": torch.tensor([0, 1])}, num_items_in_batch=2)
    assert seen[0]["pixel_values"] is faces


@pytest.mark.parametrize("schedule", [{"-1": 24}, {"first": 24}, {"1.5": 24}, {"0": "24"}, {"0": 0}, {"0": 24.5}])
def test_schedules_that_say_nothing_are_refused(schedule):
    with pytest.raises(BadInputError, match="`progressive_resizing` must be a map from epochs"):
        ProgressiveResizing(schedule)


def test_a_model_of_one_size_is_refused_in_one_line(tiny_vit, tmp_path):
    resizing = ProgressiveResizing({"0": 24, "2": 48})
    tiny_vit.train()
    with pytest.raises(BadInputError, match=r"ViTForImageClassification takes no faces of 24 pixels: .*24") as error:
        resizing.check(tiny_vit)
    assert "\n" not in str(error.value)
    assert tiny_vit.training
    resizing.check(small_cnn())
    decoder = {"decoder_hidden_size": 8, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 1}
    autoencoder = build_masked_autoencoder(tiny_vit.config, 0.5, True, **decoder)
    for model in (tiny_vit, autoencoder):
        with pytest.raises(BadInputError, match="takes no faces of 24 pixels"):
            tensor_trainer(model, tmp_path, progressive_resizing={"0": 24})
