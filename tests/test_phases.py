"""What training costs, phase by phase: that steps are counted and timed, and only training's time and memory."""

import mmap

import pytest
import torch
from helpers import arguments, make_trainer, unfreeze_two
from transformers import TrainerCallback

from fer_hf.models import build
from fer_hf.plots import plot_phases
from fer_hf.training.phases import PhaseCallback
from fer_hf.training.unfreezing import frozen_to_eval


class Clock(TrainerCallback):
    """Stands still but for what is said to take time: a training step, a batch of an evaluation, a call of `wait`."""

    def __init__(self, step=0.0, evaluation=0.0):
        self.now, self.step, self.evaluation = 0.0, step, evaluation

    def __call__(self):
        return self.now

    def wait(self, seconds):
        self.now += seconds

    def on_optimizer_step(self, *args, **kwargs):
        self.wait(self.step)

    def on_prediction_step(self, *args, **kwargs):
        self.wait(self.evaluation)


def test_a_phase_lasts_as_long_as_the_same_parameters_train(drawn_faces, processor, tmp_path):
    trainer = make_trainer(drawn_faces, processor, tmp_path, callbacks=[unfreeze_two])
    metrics = trainer.train().metrics
    table = trainer.phases.table()
    head, layer = 32 * 7 + 7, sum(p.numel() for p in trainer.model.vit.layers[2].parameters())
    # 56 faces in batches of 8: 7 steps an epoch; epochs 2 and 3 are one phase.
    assert [(p["first_step"], p["steps"], p["trainable_parameters"]) for p in table] == [
        (0, 7, head),
        (7, 7, head + layer),
        (14, 14, head + 2 * layer),
    ]
    assert metrics["train_peak_memory_mb"] == max(phase["peak_memory_mb"] for phase in table)
    assert 0 < metrics["train_data_wait_share"] < 1
    plot_phases(table, trainer.phases.memory, tmp_path / "phases.png")
    assert (tmp_path / "phases.png").stat().st_size > 10_000


@pytest.mark.parametrize("accumulated", [1, 2])
def test_time_is_that_of_steps_and_evaluation_is_not_in_it(drawn_faces, processor, tmp_path, accumulated):
    clock = Clock(step=0.05, evaluation=0.2)
    trainer = make_trainer(
        drawn_faces, processor, tmp_path, callbacks=[lambda _: clock], num_train_epochs=1, eval_strategy="steps",
        eval_steps=3, save_strategy="no", load_best_model_at_end=False, gradient_accumulation_steps=accumulated,
    )  # fmt: skip
    trainer.clock = trainer.phases.clock = clock
    metrics = trainer.train().metrics
    (phase,) = trainer.phases.table()
    assert phase["steps"] == (7 if accumulated == 1 else 4)
    assert phase["seconds_per_step"] == metrics["train_seconds_per_step"] == pytest.approx(0.05)
    assert phase["images_per_second"] == pytest.approx(56 / (phase["steps"] * 0.05))
    assert phase["data_wait_share"] == 0
    # Two evaluations of four batches are in the time since training began.
    evaluations = [entry["elapsed_seconds"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert evaluations[0] == pytest.approx(3 * 0.05 + 4 * 0.2)


def test_waiting_for_data_is_counted_as_such(drawn_faces, processor, tmp_path):
    clock = Clock(step=0.01)
    trainer = make_trainer(drawn_faces, processor, tmp_path, callbacks=[lambda _: clock], num_train_epochs=1)
    collate = trainer.data_collator
    trainer.data_collator = lambda examples: (clock.wait(0.03), collate(examples))[1]
    trainer.phases.clock = clock
    trainer.train()
    (phase,) = trainer.phases.table()
    assert phase["data_wait_share"] == pytest.approx(0.75)
    assert phase["images_per_second"] == pytest.approx(56 / (7 * 0.04))


def test_a_resumed_run_keeps_the_phases_from_before_and_goes_on_with_the_last(drawn_faces, processor, tmp_path):
    clock = Clock(step=0.5)
    flags = {"callbacks": [unfreeze_two, lambda _: clock], "save_total_limit": None}
    whole = make_trainer(drawn_faces, processor, tmp_path / "a", **flags)
    whole.phases.clock = clock
    whole.train()
    assert not list((tmp_path / "a").glob("*.json"))  # in checkpoints alone
    resumed = make_trainer(drawn_faces, processor, tmp_path / "b", **flags)
    resumed.phases.clock = clock
    resumed.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-21"))  # in the middle of the third phase
    measured = ("first_step", "steps", "trainable_parameters", "seconds_per_step", "images_per_second")
    tables = [[{key: phase[key] for key in measured} for phase in t.phases.table()] for t in (whole, resumed)]
    assert tables[0] == tables[1]
    assert [phase["steps"] for phase in tables[1]] == [7, 7, 14]


def test_a_checkpoint_of_before_has_no_phases(tmp_path):
    phases = PhaseCallback()
    phases.load(tmp_path, None)
    phases.on_train_begin(arguments(tmp_path), None, None)
    assert phases.table() == []


def hold_500_mb():
    """Fresh pages for a moment: `malloc` may hand out pages that the process has held since an earlier test."""
    with mmap.mmap(-1, 500_000_000) as pages:
        pages[::4096] = bytes(len(range(0, 500_000_000, 4096)))


class Hold(TrainerCallback):
    """Takes 500 MB for a moment, in a training step or in evaluation."""

    def __init__(self, when):
        self.when = when

    def on_optimizer_step(self, args, state, control, **kwargs):
        if self.when == "step" and state.global_step == 1:
            hold_500_mb()

    def on_prediction_step(self, args, state, control, **kwargs):
        if self.when == "evaluation" and state.global_step == 7:
            hold_500_mb()


@pytest.mark.parametrize("when", ["step", "evaluation"])
def test_memory_is_the_peak_of_training_alone(drawn_faces, processor, tmp_path, when):
    trainer = make_trainer(drawn_faces, processor, tmp_path, callbacks=[lambda _: Hold(when)], num_train_epochs=2)
    trainer.train()
    if trainer.phases.memory is None:
        pytest.skip("resident memory cannot be measured here")
    (phase,) = trainer.phases.table()
    assert (phase["peak_memory_mb"] > 250) == (when == "step")


def saved_bytes(model, pixel_values):
    """Bytes that autograd keeps for the backward pass, parameters aside."""
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(pixel_values, labels=torch.zeros(len(pixel_values), dtype=torch.int64))
    return sum(kept.values()), output


def test_backward_stops_at_the_lowest_trainable_layer_and_nothing_below_it_is_kept():
    model = build("compact-vit", image_size=16, num_hidden_layers=4).train()
    pixel_values = torch.randn(8, 3, 16, 16)
    whole, _ = saved_bytes(model, pixel_values)
    for parameter in model.vit.parameters():
        parameter.requires_grad_(False)
    frozen_to_eval(model)
    outputs = []
    model.vit.register_forward_hook(lambda *args: outputs.append(args[-1].last_hidden_state))
    head, output = saved_bytes(model, pixel_values)
    # What autograd does not record needs no `no_grad`: the backbone's output is a leaf, and takes no memory for later.
    assert outputs[0].grad_fn is None
    assert head < whole / 50
    for parameter in model.vit.layers[3].parameters():
        parameter.requires_grad_(True)
    top, output = saved_bytes(model, pixel_values)
    assert head < top < whole / 3
    output.loss.backward()
    moved = {name.split(".")[2] for name, p in model.vit.named_parameters(prefix="vit") if p.grad is not None}
    assert moved == {"3"}
