"""
Writing files: whole or not at all, so that a reader never sees half a file; and only where nothing is lost that is not
ours to replace.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fer_hf.errors import BadInputError


_PACKAGE = Path(__file__).resolve().parent


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """
    A place beside `path` to write its content to. What was written there gets the name `path` at the end of the
    block; if the block raises, it is deleted, and what stood at `path` stays.

        with whole("model.safetensors") as partial:
            save_file(tensors, partial)

    Args:
        path (`str` or `Path`): The file. Its folder is made if it is missing.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Hidden, and of this process alone: neither a user's file nor that of another process has such a name.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(flag: str, folder: str | Path) -> Iterator[Path]:
    """
    The same for a folder: a new one beside `folder` that gets its name at the end of the block, or is deleted if the
    block raises.

    Args:
        flag (`str`): What the user named the place with, for the message.
        folder (`str` or `Path`): New or empty. Those above it are made if they are missing.

    Raises:
        BadInputError: If it holds something, is a file, or cannot be made.
    """
    folder = Path(folder).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        state = "holds files" if folder.is_dir() else "is a file"
        raise BadInputError(f"`{flag}` {folder} {state}. Name a new or an empty folder; nothing is overwritten.")
    made = [parent for parent in folder.parents if not parent.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise BadInputError(f"`{flag}` {folder} cannot be made ({error.strerror}).") from error
    try:
        yield partial
        os.umask(mask := os.umask(0))  # a temporary folder is closed to others
        partial.chmod(0o777 & ~mask)
        os.replace(partial, folder)  # fails where something has been put in meanwhile
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        for parent in made:
            if not any(parent.iterdir()):
                parent.rmdir()
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write a text in UTF-8, whole or not at all."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")


def write_json(path: str | Path, content: dict) -> None:
    """Write JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def check_output(
    flag: str, path: str | Path, overwrite: bool = False, reads: Iterable[str | Path] = (), folder: bool = False
) -> None:
    """
    Refuse a place for a result, before any work is done for it.

    Args:
        flag (`str`): What the user named the place with, for the message.
        path (`str` or `Path`): The place.
        overwrite (`bool`, defaults to `False`): Whether what stands there may be replaced.
        reads (iterable of `str` or `Path`): What the result is made from: files, and folders, of which nothing is ever
            replaced. Names of other things, such as Hub ids, are no matter.
        folder (`bool`, defaults to `False`): Whether the place is a folder that results go into, and not a file.

    Raises:
        BadInputError: If it is a folder instead of a file or the reverse, cannot be written, lies in the installed
            package, or holds what must not be replaced.
    """
    path = Path(path)
    if folder:
        if path.exists() and not path.is_dir():
            raise BadInputError(f"`{flag}` must be a folder, and {path} is a file.")
    elif path.is_dir():
        raise BadInputError(f"`{flag}` must be a file, and {path} is a folder.")
    elif path.exists():
        _check_replacing(flag, path, overwrite, reads)
    if in_package(path):
        raise BadInputError(f"`{flag}` {path} lies in the installed fer_hf. Name a place of your own.")
    _check_writable(flag, path, path if folder else path.parent)


def _check_replacing(flag: str, path: Path, overwrite: bool, reads: Iterable[str | Path]) -> None:
    place = path.resolve()
    for source in (Path(source).resolve() for source in reads):
        if source.exists() and place.is_relative_to(source):
            raise BadInputError(f"`{flag}` {path} would replace what is read from. Name another place.")
    if not overwrite:
        raise BadInputError(f"`{flag}` {path} exists. Name another place, or replace it with --overwrite.")


def _check_writable(flag: str, path: Path, folder: Path) -> None:
    """Try it, in the folder or, if it is still to be made, in the one above that is there: only that tells."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadInputError(f"`{flag}` {path} cannot be written ({error.strerror}). Name another place.") from error


def in_package(path: str | Path) -> bool:
    """Whether a path lies in the installed package, as the checkpoints that ship do."""
    return Path(path).resolve().is_relative_to(_PACKAGE)


def expand_home(words: Iterable[str]) -> list[str]:
    """The words of a command with `~` made a folder, also in `--flag=~/folder`, which shells leave as it is."""
    expanded = []
    for word in words:
        flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        expanded.append(f"{flag}{equals}{os.path.expanduser(value)}")
    return expanded
