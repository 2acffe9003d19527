"""Optimizers and schedules by name, what decays, and the learning rate of each layer."""

import ast
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau
from transformers import SchedulerType, TrainingArguments, get_scheduler
from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION
from transformers.training_args import OptimizerNames
from transformers.utils.generic import ExplicitEnum

from fer_hf.errors import BadInputError, nearest
from fer_hf.models.heads import is_under


# `TrainingArguments` turns names into enums that have no room for more: these hold the stock names and ours. A member
# equals the stock one of its name, so the library's own comparisons go on working.
OptimizerName = ExplicitEnum(
    "OptimizerName",
    {name.name: name.value for name in OptimizerNames}
    | {"ADAM": "adam", "ADAMAX": "adamax", "ASGD": "asgd", "RPROP": "rprop"},
    module=__name__,
)
ScheduleName = ExplicitEnum(
    "ScheduleName",
    {name.name: name.value for name in SchedulerType}
    | {"STEP": "step", "MULTISTEP": "multistep", "ONE_CYCLE": "one_cycle"},
    module=__name__,
)

# Torch's own optimizers take every option of theirs in `optim_args`; other stock names take what the library reads.
TORCH_OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamax": torch.optim.Adamax,
    "asgd": torch.optim.ASGD,
    "rprop": torch.optim.Rprop,
    "sgd": torch.optim.SGD,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
    "adamw_torch": torch.optim.AdamW,
    "adamw_torch_fused": torch.optim.AdamW,
}
_OWN_FLAGS = {"lr": "--learning_rate", "weight_decay": "--weight_decay"}
# one_cycle warms up by itself (`pct_start`), the others stay where they are until something else moves them.
_WITHOUT_WARMUP = {"one_cycle", "constant", "reduce_lr_on_plateau", "greedy"}
_GIVEN_TO_SCHEDULES = {
    "self", "optimizer", "num_warmup_steps", "num_training_steps", "last_epoch", "verbose",
    "max_lr", "total_steps", "epochs", "steps_per_epoch",
}  # fmt: skip


def by_name(flag: str, names: type[ExplicitEnum], value: str) -> ExplicitEnum:
    """
    The member of `names` that `value` (text, or a stock enum's member) means.

    Raises:
        BadInputError: If there is none, with the nearest names.
    """
    text = getattr(value, "value", value)
    known = [name.value for name in names]
    if text not in known:
        raise BadInputError(f"`{flag}` {text!r} is unknown: {nearest(text, known)}")
    return names(text)


def check_optimization(args: TrainingArguments) -> None:
    """
    Refuse flags of optimizer, schedule, layer-wise rates and EMA that are wrong or make no sense together.

    Raises:
        BadInputError: With the flag, its value and what to do.
    """
    _check_rates_and_average(args)
    _check_together(args, args.lr_scheduler_type.value)
    optimizer = _tried_optimizer(args)
    _check_schedule(args.lr_scheduler_type.value, args.lr_scheduler_kwargs or {})
    try:
        create_schedule(args, optimizer, num_training_steps=max(args.max_steps, 1000), steps_per_epoch=10)
    except (TypeError, ValueError) as error:
        raise BadInputError(
            f"`lr_scheduler_kwargs` {args.lr_scheduler_kwargs} of `lr_scheduler_type` "
            f"{args.lr_scheduler_type.value}: {error}."
        ) from error


def _check_rates_and_average(args: TrainingArguments) -> None:
    if args.layer_decay is not None and not 0 < args.layer_decay <= 1:
        raise BadInputError(f"`layer_decay` must be in (0, 1], got {args.layer_decay:g}.")
    if args.head_learning_rate is not None and not args.head_learning_rate > 0:
        raise BadInputError(f"`head_learning_rate` must be > 0, got {args.head_learning_rate:g}.")
    if args.ema_decay is not None and not 0 < args.ema_decay < 1:
        raise BadInputError(f"`ema_decay` must be in (0, 1), got {args.ema_decay:g}; leave it out for no average.")
    if args.ema_decay is not None and (args.fsdp or args.deepspeed):
        raise BadInputError("`ema_decay` averages whole weights, which FSDP and DeepSpeed cut to pieces: drop one.")


def _check_together(args: TrainingArguments, schedule: str) -> None:
    if args.warmup_steps and schedule in _WITHOUT_WARMUP:
        instead = {"one_cycle": "its `pct_start`", "constant": "constant_with_warmup"}.get(
            schedule, "another schedule"
        )
        raise BadInputError(
            f"`warmup_steps` {args.warmup_steps:g} does nothing with `lr_scheduler_type` {schedule}: use {instead}."
        )
    if args.optim.value == "rprop" and (schedule != "constant" or args.weight_decay):
        raise BadInputError(
            "`optim` rprop takes the learning rate for its first step only, and knows no weight decay: use "
            f"`lr_scheduler_type` constant and `weight_decay` 0, got {schedule} and {args.weight_decay:g}."
        )


