"""The average of the weights: equal to a hand calculation, scored, saved, restored and resumed."""

import pytest
import torch
from conftest import tiny_vit_config
from helpers import mlp_head_on_vit, moved, tensor_trainer, tensors, weights
from safetensors.torch import load_file
from transformers import TrainerCallback, ViTForImageClassification

from fer_hf import build
from fer_hf.errors import BadInputError
from fer_hf.training import GradualUnfreezing
from fer_hf.training.ema import WeightAverage


DECAY = 0.75


class NoteSteps(TrainerCallback):
    """The model's own weights at the start and after every optimizer step."""

    def on_train_begin(self, args, state, control, model, **kwargs):
        self.seen = [weights(model)]

    def on_step_end(self, args, state, control, model, **kwargs):
        self.seen.append(weights(model))


def make(folder, model, callbacks=(), compute_metrics=None, **flags):
    torch.manual_seed(0)
    flags = {
        "learning_rate": 1e-2, "num_train_epochs": 2, "ema_decay": DECAY, "load_best_model_at_end": False,
        "save_total_limit": None, **flags,
    }  # fmt: skip
    return tensor_trainer(model(), folder, callbacks, compute_metrics, **flags)


def vit():
    return ViTForImageClassification(tiny_vit_config(num_hidden_layers=2, hidden_dropout_prob=0.1))


def dacl():
    return build("dacl-48", num_channels=3, network="resnet18", attention_hidden_sizes=(16, 8, 8))


def is_averaged(name):
    return not name.endswith(("num_batches_tracked", "centers"))


def average(seen):
    """By the definition, all steps at once."""
    shares = [DECAY**age for age in reversed(range(len(seen) - 1))]
    total = sum(shares)
    return {
        name: sum(share * now[name] for share, now in zip(shares, seen[1:], strict=True)) / total
        if is_averaged(name)
        else last
        for name, last in seen[-1].items()
    }


@pytest.mark.numeric
@pytest.mark.parametrize("model", [vit, mlp_head_on_vit, dacl])
def test_training_ends_with_the_average_of_three_steps_and_saves_it(tmp_path, model):
    notes = NoteSteps()
    trainer = make(tmp_path, model, [notes], max_steps=3, eval_strategy="no", save_strategy="no")
    trainer.train()
    expected = average(notes.seen)
    assert len(notes.seen) == 4
    torch.testing.assert_close(weights(trainer.model), expected, rtol=1e-5, atol=1e-6)
    assert moved(notes.seen[-1], weights(trainer.model)) == {n for n in moved(*notes.seen[::3]) if is_averaged(n)}
    trainer.save_model()
    saved = type(trainer.model).from_pretrained(tmp_path)
    assert moved(weights(trainer.model), weights(saved)) == set()
    assert not (tmp_path / "ema.safetensors").exists()


@pytest.mark.numeric
def test_an_evaluation_scores_the_average_and_leaves_the_weights_as_they_are(tmp_path):
    notes = NoteSteps()
    trainer = make(tmp_path, mlp_head_on_vit, [notes])
    trainer.train()
    scored = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    for epoch in (1, 2):
        checkpoint = tmp_path / f"checkpoint-{3 * epoch}"
        assert moved(notes.seen[3 * epoch], load_file(checkpoint / "model.safetensors")) == set()
        plain = make(tmp_path / "plain", mlp_head_on_vit, ema_decay=None)
        plain.model.load_state_dict(average(notes.seen[: 3 * epoch + 1]))
        assert plain.evaluate()["eval_loss"] == pytest.approx(scored[epoch - 1], abs=1e-5)
        plain.model.load_state_dict(notes.seen[3 * epoch])
        assert abs(plain.evaluate()["eval_loss"] - scored[epoch - 1]) > 1e-4
    assert trainer.evaluate()["eval_loss"] == pytest.approx(scored[-1], abs=1e-6)
    assert trainer.predict(tensors(14)).metrics["test_loss"] == pytest.approx(scored[-1], abs=1e-6)


