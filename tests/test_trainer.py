"""Training as users get it: what moves, what rests, what is restored, what a resumed run ends with."""

import shutil
from contextlib import contextmanager

import pytest
import torch
from conftest import tiny_vit_config
from helpers import (
    as_written_before,
    in_float64,
    make_trainer,
    mlp_head_on_vit,
    moved,
    processor_for,
    unfreeze_two,
    weights,
)
from safetensors.torch import load_file
from transformers import Trainer, TrainerCallback, ViTForImageClassification, ViTModel, pipeline

from fer_hf import build, load_image_classifier
from fer_hf.data.collator import FaceCollator
from fer_hf.data.training_set import training_faces
from fer_hf.errors import BadInputError
from fer_hf.training import FerTrainer, FerTrainingArguments, GradualUnfreezing
from fer_hf.training.tricks import Trick


def test_every_scheduled_layer_moves_and_every_other_is_bitwise_what_it_was(drawn_faces, processor, tmp_path):
    trainer = make_trainer(drawn_faces, processor, tmp_path, callbacks=[unfreeze_two], load_best_model_at_end=False)
    before = weights(trainer.model)
    trainer.train()
    scheduled = {n for n in before if n.startswith(("classifier.", "vit.layers.1.", "vit.layers.2."))}
    # Attention is blind to a shift of all keys, so the key biases have no gradient to move by, up to rounding.
    assert moved(before, weights(trainer.model)) | {n for n in scheduled if "k_proj.bias" in n} == scheduled


def test_frozen_parameters_have_no_optimizer_state(drawn_faces, processor, tmp_path):
    trainer = make_trainer(drawn_faces, processor, tmp_path, callbacks=[unfreeze_two], num_train_epochs=1)
    trainer.train()
    assert len(trainer.optimizer.state) == 2  # the classifier's weight and bias
    in_optimizer = sum(len(group["params"]) for group in trainer.optimizer.param_groups)
    assert in_optimizer == len(list(trainer.model.parameters()))


def test_frozen_layers_run_without_dropout_and_unfrozen_ones_with_it(drawn_faces, processor, tmp_path):
    trainer = make_trainer(drawn_faces, processor, tmp_path, callbacks=[unfreeze_two], num_train_epochs=2)
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
        drawn_faces, processor, tmp_path, callbacks=[unfreeze_two, lambda m: notes.append(NoteWeights(m)) or notes[0]],
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


FAMILIES = {
    "vit": lambda: ViTForImageClassification(tiny_vit_config()),
    "mlp_head": mlp_head_on_vit,
    "torchvision_cnn": lambda: build("resnet50", network="resnet18", image_size=32),
    # With its centers, which are no parameters.
    "dacl": lambda: build("dacl", network="resnet18", image_size=32, attention_hidden_sizes=[8]),
    "transfer": lambda: build(
        "transfer", image_size=32, stem_units=[1, 1, 1], stem_widths=[8, 8, 16], branch_reduction=4, hidden_size=32,
        num_hidden_layers=1, num_attention_heads=2,
    ),
}  # fmt: skip
ONE_EPOCH = {"num_train_epochs": 2, "per_device_train_batch_size": 28, "save_total_limit": None}


@pytest.mark.parametrize("family", list(FAMILIES))
def test_every_tensor_is_restored_by_us_and_by_the_stock_trainer(family, drawn_faces, tmp_path):
    notes, model = [], FAMILIES[family]()
    processor = processor_for(model)
    trainer = make_trainer(
        drawn_faces, processor, tmp_path / "run", model, metric_for_best_model="step", greater_is_better=False,
        callbacks=[lambda model: notes.append(NoteWeights(model)) or notes[0]], **ONE_EPOCH,
    )  # fmt: skip
    trainer.compute_metrics = lambda _: {"step": trainer.state.global_step}  # the first epoch is the best
    trainer.train()
    assert moved(notes[0].by_step[2], notes[0].by_step[4])
    assert moved(notes[0].by_step[2], weights(trainer.model)) == set()

    checkpoint = str(tmp_path / "run" / "checkpoint-4")
    assert load_file(f"{checkpoint}/model.safetensors").keys() == trainer.model.state_dict().keys()
    for trainer_class in (FerTrainer, Trainer):
        torch.manual_seed(7)
        again = trainer_class(
            model=FAMILIES[family](),
            args=FerTrainingArguments(output_dir=str(tmp_path / "again"), use_cpu=True, disable_tqdm=True),
            train_dataset=drawn_faces["train"],
            eval_dataset=drawn_faces["validation"],
            data_collator=FaceCollator(processor),
        )
        assert moved(notes[0].by_step[4], weights(again.model))
        again._load_from_checkpoint(checkpoint)
        assert moved(notes[0].by_step[4], weights(again.model)) == set(), trainer_class


