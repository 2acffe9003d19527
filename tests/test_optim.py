"""Optimizers, schedules and rates by layer: each equal to torch's own, a hand calculation or a written sequence."""

import pytest
import torch
from conftest import tiny_vit_config
from helpers import mlp_head_on_vit, moved, tensors, weights
from test_loading import timm_model
from torch import nn
from transformers import Trainer, TrainerCallback, ViTForImageClassification
from transformers.trainer_pt_utils import get_parameter_names

from fer_hf import ARCHITECTURES, build
from fer_hf.cli.arguments import DataArguments
from fer_hf.cli.parsing import parse_arguments
from fer_hf.errors import BadInputError
from fer_hf.models.heads import head_modules
from fer_hf.training import FerTrainer, FerTrainingArguments, GradualUnfreezing
from fer_hf.training.arguments import training_summary
from fer_hf.training.optim import TORCH_OPTIMIZERS, parameter_groups
from fer_hf.training.unfreezing import unfreeze_order


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # a trainer makes its output folder


def arguments(**flags):
    return FerTrainingArguments(output_dir="unused", use_cpu=True, disable_tqdm=True, **flags)


def trainer_for(model, **flags):
    return FerTrainer(model, arguments(**flags), eval_dataset=[])


def by_name(model, optimizer, key="lr"):
    """The learning rate (or another option) of every parameter."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {names[p]: group[key] for group in optimizer.param_groups for p in group["params"]}


# Optimizers

TWINS = [
    ("adam", None, torch.optim.Adam, {}),
    ("adam", "betas=(0.8, 0.9),eps=1e-4,amsgrad=true", torch.optim.Adam,
     {"betas": (0.8, 0.9), "eps": 1e-4, "amsgrad": True}),
    ("adamax", "betas=(0.5, 0.9)", torch.optim.Adamax, {"betas": (0.5, 0.9)}),
    ("asgd", "lambd=0.01,alpha=0.5", torch.optim.ASGD, {"lambd": 0.01, "alpha": 0.5}),
    ("rprop", "etas=(0.4, 1.3)", torch.optim.Rprop, {"etas": (0.4, 1.3)}),
    ("sgd", "momentum=0.9,nesterov=True", torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    ("adagrad", "lr_decay=0.1,initial_accumulator_value=0.2", torch.optim.Adagrad,
     {"lr_decay": 0.1, "initial_accumulator_value": 0.2}),
    ("rmsprop", "momentum=0.9,alpha=0.9", torch.optim.RMSprop, {"momentum": 0.9, "alpha": 0.9}),
    ("adamw_torch", None, torch.optim.AdamW, {}),
]  # fmt: skip


@pytest.mark.numeric
@pytest.mark.parametrize(("name", "options", "cls", "expected"), TWINS)
def test_a_named_optimizer_steps_exactly_as_torchs(name, options, cls, expected):
    decay = {} if name == "rprop" else {"weight_decay": 0.1}
    model, twin = (nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)) for _ in range(2))
    twin.load_state_dict(model.state_dict())
    flags = {"optim": name, "optim_args": options, "learning_rate": 0.02, "lr_scheduler_type": "constant", **decay}
    ours = trainer_for(model, **flags).create_optimizer()
    rest = [twin[0].bias, twin[1].weight, twin[1].bias]
    theirs = cls([{"params": [twin[0].weight], **decay}, {"params": rest, "weight_decay": 0.0}], lr=0.02, **expected)
    assert type(ours) is cls
    before = weights(model)
    for _ in range(3):
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            p.grad = torch.randn(p.shape)
            q.grad = p.grad.clone()
        ours.step()
        theirs.step()
    assert moved(weights(model), weights(twin)) == set()
    assert len(moved(before, weights(model))) == 4


def test_stock_names_keep_the_stock_class_and_options():
    options = {"sgd": "momentum=0.9,nesterov=True", "adagrad": "lr_decay=0.1", "rmsprop": "momentum=0.5,centered=True"}
    for name in ("sgd", "adagrad", "rmsprop", "adamw_torch", "adamw_torch_fused", "adafactor"):
        trainer = trainer_for(nn.Linear(1, 1), optim=name, optim_args=options.get(name), adam_beta2=0.9)
        stock = Trainer.get_optimizer_cls_and_kwargs(trainer.args)
        cls, options = trainer.get_optimizer_cls_and_kwargs(trainer.args, trainer.model)
        assert (cls, {key: value for key, value in options.items() if key != "params"}) == stock, name


@pytest.mark.numeric
@pytest.mark.parametrize(("nesterov", "expected"), [(False, [0.95, 0.855]), (True, [0.905, 0.7695])])
def test_momentum_is_that_of_a_hand_calculation(nesterov, expected):
    # A gradient of 0.5 each time. Speed: 0.5, then 0.9 * 0.5 + 0.5 = 0.95. The step is 0.1 of it; Nesterov's is 0.1 of
    # gradient + 0.9 * speed: 0.95, then 1.355.
    model = nn.Linear(1, 1, bias=False)
    flags = {"optim": "sgd", "optim_args": f"momentum=0.9,nesterov={nesterov}", "learning_rate": 0.1}
    optimizer = trainer_for(model, **flags).create_optimizer()
    nn.init.ones_(model.weight)
    seen = []
    for _ in range(2):
        model.weight.grad = torch.full((1, 1), 0.5)
        optimizer.step()
        seen.append(model.weight.item())
    assert seen == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "make", [mlp_head_on_vit, lambda: build("resnet50", network="resnet18", image_size=32), lambda: build("cnn-v2")]
)
def test_matrices_and_kernels_decay_and_no_norm_or_bias_does(make):
    model = make()
    optimizer = trainer_for(model, weight_decay=0.1).create_optimizer()
    norms = get_parameter_names(model, [nn.Linear, nn.Conv2d, nn.PReLU])
    tokens = {n for n, _ in model.named_parameters() if "token" in n or "position_embeddings" in n}
    expected = {n: 0.0 if n.endswith("bias") or n in set(norms) - tokens else 0.1 for n, _ in model.named_parameters()}
    assert 0.0 in expected.values()
    assert by_name(model, optimizer, "weight_decay") == expected


def test_51_of_the_76_tensors_of_dacl_decay_on_request_only():
    model = build("dacl", image_size=32, attention_hidden_sizes=(32, 16, 8))  # as many tensors as at full size
    for everything, number in ((False, 25), (True, 76)):
        flags = {"optim": "sgd", "weight_decay": 5e-4, "decay_all_parameters": everything}
        decay = by_name(model, trainer_for(model, **flags).create_optimizer(), "weight_decay")
        assert len(decay) == 76
        assert sum(value == 5e-4 for value in decay.values()) == number


@pytest.mark.numeric
def test_decay_of_all_parameters_steps_exactly_as_a_plain_torch_optimizer():
    model, twin = (nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)) for _ in range(2))
    twin.load_state_dict(model.state_dict())
    flags = {"optim": "sgd", "optim_args": "momentum=0.9", "learning_rate": 0.01, "weight_decay": 5e-4}
    ours = trainer_for(model, **flags, decay_all_parameters=True).create_optimizer()
    theirs = torch.optim.SGD(twin.parameters(), 0.01, momentum=0.9, weight_decay=5e-4)
    for _ in range(3):
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            p.grad = torch.randn(p.shape)
            q.grad = p.grad.clone()
        ours.step()
        theirs.step()
    assert moved(weights(model), weights(twin)) == set()


def test_decay_of_all_parameters_goes_with_rates_by_layer():
    model = ViTForImageClassification(tiny_vit_config())
    trainer = trainer_for(model, layer_decay=0.5, weight_decay=0.1, decay_all_parameters=True)
    assert set(by_name(model, trainer.create_optimizer(), "weight_decay").values()) == {0.1}


# Rates by layer


def test_each_layer_of_a_vit_has_its_rate():
    model = ViTForImageClassification(tiny_vit_config())
    trainer = trainer_for(model, learning_rate=0.8, head_learning_rate=0.3, layer_decay=0.5, weight_decay=0.1)
    optimizer = trainer.create_optimizer()
    expected = {"classifier.": 0.3, "vit.layers.2.": 0.4, "vit.layernorm.": 0.4, "vit.layers.1.": 0.2}
    expected |= {"vit.layers.0.": 0.1, "vit.embeddings.": 0.05}
    assert by_name(model, optimizer) == {
        name: next(rate for start, rate in expected.items() if name.startswith(start))
        for name, _ in model.named_parameters()
    }
    assert optimizer.param_groups[0]["params"] == [model.classifier.weight]
    assert trainer.learning_rates() == {
        "classifier": 0.3,
        "vit.layers.2, vit.layernorm": 0.4,
        "vit.layers.1": 0.2,
        "vit.layers.0": 0.1,
        "vit.embeddings": 0.05,
    }
    decays = by_name(model, optimizer, "weight_decay")
    assert (decays["vit.layers.1.mlp.fc1.weight"], decays["vit.layers.1.layernorm_before.weight"]) == (0.1, 0.0)


def test_without_a_decay_a_head_rate_parts_two_kinds_of_groups():
    model = ViTForImageClassification(tiny_vit_config())
    optimizer = trainer_for(model, learning_rate=0.1, head_learning_rate=0.3).create_optimizer()
    assert by_name(model, optimizer) == {
        name: 0.3 if name.startswith("classifier.") else 0.1 for name, _ in model.named_parameters()
    }
    assert len(optimizer.param_groups) == 2  # nothing decays, so two in all


def test_every_parameter_of_every_model_has_one_rate_that_falls_from_the_head_down():
    args = arguments(learning_rate=1.0, layer_decay=0.5)
    with torch.device("meta"):
        models = {name: build(name) for name in ARCHITECTURES}
    models |= {name: timm_model(name, [3, 64, 64]) for name in ("test_vit", "resnet10t")}
    for name, model in models.items():
        layers = [head_modules(model), *unfreeze_order(model)]
        groups = parameter_groups(model, args, set(), layers)
        placed = [p for group in groups for p in group["params"]]
        assert len(placed) == len(set(placed)) == len(list(model.parameters())), name
        assert [group["lr"] for group in groups] == [0.5**k for k in range(len(layers))], name


# Schedules

LR = 0.5  # in the runs below, on 56 faces in batches of 28: two steps per epoch


class NoteRates(TrainerCallback):
    """The rates of all groups that each optimizer step was made with."""

    def __init__(self):
        self.rates = []

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self.rates.append([group["lr"] for group in kwargs["optimizer"].param_groups])


class TinyNet(nn.Module):
    """Runs that only look at rates need no more."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 7)

    def forward(self, pixel_values, labels):
        logits = self.head(pixel_values.mean(dim=(2, 3)))
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def train(folder, model, callbacks=(), compute_metrics=None, checkpoint=None, **flags):
    flags = {"learning_rate": LR, "load_best_model_at_end": False, "metric_for_best_model": "loss", **flags}
    flags = {"per_device_train_batch_size": 28, **flags}
    args = FerTrainingArguments(output_dir=str(folder), use_cpu=True, disable_tqdm=True, seed=0, **flags)
    notes = NoteRates()
    trainer = FerTrainer(
        model, args, train_dataset=tensors(56), eval_dataset=tensors(7), callbacks=[*callbacks, notes],
        compute_metrics=compute_metrics,
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=checkpoint)
    return trainer, notes.rates


