"""Patch dropout: which tokens the encoder gets, when, and which models cannot say so."""

import pytest
import torch
from test_optim import tensors
from transformers import DeiTConfig, DeiTForImageClassification, ViTConfig, ViTForImageClassification

from fer_hf import build
from fer_hf.errors import BadInputError
from fer_hf.training import FerTrainer, FerTrainingArguments
from fer_hf.training.patch_dropout import PatchDropout
from fer_hf.training.unfreezing import frozen_to_eval


SMALL = {
    "image_size": 48, "patch_size": 8, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
    "intermediate_size": 8, "num_labels": 7,
}  # fmt: skip


def small_vit():
    torch.manual_seed(0)
    return ViTForImageClassification(ViTConfig(**SMALL))


def tokens_seen(model):
    seen = []
    model.base_model.layers[0].register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    return seen


def test_training_sees_the_class_token_and_so_many_whole_patches():
    model = small_vit()
    faces = torch.rand(5, 3, 48, 48)
    every = model.base_model.embeddings(faces)
    PatchDropout(0.75, model)
    seen = tokens_seen(model)
    model.train()(pixel_values=faces)
    (tokens,) = seen
    assert tokens.shape == (5, 1 + 9, 8)
    assert torch.equal(tokens[:, 0], every[:, 0])
    which = []
    for face, whole in zip(tokens[:, 1:], every[:, 1:], strict=True):
        same = (face[:, None] == whole[None]).all(-1)
        assert same.sum(1).tolist() == [1] * 9
        which.append(frozenset(same.nonzero()[:, 1].tolist()))
        assert len(which[-1]) == 9
    assert len(set(which)) > 1


def test_each_patch_is_kept_as_often_as_the_others():
    model = small_vit().train()
    dropout = PatchDropout(0.5, model)
    marked = torch.arange(37.0).repeat(4000, 1).unsqueeze(-1)
    kept = dropout(None, (), marked)[:, 1:, 0].long()
    shares = torch.bincount(kept.flatten(), minlength=37)[1:] / 4000
    assert shares.tolist() == pytest.approx([0.5] * 36, abs=5 * (0.25 / 4000) ** 0.5)


def test_eval_mode_sees_every_patch_and_nothing_is_saved(tmp_path):
    model, plain = small_vit().eval(), small_vit().eval()
    PatchDropout(0.5, model)
    faces = torch.rand(2, 3, 48, 48)
    assert torch.equal(model(pixel_values=faces).logits, plain(pixel_values=faces).logits)
    model.save_pretrained(tmp_path)
    again = ViTForImageClassification.from_pretrained(tmp_path).train()
    seen = tokens_seen(again)
    again(pixel_values=faces)
    assert seen[0].shape[1] == 37


def test_frozen_embeddings_drop_patches_too():
    model = small_vit()
    PatchDropout(0.5, model)
    seen = tokens_seen(model)
    model.base_model.requires_grad_(False)
    model.train()
    frozen_to_eval(model)
    model(pixel_values=torch.rand(2, 3, 48, 48))
    assert not model.base_model.training
    assert seen[0].shape[1] == 19


def test_both_tokens_of_deit_stay():
    model = DeiTForImageClassification(DeiTConfig(**SMALL)).train()
    faces = torch.rand(2, 3, 48, 48)
    model.base_model.embeddings.dropout.p = 0.0
    every = model.base_model.embeddings(faces)
    PatchDropout(0.5, model)
    kept = model.base_model.embeddings(faces)
    assert kept.shape == (2, 2 + 18, 8)
    assert torch.equal(kept[:, :2], every[:, :2])


def trainer_of(model, folder, rate, **flags):
    args = FerTrainingArguments(
        output_dir=str(folder), use_cpu=True, disable_tqdm=True, num_train_epochs=2, per_device_train_batch_size=14,
        patch_dropout=rate, metric_for_best_model="loss", **flags,
    )  # fmt: skip
    return FerTrainer(model, args, train_dataset=tensors(42), eval_dataset=tensors(14))


def test_a_trainer_drops_in_training_and_not_in_validation(tmp_path):
    trainer = trainer_of(small_vit(), tmp_path, 0.5)
    seen = tokens_seen(trainer.model)
    trainer.train()
    lengths = [tokens.shape[1] for tokens in seen]
    validation = [37] * (len(lengths) // 2 - 3)
    assert validation
    assert lengths == ([19] * 3 + validation) * 2


def test_a_resumed_run_hides_the_same_patches(tmp_path):
    steps = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": None, "load_best_model_at_end": False}
    whole = trainer_of(small_vit(), tmp_path / "a", 0.5, **steps)
    whole.train()
    again = trainer_of(small_vit(), tmp_path / "b", 0.5, **steps)
    torch.rand(3)
    again.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-4"))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


@pytest.mark.parametrize("rate", [-0.5, 0.001, 0.999, 1.0, 2.0])
def test_rates_that_hide_none_or_all_are_refused(rate):
    with pytest.raises(BadInputError, match="must hide some of the 36 patches and leave some, got"):
        PatchDropout(rate, small_vit())


def test_models_without_patches_are_refused(tmp_path):
    with pytest.raises(BadInputError, match="`patch_dropout` is for ViT and DeiT, got CompactCNN"):
        trainer_of(build("compact-cnn", num_channels=3, widths=(4, 4, 4, 4)), tmp_path, 0.5)
