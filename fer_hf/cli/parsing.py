"""Reading a recipe's flags: a flat YAML file first, then the command line."""

import dataclasses
import itertools
import shutil
import sys
import textwrap
import time
from argparse import Action
from pathlib import Path
from typing import Any

import yaml
from accelerate.utils import broadcast_object_list
from transformers import HfArgumentParser, TrainingArguments

from fer_hf.cli.parser import OneLineParser, unknown_flag
from fer_hf.errors import BadInputError, nearest, no_such_path
from fer_hf.files import expand_home
from fer_hf.provenance import packaged_module
from fer_hf.training.arguments import FerTrainingArguments
from fer_hf.training.checkpoints import resume_run


# What another start point, or other data, on the command line makes void in a YAML file.
_REPLACES = {
    "architecture": ("model_name_or_path", "head", "head_dropout", "model_revision"),
    "model_name_or_path": ("architecture", "config_overrides", "pixel_range"),
    "dataset_name": ("dataset_options", "image_column_name", "label_column_name"),
}
_USAGE = "%(prog)s [--config FILE.yaml] [--flag value ...]"
_INSTALLED_USAGE = "%(prog)s [CONFIG] [--num_processes N] [--accelerate_config FILE] [--flag value ...]"
# Of the flags of `TrainingArguments`, those that `--help` shows.
_COMMON = {
    "output_dir", "resume_from_checkpoint", "num_train_epochs", "max_steps", "per_device_train_batch_size",
    "per_device_eval_batch_size", "gradient_accumulation_steps", "learning_rate", "weight_decay", "optim",
    "optim_args", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "label_smoothing_factor",
    "eval_strategy", "metric_for_best_model", "seed", "bf16", "use_cpu",
}  # fmt: skip
# Of ours, those that it does not show: what speaks of the machine alone.
_OF_THE_MACHINE = {"cache_dir", "cpu_threads", "num_processes", "sync_batch_norm", "channels_last"}
_HIDDEN = ({field.name for field in dataclasses.fields(TrainingArguments)} - _COMMON) | _OF_THE_MACHINE


class RecipeParser(OneLineParser, HfArgumentParser):
    """
    The flags of dataclasses, in groups. `--help` is a page with a line for each flag of ours, but those of the
    machine, and for the common ones of `TrainingArguments`; `--help_all` is argparse's own, with all.
    """

    def __init__(self, dataclass_types: tuple[type, ...], prog: str):
        usage = _INSTALLED_USAGE if packaged_module() else _USAGE
        super().__init__(dataclass_types, prog=prog, usage=usage, add_help=False)
        self.add_argument(
            "--config",
            type=Path,
            help="YAML file of flags, or the name of a packaged one; the command line wins. Without: the demo",
        )
        self.add_argument("--help", action="help", help="this page")
        self.add_argument("--help_all", action=_HelpAll, nargs=0, help="every flag, with its default")

    def format_help(self) -> str:
        """The page of `--help`."""
        _, options, *groups = self._action_groups
        lines = [self.format_usage().strip(), *map(_help_line, options._group_actions)]
        for group in groups:
            shown = [action for action in group._group_actions if not _is_hidden(action)]
            lines += [f"{group.title}:", *map(_help_line, shown)]
        return "\n".join(lines) + "\n"


class _HelpAll(Action):
    def __call__(self, parser: RecipeParser, *args) -> None:
        print(HfArgumentParser.format_help(parser), end="")
        parser.exit()


def _is_hidden(action: Action) -> bool:
    return action.dest in _HIDDEN or action.const is False  # --no_<flag>


def _help_line(action: Action) -> str:
    """A flag with its short form, and the first words of its help."""
    flags = ", ".join(flag for flag in action.option_strings if "-" not in flag[2:])
    choices = f" ({', '.join(map(str, action.choices))})" if action.choices else ""
    width = max(100, shutil.get_terminal_size().columns) - 34
    return f"  {flags:<31} {textwrap.shorten(f'{action.help}{choices}', width, placeholder=' ...')}"


def parse_arguments(
    dataclass_types: tuple[type, ...],
    recipe: str,
    default_config: Path,
    args: list[str] | None = None,
) -> tuple[Any, ...]:
    """
    Read a recipe's flags: a flat YAML file of flag names (`--config FILE`) first, then the command line, which wins.

    With neither `--config` nor `--dataset_name`, `default_config` is read: the recipe's demo.

    Args:
        dataclass_types (`tuple[type, ...]`): As for [`~transformers.HfArgumentParser`].
        recipe (`str`): Name of the recipe, for the default `output_dir`.
        default_config (`Path`): YAML file of the demo; `--config NAME` also finds the files beside it.
        args (`list[str]`, *optional*): The command line, without the program's name; `sys.argv[1:]` by default.

    Returns:
        `tuple`: One instance for each dataclass, in their order, and the path of the YAML file that was read (or
        `None`).

    Raises:
        BadInputError: On a command line that cannot be read, on a YAML file that is missing or no flat map, on unknown
            keys, on values that are none of a flag's choices, and on flags that do not go together.
        SystemExit: With code 0, by argparse, after `--help` and `--help_all`.
    """
    args = expand_home(sys.argv[1:] if args is None else args)
    parser = RecipeParser(dataclass_types, prog="fer-hf train" if packaged_module() else f"{recipe}.py")
    given = _given(parser, args)
    config = _find_config(given, default_config)
    if config is not None:
        _set_defaults(parser, config, given)
    try:
        *parsed, _ = parser.parse_args_into_dataclasses(args=args, look_for_args_file=False)
    except ValueError as error:  # TrainingArguments on flags that do not go together
        raise BadInputError(" ".join(str(error).split())) from error
    for instance in parsed:
        if isinstance(instance, FerTrainingArguments):
            _complete(instance, [other for other in parsed if other is not instance], recipe)
    return *parsed, config


