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
    explain,
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
    "explain": explain,
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


def _run(words: list[str]) -> None:
    # The recipe that trains reads its flags itself.
    args = _parser().parse_args(words[:1] if words[:1] == ["train"] else words)
    args.words = words
    _disable_progress_bars(datasets_too=getattr(args, "disable_tqdm", False))
    COMMANDS[args.command].run(args)


def _resume_command(words: list[str]) -> str:
    """The command that goes on after Ctrl-C."""
    flags = [word.partition("=")[0] for word in words]
    resumes = words[:1] == ["predict"] and "--output" in flags and "--resume" not in flags
    return shlex.join(["fer-hf", *words, *(["--resume"] if resumes else [])])


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


def _disable_progress_bars(datasets_too: bool) -> None:
    """Those of Transformers are of work of milliseconds, such as loading weights."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    if datasets_too:
        import datasets

        datasets.disable_progress_bars()
