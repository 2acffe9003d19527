"""Training as users get it: what moves, what rests, what is restored, what a resumed run ends with."""

import pytest
import torch
from conftest import tiny_vit_config
from transformers import TrainerCallback, ViTForImageClassification

from fer_hf.data.collator import FaceCollator
from fer_hf.data.fast import training_faces
from fer_hf.metrics import classification_metrics
from fer_hf.training import FerTrainer, FerTrainingArguments, GradualUnfreezing


def make_trainer(faces, processor, folder, model=None, callbacks=(), sampler="none", train=None, **flags):
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
        train_dataset=train or faces["train"],
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


def test_frozen_layers_run_without_dropout_and_thawed_ones_with_it(drawn_faces, processor, tmp_path):
    trainer = make_trainer(drawn_faces, processor, tmp_path, callbacks=[schedule], num_train_epochs=2)
    modes = {layer: set() for layer in (0, 2)}
    for layer, seen in modes.items():
        trainer.model.vit.layers[layer].register_forward_pre_hook(lambda m, _, seen=seen: seen.add(m.training))
    trainer.train()
    assert modes == {0: {False}, 2: {False, True}}


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


RESUMED = [  # sampler, augmentation and data path (or the table itself), workers
    ("none", None, None, 0),
    ("inverse_frequency", None, None, 0),
    ("none", "fer48", "fast", 0),
    ("inverse_frequency", "fer48", "fast", 2),
    ("class_balanced", "transfer", "plain", 0),
    ("none", "vit_rafdb", "plain", 2),
]


@pytest.mark.parametrize(("sampler", "augmentation", "path", "workers"), RESUMED)
def test_a_resumed_run_equals_an_uninterrupted_one(
    drawn_faces, processor, tmp_path, sampler, augmentation, path, workers
):
    flags = {"save_strategy": "steps", "save_steps": 5, "eval_strategy": "steps", "eval_steps": 5}
    flags |= {"save_total_limit": None, "load_best_model_at_end": False, "dataloader_num_workers": workers}

    def trainer(folder):
        train = path and training_faces(drawn_faces["train"], processor, augmentation, path)
        return make_trainer(drawn_faces, processor, folder, None, [schedule], sampler, train, **flags)

    whole = trainer(tmp_path / "a")
    whole.train()
    assert whole.state.global_step == 28
    for step in (5, 15):  # in the middle of epoch 0, head only, and of epoch 2, two layers thawed
        again = trainer(tmp_path / f"b{step}")
        torch.rand(step)  # what the surroundings draw must not matter
        again.train(resume_from_checkpoint=str(tmp_path / "a" / f"checkpoint-{step}"))
        assert moved(weights(whole.model), weights(again.model)) == set()


def test_both_paths_train_the_same_model(drawn_faces, processor, tmp_path):
    trained = {}
    for path in ("fast", "plain", None):
        train = path and training_faces(drawn_faces["train"], processor, "none", path)
        trainer = make_trainer(drawn_faces, processor, tmp_path / str(path), train=train, num_train_epochs=1)
        trainer.train()
        trained[path] = weights(trainer.model)
    assert moved(trained["fast"], trained["plain"]) == moved(trained["fast"], trained[None]) == set()


def test_augmentation_follows_the_epoch(drawn_faces, processor, tmp_path):
    train = training_faces(drawn_faces["train"], processor, "fer48", "fast")
    seen = []

    class Look(TrainerCallback):
        def on_epoch_end(self, *args, **kwargs):
            seen.append(train[0]["pixel_values"])

    make_trainer(drawn_faces, processor, tmp_path, None, [lambda _: Look()], train=train, num_train_epochs=3).train()
    assert not any(torch.equal(seen[i], seen[j]) for i, j in [(0, 1), (0, 2), (1, 2)])
    train.set_epoch(1)
    assert torch.equal(train[0]["pixel_values"], seen[1])


def test_logs_carry_the_number_of_trainable_parameters(drawn_faces, processor, tmp_path):
    trainer = make_trainer(drawn_faces, processor, tmp_path, callbacks=[schedule], num_train_epochs=2)
    trainer.train()
    logged = [e["trainable_parameters"] for e in trainer.state.log_history if "loss" in e]
    layer = sum(p.numel() for p in trainer.model.vit.layers[2].parameters())
    assert logged == [32 * 7 + 7, 32 * 7 + 7 + layer]
