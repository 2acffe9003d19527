"""
Two processes train what one does, at the same global batch, and count each face once. What may differ is dropout,
which each process draws for its own faces, and on a CPU BatchNorm, whose statistics are of a process's own faces.

Run as a script, this file does the part of one of two processes: one launch for all checks. What is compared between
one process and two is trained in float64: in float32, sums in another order let a ReLU here and there open that was
shut, and Adam makes full steps of what is left of gradients that are zero.
"""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_simple_launcher_cmd_env
from conftest import tiny_vit_config
from helpers import in_float64, moved, processor_for, run_two_ranks
from safetensors.torch import load_file
from torch import nn
from transformers import ViTForImageClassification, set_seed

from fer_hf import build
from fer_hf.cli import launch as fer_launch
from fer_hf.data import load_dataset
from fer_hf.data.collator import FaceCollator
from fer_hf.data.training_set import training_faces
from fer_hf.errors import BadInputError
from fer_hf.losses import ExpressionLoss
from fer_hf.metrics import classification_metrics
from fer_hf.training import FerTrainer, FerTrainingArguments, GradualUnfreezing


# A partial last batch in training (22 of 8) and in evaluation (11 of 2 x 4, then 3 for the first process alone).
FACES = {"train": 22, "validation": 11, "test": 7}
# Three steps an epoch, of two batches, two and one.
EVERY_STEP = {
    "gradient_accumulation_steps": 2, "dataloader_num_workers": 1, "save_strategy": "steps", "save_steps": 1
}  # fmt: skip


def vit(**config):
    return ViTForImageClassification(tiny_vit_config(hidden_size=16, intermediate_size=32, **config))


def vit_with_dropout():
    return vit(hidden_dropout_prob=0.2)


def dacl():
    """Its BatchNorm at rest, so that what differs between processes can only be the rest."""
    model = build("dacl", network="resnet18", stem="small", image_size=16, attention_hidden_sizes=[8])
    for module in norms_of(model):
        module.train = lambda mode=True, module=module: nn.Module.train(module, False)
    return model


def norms_of(model):
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def batch_norm():
    return build("compact-cnn", image_size=24, widths=(8, 8, 16), depths=(1, 1))


# model, sampler, loss function, and flags
CASES = {
    "unfreezing": (vit, "inverse_frequency", None, {"num_train_epochs": 3, **EVERY_STEP}),
    "soft_labels": (vit, "none", ExpressionLoss(), {"gradient_accumulation_steps": 2}),
    "dacl": (dacl, "none", None, {"optim": "sgd"}),
    "dropout": (vit_with_dropout, "none", None, {"num_train_epochs": 1}),
    "batch_norm": (batch_norm, "class_balanced", None, EVERY_STEP),
    "average": (batch_norm, "none", None, {"num_train_epochs": 1, "ema_decay": 0.75, "save_strategy": "epoch"}),
}
BITWISE = ("batch_norm", "average")  # whose two processes are compared with each other only
RESUMED = [(name, step) for name in ("unfreezing", "batch_norm") for step in (3, 4, 5)]  # all of the second epoch


def train(name, faces, folder, batch, resume=None):
    make, sampler, loss, flags = CASES[name]
    set_seed(1)
    model = make() if name in BITWISE else in_float64(make())
    processor = processor_for(model)
    # One of three layers is unfrozen at the second epoch, the next at the third.
    schedule = {"1": "vit.layers.2", "2": "vit.layers.1"}
    flags = {
        "num_train_epochs": 2, "learning_rate": 3e-3, "logging_steps": 1, "logging_strategy": "steps",
        "load_best_model_at_end": False, "save_total_limit": None, "dataloader_drop_last": True,
        "per_device_train_batch_size": batch // flags.get("gradient_accumulation_steps", 1),
        "per_device_eval_batch_size": batch, "disable_tqdm": True, "use_cpu": True, "save_strategy": "no", **flags,
    }  # fmt: skip
    trainer = FerTrainer(
        model=model,
        args=FerTrainingArguments(output_dir=str(folder), **flags),
        train_dataset=training_faces(faces["train"], processor, "fer48", "fast", 1),
        eval_dataset=faces["validation"],
        data_collator=FaceCollator(processor),
        compute_metrics=classification_metrics,
        compute_loss_func=loss,
        callbacks=[GradualUnfreezing(model, schedule=schedule)] if name == "unfreezing" else [],
        sampler=sampler,
    )
    assert trainer.args.device == torch.device("cpu")  # without an index, which `torch.load` does not know
    trainer.train(resume_from_checkpoint=resume)
    evaluated = trainer.evaluate()
    predicted = trainer.predict(faces["validation"])
    logits = predicted.predictions[0] if isinstance(predicted.predictions, tuple) else predicted.predictions
    return {
        "weights": {key: value.clone() for key, value in model.state_dict().items()},
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        "eval_losses": [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry],
        "metrics": {k: v for k, v in evaluated.items() if not k.endswith(("_runtime", "_second", "_time"))},
        "logits": logits,
        "labels": predicted.label_ids,
    }


