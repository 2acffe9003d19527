"""Losses as users get them: by flag, in training, and in what a run logs."""

import logging
import os
import socket
from dataclasses import asdict

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from conftest import tiny_vit_config
from test_ferplus import write
from torch.multiprocessing import start_processes
from torch.nn.functional import cross_entropy, one_hot
from transformers import (
    EvalPrediction,
    ResNetConfig,
    ResNetForImageClassification,
    ViTForImageClassification,
    ViTImageProcessor,
)
from transformers.trainer_pt_utils import LabelSmoother
from transformers.utils import ModelOutput

from fer_hf import build
from fer_hf.cli.arguments import DataArguments, LossArguments, ModelArguments
from fer_hf.cli.parsing import parse_arguments
from fer_hf.data import load_dataset
from fer_hf.data.collator import FaceCollator
from fer_hf.data.training_set import training_faces
from fer_hf.errors import BadInputError
from fer_hf.labels import EXPRESSIONS_WITH_CONTEMPT, id2label, label2id
from fer_hf.losses import ExpressionLoss
from fer_hf.metrics import classification_metrics
from fer_hf.runs.finish import finish_run
from fer_hf.training import FerTrainer, FerTrainingArguments
from fer_hf.training.callbacks import log_line


DACL = {
    "network": "resnet18", "stem": "small", "image_size": 16, "attention_hidden_sizes": [16],
    "center_loss_weight": 0.2,
}  # fmt: skip


def tiny_dacl(names, **changes):
    torch.manual_seed(0)
    return build("dacl", names, **{**DACL, **changes})


def arguments(folder, **flags):
    defaults = {
        "max_steps": 2, "per_device_train_batch_size": 8, "logging_strategy": "steps", "logging_steps": 1,
        "eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False, "learning_rate": 1e-2,
        "optim": "sgd", "max_grad_norm": 0, "disable_tqdm": True, "use_cpu": True,
    }  # fmt: skip
    return FerTrainingArguments(output_dir=str(folder), **{**defaults, **flags})


def make_trainer(faces, processor, folder, loss, model=None, sampler="none", **flags):
    """As recipes do it."""
    args = arguments(folder, **flags)
    names = faces["train"].features["label"].names
    if model is None:
        torch.manual_seed(0)
        labels = {"id2label": id2label(names), "label2id": label2id(names)}
        model = ViTForImageClassification(tiny_vit_config(**labels))
    function = loss.function(faces["train"], args, sampler)
    return FerTrainer(
        model=model,
        args=args,
        train_dataset=training_faces(faces["train"], processor, label_column=loss.label_column),
        eval_dataset=faces["validation"],
        data_collator=loss.collator(FaceCollator(processor), len(names), args.seed),
        compute_loss_func=function,
        compute_metrics=classification_metrics,
        processing_class=processor,
        sampler=sampler,
    )


def watch(trainer):
    """What goes in and out of the model in training: labels of each batch, and a copy of its output."""
    seen, compute = [], trainer.compute_loss

    def computed(model, inputs, *args, **kwargs):
        if model.training:
            seen.append({"labels": inputs["labels"]})
        return compute(model, inputs, *args, **kwargs)

    def note(module, args, inputs, outputs):
        if module.training:
            seen[-1] |= {"centers": getattr(outputs, "sparse_center_loss", None), "logits": outputs.logits.detach()}
            seen[-1] |= {"pixel_values": inputs["pixel_values"]}

    trainer.compute_loss = computed
    trainer.model.register_forward_hook(note, with_kwargs=True)
    return seen


@pytest.fixture
def processor_16():
    return ViTImageProcessor(size={"height": 16, "width": 16}, do_convert_rgb=True)