@pytest.mark.numeric
def test_a_checkpoint_with_old_names_ends_under_todays_and_still_loads(drawn_faces, processor, tmp_path, names):
    old = ViTModel(tiny_vit_config(), add_pooling_layer=True)
    old.save_pretrained(tmp_path / "old")
    processor.save_pretrained(tmp_path / "old")
    assert "encoder.layer.0.attention.attention.query.weight" in load_file(tmp_path / "old" / "model.safetensors")
    model, processor = load_image_classifier(str(tmp_path / "old"), tuple(names))
    trainer = make_trainer(drawn_faces, processor, tmp_path / "run", model, **ONE_EPOCH)
    trainer.train()
    trainer.save_model()
    assert load_file(tmp_path / "run" / "model.safetensors").keys() == model.state_dict().keys()
    again, info = ViTForImageClassification.from_pretrained(tmp_path / "run", output_loading_info=True)
    assert not any(info.values())
    assert moved(weights(model), weights(again)) == set()
    face = drawn_faces["test"][0]["image"]
    classifier = pipeline("image-classification", model=str(tmp_path / "run"), top_k=7, device="cpu")
    logits = model.eval()(**processor(face, return_tensors="pt")).logits
    expected = dict(zip(names, logits.softmax(dim=-1)[0].tolist(), strict=True))
    assert {entry["label"]: entry["score"] for entry in classifier(face)} == pytest.approx(expected, abs=1e-4)
    # Saving changed nothing about the model itself.
    model.save_pretrained(tmp_path / "stock")
    assert "vit.encoder.layer.0.attention.attention.query.weight" in load_file(
        tmp_path / "stock" / "model.safetensors"
    )


RESUMED = [  # what `test_resume.py` leaves out: sampler, augmentation and data path (or the table itself), workers
    ("none", None, None, 0),
    ("class_balanced", "transfer", "plain", 0),
    ("none", "vit_rafdb", "plain", 1),
]


@pytest.mark.parametrize(("sampler", "augmentation", "path", "workers"), RESUMED)
def test_a_resumed_run_equals_an_uninterrupted_one(
    drawn_faces, processor, tmp_path, sampler, augmentation, path, workers
):
    flags = {"save_strategy": "steps", "save_steps": 5, "eval_strategy": "steps", "eval_steps": 5}
    flags |= {"save_total_limit": None, "load_best_model_at_end": False, "dataloader_num_workers": workers}

    def trainer(folder):
        train = path and training_faces(drawn_faces["train"], processor, augmentation, path)
        return make_trainer(drawn_faces, processor, folder, None, [unfreeze_two], sampler, train, **flags)

    whole = trainer(tmp_path / "a")
    whole.train()
    assert whole.state.global_step == 28
    for step in (5, 15):  # in the middle of epoch 0, head only, and of epoch 2, two layers unfrozen
        again = trainer(tmp_path / f"b{step}")
        torch.rand(step)  # what the surroundings draw must not matter
        again.train(resume_from_checkpoint=str(tmp_path / "a" / f"checkpoint-{step}"))
        assert moved(weights(whole.model), weights(again.model)) == set()


def test_a_run_that_selects_by_an_old_name_goes_on(drawn_faces, processor, tmp_path):
    def run(folder, metric, **flags):
        trainer = make_trainer(
            drawn_faces, processor, tmp_path / folder, callbacks=[lambda m: GradualUnfreezing(m, on_plateau=1)],
            num_train_epochs=4, save_total_limit=None, metric_for_best_model=metric, **flags,
        )  # fmt: skip
        trainer.train(resume_from_checkpoint=flags.get("resume_from_checkpoint"))
        return trainer

    whole = run("a", "balanced_accuracy")
    assert moved(weights(whole.model), load_file(tmp_path / "a" / "checkpoint-7" / "model.safetensors"))
    old = shutil.copytree(tmp_path / "a" / "checkpoint-21", tmp_path / "old" / "checkpoint-21")
    for name in ("trainer_state.json", "manifest.json"):
        (old / name).write_text((old / name).read_text().replace("balanced_accuracy", "mean_class_accuracy"))
    as_written_before(old)
    again = run("b", "mean_class_accuracy", resume_from_checkpoint=str(old))
    assert moved(weights(whole.model), weights(again.model)) == set()
    scores = [[e.get("eval_balanced_accuracy") for e in each.state.log_history] for each in (whole, again)]
    assert scores[0] == scores[1]


@pytest.mark.numeric
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
    trainer = make_trainer(drawn_faces, processor, tmp_path, callbacks=[unfreeze_two], num_train_epochs=2)
    trainer.train()
    logged = [e["trainable_parameters"] for e in trainer.state.log_history if "loss" in e]
    layer = sum(p.numel() for p in trainer.model.vit.layers[2].parameters())
    assert logged == [32 * 7 + 7, 32 * 7 + 7 + layer]


