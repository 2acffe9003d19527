"""Patch dropout: which tokens the encoder gets, when, and which models cannot say so."""

import pytest
import torch
from helpers import moved, tensor_trainer
from transformers import (
    DeiTConfig,
    DeiTForImageClassification,
    Dinov2Config,
    Dinov2ForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

from fer_hf import build
from fer_hf.errors import BadInputError
from fer_hf.training.patch_dropout import PatchDropout


SMALL = {
    "image_size": 48, "patch_size": 8, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
    "intermediate_size": 8, "num_labels": 7, "hidden_dropout_prob": 0.0,
}  # fmt: skip


def small_vit():
    torch.manual_seed(0)
    return ViTForImageClassification(ViTConfig(**SMALL))


def tokens_seen(model):
    seen = []
    body = model.base_model
    layers = body.encoder.layer if isinstance(model, Dinov2ForImageClassification) else body.layers
    layers[0].register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    return seen


@pytest.mark.parametrize(("kind", "config", "prefix"), [
    (ViTForImageClassification, ViTConfig, 1), (DeiTForImageClassification, DeiTConfig, 2),
    (Dinov2ForImageClassification, Dinov2Config, 1),
])  # fmt: skip
def test_the_encoder_sees_every_special_token_and_so_many_whole_patches(kind, config, prefix):
    torch.manual_seed(0)
    model = kind(config(**SMALL))
    faces = torch.rand(5, 3, 48, 48)
    every = model.base_model.embeddings(faces)
    seen = tokens_seen(model)
    PatchDropout(0.75).check(model)
    with PatchDropout(0.75).training_forward(model, {}, 0.0):
        assert model(pixel_values=faces).logits.shape == (5, 7)
    (tokens,) = seen
    assert tokens.shape == (5, prefix + 9, 8)
    assert torch.equal(tokens[:, :prefix], every[:, :prefix])
    which = []
    for face, whole in zip(tokens[:, prefix:], every[:, prefix:], strict=True):
        same = (face[:, None] == whole[None]).all(-1)
        assert same.sum(1).tolist() == [1] * 9
        which.append(frozenset(same.nonzero()[:, 1].tolist()))
        assert len(which[-1]) == 9
    assert len(set(which)) > 1


def test_each_patch_is_kept_as_often_as_the_others():
    model = small_vit()
    model.base_model.embeddings.forward = lambda faces: torch.arange(37.0).repeat(len(faces), 1).unsqueeze(-1)
    with PatchDropout(0.5).training_forward(model, {}, 0.0):
        kept = model.base_model.embeddings(torch.empty(4000))[:, 1:, 0].long()
    shares = torch.bincount(kept.flatten(), minlength=37)[1:] / 4000
    assert shares.tolist() == pytest.approx([0.5] * 36, abs=5 * (0.25 / 4000) ** 0.5)


def test_nothing_is_left_behind_even_by_a_step_that_fails():
    model, faces = small_vit(), torch.rand(2, 3, 48, 48)
    seen = tokens_seen(model)
    with pytest.raises(ValueError, match="17"), PatchDropout(0.5).training_forward(model, {}, 0.0):
        model(pixel_values=torch.rand(2, 3, 17, 17))
    model(pixel_values=faces)
    assert [tokens.shape[1] for tokens in seen] == [37]


def test_faces_of_another_size_lose_the_same_share():
    model = small_vit()
    seen = tokens_seen(model)
    with PatchDropout(0.5).training_forward(model, {}, 0.0):
        model(pixel_values=torch.rand(2, 3, 64, 64), interpolate_pos_encoding=True)
    assert seen[0].shape[1] == 1 + 32


def trainer_of(model, folder, rate, **flags):
    return tensor_trainer(model, folder, patch_dropout=rate, num_train_epochs=2, **flags)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(("rate", "length"), [(0.5, 19), (0.0, 37), (None, 37)])
def test_a_trainer_drops_in_training_and_not_in_validation(tmp_path, rate, length, frozen):
    model = small_vit()
    model.base_model.requires_grad_(not frozen)  # the embeddings are in eval mode then, in training too
    trainer = trainer_of(model, tmp_path, rate)
    seen = tokens_seen(trainer.model)
    trainer.train()
    lengths = [tokens.shape[1] for tokens in seen]
    validation = [37] * (len(lengths) // 2 - 3)
    assert validation
    assert lengths == ([length] * 3 + validation) * 2


def test_a_model_that_replaces_the_first_one_trains_alike(tmp_path):
    seen = []

    def fresh(trial=None):
        model = small_vit()
        seen.append(tokens_seen(model))
        return model

    trainer = trainer_of(fresh(), tmp_path, 0.5, eval_strategy="no", save_strategy="no", load_best_model_at_end=False)
    trainer.model_init = fresh  # as a search does
    trainer.train()
    assert [tokens.shape[1] for tokens in seen[-1]] == [19] * 6


def test_a_compiled_model_trains_alike(tmp_path):
    torch.compiler.reset()
    trainer = trainer_of(small_vit(), tmp_path, 0.5, torch_compile=True, torch_compile_backend="eager")
    lengths = []
    embeddings = trainer.model.base_model.embeddings
    plain = trainer.model.base_model.layers[0].forward

    def forward(tokens, *args, **kwargs):
        lengths.append(tokens.shape[1])
        return plain(tokens, *args, **kwargs)

    trainer.model.base_model.layers[0].forward = torch.compiler.disable(forward)
    trainer.train()
    assert not embeddings._forward_hooks
    assert set(lengths[:3]) == {19}
    assert lengths[3] == 37
    assert lengths == lengths[: len(lengths) // 2] * 2


def test_a_resumed_run_hides_the_same_patches(tmp_path):
    steps = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": None, "load_best_model_at_end": False}
    whole = trainer_of(small_vit(), tmp_path / "a", 0.5, **steps)
    whole.train()
    again = trainer_of(small_vit(), tmp_path / "b", 0.5, **steps)
    torch.rand(3)
    again.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-4"))
    assert moved(whole.model.state_dict(), again.model.state_dict()) == set()


@pytest.mark.parametrize("rate", [-0.5, 1.0, 2.0])
def test_rates_that_are_none_are_refused(rate):
    with pytest.raises(BadInputError, match=r"`patch_dropout` must be in \[0, 1\), got"):
        PatchDropout(rate)


def test_models_without_patches_to_spare_are_refused(tmp_path):
    with pytest.raises(BadInputError, match="`patch_dropout` is for ViT, DeiT and DINOv2, got CompactCNN"):
        trainer_of(build("compact-cnn", num_channels=3, widths=(4, 4, 4, 4)), tmp_path, 0.5)
    with pytest.raises(BadInputError, match=r"`patch_dropout` 0\.99 hides all of the 36 patches of a face"):
        trainer_of(small_vit(), tmp_path, 0.99)