def logs(trainer):
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def moved(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


FLAGS = {
    "cross_entropy": {},
    "focal": {"loss": "focal", "focal_gamma": 1.5},
    "class weights": {"class_weights": "auto"},
    "focal, class weights": {"loss": "focal", "class_weights": {"disgust": 5}},
    "mixup": {"mixup_alpha": 0.4},
    "cutmix, focal": {"cutmix_alpha": 1.0, "loss": "focal"},
}


@pytest.mark.numeric
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
def test_a_stock_model_trains_with_every_loss_and_logs_what_it_is_by_hand(
    drawn_faces, processor, tmp_path, flags, smoothing
):
    # Two batches a step, of which the last of the epoch has one face less than the others.
    loss = LossArguments(**flags)
    faces = {**drawn_faces, "train": drawn_faces["train"].select(range(1, 16))}
    trainer = make_trainer(
        faces, processor, tmp_path, loss,
        per_device_train_batch_size=4, gradient_accumulation_steps=2, label_smoothing_factor=smoothing,
    )  # fmt: skip
    seen = watch(trainer)
    trainer.train()
    labels = torch.tensor(faces["train"]["label"][:])
    weights = torch.ones(7)
    if loss.class_weights == "auto":
        weights = len(labels) / torch.bincount(labels, minlength=7) / 7
    elif loss.class_weights != "none":
        weights[1] = 5
    weights = weights / weights[labels].mean()
    gamma = loss.focal_gamma if loss.loss == "focal" else 0.0
    assert [len(batch["labels"]) for batch in seen] == [4, 4, 4, 3]
    for entry, step in zip(logs(trainer), (seen[:2], seen[2:]), strict=True):
        logits = torch.cat([batch["logits"] for batch in step])
        targets = torch.cat([batch["labels"] for batch in step])
        mixes = loss.mixup_alpha + loss.cutmix_alpha > 0
        assert targets.is_floating_point() == mixes
        shares = targets if mixes else one_hot(targets, 7).float()
        p = logits.softmax(dim=-1)
        shares = (1 - smoothing) * shares + smoothing / 7
        by_hand = -(shares * weights * (1 - p) ** gamma * p.log()).sum() / len(targets)
        assert entry["loss"] == pytest.approx(by_hand.item(), rel=1e-5)
        right = logits.argmax(dim=-1) == (targets.argmax(dim=-1) if mixes else targets)
        assert entry["accuracy"] == pytest.approx(right.float().mean().item(), abs=1e-7)


@pytest.mark.numeric
def test_evaluation_is_never_mixed_and_has_the_same_loss(drawn_faces, processor, tmp_path):
    loss = LossArguments(loss="focal", mixup_alpha=0.4, cutmix_alpha=1.0, class_weights={"happy": 3})
    trainer = make_trainer(drawn_faces, processor, tmp_path, loss, label_smoothing_factor=0.2)
    output = trainer.predict(drawn_faces["test"])
    labels = drawn_faces["test"]["label"][:]
    assert output.label_ids.tolist() == labels
    logits, labels = torch.tensor(output.predictions), torch.tensor(labels)
    train = torch.tensor(drawn_faces["train"]["label"][:])
    weights = torch.ones(7)
    weights[3] = 3
    expected = ExpressionLoss(2.0, weights / weights[train].mean(), 0.2)(ModelOutput(logits=logits), labels)
    assert output.metrics["test_loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert output.metrics["test_accuracy"] == pytest.approx((logits.argmax(dim=-1) == labels).float().mean().item())
    assert trainer.running_loss.sums == {}  # only training faces count


@pytest.mark.numeric
def test_smoothing_without_other_flags_is_the_librarys(drawn_faces, processor, tmp_path):
    logits, labels = torch.randn(5, 7), torch.randint(7, (5,))
    ours = ExpressionLoss(label_smoothing=0.1)(ModelOutput(logits=logits), labels)
    torch.testing.assert_close(ours, LabelSmoother(0.1)({"logits": logits}, labels))
    trainer = FerTrainer(
        model=ViTForImageClassification(tiny_vit_config()), args=arguments(tmp_path, label_smoothing_factor=0.1)
    )
    assert trainer.compute_loss_func.label_smoothing == 0.1
    with pytest.raises(BadInputError, match=r"`label_smoothing_factor` is 0\.1, and `compute_loss_func` does not"):
        FerTrainer(model=trainer.model, args=trainer.args, compute_loss_func=ExpressionLoss())


@pytest.mark.numeric
def test_a_model_that_counts_no_faces_is_right_under_accumulation(drawn_faces, processor, tmp_path):
    # Its own loss is the mean over a batch, and the mean of such means is not that over a step's 7 faces.
    torch.manual_seed(0)
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic", num_labels=7,
        problem_type="single_label_classification",
    )  # fmt: skip
    model = ResNetForImageClassification(config)
    model.accepts_loss_kwargs = False
    faces = {**drawn_faces, "train": drawn_faces["train"].select(range(7))}
    trainer = make_trainer(
        faces, processor, tmp_path, LossArguments(), model, per_device_train_batch_size=4,
        gradient_accumulation_steps=2, max_steps=1,
    )  # fmt: skip
    seen = watch(trainer)
    trainer.train()
    logits, labels = (torch.cat([batch[key] for batch in seen]) for key in ("logits", "labels"))
    assert logs(trainer)[0]["loss"] == pytest.approx(cross_entropy(logits, labels).item(), rel=1e-5)


@pytest.mark.numeric
def test_logs_are_means_over_the_steps_since_the_last_one(drawn_faces, processor_16, tmp_path, names):
    trainer = make_trainer(
        drawn_faces, processor_16, tmp_path, LossArguments(), tiny_dacl(names), max_steps=4, logging_steps=3,
        per_device_train_batch_size=4, gradient_accumulation_steps=2,
        eval_strategy="steps", eval_steps=2,
    )  # fmt: skip
    seen = watch(trainer)
    trainer.train()
    first = logs(trainer)[0]
    assert (first["step"], len(seen)) == (3, 8)
    steps = [seen[i : i + 2] for i in (0, 2, 4)]
    right = [(b["logits"].argmax(dim=-1) == b["labels"]).float() for step in steps for b in step]
    softmax = [sum(cross_entropy(b["logits"], b["labels"], reduction="sum") for b in step) / 8 for step in steps]
    centers = [sum(b["centers"] for b in step) for step in steps]
    assert first["accuracy"] == pytest.approx(torch.cat(right).mean().item(), abs=1e-7)
    assert first["softmax_loss"] == pytest.approx(torch.stack(softmax).mean().item(), rel=1e-5)
    assert first["sparse_center_loss"] == pytest.approx(torch.stack(centers).mean().item(), rel=1e-5)
    assert first["loss"] == pytest.approx(first["softmax_loss"] + 0.2 * first["sparse_center_loss"], rel=1e-5)
    line = log_line(first)
    for key in ("loss", "softmax_loss", "sparse_center_loss", "accuracy"):
        assert f"  {key} {first[key]:.4g}  " in line


def test_a_later_run_starts_its_logs_anew(drawn_faces, processor, tmp_path):
    trainer = make_trainer(drawn_faces, processor, tmp_path, LossArguments(), logging_steps=100)
    trainer.train()
    assert trainer.running_loss.sums["faces"] == 16  # never read
    trainer.args.logging_steps = trainer.args.max_steps = 1
    seen = watch(trainer)
    trainer.train()
    right = (seen[0]["logits"].argmax(dim=-1) == seen[0]["labels"]).float().mean().item()
    assert logs(trainer)[-1]["accuracy"] == pytest.approx(right, abs=1e-7)


@pytest.mark.numeric
@pytest.mark.parametrize("flags", [FLAGS[name] for name in ("cross_entropy", "focal, class weights", "mixup")])
def test_of_a_dacl_model_the_softmax_part_is_replaced_and_the_centers_stay(drawn_faces, processor_16, tmp_path, flags):
    names = drawn_faces["train"].features["label"].names
    model = tiny_dacl(names)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = make_trainer(
        drawn_faces, processor_16, tmp_path, LossArguments(**flags), model, max_steps=1, label_smoothing_factor=0.1
    )
    seen = watch(trainer)
    trainer.train()
    entry = logs(trainer)[0]
    (batch,) = seen
    # The same step by hand: our loss of the logits, and the model's own center part.
    again = tiny_dacl(names)
    again.load_state_dict(before)
    outputs = again(batch["pixel_values"], labels=batch["labels"])
    away = outputs.features[:, None] - before["center_loss.centers"]
    shares = batch["labels"] if batch["labels"].dim() == 2 else one_hot(batch["labels"], 7)
    centers = 0.5 * (outputs.attention_weights[:, None] * shares[:, :, None] * away**2).sum() / 8
    softmax = trainer.compute_loss_func(outputs, batch["labels"])
    assert entry["softmax_loss"] == pytest.approx(softmax.item(), rel=1e-5)
    assert entry["softmax_loss"] != pytest.approx(outputs.softmax_loss.item(), rel=1e-3)
    assert entry["sparse_center_loss"] == pytest.approx(centers.item(), rel=1e-4)
    assert entry["loss"] == pytest.approx((softmax + 0.2 * centers).item(), rel=1e-4)
    (softmax + 0.2 * centers).backward()
    for name, parameter in again.named_parameters():
        expected = before[name] - 1e-2 * parameter.grad
        torch.testing.assert_close(trainer.model.get_parameter(name).data, expected, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(trainer.model.center_loss.centers, again.center_loss.centers, rtol=1e-4, atol=1e-5)
    assert "center_loss.centers" in moved(before, trainer.model.state_dict())


DACL_LOSSES = {
    None: ("dacl", "sparse_center"),
    "sparse_center": ("dacl", "sparse_center"),
    "center": ("center", "center"),
    "softmax": ("softmax", "softmax"),
    "cross_entropy": ("softmax", "softmax"),
}


@pytest.mark.parametrize(("given", "mode", "settled"), [(given, *row) for given, row in DACL_LOSSES.items()])
def test_the_loss_alone_decides_what_a_dacl_model_is(tmp_path, names, given, mode, settled):
    loss = LossArguments(loss=given)
    model, processor = ModelArguments(architecture="dacl", config_overrides=DACL).load(names, loss)
    assert (model.config.mode, loss.loss) == (mode, settled)
    assert (hasattr(model, "attention"), hasattr(model, "center_loss")) == (mode == "dacl", mode != "softmax")
    # A checkpoint has its loss: it need not be given again, and no other can be.
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    for asked in (None, given, settled):
        again = LossArguments(loss=asked)
        assert ModelArguments(str(tmp_path)).load(names, again)[0].config.mode == mode
        assert again.loss == settled
    for other, (others, _) in DACL_LOSSES.items():
        if other is not None and others != mode:
            with pytest.raises(BadInputError, match=f"`loss` {other} differs from the {settled} that {tmp_path} was"):
                ModelArguments(str(tmp_path)).load(names, LossArguments(loss=other))


@pytest.mark.numeric
@pytest.mark.parametrize("loss", ["center", "sparse_center"])
def test_center_losses_are_trained_with_the_softmax_part_of_the_flags(drawn_faces, tmp_path, names, loss):
    loss = LossArguments(loss=loss)
    model, own = ModelArguments(architecture="dacl", config_overrides=DACL).load(names, loss)
    trainer = make_trainer(drawn_faces, own, tmp_path, loss, model)
    before = model.center_loss.centers.clone()
    trainer.train()
    assert not torch.equal(model.center_loss.centers, before)
    for entry in logs(trainer):
        assert entry["loss"] == pytest.approx(entry["softmax_loss"] + 0.2 * entry["sparse_center_loss"], rel=1e-4)


def test_of_other_models_the_default_is_cross_entropy(names):
    loss = LossArguments()
    ModelArguments(architecture="resnet50", config_overrides={"network": "resnet18"}).load(names, loss)
    assert loss.loss == "cross_entropy"


def logs_of_two_processes(rank, folder, faces, processor, names):
    AcceleratorState._reset_state(reset_partial_state=True)  # what the forked process had
    GradientState._reset_state()
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": (folder / "port").read_text(), "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    torch.save(run_of_eight(faces, processor, folder / f"out{rank}", names, 4), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def run_of_eight(faces, processor, folder, names, batch):
    """Two steps of eight faces in each half step, without BatchNorm in the way."""
    model = tiny_dacl(names, mode="center")
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.train = lambda mode=True: None
            module.training = False
    loss = LossArguments(loss="focal", class_weights="auto")
    trainer = make_trainer(
        faces, processor, folder, loss, model, per_device_train_batch_size=batch, gradient_accumulation_steps=2,
        logging_steps=2, label_smoothing_factor=0.1, learning_rate=1e-3,
    )  # fmt: skip
    trainer.train()
    return {"log": logs(trainer)[0], "weights": model.state_dict()}


@pytest.mark.numeric
def test_two_processes_log_and_learn_what_one_does(drawn_faces, processor_16, tmp_path, names):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (tmp_path / "port").write_text(str(free.getsockname()[1]))
    start_processes(logs_of_two_processes, (tmp_path, drawn_faces, processor_16, names), nprocs=2, start_method="fork")
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    one = run_of_eight(drawn_faces, processor_16, tmp_path / "one", names, 8)
    for key in ("loss", "softmax_loss", "sparse_center_loss", "accuracy"):
        assert ranks[0]["log"][key] == ranks[1]["log"][key] == pytest.approx(one["log"][key], rel=1e-4), key
    for name, value in one["weights"].items():
        assert torch.equal(ranks[0]["weights"][name], ranks[1]["weights"][name])
        torch.testing.assert_close(ranks[0]["weights"][name], value, rtol=1e-3, atol=1e-4)


# Soft labels


@pytest.mark.numeric
def test_votes_are_trained_on_and_evaluation_is_against_the_label(tmp_path, processor):
    data = {"target": "distribution"}
    faces = load_dataset("ferplus", write(tmp_path / "data"), cache_dir=tmp_path / "cache", **data)
    loss = LossArguments(loss="soft_cross_entropy", class_weights={"angry": 2})
    trainer = make_trainer(
        faces, processor, tmp_path / "run", loss, per_device_train_batch_size=2, eval_strategy="epoch",
        save_strategy="epoch", label_smoothing_factor=0.1,
    )  # fmt: skip
    seen = watch(trainer)
    trainer.train()
    votes = {tuple(batch) for step in seen for batch in step["labels"].tolist()}
    assert votes == {tuple(np.array(soft, np.float32).tolist()) for soft in faces["train"]["soft_label"][:]}
    weights = torch.ones(8)
    weights[EXPRESSIONS_WITH_CONTEMPT.index("angry")] = 2  # no training face is angry: their mean stays 1
    for entry, batch in zip(logs(trainer), seen, strict=True):
        expected = cross_entropy(
            batch["logits"], batch["labels"], weight=weights, label_smoothing=0.1, reduction="sum"
        ) / len(batch["labels"])
        assert entry["loss"] == pytest.approx(expected.item(), rel=1e-5)
        right = batch["logits"].argmax(dim=-1) == batch["labels"].argmax(dim=-1)
        assert entry["accuracy"] == pytest.approx(right.float().mean().item(), abs=1e-7)
    output = trainer.predict(faces["validation"])
    assert output.label_ids.tolist() == faces["validation"]["label"][:]
    record = finish_run(trainer, faces, "ferplus", ModelArguments("m").record(), asdict(loss))
    assert record.training["loss"] == "soft_cross_entropy"
    assert record.training["class_weights"] == {"angry": 2}
    report = record.results["validation"]
    assert report["accuracy"] == output.metrics["test_accuracy"]
    assert sum(row["support"] for row in report["per_class"].values()) == len(faces["validation"])


def test_metrics_take_the_largest_share_of_a_soft_label():
    logits = np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
    soft = np.array([[0.2, 0.5, 0.3], [0.1, 0.4, 0.5]])
    assert classification_metrics(EvalPrediction(logits, soft))["accuracy"] == 0.5


def test_faces_without_votes_are_refused_for_votes(drawn_faces, tmp_path):
    with pytest.raises(BadInputError, match=r"`loss` soft_cross_entropy needs faces with annotators' votes"):
        LossArguments(loss="soft_cross_entropy").function(drawn_faces["train"], arguments(tmp_path))


# Flags


def test_the_flags_are_read_from_file_and_command_line(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "model_name_or_path: m\ndataset_name: synthetic\nloss: focal\nfocal_gamma: 1\nclass_weights: {disgust: 5}\n"
    )
    types = (ModelArguments, DataArguments, LossArguments, FerTrainingArguments)
    _, _, loss, _, _ = parse_arguments(types, "recipe", path, ["--use_cpu"])
    assert (loss.loss, loss.focal_gamma, loss.class_weights) == ("focal", 1, {"disgust": 5})
    command = ["--config", str(path), "--use_cpu", "--class_weights", "auto", "--mixup_alpha", "0.2"]
    _, _, loss, _, _ = parse_arguments(types, "recipe", path, command)
    assert (loss.class_weights, loss.mixup_alpha, loss.cutmix_alpha) == ("auto", 0.2, 0)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            {"loss": "hinge"},
            "`loss` must be one of cross_entropy, focal, soft_cross_entropy, softmax, center, sparse_",
        ),
        ({"focal_gamma": 1.0}, "`focal_gamma` 1 goes with `loss` focal."),
        ({"loss": "focal", "focal_gamma": -1.0}, "`focal_gamma` must be at least 0, got -1.0"),
        ({"mixup_alpha": -0.1}, "`mixup_alpha` must be at least 0, got -0.1"),
        ({"cutmix_alpha": float("inf")}, "`cutmix_alpha` must be at least 0, got inf"),
    ],
)
def test_flags_out_of_range_are_refused(flags, message):
    with pytest.raises(BadInputError) as error:
        LossArguments(**flags)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("loss", "model", "message"),
    [
        ("center", {"architecture": "resnet50"}, "`loss` center needs a model of the DACL family, such as "
         "`architecture` dacl; resnet50 is a torchvision_cnn."),
        ("softmax", {"architecture": "dacl-reduced"}, "`loss` softmax needs a model of the DACL family"),
        ("focal", {"architecture": "dacl"}, "`loss` focal is not for DACL models: dacl takes softmax, center or"),
        ("soft_cross_entropy", {"architecture": "dacl"}, "`loss` soft_cross_entropy is not for DACL models"),
        (None, {"architecture": "dacl", "config_overrides": {"mode": "softmax"}},
         "`config_overrides` cannot set mode: `loss` softmax, center or sparse_center does."),
        ("center", {"architecture": "dacl", "config_overrides": {"mode": "center"}}, "cannot set mode"),
    ],
)  # fmt: skip
def test_losses_that_a_model_cannot_have_are_refused_before_it_is_built(names, monkeypatch, loss, model, message):
    monkeypatch.setattr("fer_hf.cli.arguments.build", None)
    with pytest.raises(BadInputError) as error:
        ModelArguments(**model).load(names, LossArguments(loss=loss))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_weights_that_weigh_nothing_and_mixed_batches_of_one_are_refused(drawn_faces, tmp_path, names):
    args = arguments(tmp_path, per_device_train_batch_size=1)
    with pytest.raises(BadInputError, match="leaves no training face any weight"):
        LossArguments(class_weights=dict.fromkeys(names, 0)).function(drawn_faces["train"], args)
    with pytest.raises(BadInputError, match="need `per_device_train_batch_size` of 2 or more"):
        LossArguments(mixup_alpha=0.2).function(drawn_faces["train"], args)
    with pytest.raises(BadInputError, match="`class_weights` must be auto, none or a map"):
        LossArguments(class_weights="balanced").function(drawn_faces["train"], args)


def test_balancing_classes_twice_is_warned_about(drawn_faces, tmp_path, caplog):
    loss = LossArguments(class_weights="auto")
    with caplog.at_level(logging.WARNING, logger="fer_hf"):
        loss.function(drawn_faces["train"], arguments(tmp_path))
        assert not caplog.records
        loss.function(drawn_faces["train"], arguments(tmp_path), "class_balanced")
    assert "`class_weights` and `sampler` class_balanced both make up for rare expressions" in caplog.text
