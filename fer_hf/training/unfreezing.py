"""Gradual unfreezing: start with the head, unfreeze the backbone piece by piece, on a schedule or on a plateau."""

import logging
import re
from collections.abc import Mapping

from accelerate.utils import extract_model_from_parallel
from torch import nn
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.conversion_mapping import get_model_conversion_mapping

from fer_hf.errors import BadInputError, nearest, parse_map
from fer_hf.models.heads import head_modules, is_under
from fer_hf.scores import larger_is_better
from fer_hf.training.arguments import FerTrainingArguments
from fer_hf.words import plural


logger = logging.getLogger(__name__)


class UnfreezingError(BadInputError):
    """An unfreezing schedule that this model cannot follow."""


def unfreeze_order(model: PreTrainedModel) -> list[list[str]]:
    """
    The backbone's modules in groups, from the top (next to the head) down to the input.

    The blocks are the members of the outermost `ModuleList`s (and of `Sequential`s of composite modules): a ViT's
    layers, the stages of a Swin, ConvNeXt or ResNet. What follows the last block (a final norm) belongs to the first
    group, what precedes the first block (the embeddings) to the last group of its own. Without any block, every module
    is one.

    Args:
        model (`PreTrainedModel`):
            Any image classifier of Transformers.

    Returns:
        `list[list[str]]`: Module names; for a ViT
        `[["vit.layers.11", "vit.layernorm"], ["vit.layers.10"], ..., ["vit.layers.0"], ["vit.embeddings"]]`.
    """
    head = head_modules(model)
    pieces = [piece for piece in _pieces(model, head) if not is_under(piece[0], head)]
    if not any(is_block for _, is_block in pieces):
        return [[name] for name, _ in reversed(pieces)]
    groups = [[]]  # what stands before the first block
    for name, is_block in pieces:
        if is_block:
            groups.append([])
        groups[-1].append(name)
    return [group for group in reversed(groups) if group]


def layers_of(model: PreTrainedModel) -> list[list[str]]:
    """The head's modules, then the groups of [`unfreeze_order`]."""
    return [head_modules(model), *unfreeze_order(model)]


def _pieces(module: nn.Module, head: list[str], prefix: str = "") -> list[tuple[str, bool]]:
    """`(name, is a block)` of the outermost blocks and of what lies between them, in forward order of definition."""
    # timm's ViTs hold class token and position embeddings themselves.
    pieces = [(f"{prefix}{name}", False) for name, _ in module.named_parameters(recurse=False)]
    for name, child in module.named_children():
        full = f"{prefix}{name}"
        if not _has_parameters(child):
            continue
        if isinstance(child, nn.ModuleList | nn.Sequential) and _is_stack(child):
            pieces += [(f"{full}.{i}", True) for i, block in child.named_children() if _has_parameters(block)]
        elif any(is_under(name, [full]) and name != full for name in head) or any(
            isinstance(m, nn.ModuleList | nn.Sequential) and _is_stack(m) for m in child.modules()
        ):
            pieces += _pieces(child, head, f"{full}.")
        else:
            pieces.append((full, False))
    return pieces


def _is_stack(container: nn.Module) -> bool:
    children = [child for child in container.children() if _has_parameters(child)]
    return len(children) > 1 and all(any(True for _ in child.children()) for child in children)


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def resolve_module(model: PreTrainedModel, name: str) -> str:
    """
    The name in today's `model` of a module that may be written with an older Transformers version's name.

    `vit.encoder.layer.11` (the name in files and in Transformers 4) gives `vit.layers.11`; the renaming is the
    library's own, the one that `from_pretrained` applies to old checkpoints. Where the backbone goes by another name
    than in the library's classifier, both do: `vit.layers.11` is `backbone.layers.11` under a multi-layer head.

    Raises:
        UnfreezingError: If no module or parameter has that name, with the nearest names.
    """
    known = {n for n, _ in model.named_modules()} | {n for n, _ in model.named_parameters()}
    prefix, stock_prefix = model.base_model_prefix, getattr(model.base_model, "base_model_prefix", "")
    today = name
    if prefix != stock_prefix and is_under(name, [stock_prefix]):
        today = prefix + name.removeprefix(stock_prefix)
    for renaming in get_model_conversion_mapping(model):
        for source, target in zip(renaming.source_patterns, renaming.target_patterns, strict=False):
            if today not in known and "(" not in source:
                today = re.sub(source, target, today)
    for candidate in (name, today):
        if candidate in known and candidate:
            return candidate
    raise UnfreezingError(
        f"`unfreeze_schedule` names {name!r}, and {type(model).__name__} has no such module: "
        f"{nearest(name, sorted(known))}"
    )


