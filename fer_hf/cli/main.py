"""`fer-hf`: reads the command line and runs a sub-command."""

import argparse
import io
import sys
from importlib.metadata import version

from fer_hf.cli.commands import audit, compare, convert, env, evaluate, export, faces, models, predict, report
from fer_hf.errors import BadInputError
from fer_hf.escape import one_line
from fer_hf.files import expand_home


COMMANDS = {
    "env": env,
    "faces": faces,
    "models": models,
    "audit": audit,
    "convert": convert,
    "evaluate": evaluate,
    "compare": compare,
    "report": report,
    "predict": predict,
    "export": export,
}


def main(argv: list[str] | None = None) -> int:
    """
    Run a sub-command.

    Args:
        argv (`list[str]`, *optional*): Without the program's name; `sys.argv[1:]` by default.

    Returns:
        `int`: 0, or 2 on bad input, after one line on stderr.

    Raises:
        SystemExit: With code 2, by argparse, on a command line that it cannot read; with 0 after `--help`.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a console without some letters shows them as escapes
            stream.reconfigure(errors="backslashreplace")
    words = expand_home(sys.argv[1:] if argv is None else argv)
    args = _parser().parse_args(words)
    args.words = words
    try:
        if getattr(args, "disable_tqdm", False):
            _disable_progress_bars()
        COMMANDS[args.command].run(args)
    except BadInputError as error:
        print(f"error: {one_line(str(error))}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fer-hf", description="Facial expression recognition on the Hugging Face stack."
    )
    parser.add_argument("--version", action="version", version=f"fer_hf {version('fer_hf')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        summary = command.__doc__.strip()
        command.add_flags(commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}."))
    return parser


def _disable_progress_bars() -> None:
    import datasets
    from transformers.utils.logging import disable_progress_bar

    datasets.disable_progress_bars()
    disable_progress_bar()
