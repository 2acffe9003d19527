"""Trackers have a run's pictures beside its curves."""

import importlib
import io
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_vit_config
from helpers import make_trainer, tensor_trainer, unfreeze_two
from PIL import Image
from transformers import ViTForImageClassification

from fer_hf.runs.finish import finish_run
from fer_hf.runs.run import Run
from fer_hf.training import GradualUnfreezing
from fer_hf.training.reporting import report_pictures


def pixels(file):
    return np.asarray(Image.open(file).convert("RGB"))


def test_tensorboard_has_the_pictures_of_a_run_beside_its_curves(drawn_faces, processor, tmp_path):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    trainer = make_trainer(
        drawn_faces, processor, tmp_path, callbacks=[unfreeze_two], num_train_epochs=3, report_to=["tensorboard"]
    )
    (unfreezing,) = (part for part in trainer.callback_handler.callbacks if isinstance(part, GradualUnfreezing))
    trainer.train()
    finish_run(trainer, drawn_faces, "synthetic", {}, {}, unfreezing)
    (folder,) = {path.parent for path in tmp_path.rglob("events.out.tfevents.*")}
    reader = reading.EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
    pictures = Run(tmp_path).pictures
    assert {"confusion_matrix.png", "learning_curves.png", "phases.png"} <= set(pictures)
    assert sorted(f"{name}.png" for name in reader.Tags()["images"]) == sorted(pictures)
    for name in pictures:
        (shown,) = reader.Images(name.removesuffix(".png"))
        assert shown.step == trainer.state.global_step
        assert np.array_equal(pixels(io.BytesIO(shown.encoded_image_string)), pixels(tmp_path / name))
    assert len(reader.Scalars("eval/accuracy")) >= 3


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_weights_and_biases_and_trackio_have_them_in_the_run_of_the_curves(name, tmp_path, monkeypatch):
    pytest.importorskip(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    folder = {"wandb": tmp_path / "wandb", "trackio": Path(os.environ["HF_HOME"], "trackio", "media")}[name]
    trainer = tensor_trainer(
        ViTForImageClassification(tiny_vit_config()), tmp_path / "run", num_train_epochs=1, report_to=[name]
    )
    trainer.train()
    trainer.predict(trainer.eval_dataset)
    Image.new("RGB", (3, 2), "red").save(tmp_path / "red.png")
    report_pictures(trainer, {"red": tmp_path / "red.png"})
    library = importlib.import_module(name)
    library.finish()
    (shown,) = folder.rglob("*.png")
    assert np.array_equal(pixels(shown), pixels(tmp_path / "red.png"))
    runs = list(folder.glob("offline-run-*")) if name == "wandb" else library.Api().runs(trainer.args.project)
    assert len(runs) == 1
