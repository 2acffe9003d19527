"""How every command and recipe ends: with an exit code and, if it was stopped, one line on stderr that says why."""

import errno
import io
import math
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from fer_hf.errors import BadInputError
from fer_hf.escape import one_line


# Set, it shows where an error comes from.
DEBUG = "FER_HF_DEBUG"

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
# How libraries that write by themselves say that a disk is full: safetensors, and torch.save.
_FULL_WORDS = ("No space left on device", "file write failed", "File too large")
_NETWORK = ("httpx", "httpx2", "requests", "urllib3", "aiohttp")


def run_to_end(work: Callable[[], None], resume_command: Callable[[], str | None] = lambda: None) -> int:
    """
    Call `work`. What goes wrong outside of the code ends it in one line on stderr: bad input, a full disk, a file that
    cannot be read or written, a package that is not installed, a dead network, Ctrl-C. With `FER_HF_DEBUG=1` a
    traceback stands before it. Other errors are faults of the code, and raised.

    Args:
        work (`Callable`): The command.
        resume_command (`Callable`, *optional*): Gives the command that goes on after Ctrl-C, if there is one.

    Returns:
        `int`: The exit code: 0, 2 with a line, 130 after Ctrl-C, 141 if nobody reads the output any more.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a console without some letters shows them as escapes
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            work()
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        command = resume_command()
        _say("interrupted" + (f"; to go on: {command}" if command else ""), on_one_process=True)
        return 130
    except Exception as error:
        _drop_unwritable_output()
        if isinstance(error, BrokenPipeError):
            return 141
        complaint = _complaint(error)
        if complaint is None:
            raise
        _say(f"error: {complaint}", on_one_process=isinstance(error, BadInputError))
        return 2
    return 0


def run_commands(
    commands: Iterable[tuple[Path, list[str]]], jobs: int = 1, seconds: float = math.inf, logs: bool = False
) -> Iterator[Path]:
    """
    Run commands to their ends, and give the folder of each when it has ended.

    Args:
        commands (iterable of `(Path, list[str])`): The folder of a run and what makes it; taken when it starts.
        jobs (`int`, defaults to 1): How many run side by side.
        seconds (`float`, *optional*): When they are over, no command starts, and those that run are interrupted as by
            Ctrl-C, with all their processes: a launcher leaves those that it started behind.
        logs (`bool`, defaults to `False`): Whether what a command prints goes to `<its folder>.log`.
    """
    waiting, running, end = iter(commands), {}, time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            for folder, words in islice(waiting, jobs - len(running)):
                running[folder] = _start(words, folder.with_name(f"{folder.name}.log") if logs else None)
            if not running:
                return
            for folder in [folder for folder, process in running.items() if process.poll() is not None]:
                del running[folder]
                yield folder
            time.sleep(0.1)
    finally:
        for process in running.values():
            if hasattr(os, "killpg"):  # elsewhere the console tells them all
                os.killpg(process.pid, signal.SIGINT)
        for process in running.values():
            process.wait()


def _start(words: list[str], log: Path | None) -> subprocess.Popen:
    if log is None:
        return subprocess.Popen(words, start_new_session=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        return subprocess.Popen(words, start_new_session=True, stdout=file, stderr=subprocess.STDOUT)


def _say(line: str, on_one_process: bool) -> None:
    """Write the line; of what all processes of a training meet alike, one speaks."""
    if os.environ.get(DEBUG):
        traceback.print_exc()
    if not on_one_process or os.environ.get("LOCAL_RANK", "0") == "0":
        with suppress(OSError):
            print(one_line(line), file=sys.stderr)


def _drop_unwritable_output() -> None:
    """The interpreter flushes stdout at its end, and must not find that it cannot be written."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complaint(error: BaseException) -> str | None:
    """What is wrong outside, where, and what to do; `None` if it is nothing outside."""
    return next(filter(None, map(_reason, _with_causes(error))), None)


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those that it came from: libraries raise their own about a full disk."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _reason(error: BaseException) -> str | None:
    text = " ".join(str(error).split())
    where = f"{error.filename}: " if getattr(error, "filename", None) is not None else ""
    number = getattr(error, "errno", None)
    if isinstance(error, BadInputError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("fer_hf"):
        return f"{text}; install it: pip install {(error.name or '').partition('.')[0]}"
    if number in _FULL or any(words in text for words in _FULL_WORDS):
        return f"{where}the disk is full; free some space, and run the same command again."
    if number in _FORBIDDEN:
        return f"{where}not allowed ({os.strerror(number)}); change its permissions or name another place."
    if _is_network(error):
        return (
            f"the network gave no answer ({text}); try again, or set HF_HUB_OFFLINE=1 to use what is loaded already."
        )
    return text if isinstance(error, OSError) else None


def _is_network(error: BaseException) -> bool:
    if getattr(error, "response", None) is not None:  # it answered, and refused
        return False
    libraries = {cls.__module__.partition(".")[0] for cls in type(error).__mro__}
    return isinstance(error, ConnectionError | TimeoutError) or not libraries.isdisjoint(_NETWORK)