def parse_schedule(schedule: str | Mapping) -> dict[int, list[str]]:
    """
    `{"2": "vit.layers.11", "4": ["vit.layers.10"]}`, as JSON text or a mapping, into `{2: [...], 4: [...]}`.

    Raises:
        BadInputError: If it is no such map, or an epoch is no integer >= 0.
    """
    form = 'a map from 0-based epoch to module name(s), like \'{"2": "vit.layers.11"}\''
    schedule = parse_map("unfreeze_schedule", schedule, form)
    if not schedule:
        raise UnfreezingError(f"`unfreeze_schedule` must be {form}, got an empty one.")
    parsed = {}
    for epoch, names in schedule.items():
        names = [names] if isinstance(names, str) else names
        if not re.fullmatch(r"\d+", str(epoch)):
            raise UnfreezingError(f"`unfreeze_schedule`: epoch {epoch!r} is no integer >= 0; expected {form}.")
        if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
            raise UnfreezingError(f"`unfreeze_schedule`: epoch {epoch} has {names!r}; expected {form}.")
        parsed.setdefault(int(epoch), []).extend(names)
    return parsed


def frozen_to_eval(model: nn.Module) -> None:
    """
    Put every module whose parameters are all frozen into eval mode, so that its dropout and BatchNorm statistics rest.

    `Trainer` calls `model.train()` before each step, which wakes them: call this after it.
    """
    for child in model.children():
        parameters = list(child.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            child.eval()
        else:
            frozen_to_eval(child)


class GradualUnfreezing(TrainerCallback):
    """
    Trains the head from the start and unfreezes parts of the backbone at the start of epochs.

    What is unfrozen is a pure function of the epoch and of the logged validation results, so a resumed run goes on as
    if it had never stopped. Parameters are frozen only once training begins, after accelerate has wrapped the model:
    frozen before, DDP would never synchronise them. Use with [`~fer_hf.training.FerTrainer`], which keeps every
    parameter in the optimizer; one added later would silently stay as it is.

    Args:
        model (`PreTrainedModel`):
            The classifier to be trained; names are checked against it at once.
        schedule (`str` or `Mapping`, *optional*):
            Map from 0-based epoch to the module name(s) to unfreeze at its start. Modules that it does not name stay
            frozen to the end.
        every (`int`, *optional*):
            Instead: unfreeze the next group of [`unfreeze_order`] at epochs `every`, `2 * every`, ...
        on_plateau (`int`, *optional*):
            Instead: unfreeze the next group when the validation metric (`metric_for_best_model`) has not improved for
            this many evaluations.

    Raises:
        UnfreezingError: If not exactly one of the three is given, or it does not fit the model.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        schedule: str | Mapping | None = None,
        every: int | None = None,
        on_plateau: int | None = None,
    ):
        given = {"unfreeze_schedule": schedule, "unfreeze_every": every, "unfreeze_on_plateau": on_plateau}
        chosen = [name for name, value in given.items() if value is not None]
        if len(chosen) != 1:
            raise UnfreezingError(f"Give one of {', '.join(given)}; got {', '.join(chosen) or 'none'}.")
        for name, value in list(given.items())[1:]:
            if value is not None and value < 1:
                raise UnfreezingError(f"`{name}` must be >= 1, got {value}.")
        self.every, self.on_plateau = every, on_plateau
        self.head = head_modules(model)
        self.schedule = None
        if schedule is not None:
            self.schedule = {
                epoch: [resolve_module(model, name) for name in names]
                for epoch, names in sorted(parse_schedule(schedule).items())
            }
        self.order = unfreeze_order(model)
        # Some models hold parameters that are never trained, such as fixed position embeddings.
        self.fixed = {name for name, p in model.named_parameters() if not p.requires_grad}
        self._unfrozen: list[str] | None = None

    @classmethod
    def from_arguments(cls, model: PreTrainedModel, args: FerTrainingArguments) -> "GradualUnfreezing | None":
        """The callback that a recipe's flags ask for, or `None` when they ask for none: everything trains."""
        given = (args.unfreeze_schedule, args.unfreeze_every, args.unfreeze_on_plateau)
        return None if all(value is None for value in given) else cls(model, *given)

    def unfrozen(self, epoch: int, log_history: list[dict] = (), metric: str = "", larger_is_better: bool = True):
        """
        Names of the backbone modules that train in `epoch` (0-based), in the order in which they were unfrozen.

        Args:
            epoch (`int`): The epoch that begins or is under way.
            log_history (`list[dict]`): `TrainerState.log_history`; only for `on_plateau`.
            metric (`str`): The key watched there, such as `eval_accuracy`.
            larger_is_better (`bool`): Its direction.
        """
        if self.schedule is not None:
            return [name for when, names in self.schedule.items() if when <= epoch for name in names]
        if self.every is not None:
            steps = epoch // self.every
        else:
            steps = self._plateaus(epoch, log_history, metric, larger_is_better)
        return [name for group in self.order[:steps] for name in group]

    def _plateaus(self, epoch: int, log_history: list[dict], metric: str, larger_is_better: bool) -> int:
        best, waited, count = None, 0, 0
        for entry in log_history:
            if metric not in entry or entry["epoch"] > epoch:
                continue
            value = entry[metric] if larger_is_better else -entry[metric]
            if best is None or value > best:
                best, waited = value, 0
            else:
                waited += 1
            if waited == self.on_plateau:
                count, waited = count + 1, 0
        return count

    def table(self, model: PreTrainedModel, args: TrainingArguments, state: TrainerState) -> list[dict]:
        """
        What trained when: an entry for the start and for every epoch (up to `state.epoch`) that unfroze something.

        Returns:
            `list[dict]`: With `epoch` (0-based), `thawed` (as run records call the modules that are new in it) and
            `trainable_parameters`.
        """
        table, before = [], None
        for epoch in range(max(1, -int(-(state.epoch or 0) // 1))):
            now = self._now(epoch, args, state)
            if now == before:
                continue
            new = self._new(before, now)
            trained = sum(p.numel() for n, p in model.named_parameters() if self._trains(n, now))
            table.append({"epoch": epoch, "thawed": new, "trainable_parameters": trained})
            before = now
        return table

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self._check_length(args)
        self._unfrozen = None  # another model may be trained with the same callback, as a search does
        self._apply(args, state, kwargs["model"])

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self._apply(args, state, kwargs["model"])

    def _now(self, epoch: int, args: TrainingArguments, state: TrainerState) -> list[str]:
        metric = f"eval_{(args.metric_for_best_model or 'loss').removeprefix('eval_')}"
        return self.unfrozen(epoch, state.log_history, metric, larger_is_better(metric, args.greater_is_better))

    def _new(self, before: list[str] | None, now: list[str]) -> list[str]:
        """The modules that train now and did not before; at the start (`None`) the head is among them."""
        return [*([] if before is not None else self.head), *(name for name in now if name not in (before or []))]

    def _trains(self, name: str, unfrozen: list[str]) -> bool:
        return name not in self.fixed and is_under(name, [*self.head, *unfrozen])

    def _apply(self, args: TrainingArguments, state: TrainerState, model: nn.Module) -> None:
        model = extract_model_from_parallel(model, keep_torch_compile=False)
        epoch = int(state.epoch or 0)
        unfrozen = self._now(epoch, args, state)
        if unfrozen == self._unfrozen:
            return
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(self._trains(name, unfrozen))
            if not parameter.requires_grad:
                parameter.grad = None
        new = self._new(self._unfrozen, unfrozen)
        self._unfrozen = unfrozen
        trained, total = count_parameters(model)
        logger.info(f"epoch {epoch}: {', '.join(new)} now training: {trained:,} of {plural(total, 'parameter')}")

    def _check_length(self, args: TrainingArguments) -> None:
        late = [epoch for epoch in self.schedule or {} if args.max_steps <= 0 and epoch >= args.num_train_epochs]
        if late:
            logger.warning(
                f"`unfreeze_schedule` unfreezes at epochs {late}, and training ends before them "
                f"(num_train_epochs={args.num_train_epochs:g}): those modules stay frozen."
            )


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """`(trainable, all)` parameters of `model`."""
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return trainable, sum(p.numel() for p in model.parameters())
