"""Masked-autoencoder pretraining: positions, masks, what the backbone takes along, and the recipe at work."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_vit_config
from helpers import as_written_before, call_recipe, in_float64, make_trainer, moved
from hub_server import running_hub
from huggingface_hub import ModelCard, constants
from safetensors.torch import load_file
from transformers import ViTMAEForPreTraining, ViTModel

from fer_hf.cli.main import main
from fer_hf.data.training_set import training_faces
from fer_hf.models import load_image_classifier
from fer_hf.models.loading import asset
from fer_hf.runs.card import render_model_card
from fer_hf.runs.gallery import add_to_gallery
from fer_hf.runs.upload_files import files_to_upload
from fer_hf.training.masked_autoencoder import MaskingCollator, backbone, build_masked_autoencoder, reconstruct


ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "recipes" / "mae_pretrain.py"
DECODER = {
    "decoder_hidden_size": 16,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 32,
}


def bare_config(**changes):
    return tiny_vit_config(id2label=None, label2id=None, problem_type=None, patch_size=8, **changes)


def autoencoder(**changes):
    torch.manual_seed(0)
    return build_masked_autoencoder(bare_config(), **{"mask_ratio": 0.75, "norm_pix_loss": True, **DECODER, **changes})


@pytest.mark.numeric
def test_positions_are_those_of_the_paper():
    model = autoencoder()
    for positions, width in ((model.vit.embeddings.position_embeddings, 32), (model.decoder.decoder_pos_embed, 16)):
        assert positions.shape == (1, 37, width)
        assert not positions.requires_grad
        assert positions[0, 0].tolist() == [0] * width
        quarter = width // 4
        for row, column in ((0, 0), (2, 5)):
            # Columns first, as in the authors' code: sin and cos of x / 10000^(i / quarter), then the same of y.
            angles = [[at / 10_000 ** (i / quarter) for i in range(quarter)] for at in (column, row)]
            wanted = [f(a) for part in angles for f in (math.sin, math.cos) for a in part]
            assert positions[0, 1 + row * 6 + column].tolist() == pytest.approx(wanted, abs=1e-6)
    assert model.vit.embeddings.cls_token.abs().sum() > 0
    assert model.decoder.mask_token.abs().sum() > 0


@pytest.mark.numeric
def test_the_loss_is_the_mean_square_over_masked_standardised_patches():
    model = autoencoder().eval()
    pixel_values, noise = torch.randn(2, 3, 48, 48), torch.rand(2, 36)
    output = model(pixel_values, noise=noise)
    hidden = noise.argsort(dim=1)[:, 9:]  # a quarter of 36 patches is seen
    losses = []
    for face, patches in enumerate(hidden.tolist()):
        for patch in patches:
            top, left = 8 * (patch // 6), 8 * (patch % 6)
            true = pixel_values[face, :, top : top + 8, left : left + 8].permute(1, 2, 0).flatten()
            true = (true - true.mean()) / (true.var() + 1e-6).sqrt()
            losses.append(((output.logits[face, patch] - true) ** 2).mean())
    assert len(losses) == 2 * 27
    torch.testing.assert_close(output.loss, torch.stack(losses).mean())


@pytest.mark.numeric
def test_a_reconstruction_keeps_what_was_seen_and_draws_the_rest():
    model = autoencoder().eval()
    pixel_values, noise = torch.randn(2, 3, 48, 48), torch.rand(2, 36)
    masked, drawn = reconstruct(model, pixel_values, noise)
    seen = torch.zeros(2, 36).scatter_(1, noise.argsort(dim=1)[:, :9], 1.0)
    seen = seen.view(2, 1, 6, 6).repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
    torch.testing.assert_close(masked, pixel_values * seen)
    torch.testing.assert_close(drawn * seen, pixel_values * seen)
    predicted = model(pixel_values, noise=noise).logits
    patch = int(noise[0].argsort()[-1])
    top, left = 8 * (patch // 6), 8 * (patch % 6)
    true = pixel_values[0, :, top : top + 8, left : left + 8]
    wanted = predicted[0, patch].view(8, 8, 3).permute(2, 0, 1) * (true.var() + 1e-6).sqrt() + true.mean()
    torch.testing.assert_close(drawn[0, :, top : top + 8, left : left + 8], wanted)


def test_masks_follow_seed_epoch_and_face_and_nothing_else(drawn_faces, processor):
    faces = training_faces(drawn_faces["train"], processor, "flip", seed=0)

    def noise(rows, epoch=0, seed=0):
        faces.set_epoch(epoch)
        batch = MaskingCollator(processor, 36, seed)(faces.__getitems__(rows))
        assert batch.keys() == {"pixel_values", "noise"}
        return batch["noise"]

    assert torch.equal(noise([3, 7, 1])[1], noise([7])[0])
    assert not torch.equal(noise([3]), noise([4]))
    assert not torch.equal(noise([3]), noise([3], epoch=1))
    assert not torch.equal(noise([3]), noise([3], seed=1))
    # Every patch is seen about equally often: a quarter of 56 faces x 40 epochs.
    seen = torch.cat([noise(list(range(56)), epoch) for epoch in range(40)]).argsort(dim=1)[:, :9]
    shares = torch.bincount(seen.flatten(), minlength=36) / (56 * 40)
    assert shares.tolist() == pytest.approx([0.25] * 36, abs=5 * np.sqrt(0.25 * 0.75 / (56 * 40)))


def pretraining(faces, processor, folder, model=None, **flags):
    flags = {"num_train_epochs": 3, "metric_for_best_model": "loss", "label_names": ["pixel_values"], **flags}
    return make_trainer(
        faces, processor, folder, model or autoencoder(), train=training_faces(faces["train"], processor, "flip"),
        evaluation=training_faces(faces["validation"], processor, data_path="plain"),
        collator=MaskingCollator(processor, 36, 0), compute_metrics=None, **flags,
    )  # fmt: skip


def test_a_resumed_pretraining_equals_an_uninterrupted_one(drawn_faces, processor, tmp_path):
    flags = {"save_strategy": "steps", "save_steps": 5, "save_total_limit": None, "load_best_model_at_end": False}
    whole = pretraining(drawn_faces, processor, tmp_path / "a", **flags)
    whole.train()
    again = pretraining(drawn_faces, processor, tmp_path / "b", **flags)
    torch.rand(3)
    again.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-10"))
    assert moved(whole.model.state_dict(), again.model.state_dict()) == set()


@pytest.mark.numeric
def test_evaluation_repeats_itself_whatever_the_batch_size(drawn_faces, processor, tmp_path):
    losses = []
    for batch_size in (28, 28, 5):
        trainer = pretraining(drawn_faces, processor, tmp_path, per_device_eval_batch_size=batch_size)
        torch.rand(batch_size)
        losses.append(trainer.evaluate()["eval_loss"])
    assert losses[0] == losses[1] == pytest.approx(losses[2], rel=1e-5)


@pytest.mark.numeric
def test_accumulated_batches_give_the_same_loss_curve(drawn_faces, processor, tmp_path):
    curves = []
    for batch_size, accumulated in ((8, 1), (4, 2)):
        trainer = pretraining(
            drawn_faces, processor, tmp_path / str(accumulated), in_float64(autoencoder()),
            per_device_train_batch_size=batch_size, gradient_accumulation_steps=accumulated, num_train_epochs=2,
            save_strategy="no", load_best_model_at_end=False,
        )  # fmt: skip
        trainer.train()
        curves.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert curves[0] == pytest.approx(curves[1], rel=1e-5)  # logged in float32


@pytest.mark.numeric
def test_the_backbone_is_the_encoder_and_sees_every_patch():
    model, pixel_values = autoencoder().eval(), torch.randn(2, 3, 48, 48)
    vit = backbone(model, bare_config()).eval()
    model.config.mask_ratio = 0.0
    # In order, nothing masked: the encoder then gives what the ViT gives.
    encoded = model.vit(pixel_values, noise=torch.arange(36.0).repeat(2, 1)).last_hidden_state
    torch.testing.assert_close(vit(pixel_values).last_hidden_state, encoded)


@pytest.mark.numeric
def test_the_backbone_of_gray_faces_sees_them_as_before_and_colour_as_its_mean():
    model, photo = autoencoder().eval(), torch.rand(2, 3, 48, 48)
    gray = photo.mean(dim=1, keepdim=True).expand_as(photo)
    before, vit = backbone(model, bare_config()).eval(), backbone(model, bare_config(), gray=True).eval()
    seen = vit(gray).last_hidden_state
    torch.testing.assert_close(seen, before(gray).last_hidden_state, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(seen, vit(photo).last_hidden_state, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(seen, before(photo).last_hidden_state, atol=1e-3)


FLAGS = (
    "--config_overrides",
    '{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}',
    "--dataset_options", '{"train": 112, "validation": 28, "test": 7}', "--num_train_epochs", 5,
    "--decoder_num_hidden_layers", 1, "--decoder_hidden_size", 32, "--learning_rate", "3e-3",
    "--per_device_train_batch_size", 16, "--norm_pix_loss", "False", "--cpu_threads", 1,
)  # fmt: skip


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mae") / "run"
    with pytest.MonkeyPatch.context() as patch:
        call_recipe(patch, RECIPE, *FLAGS, "--output_dir", folder)
    return folder


def test_an_interrupted_recipe_goes_on_with_the_same_command(monkeypatch, tmp_path):
    run, stopped = tmp_path / "whole", tmp_path / "stopped"
    steps = ("--save_strategy", "steps", "--save_steps", 21, "--load_best_model_at_end", "False")
    flags = (*FLAGS, *steps, "--save_total_limit", 9, "--resume_from_checkpoint", "true", "--output_dir")
    monkeypatch.setattr("fer_hf.training.resuming.commit", lambda: "earlier")
    call_recipe(monkeypatch, RECIPE, *flags, run)
    shutil.copytree(run / "checkpoint-21", stopped / "checkpoint-21")
    monkeypatch.setattr("fer_hf.training.resuming.commit", lambda: "later")
    call_recipe(monkeypatch, RECIPE, *flags, stopped)
    runtime = json.loads((stopped / "run_record.json").read_text())["runtime"]
    assert (runtime["resumed_at_step"], runtime["commits"][1]) == (21, {"from_step": 21, "commit": "later"})
    told = "(last resumed at step 21; its commits: `earlier` from step 0, `later` from step 21)"
    assert told in (stopped / "README.md").read_text()
    # A checkpoint from before commits were noted.
    older = shutil.copytree(run / "checkpoint-21", tmp_path / "older" / "checkpoint-21")
    progress = {k: v for k, v in json.loads((older / "progress_0.json").read_text()).items() if k != "commits"}
    (older / "progress_0.json").write_text(json.dumps(progress))
    as_written_before(older)
    call_recipe(monkeypatch, RECIPE, *flags, older.parent)
    assert "its commits: `unknown` from step 0, `later` from step 21" in (older.parent / "README.md").read_text()
    whole, again = (load_file(folder / "model.safetensors") for folder in (run, stopped))
    assert again.keys() == whole.keys()
    assert moved(whole, again) == set()


def test_the_loss_falls_and_the_record_says_what_was_seen(pretrained):
    log = json.loads((pretrained / "trainer_state.json").read_text())["log_history"]
    losses = [entry["eval_loss"] for entry in log if "eval_loss" in entry]
    assert losses[-1] < 0.7 * losses[0]
    record = json.loads((pretrained / "run_record.json").read_text())
    assert record["results"]["validation"]["loss"] == pytest.approx(min(losses), rel=1e-5)
    assert record["dataset"]["counts"].keys() == {"train", "validation"}
    assert record["model"]["mask_ratio"] == 0.75
    assert [phase["steps"] for phase in record["phases"]] == [5 * 7]
    results = json.loads((pretrained / "all_results.json").read_text())
    assert {"train_loss", "train_images_per_second", "train_data_wait_share"} <= results.keys()
    assert (pretrained / "reconstructed_faces.png").stat().st_size > 10_000
    card = (pretrained / "README.md").read_text()
    assert "saw 25 % of the patches of 112 training faces\nat a time" in card
    assert f"Loss on 28 validation faces, the mean square error of masked pixels: **{min(losses):.4f}**,\nat" in card
    assert record["runtime"]["train_seconds"] > 0


def test_the_card_of_the_backbone_that_ships_is_its_records():
    card = render_model_card(asset("fer-compact-vit-mae"), picture_folder="fer-compact-vit-mae/")
    assert str(card) == (ROOT / "model_cards" / "fer-compact-vit-mae.md").read_text()


def test_a_backbone_is_published_and_fine_tuned_from_the_hub(pretrained, names, tmp_path, monkeypatch, capsys):
    run = shutil.copytree(pretrained, tmp_path / "run")
    assert main(["push", str(run), "--repo_id", "owner/drawn-mae", "--dry_run"]) == 0
    shown, stays = capsys.readouterr().out.split("not uploaded: ")
    assert "reconstructed_faces.png" in shown  # of drawings
    assert "checkpoint-" in stays
    with running_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "x")
        assert main(["push", str(run), "--repo_id", "owner/drawn-mae", "--disable_tqdm"]) == 0
        # A process of its own: the client reads the address of the Hub when it is imported.
        load = f"load_image_classifier('owner/drawn-mae', {tuple(names)})"
        code = f"import logging; logging.basicConfig(level='INFO'); from fer_hf.models import *; {load}"
        there = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        process = {**os.environ, **there, "HF_HOME": str(tmp_path)}
        done = subprocess.run([sys.executable, "-c", code], env=process, capture_output=True, text=True)
    card = ModelCard.load(run / "README.md")
    assert card.data.pipeline_tag == "image-feature-extraction"
    assert 'AutoModel.from_pretrained("owner/drawn-mae")' in card.text
    assert "![faces, masked, reconstructed](reconstructed_faces.png)" in card.text
    assert "new weights: classifier.bias, classifier.weight" in done.stderr, done.stderr


def test_reconstructions_of_peoples_faces_stay(pretrained, tmp_path):
    run = shutil.copytree(pretrained, tmp_path / "run")
    assert (
        "reconstructed_faces.png" not in add_to_gallery(run, tmp_path / "drawn", "owner/mae").read_text()
    )  # not copied there
    record = json.loads((run / "run_record.json").read_text())
    record["dataset"]["name"] = "fer2013"
    (run / "run_record.json").write_text(json.dumps(record))
    picture = run / "reconstructed_faces.png"
    assert picture not in files_to_upload(run)
    assert picture.name not in render_model_card(run).text
    gallery = add_to_gallery(run, tmp_path / "cards", "owner/mae")
    assert picture.name not in gallery.read_text()
    assert not list(gallery.parent.glob("*/"))
    assert picture in files_to_upload(run, include_faces=True)
    assert f"]({picture.name})" in render_model_card(run, include_faces=True).text


def test_fine_tuning_starts_from_the_encoder_with_only_the_head_new(pretrained, names, caplog):
    caplog.set_level("INFO", logger="fer_hf")
    model, processor = load_image_classifier(str(pretrained), tuple(names))
    assert "new weights: classifier.bias, classifier.weight" in caplog.text
    assert "left aside" not in caplog.text
    checkpoints = sorted(pretrained.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    record = json.loads((pretrained / "run_record.json").read_text())
    best = next(path for path in checkpoints if path.name == f"checkpoint-{record['best']['step']}")
    encoder = ViTMAEForPreTraining.from_pretrained(best).vit.state_dict()
    projection = "embeddings.patch_embeddings.projection.weight"
    encoder[projection] = encoder[projection].mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)  # drawn faces are gray
    fine_tuned = model.vit.state_dict()
    assert encoder.keys() == fine_tuned.keys()
    assert all(torch.equal(encoder[name], fine_tuned[name]) for name in encoder)
    assert model.vit.embeddings.position_embeddings.requires_grad
    assert processor.size["height"] == 48
    config = ViTModel.from_pretrained(pretrained, add_pooling_layer=False).config
    assert not hasattr(config, "mask_ratio")


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--architecture", "compact-cnn"], "`architecture` 'compact-cnn' is no plain ViT"),
        (["--mask_ratio", "0.99"], "`mask_ratio` must leave some of the 36 patches"),
        (["--decoder_hidden_size", "66"], "`decoder_hidden_size` must be a multiple of 4"),
        (["--decoder_num_attention_heads", "5"], "is no multiple of `decoder_num_attention_heads` 5"),
        (["--sampler", "inverse_frequency"], "`sampler` and `oversample` go by labels"),
    ],
)
def test_what_cannot_be_pretrained_is_refused_in_one_line(monkeypatch, capsys, tmp_path, flags, line):
    with pytest.raises(SystemExit) as stop:
        call_recipe(
            monkeypatch, RECIPE, "--dataset_options", '{"train": 7, "validation": 7, "test": 7}', *flags,
            "--cpu_threads", 1, "--output_dir", tmp_path / "run",
        )  # fmt: skip
    assert stop.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert line in last