def rates(folder, **flags):
    trainer, seen = train(folder, TinyNet(), save_strategy="no", **flags)
    return [step[0] / LR for step in seen], trainer


SEQUENCES = {
    "step": ({"lr_scheduler_type": "step", "lr_scheduler_kwargs": {"step_size": 2, "gamma": 0.1}},
             5, [1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01]),
    "multistep": ({"lr_scheduler_type": "multistep", "lr_scheduler_kwargs": '{"milestones": [1, 3], "gamma": 0.5}'},
                  4, [1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]),
    "step, cut in an epoch": ({"lr_scheduler_type": "step", "lr_scheduler_kwargs": {"step_size": 1}, "max_steps": 5},
                              9, [1, 1, 0.1, 0.1, 0.01]),
    "step, accumulated": (
        {"lr_scheduler_type": "step", "lr_scheduler_kwargs": {"step_size": 1, "gamma": 0.2},
         "per_device_train_batch_size": 10, "gradient_accumulation_steps": 4}, 2, [1, 1, 0.2, 0.2]),
    "step after a warm-up": (
        {"lr_scheduler_type": "step", "lr_scheduler_kwargs": {"step_size": 2, "gamma": 0.1}, "warmup_steps": 4},
        3, [0, 0.25, 0.5, 0.75, 0.1, 0.1]),
    # From 1/10 up to 1 at step 0.5 * 4 - 1, then in a line down to 1/10 of the start.
    "one cycle": (
        {"lr_scheduler_type": "one_cycle", "lr_scheduler_kwargs":
         {"pct_start": 0.5, "div_factor": 10, "final_div_factor": 10, "anneal_strategy": "linear"}},
        2, [0.1, 1, 0.505, 0.01]),
    "one cycle, cut in an epoch": (
        {"lr_scheduler_type": "one_cycle", "max_steps": 5, "lr_scheduler_kwargs":
         {"pct_start": 0.6, "div_factor": 4, "final_div_factor": 5, "anneal_strategy": "linear"}},
        9, [0.25, 0.625, 1, 0.525, 0.05]),
    "constant": ({"lr_scheduler_type": "constant"}, 2, [1, 1, 1, 1]),
    "linear, stock": ({"lr_scheduler_type": "linear", "warmup_steps": 2}, 2, [0, 0.5, 1, 0.5]),
}  # fmt: skip