@pytest.mark.numeric
def test_channels_last_trains_the_same_network_and_saves_it_as_ever(drawn_faces, tmp_path):
    def run(folder, resume=None, **flags):
        torch.manual_seed(0)
        model = in_float64(build("compact-cnn", image_size=24, widths=(8, 8, 16), depths=(1, 1), dropout=0.0))
        flags = {"num_train_epochs": 2, **flags}
        trainer = make_trainer(drawn_faces, processor_for(model), tmp_path / folder, model, **flags)
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    plain, fast = run("plain"), run("fast", channels_last=True)
    for model, layout in ((plain.model, torch.contiguous_format), (fast.model, torch.channels_last)):
        assert model.backbone.stages[0][0].layers[0][0].weight.is_contiguous(memory_format=layout)
    expected = weights(plain.model)
    for name, value in weights(fast.model).items():
        torch.testing.assert_close(value, expected[name], atol=1e-7, rtol=1e-7)
    (checkpoint,) = sorted((tmp_path / "fast").glob("checkpoint-7"))
    saved = load_file(checkpoint / "model.safetensors")
    assert all(value.is_contiguous() for value in saved.values())
    resumed = run("resumed", str(checkpoint), channels_last=True)
    assert not moved(weights(fast.model), weights(resumed.model))


def test_batch_norm_is_also_synchronised_in_a_model_that_replaces_the_first_one(drawn_faces, tmp_path, monkeypatch):
    def fresh():
        return build("compact-cnn", image_size=24, widths=(8, 8, 16), depths=(1, 1))

    model = fresh()
    trainer = make_trainer(drawn_faces, processor_for(model), tmp_path, model)
    trainer.model_init = fresh  # as a search does
    monkeypatch.setattr(FerTrainingArguments, "world_size", 2)
    trainer.args.sync_batch_norm = True
    layers = [module for module in trainer.call_model_init().modules() if "BatchNorm" in type(module).__name__]
    assert {type(layer) for layer in layers} == {torch.nn.SyncBatchNorm}


def test_channels_last_also_lays_out_a_model_that_replaces_the_first_one(drawn_faces, tmp_path):
    def fresh():
        return build("compact-cnn", image_size=24, widths=(8, 8, 16), depths=(1, 1))

    model = fresh()
    trainer = make_trainer(drawn_faces, processor_for(model), tmp_path, model, num_train_epochs=1, channels_last=True)
    trainer.model_init = fresh  # as a search does
    trainer.train()
    assert trainer.model is not model
    weight = trainer.model.backbone.stages[0][0].layers[0][0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_a_trick_acts_around_forwards_and_evaluations_and_keeps_a_state(drawn_faces, processor, tmp_path):
    said = []

    class Dark(Trick):
        def check(self, model):
            said.append("check")

        @contextmanager
        def training_forward(self, model, inputs, epoch):
            said.append(epoch)
            yield {**inputs, "pixel_values": torch.zeros_like(inputs["pixel_values"])}

        @contextmanager
        def evaluation(self):
            said.append("evaluation")
            yield

        def save(self, folder):
            (folder / "dark.txt").write_text(folder.name)

        def load(self, checkpoint, model):
            said.append((checkpoint / "dark.txt").read_text())

    flags = {"num_train_epochs": 1, "per_device_train_batch_size": 28, "load_best_model_at_end": False}
    trainer = make_trainer(drawn_faces, processor, tmp_path / "a", callbacks=[lambda _: Dark()], **flags)
    seen = []
    trainer.model.vit.embeddings.register_forward_pre_hook(lambda module, args: seen.append(args[0].any().item()))
    trainer.train()
    assert said == ["check", 0, 0.5, "evaluation"]
    assert seen[:2] == [False, False]
    assert all(seen[2:])
    again = make_trainer(drawn_faces, processor, tmp_path / "b", callbacks=[lambda _: Dark()], **flags)
    again.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2"))
    assert said[4:] == ["check", "checkpoint-2"]


def test_a_checkpoint_of_another_model_is_refused(drawn_faces, processor, tmp_path):
    flags = {"max_steps": 1, "save_strategy": "steps", "save_steps": 1, "eval_strategy": "no"}
    flags |= {"load_best_model_at_end": False}
    make_trainer(drawn_faces, processor, tmp_path / "a", **flags).train()
    other = make_trainer(drawn_faces, processor, tmp_path / "b", mlp_head_on_vit(), **flags)
    with pytest.raises(BadInputError, match="checkpoint-1 is a checkpoint of another model: they differ in back"):
        other.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-1"))
