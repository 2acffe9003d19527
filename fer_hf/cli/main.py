"""`fer-hf`: reads the command line and runs a sub-command."""

import shlex
import sys
from argparse import Action, Namespace
from importlib.metadata import version

from fer_hf.cli.commands import (
    audit,
    compare,
    convert,
    env,
    evaluate,
    export,
    faces,
    models,
    page,
    predict,
    push,
    report,
    train,
)
from fer_hf.cli.ending import run_to_end
from fer_hf.cli.parser import OneLineParser
from fer_hf.files import expand_home


COMMANDS = {
    "env": env,
    "faces": faces,
    "models": models,
    "audit": audit,
    "convert": convert,
    "train": train,
    "evaluate": evaluate,
    "compare": compare,
    "report": report,
    "predict": predict,
    "export": export,
    "page": page,
    "push": push,
}


def main(argv: list[str] | None = None) -> int:
    """
    Run a sub-command.

    Args:
        argv (`list[str]`, *optional*): Without the program's name; `sys.argv[1:]` by default.

    Returns:
        `int`: As [`~fer_hf.cli.ending.run_to_end`].

    Raises:
        SystemExit: With code 0, by argparse, after `--help` and `--version`.
    """
    words = expand_home(sys.argv[1:] if argv is None else argv)
    return run_to_end(lambda: _run(words), lambda: _resume_command(words))


def _resume_command(words: list[str]) -> str:
    """The same one; only what has written a part of a file wants to be told to go on with it."""
    has_part = words[:1] == ["predict"] and any(word.partition("=")[0] == "--output" for word in words)
    flags = ["--resume"] if has_part and "--resume" not in words else []
    return shlex.join(["fer-hf", *words, *flags])


def _run(words: list[str]) -> None:
    # The recipe that trains reads its flags itself.
    args = _parser().parse_args(words[:1] if words[:1] == ["train"] else words)
    args.words = words
    if getattr(args, "disable_tqdm", False):
        _disable_progress_bars()
    COMMANDS[args.command].run(args)


def _parser() -> OneLineParser:
    parser = OneLineParser(prog="fer-hf", description="Facial expression recognition on the Hugging Face stack.")
    parser.add_argument(
        "--print-completion", action=_PrintCompletion, choices=("bash", "zsh", "tcsh"), metavar="SHELL",
        help="print what completes these words in bash, zsh or tcsh (pip install shtab)",
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"fer_hf {version('fer_hf')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        summary = command.__doc__.strip()
        command.add_flags(commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}."))
    return parser


class _PrintCompletion(Action):
    def __call__(self, parser: OneLineParser, namespace: Namespace, shell: str, option: str | None = None) -> None:
        import shtab

        print(shtab.complete(parser, shell))
        parser.exit()


def _disable_progress_bars() -> None:
    import datasets
    from transformers.utils.logging import disable_progress_bar

    datasets.disable_progress_bars()
    disable_progress_bar()