@pytest.mark.parametrize("name", list(SEQUENCES))
def test_a_schedule_gives_its_written_sequence(tmp_path, name):
    flags, epochs, expected = SEQUENCES[name]
    seen, _ = rates(tmp_path, num_train_epochs=epochs, **flags)
    assert seen == pytest.approx(expected)


PLATEAUS = [  # metric, its values, options, the rate of each epoch
    ("score", [0.5, 0.6, 0.6, 0.6, 0.7], {"patience": 0}, [1, 1, 1, 0.1, 0.01]),
    ("score_loss", [0.5, 0.6, 0.4, 0.4, 0.4], {"patience": 0, "factor": 0.5}, [1, 1, 0.5, 0.5, 0.25]),
    ("score", [0.5, 0.6, 0.4, 0.4, 0.4], {"patience": 0, "factor": 0.5, "mode": "min"}, [1, 1, 0.5, 0.5, 0.25]),
]


@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize(("metric", "values", "options", "expected"), PLATEAUS)
def test_a_plateau_is_one_in_the_direction_of_the_metric(tmp_path, metric, values, options, expected, accumulated):
    scores = iter(values)
    seen, trainer = rates(
        tmp_path, num_train_epochs=5, metric_for_best_model=metric, compute_metrics=lambda _: {metric: next(scores)},
        lr_scheduler_type="reduce_lr_on_plateau", lr_scheduler_kwargs=options,
        per_device_train_batch_size=28 // accumulated, gradient_accumulation_steps=accumulated,
    )  # fmt: skip
    assert seen == pytest.approx([rate for rate in expected for _ in range(2)])
    logged = [entry["learning_rate"] / LR for entry in trainer.state.log_history if "learning_rate" in entry]
    assert logged == pytest.approx(expected)
    assert training_summary(trainer.args)["lr_scheduler_kwargs"]["mode"] == trainer.lr_scheduler.mode