@pytest.mark.numeric
@pytest.mark.parametrize("larger_is_better", [True, False])
def test_the_best_checkpoints_average_is_restored(tmp_path, larger_is_better):
    notes, counter = NoteSteps(), iter(range(9))
    trainer = make(
        tmp_path, mlp_head_on_vit, [notes], lambda _: {"order": next(counter)}, load_best_model_at_end=True,
        metric_for_best_model="order", greater_is_better=larger_is_better, save_total_limit=1,
    )  # fmt: skip
    trainer.train()
    steps = 6 if larger_is_better else 3
    torch.testing.assert_close(weights(trainer.model), average(notes.seen[: steps + 1]), rtol=1e-5, atol=1e-6)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(
        next(e["eval_loss"] for e in trainer.state.log_history if e["step"] == steps and "eval_loss" in e), abs=1e-6
    )


def unfreezing_run(folder, **flags):
    trainer = make(folder, vit, save_strategy="steps", save_steps=2, eval_strategy="steps", eval_steps=3, **flags)
    trainer.add_callback(GradualUnfreezing(trainer.model, every=1))
    return trainer


def test_a_resumed_run_ends_bitwise_as_the_uninterrupted_one(tmp_path):
    whole = unfreezing_run(tmp_path / "a")
    whole.train()
    frozen, first = (load_file(tmp_path / "a" / "checkpoint-2" / f"{name}.safetensors") for name in ("ema", "model"))
    assert moved(frozen, first) == {"classifier.weight", "classifier.bias"}  # trained from the start
    again = unfreezing_run(tmp_path / "b")
    again.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2"))
    assert moved(weights(whole.model), weights(again.model)) == set()
    for name in ("ema", "model"):
        ends = [load_file(tmp_path / run / "checkpoint-6" / f"{name}.safetensors") for run in ("a", "b")]
        assert moved(*ends) == set()
    assert moved(load_file(tmp_path / "a" / "checkpoint-6" / "ema.safetensors"), weights(whole.model)) == set()
    losses = [[e["eval_loss"] for e in trainer.state.log_history if "eval_loss" in e] for trainer in (whole, again)]
    assert losses[0] == losses[1]
    # A further run of the same trainer starts an average of its own.
    start = weights(whole.model)
    whole.args.max_steps, whole.args.learning_rate = 1, 0.0
    whole.optimizer = None
    whole.train()
    assert moved(start, weights(whole.model)) == set()


def test_a_checkpoint_is_resumed_as_it_was_written(tmp_path):
    make(tmp_path / "with", vit, max_steps=1, save_steps=1).train()
    make(tmp_path / "without", vit, max_steps=1, save_steps=1, ema_decay=None).train()
    for written, decay in (("with", None), ("without", 0.5)):
        trainer = make(tmp_path / "a", vit, max_steps=1, save_steps=1, ema_decay=decay)
        with pytest.raises(BadInputError, match="was written with other flags: `ema_decay`"):
            trainer.train(resume_from_checkpoint=str(tmp_path / written / "checkpoint-1"))
    with pytest.raises(BadInputError, match=r"holds no ema.safetensors: it was written without `ema_decay`"):
        WeightAverage(0.5).load(tmp_path / "without" / "checkpoint-1", vit())
    with pytest.raises(BadInputError, match="is the average of another model"):
        WeightAverage(0.5).load(tmp_path / "with" / "checkpoint-1", mlp_head_on_vit())


@pytest.mark.numeric
def test_a_compiled_model_has_the_same_average(tmp_path):
    # The backend `eager` goes all the way but for the compiler.
    ends = []
    for flags in ({}, {"torch_compile": True, "torch_compile_backend": "eager"}):
        trainer = make(tmp_path / str(len(ends)), vit, max_steps=2, **flags)
        trainer.train()
        losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
        ends.append((weights(trainer.model), losses))
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)
