"""Training as users get it: what moves, what rests, what is restored, what a resumed run ends with."""

import pytest
import torch
from conftest import tiny_vit_config
from transformers import TrainerCallback, ViTForImageClassification

from fer_hf.data.collator import FaceCollator
from fer_hf.data.sampling import EpochSampler, inverse_frequency_weights, sampling_weights
from fer_hf.errors import BadInputError
from fer_hf.metrics import classification_metrics
from fer_hf.training import FerTrainer, FerTrainingArguments, GradualUnfreezing


def make_trainer(faces, processor, folder, model=None, callbacks=(), sampler="none", **flags):
    torch.manual_seed(0)
    model = model or ViTForImageClassification(tiny_vit_config(hidden_dropout_prob=0.1))
    flags = {
        "num_train_epochs": 4,
        "per_device_train_batch_size": 8,
        "learning_rate": 3e-3,
        "weight_decay": 0.1,
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 0,
        **flags,
    }
    return FerTrainer(
        model=model,
        args=FerTrainingArguments(output_dir=str(folder), **flags),
        train_dataset=faces["train"],
        eval_dataset=faces["validation"],
        data_collator=FaceCollator(processor),
        compute_metrics=classification_metrics,
        processing_class=processor,
        callbacks=[make(model) for make in callbacks],
        sampler=sampler,
    )


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def moved(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


def schedule(model):
    return GradualUnfreezing(model, schedule={"1": "vit.layers.2", "2": "vit.encoder.layer.1"})


def test_every_scheduled_layer_moves_and_every_other_is_bitwise_what_it_was(drawn_faces, processor, tmp_path):
    trainer = make_trainer(drawn_faces, processor, tmp_path, callbacks=[schedule], load_best_model_at_end=False)
    before = weights(trainer.model)
    trainer.train()
    scheduled = {n for n in before if n.startswith(("classifier.", "vit.layers.1.", "vit.layers.2."))}
    # Attention is blind to a shift of all keys, so the key biases have no gradient to move by, up to rounding.
    assert moved(before, weights(trainer.model)) | {n for n in scheduled if "k_proj.bias" in n} == scheduled


def test_frozen_parameters_have_no_optimizer_state(drawn_faces, processor, tmp_path):
    trainer = make_trainer(drawn_faces, processor, tmp_path, callbacks=[schedule], num_train_epochs=1)
    trainer.train()
    assert len(trainer.optimizer.state) == 2  # the classifier's weight and bias
    in_optimizer = sum(len(group["params"]) for group in trainer.optimizer.param_groups)
    assert in_optimizer == len(list(trainer.model.parameters()))


class NoteWeights(TrainerCallback):
    """Keeps the weights at the end of every epoch."""

    def __init__(self, model):
        self.model, self.by_step = model, {}

    def on_epoch_end(self, args, state, control, **kwargs):
        self.by_step[state.global_step] = weights(self.model)


@pytest.mark.parametrize("larger_is_better", [True, False])
def test_the_selected_epochs_weights_are_restored_whole(drawn_faces, processor, tmp_path, larger_is_better):
    # Once for the best and once for the worst epoch, so that the last one cannot be right both times.
    notes = []
    trainer = make_trainer(
        drawn_faces, processor, tmp_path, callbacks=[schedule, lambda m: notes.append(NoteWeights(m)) or notes[0]],
        metric_for_best_model="loss", greater_is_better=larger_is_better,
    )  # fmt: skip
    trainer.train()
    losses = {e["step"]: e["eval_loss"] for e in trainer.state.log_history if "eval_loss" in e}
    chosen = (max if larger_is_better else min)(losses, key=losses.get)
    assert trainer.state.best_global_step == chosen
    assert moved(notes[0].by_step[chosen], weights(trainer.model)) == set()
    last = max(losses)
    if chosen != last:
        assert moved(notes[0].by_step[last], weights(trainer.model))


@pytest.mark.parametrize("sampler", ["none", "inverse_frequency"])
def test_a_resumed_run_equals_an_uninterrupted_one(drawn_faces, processor, tmp_path, sampler):
    flags = {"save_strategy": "steps", "save_steps": 5, "eval_strategy": "steps", "eval_steps": 5}
    flags |= {"save_total_limit": None, "load_best_model_at_end": False}
    whole = make_trainer(drawn_faces, processor, tmp_path / "a", callbacks=[schedule], sampler=sampler, **flags)
    whole.train()
    assert whole.state.global_step == 28
    for step in (5, 15):  # in the middle of epoch 0, head only, and of epoch 2, two layers thawed
        again = make_trainer(
            drawn_faces, processor, tmp_path / f"b{step}", callbacks=[schedule], sampler=sampler, **flags
        )
        again.train(resume_from_checkpoint=str(tmp_path / "a" / f"checkpoint-{step}"))
        assert moved(weights(whole.model), weights(again.model)) == set()


def test_logs_carry_the_number_of_trainable_parameters(drawn_faces, processor, tmp_path):
    trainer = make_trainer(drawn_faces, processor, tmp_path, callbacks=[schedule], num_train_epochs=2)
    trainer.train()
    logged = [e["trainable_parameters"] for e in trainer.state.log_history if "loss" in e]
    layer = sum(p.numel() for p in trainer.model.vit.layers[2].parameters())
    assert logged == [32 * 7 + 7, 32 * 7 + 7 + layer]


def test_an_epochs_order_depends_on_seed_and_epoch_alone():
    sampler = EpochSampler(50, seed=3)
    first = list(sampler)
    assert sorted(first) == list(range(50))
    torch.rand(7)
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first
    assert list(EpochSampler(50, seed=4)) != first


def test_inverse_frequency_weights_draw_every_class_equally_often():
    labels = torch.tensor([0] * 90 + [1] * 9 + [2])
    weights = inverse_frequency_weights(labels)
    assert weights[0] == pytest.approx(1 / 90)
    many = torch.cat([labels[list(_at(EpochSampler(100, 0, weights), epoch))] for epoch in range(60)])
    assert torch.bincount(many) / len(many) == pytest.approx([1 / 3] * 3, abs=0.02)


def _at(sampler, epoch):
    sampler.set_epoch(epoch)
    return sampler


def test_an_unknown_sampler_is_refused(drawn_faces):
    with pytest.raises(BadInputError, match="`sampler` must be one of none, inverse_frequency, got 'balanced'"):
        sampling_weights("balanced", drawn_faces["train"])