@pytest.mark.parametrize(("options", "moved"), [(None, False), ("momentum=0.9", True)])
def test_one_cycle_moves_momentum_only_where_there_is_some(tmp_path, options, moved):
    flags = {"optim": "sgd", "optim_args": options, "lr_scheduler_type": "one_cycle", "max_steps": 3}
    _, trainer = rates(tmp_path, **flags)
    assert (trainer.optimizer.param_groups[0]["momentum"] != (0.9 if options else 0)) == moved


RESUMED = [
    {"optim": "adamax", "lr_scheduler_type": "step", "lr_scheduler_kwargs": {"step_size": 1, "gamma": 0.5}},
    {"optim": "asgd", "lr_scheduler_type": "multistep", "lr_scheduler_kwargs": {"milestones": [1, 3]},
     "warmup_steps": 3},
    {"optim": "sgd", "optim_args": "momentum=0.9", "lr_scheduler_type": "one_cycle", "max_steps": 7},
    {"optim": "adam", "lr_scheduler_type": "reduce_lr_on_plateau",
     "lr_scheduler_kwargs": {"patience": 0, "threshold": 1.0}, "eval_steps": 1, "gradient_accumulation_steps": 2},
    {"optim": "rprop", "lr_scheduler_type": "constant"},
    {"optim": "adagrad", "lr_scheduler_type": "cosine", "warmup_steps": 2},
]  # fmt: skip