def train_all(folder: Path, batch: int) -> dict:
    torch.set_num_threads(1)
    faces = load_dataset("synthetic", **FACES, cache_dir=folder / "cache")
    results = {name: train(name, faces, folder / f"{name}-{batch}", batch) for name in CASES}
    for name, step in RESUMED:  # each process goes on from its own state
        point = folder / f"{name}-{batch}" / f"checkpoint-{step}"
        results[name, step] = train(name, faces, folder / f"{name}-{batch}-{step}", batch, str(point))
    return results


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """By case: what one process ends with, and what each of two does."""
    folder = tmp_path_factory.mktemp("processes")
    one = train_all(folder, 8)
    run_two_ranks(__file__, folder)
    both = [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in (0, 1)]
    return {name: (one[name], both[0][name], both[1][name]) for name in one}, folder


@pytest.mark.numeric
@pytest.mark.parametrize("name", ["unfreezing", "soft_labels", "dacl"])
def test_two_processes_train_what_one_does(results, name):
    one, two, _ = results[0][name]
    assert len(one["losses"]) == {"unfreezing": 9, "soft_labels": 6, "dacl": 4}[name]  # what fills no batch is dropped
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-6, abs=1e-6)  # logged in float32
    assert max(one["losses"]) - min(one["losses"]) > 1e-3
    torch.testing.assert_close(two["weights"], one["weights"], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["dropout", "batch_norm"])
def test_dropout_and_batch_norm_are_what_two_processes_do_otherwise(results, name):
    one, two, _ = results[0][name]
    assert two["losses"][0] == pytest.approx(one["losses"][0], rel=0.2)
    assert two["losses"][0] != pytest.approx(one["losses"][0], abs=1e-6)


@pytest.mark.parametrize("name", [*CASES, *RESUMED])
def test_both_processes_end_with_equal_weights(results, name):
    _, two, other = results[0][name]
    torch.testing.assert_close(two["weights"], other["weights"], rtol=0, atol=0)


def test_layers_that_are_unfrozen_later_and_centers_do_move_on_two_processes(results):
    set_seed(1)
    start = vit().state_dict()
    end = results[0]["unfreezing"][1]["weights"]
    layers = {
        name.split(".")[2] for name in start if "layers" in name and not torch.equal(start[name].double(), end[name])
    }
    assert layers == {"1", "2"}
    set_seed(1)
    centers = "center_loss.centers"
    assert not torch.equal(dacl().state_dict()[centers].double(), results[0]["dacl"][1]["weights"][centers])


def test_two_processes_save_the_average_that_both_have(results):
    _, two, other = results[0]["average"]
    assert two["eval_losses"] == other["eval_losses"]
    saved = load_file(results[1] / "average-4" / "checkpoint-2" / "ema.safetensors")
    assert moved(saved, two["weights"]) == moved(saved, other["weights"]) == set()


@pytest.mark.numeric
@pytest.mark.parametrize("name", ["unfreezing", "soft_labels", "dacl"])
def test_evaluation_counts_each_face_once_on_two_processes(results, name):
    one, two, other = results[0][name]
    assert two["eval_losses"] == pytest.approx(one["eval_losses"], rel=1e-6, abs=1e-6)
    assert two["metrics"] == pytest.approx(one["metrics"], rel=1e-6, abs=1e-6)
    for each in (one, two, other):
        assert len(each["labels"]) == 11
        assert each["labels"].tolist() == one["labels"].tolist()
        np.testing.assert_allclose(each["logits"], one["logits"], atol=1e-6)