def _tried_optimizer(args: TrainingArguments) -> torch.optim.Optimizer:
    """The optimizer that the flags name, of one parameter; SGD for those of the library."""
    parameter = nn.Parameter(torch.zeros(1))
    if args.optim.value not in TORCH_OPTIMIZERS:
        return torch.optim.SGD([parameter], lr=args.learning_rate)
    cls, options = torch_optimizer(args)
    try:
        return cls([parameter], **options)
    except (TypeError, ValueError) as error:
        raise BadInputError(f"`optim_args` {args.optim_args} of `optim` {args.optim.value}: {error}.") from error


def torch_optimizer(args: TrainingArguments) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
    """
    Class and options of an optimizer in `TORCH_OPTIMIZERS`: the Adam flags where it has them, then `optim_args`.

    Raises:
        BadInputError: If `optim_args` is no list of `name=value`, or names what this optimizer does not have.
    """
    name = args.optim.value
    cls = TORCH_OPTIMIZERS[name]
    known = [key for key in inspect.signature(cls).parameters if key != "params"]
    options = {"lr": args.learning_rate}
    if "betas" in known:
        options |= {"betas": (args.adam_beta1, args.adam_beta2), "eps": args.adam_epsilon}
    if name == "adamw_torch_fused":
        options["fused"] = True
    for key, value in _parse_options(args.optim_args).items():
        if key in _OWN_FLAGS:
            raise BadInputError(f"`optim_args` sets {key}: use {_OWN_FLAGS[key]}.")
        if key not in known:
            raise BadInputError(f"`optim_args`: {name} has no option {key!r}: {nearest(key, known)}")
        options[key] = value
    return cls, options


def _parse_options(text: str | None) -> dict[str, Any]:
    """`"momentum=0.9,betas=(0.9, 0.99),nesterov=true"` as a dict of Python values."""
    words = {"true": True, "false": False, "none": None}
    try:
        call = ast.parse(f"f({text or ''})", mode="eval").body
        if call.args:
            raise ValueError("a value without a name")
        return {
            option.arg: words[option.value.id.lower()]
            if isinstance(option.value, ast.Name)
            else ast.literal_eval(option.value)
            for option in call.keywords
        }
    except (SyntaxError, ValueError, KeyError) as error:
        raise BadInputError(
            f"`optim_args` must be like 'momentum=0.9,nesterov=True', got {text!r}: {error}."
        ) from error


def _check_schedule(name: str, options: dict[str, Any]) -> None:
    known = {"step": ["step_size", "gamma"], "multistep": ["milestones", "gamma"]}.get(name)
    if known is None:
        own = {"one_cycle": OneCycleLR, "reduce_lr_on_plateau": ReduceLROnPlateau}
        parameters = inspect.signature(own.get(name) or TYPE_TO_SCHEDULER_FUNCTION[SchedulerType(name)]).parameters
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            return
        known = [key for key in parameters if key not in _GIVEN_TO_SCHEDULES]
    for key in options:
        if key not in known:
            raise BadInputError(f"`lr_scheduler_kwargs`: {name} has no option {key!r}: {nearest(key, known)}")
    form = "{}"
    if name == "step":
        form = '{"step_size": 20, "gamma": 0.1}, in whole epochs'
        valid = _is_epoch(options.get("step_size"))
    elif name == "multistep":
        form = '{"milestones": [15, 30], "gamma": 0.1}, in whole epochs that increase'
        milestones = options.get("milestones")
        valid = isinstance(milestones, list) and milestones and all(map(_is_epoch, milestones))
        valid = valid and milestones == sorted(set(milestones))
    else:
        return
    gamma = options.get("gamma", 0.1)
    if not valid or isinstance(gamma, bool) or not isinstance(gamma, int | float) or not gamma > 0:
        raise BadInputError(f"`lr_scheduler_kwargs` of {name} must be like {form}, got {options}.")