@pytest.mark.numeric
@pytest.mark.parametrize("flags", RESUMED, ids=lambda flags: f"{flags['optim']}-{flags['lr_scheduler_type']}")
def test_optimizer_schedule_and_layer_rates_resume_exactly(tmp_path, flags):
    flags = {
        "save_strategy": "steps", "save_steps": 3, "eval_strategy": "steps", "eval_steps": 3, "save_total_limit": None,
        "per_device_train_batch_size": 28 // flags.get("gradient_accumulation_steps", 1), "logging_strategy": "steps",
        "logging_steps": 1, "learning_rate": 1e-3, "head_learning_rate": 5e-3, "layer_decay": 0.5, **flags,
    }  # fmt: skip

    def run(folder, checkpoint=None):
        torch.manual_seed(0)
        model = ViTForImageClassification(tiny_vit_config(hidden_dropout_prob=0.1))
        unfreezing = GradualUnfreezing(model, every=1)
        return train(tmp_path / folder, model, [unfreezing], checkpoint=checkpoint, num_train_epochs=3, **flags)

    whole, seen = run("a")
    again, rest = run("b", str(tmp_path / "a" / "checkpoint-3"))
    assert rest == seen[3:]
    assert moved(weights(whole.model), weights(again.model)) == set()
    logged = [entry["learning_rate"] for entry in whole.state.log_history if "learning_rate" in entry]
    assert logged == [step[0] for step in seen]  # the head's
    if flags["lr_scheduler_type"] != "constant":
        assert seen[0] != seen[-1]


# Flags