@pytest.mark.numeric
@pytest.mark.parametrize("name", ["unfreezing", "soft_labels", "batch_norm"])
def test_the_evaluation_loss_is_the_mean_over_all_faces(results, name):
    for each in results[0][name]:
        logits, labels = torch.tensor(each["logits"]), torch.tensor(each["labels"])
        expected = nn.functional.cross_entropy(logits, labels).item()
        assert each["metrics"]["eval_loss"] == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(("name", "step"), RESUMED)
def test_a_run_resumed_at_any_step_of_an_epoch_ends_as_the_whole_one(results, name, step):
    """One process, and each of two."""
    for whole, resumed in zip(results[0][name], results[0][name, step], strict=True):
        torch.testing.assert_close(resumed["weights"], whole["weights"], rtol=0, atol=0)
        assert resumed["losses"] == whole["losses"]
        assert resumed["eval_losses"] == whole["eval_losses"]


def test_another_number_of_processes_cannot_go_on_with_a_run(results, tmp_path):
    faces = load_dataset("synthetic", **FACES, cache_dir=results[1] / "cache")
    with pytest.raises(BadInputError, match=r"`per_device_eval_batch_size` 4, now 8; .* `world_size` 2, now 1"):
        train("unfreezing", faces, tmp_path, 8, str(results[1] / "unfreezing-4"))


def arguments(folder, **flags):
    return FerTrainingArguments(output_dir=str(folder), use_cpu=True, **flags)


def test_processes_that_would_train_alone_are_refused(tmp_path, monkeypatch):
    args = arguments(tmp_path)  # one process, as far as accelerate knows
    monkeypatch.setattr(sys, "argv", ["recipes/vit.py"])
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BadInputError, match=r"started 2 processes.*torchrun --nproc_per_node 2 recipes/vit.py --use"):
        fer_launch.start(args, "")


def test_a_launcher_that_started_one_process_of_two_is_refused(tmp_path, monkeypatch):
    def launched(processes, asked=None):
        """A recipe's start in the surroundings that `accelerate launch` makes for its process."""
        words = ["--cpu", "--num_processes", str(processes), "--num_machines", "1", "recipes/vit.py"]
        command, environment = prepare_simple_launcher_cmd_env(
            _validate_launch_command(launch_command_parser().parse_args(words))[0]
        )
        assert command == [sys.executable, "recipes/vit.py"]
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", command[1:])
            for name in environment.keys() - os.environ.keys():
                patch.setenv(name, environment[name])
            fer_launch.start(arguments(tmp_path, num_processes=asked), "")

    with pytest.raises(BadInputError, match="asked for several processes and started one: torchrun --nproc_per"):
        launched(2)
    launched(2, asked=1)
    launched(1)


def test_another_number_of_processes_than_asked_for_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["recipes/vit.py"])
    fer_launch._check_processes(arguments(tmp_path, num_processes=1))
    with pytest.raises(BadInputError, match="`num_processes` is 4, and the launcher started 1: torchrun --nproc"):
        fer_launch.start(arguments(tmp_path, num_processes=4), "")


def test_synchronised_batch_norm_is_refused_without_gpus(tmp_path):
    with pytest.raises(BadInputError, match="`sync_batch_norm` needs GPUs: PyTorch cannot do it on cpu"):
        arguments(tmp_path, sync_batch_norm=True)


def test_synchronised_batch_norm_replaces_every_layer_and_no_name(drawn_faces, processor, tmp_path):
    class OnTwoGPUs(FerTrainingArguments):
        world_size = 2

    flags = {"eval_strategy": "no", "load_best_model_at_end": False}
    args = OnTwoGPUs(output_dir=str(tmp_path), use_cpu=True, **flags)
    args.sync_batch_norm = True
    model = batch_norm()
    names = model.state_dict().keys()
    count = len(norms_of(model))
    FerTrainer(model=model, args=args, train_dataset=drawn_faces["train"], data_collator=FaceCollator(processor))
    assert len(norms_of(model)) == count > 1
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in norms_of(model))
    assert model.state_dict().keys() == names


if __name__ == "__main__":
    where = Path(sys.argv[1])
    torch.save(train_all(where, 4), where / f"rank{os.environ['RANK']}.pt")