def _is_epoch(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def create_schedule(
    args: TrainingArguments, optimizer: torch.optim.Optimizer, num_training_steps: int, steps_per_epoch: int
) -> LRScheduler | ReduceLROnPlateau:
    """
    The schedule that the flags name, as the Trainer calls it: after every optimizer step, or, on a plateau, after
    every evaluation.

    `step` and `multistep` are torch's `StepLR` and `MultiStepLR` with epochs as their unit: the rate of a group in
    epoch e (0-based) is its own times `gamma` per `step_size` epochs that are over, or per milestone m <= e. Each
    rate follows from the number of steps alone, so a resumed run goes on exactly. `one_cycle` is torch's `OneCycleLR`
    up to each group's rate; it moves momentum (or the first beta) against it where the optimizer has one.

    Args:
        args (`FerTrainingArguments`): The run's flags.
        optimizer (`torch.optim.Optimizer`): With each group's rate.
        num_training_steps (`int`): Optimizer steps in the whole run.
        steps_per_epoch (`int`): Optimizer steps in one epoch.
    """
    name, options = args.lr_scheduler_type.value, args.lr_scheduler_kwargs or {}
    warmup = args.get_warmup_steps(num_training_steps)
    if name in ("step", "multistep"):
        drops = _drops(options)
        gamma = options.get("gamma", 0.1)

        def factor(step: int) -> float:
            ramp = 1.0 if step >= warmup else step / warmup
            return ramp * gamma ** drops(step // steps_per_epoch)

        return LambdaLR(optimizer, factor)
    if name == "one_cycle":
        has_momentum = bool(optimizer.defaults.get("momentum") or optimizer.defaults.get("betas"))
        options = {"cycle_momentum": has_momentum, **options}
        rates = [group["lr"] for group in optimizer.param_groups]
        try:
            return OneCycleLR(optimizer, max_lr=rates, total_steps=num_training_steps, **options)
        except ZeroDivisionError as error:
            raise BadInputError(
                f"`lr_scheduler_type` one_cycle has no step to warm up in, where `pct_start` of all steps, here of "
                f"{num_training_steps}, is one: train longer, or give another `pct_start` in `lr_scheduler_kwargs`."
            ) from error
    return get_scheduler(
        name,
        optimizer=optimizer,
        num_warmup_steps=warmup,
        num_training_steps=num_training_steps,
        scheduler_specific_kwargs=options,
    )


def _drops(options: dict[str, Any]) -> Callable[[int], int]:
    """How often the rate has dropped when an epoch (0-based) begins."""
    if "step_size" in options:
        return lambda epoch: epoch // options["step_size"]
    return lambda epoch: sum(milestone <= epoch for milestone in options["milestones"])


def decayed_parameters(model: nn.Module, args: TrainingArguments, stock: Iterable[str]) -> set[str]:
    """
    Names of the parameters with weight decay: with `decay_all_parameters` all of them, as a plain torch optimizer
    has it, else those that the library decays but for normalisation layers.

    Args:
        model (`nn.Module`): The classifier.
        args (`TrainingArguments`): The run's flags.
        stock (`Iterable[str]`): Names of those that the library decays.
    """
    if getattr(args, "decay_all_parameters", False):
        return {name for name, _ in model.named_parameters()}
    return set(stock) - normalisation_parameters(model)


def normalisation_parameters(model: nn.Module) -> set[str]:
    """
    Names of the scales and shifts of every normalisation layer, told by its class, as `bn1.weight` in a CNN's
    `Sequential` cannot be told by its name.
    """
    return {
        f"{name}.{parameter}" if name else parameter
        for name, module in model.named_modules()
        if any("norm" in cls.__name__.lower() for cls in type(module).__mro__)
        for parameter, _ in module.named_parameters(recurse=False)
    }


def layer_rates(args: TrainingArguments, layers: list[list[str]]) -> list[float]:
    """
    The learning rate of each of `layers`: the head's, then the backbone's groups from the top.

    The head has `head_learning_rate` (`learning_rate` by default), the k-th group below it
    `learning_rate * layer_decay**k`.
    """
    head = args.learning_rate if args.head_learning_rate is None else args.head_learning_rate
    decay = 1.0 if args.layer_decay is None else args.layer_decay
    return [head, *(args.learning_rate * decay**k for k in range(1, len(layers)))]


def has_layer_rates(args: TrainingArguments) -> bool:
    """Whether flags ask for learning rates that differ by layer."""
    return any(getattr(args, flag, None) is not None for flag in ("layer_decay", "head_learning_rate"))


def parameter_groups(
    model: nn.Module, args: TrainingArguments, decayed: set[str], layers: list[list[str]] | None = None
) -> list[dict[str, Any]]:
    """
    Parameter groups of an optimizer, frozen parameters too: those with weight decay and those without; with `layers`,
    for each learning rate of theirs, the head's first.

    Args:
        model (`nn.Module`): The classifier.
        args (`FerTrainingArguments`): The run's flags.
        decayed (`set[str]`): Names of the parameters with weight decay.
        layers (`list[list[str]]`, *optional*): Modules of the head, then of the backbone's groups from the top.
    """
    parameters = dict(model.named_parameters())
    if layers is None:
        return [
            {"params": [p for name, p in parameters.items() if name in decayed], "weight_decay": args.weight_decay},
            {"params": [p for name, p in parameters.items() if name not in decayed], "weight_decay": 0.0},
        ]
    groups: dict[tuple, list[nn.Parameter]] = {}
    placed = set()
    for rate, modules in zip(layer_rates(args, layers), layers, strict=True):
        for name, parameter in parameters.items():
            if name not in placed and is_under(name, modules):
                placed.add(name)
                groups.setdefault((rate, args.weight_decay if name in decayed else 0.0), []).append(parameter)
    if left := parameters.keys() - placed:
        raise RuntimeError(f"No layer holds {', '.join(sorted(left))}: they would never be trained.")
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]
