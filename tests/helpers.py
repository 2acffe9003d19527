"""What several test files share: small models, tensors in the place of faces, trainers of them, and comparisons."""

import json
import os
import runpy
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import tiny_vit_config
from torch import nn
from transformers import ViTForImageClassification, ViTImageProcessor

from fer_hf import MLPHeadConfig, MLPHeadForImageClassification
from fer_hf.cli.launch import run
from fer_hf.data.collator import FaceCollator
from fer_hf.labels import id2label, label2id
from fer_hf.metrics import classification_metrics
from fer_hf.runs import finish
from fer_hf.training import FerTrainer, FerTrainingArguments, GradualUnfreezing


def mlp_head_on_vit() -> MLPHeadForImageClassification:
    """A ViT under a head with BatchNorm."""
    config = MLPHeadConfig(
        backbone_config=tiny_vit_config(), head_batch_norm=True, id2label=id2label(), label2id=label2id()
    )
    return MLPHeadForImageClassification(config)


def in_float64(model: nn.Module) -> nn.Module:
    """`model` in float64, whatever images it is given: what laws of arithmetic are tested with."""
    model.double().register_forward_pre_hook(
        lambda module, args, inputs: (args, {**inputs, "pixel_values": inputs["pixel_values"].double()}),
        with_kwargs=True,
    )
    return model


def processor_for(model) -> ViTImageProcessor:
    """An image processor of the model's size."""
    size = model.config.image_size
    return ViTImageProcessor(size={"height": size, "width": size}, do_convert_rgb=True)


def unfreeze_two(model) -> GradualUnfreezing:
    """The top layer at epoch 1, the next at epoch 2."""
    return GradualUnfreezing(model, schedule={"1": "vit.layers.2", "2": "vit.encoder.layer.1"})


def arguments(folder, **flags) -> FerTrainingArguments:
    """Flags of a training on the CPU that shows no bar."""
    return FerTrainingArguments(output_dir=str(folder), **{"use_cpu": True, "disable_tqdm": True, "seed": 0, **flags})


def make_trainer(
    faces, processor, folder, model=None, callbacks=(), sampler="none", train=None, evaluation=None, collator=None,
    loss=None, compute_metrics=classification_metrics, **flags,
) -> FerTrainer:  # fmt: skip
    """
    A trainer of `model` (a tiny ViT) on `faces`.

    Args:
        faces: Tables with `train` and `validation`; `train` and `evaluation` replace them.
        callbacks: Functions of the model that give a callback each.
        flags: Of the training.
    """
    torch.manual_seed(0)
    model = model or ViTForImageClassification(tiny_vit_config(hidden_dropout_prob=0.1))
    flags = {
        "num_train_epochs": 4, "per_device_train_batch_size": 8, "learning_rate": 3e-3, "weight_decay": 0.1, **flags
    }  # fmt: skip
    return FerTrainer(
        model=model,
        args=arguments(folder, **flags),
        train_dataset=faces["train"] if train is None else train,
        eval_dataset=faces["validation"] if evaluation is None else evaluation,
        data_collator=collator or FaceCollator(processor),
        compute_loss_func=loss,
        compute_metrics=compute_metrics,
        processing_class=processor,
        callbacks=[make(model) for make in callbacks],
        sampler=sampler,
    )


def tensors(count: int) -> list[dict]:
    """So many random images with labels."""
    generator = torch.Generator().manual_seed(0)
    return [{"pixel_values": torch.randn(3, 48, 48, generator=generator), "labels": i % 7} for i in range(count)]


def tensor_trainer(model, folder, callbacks=(), compute_metrics=None, **flags) -> FerTrainer:
    """A trainer of `model` on random images, three steps an epoch."""
    flags = {"per_device_train_batch_size": 14, "metric_for_best_model": "loss", **flags}
    return FerTrainer(
        model, arguments(folder, **flags), train_dataset=tensors(42), eval_dataset=tensors(14),
        callbacks=list(callbacks), compute_metrics=compute_metrics,
    )  # fmt: skip


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of all tensors of a model, by name."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    """Names of the tensors that are not bitwise the same."""
    return {name for name in before if not torch.equal(before[name], after[name])}


def as_written_before(checkpoint: Path) -> None:
    """Give a checkpoint, some of whose files may have been changed since, a manifest without checksums, as once."""
    path = checkpoint / "manifest.json"
    manifest = json.loads(path.read_text())
    names = [name for name in manifest["files"] if name != "trainer_state.json" and (checkpoint / name).is_file()]
    files = {name: (checkpoint / name).stat().st_size for name in names}
    path.write_text(json.dumps({"files": files, "flags": manifest["flags"]}))


def run_two_ranks(script: str, folder: Path) -> None:
    """Run `script` with `folder` as two processes of one training, as a launcher does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
    }  # fmt: skip
    logs = [folder / f"rank{rank}.log" for rank in range(2)]
    ranks = []
    for rank, log in enumerate(logs):
        with open(log, "wb") as said:  # a pipe would fill up while the other rank is waited for
            own = {**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            ranks.append(subprocess.Popen([sys.executable, script, str(folder)], env=own, stdout=said, stderr=said))
    try:
        codes = [process.wait(timeout=900) for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    assert codes == [0, 0], "\n".join(log.read_text()[-3000:] for log in logs)


def call_recipe(monkeypatch: pytest.MonkeyPatch, recipe: Path, *flags) -> None:
    """Run a recipe in this process, on a CPU: that saves the seconds that imports take."""
    words = [str(recipe), "--use_cpu", "--disable_tqdm", "True", *map(str, flags)]
    monkeypatch.setattr(sys, "argv", words)
    run(runpy.run_path(str(recipe))["main"])


def draw_no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs end without their pictures, which take half a second each."""
    monkeypatch.setattr(finish, "pictures_of", lambda *args: {})


def with_config(folder: str, place: Path, **changes) -> str:
    """A copy of a checkpoint whose configuration has these values."""
    copy = shutil.copytree(folder, place / "model")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, **changes}))
    return str(copy)