WRONG = [
    ({"optim": "adamm"}, "`optim` 'adamm' is unknown: did you mean adam"),
    ({"lr_scheduler_type": "steps"}, "`lr_scheduler_type` 'steps' is unknown: did you mean step"),
    ({"optim": "sgd", "optim_args": "momentun=0.9"}, "sgd has no option 'momentun': did you mean momentum"),
    ({"optim": "sgd", "optim_args": "weight_decay=0.9"}, "`optim_args` sets weight_decay: use --weight_decay"),
    ({"optim": "sgd", "optim_args": "0.9"}, "`optim_args` must be like 'momentum=0.9,nesterov=True', got '0.9'"),
    ({"optim": "sgd", "optim_args": "momentum=big"}, "`optim_args` must be like"),
    ({"optim": "sgd", "optim_args": "nesterov=True"}, "Nesterov momentum requires a momentum"),
    ({"optim": "rprop"}, "`optim` rprop takes the learning rate for its first step only"),
    ({"optim": "rprop", "lr_scheduler_type": "constant", "weight_decay": 0.1}, "knows no weight decay"),
    ({"lr_scheduler_type": "step"}, '`lr_scheduler_kwargs` of step must be like {"step_size": 20'),
    ({"lr_scheduler_type": "step", "lr_scheduler_kwargs": {"step_size": 0}}, "of step must be like"),
    ({"lr_scheduler_type": "step", "lr_scheduler_kwargs": {"step_size": 2, "gamma": "0.1"}}, "of step must be like"),
    ({"lr_scheduler_type": "multistep", "lr_scheduler_kwargs": {"milestones": [3, 1]}}, "of multistep must be like"),
    ({"lr_scheduler_type": "step", "lr_scheduler_kwargs": {"stepsize": 2}}, "did you mean step_size?"),
    ({"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": {"step_size": 2}}, "cosine has no option 'step_size'"),
    ({"lr_scheduler_type": "linear", "lr_scheduler_kwargs": "{"}, "`lr_scheduler_kwargs` must be a map of options"),
    ({"lr_scheduler_type": "one_cycle", "lr_scheduler_kwargs": {"pct_start": 2}}, "of `lr_scheduler_type` one_cycle"),
    ({"lr_scheduler_type": "one_cycle", "warmup_steps": 5}, "with `lr_scheduler_type` one_cycle: use its"),
    ({"lr_scheduler_type": "constant", "warmup_steps": 0.1}, "constant: use constant_with_warmup"),
    ({"lr_scheduler_type": "reduce_lr_on_plateau", "warmup_steps": 9}, "`warmup_steps` 9 does nothing"),
    ({"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "no"}, "on_plateau needs `eval_strategy` steps"),
    ({"lr_scheduler_type": "reduce_lr_on_plateau", "lr_scheduler_kwargs": {"factor": 2}}, "Factor should be < 1.0"),
    ({"layer_decay": 0}, "`layer_decay` must be in (0, 1], got 0"),
    ({"layer_decay": 1.5}, "`layer_decay` must be in (0, 1], got 1.5"),
    ({"head_learning_rate": 0.0}, "`head_learning_rate` must be > 0, got 0"),
    ({"ema_decay": 1.0}, "`ema_decay` must be in (0, 1), got 1"),
    ({"ema_decay": 0.0}, "`ema_decay` must be in (0, 1), got 0"),
]  # fmt: skip


@pytest.mark.parametrize(("flags", "message"), WRONG)
def test_what_is_wrong_or_makes_no_sense_is_refused_in_one_line(flags, message):
    with pytest.raises(BadInputError) as error:
        arguments(**flags)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("flags", [{"layer_decay": 0.5}, {"decay_all_parameters": True}])
def test_an_optimizer_with_groups_of_its_own_takes_no_others(flags, monkeypatch):
    model = ViTForImageClassification(tiny_vit_config())
    trainer = trainer_for(model, optim="lomo", **flags)
    stock = staticmethod(lambda args, model: (torch.optim.SGD, {"lr": 1.0, "model": model}))
    monkeypatch.setattr(Trainer, "get_optimizer_cls_and_kwargs", stock)
    with pytest.raises(BadInputError, match="`optim` lomo makes its own groups"):
        trainer.create_optimizer()


def test_names_are_offered_parsed_and_recorded_as_they_are(tmp_path, capsys):
    config = tmp_path / "c.yaml"
    config.write_text(
        "dataset_name: synthetic\noptim: adamax\nlr_scheduler_type: multistep\n"
        "lr_scheduler_kwargs: {milestones: [15, 30]}\nhead_learning_rate: 1e-3\n"
    )
    _, args, _ = parse_arguments((DataArguments, FerTrainingArguments), "r", config, ["--use_cpu"])
    expected = {"optim": "adamax", "lr_scheduler_type": "multistep", "head_learning_rate": 1e-3}
    expected["lr_scheduler_kwargs"] = {"milestones": [15, 30]}
    for record in (args.to_dict(), training_summary(args)):
        assert {key: record[key] for key in expected} == expected
        assert type(record["optim"]) is str
    flags = ["--use_cpu", "--optim", "rprop", "--lr_scheduler_type", "constant", "--lr_scheduler_kwargs", "{}"]
    _, args, _ = parse_arguments((DataArguments, FerTrainingArguments), "r", config, flags)
    assert (args.optim, args.lr_scheduler_type) == ("rprop", "constant")
    default = arguments()
    assert (default.to_dict()["optim"], default.to_dict()["lr_scheduler_type"]) == ("adamw_torch_fused", "linear")
    with pytest.raises(SystemExit):
        parse_arguments((FerTrainingArguments,), "r", config, ["--help_all"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("galore_adamw", "rprop", "one_cycle", "multistep", *TORCH_OPTIMIZERS))
