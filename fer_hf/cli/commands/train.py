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
    """What stands beside the recipe's own flags, which the recipe reads."""
    parser.add_argument("--config")
    parser.add_argument("--num_processes", type=count)
    parser.add_argument("--accelerate_config")


def run(args: Namespace) -> None:
    module, *words = command(args.words[1:])
    if module.startswith(_RECIPES):
        sys.argv = [module, *words]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        # In this process' place: signals and exit codes are the launcher's own.
        os.execv(sys.executable, [sys.executable, "-m", module, *words])


def command(words: list[str]) -> list[str]:
    """
    What `fer-hf train` stands for.

    Args:
        words (`list[str]`): `[CONFIG] [--flag value ...]`.

    Returns:
        `list[str]`: The words after `python -m`: a recipe's module and its flags, behind a launcher where several
        processes or a configuration of accelerate are asked for.

    Raises:
        BadInputError: If there is no such configuration of accelerate.
    """
    if words and not words[0].startswith("-"):
        words = ["--config", *words]
    parser = OneLineParser(prog="fer-hf train", add_help=False, others=True)
    add_flags(parser)
    args, flags = parser.parse_known_args(words)
    recipe = f"{_RECIPES}.train"
    if args.config is not None:
        name, file = _find("configs", args.config)
        flags = ["--config", name, *flags]
        # Which recipe a config is for stands in the command at its head.
        if file.is_file() and (named := re.search(r"recipes/(\w+)\.py", file.read_text(encoding="utf-8"))):
            recipe = f"{_RECIPES}.{named[1]}"
    if args.accelerate_config is not None:
        return [*_accelerate(args), "-m", recipe, *flags]
    if args.num_processes is None:
        return [recipe, *flags]
    return _several(args.num_processes, recipe, flags)


def _accelerate(args: Namespace) -> list[str]:
    name, file = _find("accelerate", args.accelerate_config)
    if not file.is_file():
        raise BadInputError(f"`accelerate_config`: {no_such_path(name)}")
    count = [] if args.num_processes is None else ["--num_processes", str(args.num_processes)]
    return ["accelerate.commands.accelerate_cli", "launch", "--config_file", str(file), *count]


def _several(count: int, recipe: str, flags: list[str]) -> list[str]:
    if count < 2:
        return [recipe, "--num_processes", str(count), *flags]  # the recipe checks it
    from torch.cuda import is_available

    if is_available() and "--use_cpu" not in flags:
        from fer_hf.cli.launch import ACCELERATE_DEFAULTS

        launcher = ["accelerate.commands.accelerate_cli", "launch", *ACCELERATE_DEFAULTS, "--multi_gpu"]
        launcher += ["--num_processes", str(count)]
        return [*launcher, "-m", recipe, *flags]
    # On CPUs `accelerate launch` starts one process, whatever it is asked for.
    use_cpu = [] if "--use_cpu" in flags else ["--use_cpu"]
    return ["torch.distributed.run", "--standalone", "--nproc_per_node", str(count), "-m", recipe, *use_cpu, *flags]


def _find(folder: str, name: str) -> tuple[str, Path]:
    """The name and the file of a YAML file; where there is none, of the packaged one, with or without its suffix."""
    if Path(name).is_file():
        return name, Path(name)
    name = f"{name.removesuffix('.yaml')}.yaml"
    return name, Path(find_spec(_RECIPES).origin).parent / folder / name