def _given(parser: HfArgumentParser, args: list[str]) -> dict[str, str]:
    """The flags on the command line, by their long names, and the word that follows each."""
    given = {}
    for flag, value in itertools.pairwise([*args, ""]):
        name, _, joined = flag.partition("=")
        action = parser._option_string_actions.get(name)
        if action is not None:
            given[action.dest] = joined or value
    return given


def _find_config(given: dict[str, str], default: Path) -> Path | None:
    """The YAML file to read, if any: a file, or the bare name of one that lies beside the demo's."""
    if "config" not in given:
        return None if {"dataset_name", "help", "help_all"} & given.keys() else default
    config = Path(given["config"])
    if config.is_file():
        return config
    if config.name != str(config):
        raise BadInputError(f"`config`: {no_such_path(config)}")
    beside = (default.parent / config).with_suffix(".yaml")
    if not beside.is_file():
        known = sorted(path.stem for path in default.parent.glob("*.yaml"))
        raise BadInputError(
            f"`config`: neither a file nor a packaged one is called {config}: {nearest(config, known)}"
        )
    return beside


def _set_defaults(parser: HfArgumentParser, config: Path, given: dict[str, str]) -> None:
    """Make the values of a YAML file the parser's defaults."""
    options = {
        flag[2:]: action
        for flag, action in parser._option_string_actions.items()
        if flag[:2] == "--"
        and flag not in ("--help", "--help_all", "--config")
        and action.const is not False  # --no_<flag>
    }
    values = {}
    for key, value in _read_map(config).items():
        if key not in options:
            raise BadInputError(f"{config}: {unknown_flag(str(key), parser.flags)}")
        _check_value(config, options[key], value)
        values[options[key].dest] = value
    for flag, replaced in _REPLACES.items():
        if given.get(flag, values.get(flag)) != values.get(flag):
            values = {name: value for name, value in values.items() if name not in replaced}
    # argparse converts text defaults, but 1e-4 is text to YAML and a bare int to a float flag is fine as it is.
    parser.set_defaults(**values)
    for action in options.values():
        action.required = action.required and action.dest not in values


def _read_map(config: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:  # of text that is not UTF-8, and of thousands of digits
        raise BadInputError(f"{config}: no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise BadInputError(f"{config}: expected a flat map of flag names to values, got {type(values).__name__}.")
    return values


def _check_value(config: Path, action: Action, value: Any) -> None:
    """argparse checks what stands on the command line (choices, that a float holds a number), not defaults."""
    key, choices = action.dest, action.choices
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        raise BadInputError(
            f"{config}: `{key}` is too large a number, of more than {sys.float_info.max_10_exp} digits."
        )
    if choices and value not in choices:
        hint = f' (quote it: {key}: "no")' if value is False and "no" in choices else ""
        raise BadInputError(f"{config}: `{key}` must be one of {', '.join(map(str, choices))}, got {value!r}{hint}.")
    if key.endswith("_strategy") and value is False:
        raise BadInputError(f'{config}: YAML reads `{key}: no` as false; quote it: `{key}: "no"`.')


def _complete(args: FerTrainingArguments, others: list[Any], recipe: str) -> None:
    """Give the training arguments what they need of the others, and an `output_dir`."""
    args.recipe_flags = {name: value for other in others for name, value in vars(other).items()}
    if "loss" in args.recipe_flags:  # what checkpoints have called the default from the first on
        args.recipe_flags["loss"] = args.recipe_flags["loss"] or "cross_entropy"
    if not args.output_dir_given:
        args.output_dir = _resumed_dir(args) or _new_run_dir(recipe)


def _resumed_dir(args: FerTrainingArguments) -> str | None:
    """Resuming: `output_dir` defaults to the run's own."""
    run = resume_run(args.resume_from_checkpoint, "")
    if run == Path(""):
        raise BadInputError("`resume_from_checkpoint` true goes on with the run in `output_dir`: give one.")
    return None if run is None else str(run)


def _new_run_dir(recipe: str) -> str:
    """`runs/<recipe>-<timestamp>`, the same one on every process."""
    name = [str(Path("runs", f"{recipe}-{time.strftime('%Y%m%d-%H%M%S')}"))]
    return broadcast_object_list(name)[0]
