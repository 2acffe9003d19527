"""train a classifier by a config, a packaged one or your own; without one, the demo"""

import os
import re
import runpy
import sys
from argparse import ArgumentParser, Namespace
from importlib.util import find_spec
from pathlib import Path

from fer_hf.cli.parser import OneLineParser, count
from fer_hf.errors import BadInputError, no_such_path


_RECIPES = "fer_hf.recipes"


def add_flags(parser: ArgumentParser) -> None:
    """Beside the recipe's own flags, what a launcher is told; the recipe reads all other words."""
    parser.add_argument("--num_processes", type=count)
    parser.add_argument("--accelerate_config")


def run(args: Namespace) -> None:
    launcher, module, words = plan(args.words[1:])
    if launcher:
        sys.stdout.flush()
        # In this process' place: signals and exit codes are the launcher's own.
        os.execv(sys.executable, [sys.executable, "-m", *launcher, "-m", module, *words])
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def plan(words: list[str]) -> tuple[list[str], str, list[str]]:
    """
    What to run for the words after `fer-hf train`.

    Args:
        words (`list[str]`): `[CONFIG] [--flag value ...]`.

    Returns:
        `tuple`: The launcher's module with its flags, empty without one; the recipe's module; and the recipe's words.

    Raises:
        BadInputError: If the launcher's flags are wrong.
    """
    config = words[0] if words and not words[0].startswith("-") else None
    parser = OneLineParser(prog="fer-hf train", add_help=False, others=True)
    add_flags(parser)
    args, flags = parser.parse_known_args(words[config is not None :])
    recipe = "train"
    if config is not None:
        file = _packaged("configs", config)
        # Which recipe a config is for stands in the command at its head.
        named = re.search(r"recipes/(\w+)\.py", file.read_text(encoding="utf-8")) if file.is_file() else None
        recipe, flags = named[1] if named else recipe, ["--config", str(file), *flags]
    return _launcher(args, flags), f"{_RECIPES}.{recipe}", flags


def _launcher(args: Namespace, flags: list[str]) -> list[str]:
    """What starts the processes that `args` ask for; `flags` are completed where it is not accelerate."""
    number = [] if args.num_processes is None else ["--num_processes", str(args.num_processes)]
    if args.accelerate_config is not None:
        file = _packaged("accelerate", args.accelerate_config)
        if not file.is_file():
            raise BadInputError(f"`accelerate_config`: {no_such_path(file)}")
        return ["accelerate.commands.accelerate_cli", "launch", "--config_file", str(file), *number]
    if args.num_processes is None:
        return []
    if args.num_processes < 2:
        flags += number  # of the recipe, which checks it
        return []
    from torch.cuda import is_available

    if is_available() and "--use_cpu" not in flags:
        return ["accelerate.commands.accelerate_cli", "launch", "--multi_gpu", *number]
    # On CPUs `accelerate launch` starts one process, whatever it is asked for.
    flags += [] if "--use_cpu" in flags else ["--use_cpu"]
    return ["torch.distributed.run", "--standalone", "--nproc_per_node", str(args.num_processes)]


def _packaged(folder: str, name: str) -> Path:
    """The file of this name; where there is none, the packaged one, with or without its suffix."""
    beside = Path(find_spec(_RECIPES).origin).parent / folder / Path(name).with_suffix(".yaml")
    return Path(name) if Path(name).is_file() or not beside.is_file() else beside
