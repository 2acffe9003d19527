"""Files that are not what their names say: a pipe, nothing, or something else, which complaints call by its name."""

import errno
import os
import stat

from fer_hf.errors import DataError


# How a file begins, and what it then is.
_KINDS = {
    b"version https://git-lfs": "a Git LFS pointer, not the file itself. `git lfs pull` in its folder gets it",
    b"PK\x03\x04": "a ZIP archive. Unpack it",
    b"\x1f\x8b": "a gzip archive. Unpack it",
    b"\xff\xfe": "text in UTF-16. Save it as UTF-8",
    b"\xfe\xff": "text in UTF-16. Save it as UTF-8",
    b"<!doctype": "a web page (HTML), perhaps one that asks to log in. Fetch the file again",
    b"<html": "a web page (HTML), perhaps one that asks to log in. Fetch the file again",
}
_SEPARATORS = {b";": "semicolons", b"\t": "tabs"}


def check_file(path: str | os.PathLike, may_be_empty: bool = False) -> int:
    """
    Refuse what would be waited for, such as a pipe, and what holds nothing.

    Args:
        path (`str` or `os.PathLike`):
            The file.
        may_be_empty (`bool`, *optional*, defaults to `False`):
            Whether it may hold nothing.

    Returns:
        `int`: The file's size in bytes.

    Raises:
        `DataError`: If it is no regular file, empty, or cannot be read.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise unreadable(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path}: not a file. Remove it, or put the file in its place.")
    if not os.access(path, os.R_OK):
        raise unreadable(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    if not (status.st_size or may_be_empty):
        raise DataError(f"{path}: an empty file (0 bytes). Unpack or fetch it again.")
    return status.st_size


def unreadable(path: str | os.PathLike, error: OSError) -> DataError:
    """The complaint about a file that the system does not hand out."""
    return DataError(f"{path}: cannot be read ({error.strerror}). Check the file and its permissions.")


def check_kind(path: str | os.PathLike, start: bytes) -> None:
    """Refuse a file by its first bytes, with a `DataError`, if they are those of a pointer, archive or web page."""
    text = start[:64].lstrip().lower()
    for beginning, kind in _KINDS.items():
        if text.startswith(beginning.lower()):
            raise DataError(f"{path}: {kind}.")


def separator_hint(header: bytes) -> str:
    """What a complaint about missing columns adds if not commas separate those of a header; else nothing."""
    found = [name for separator, name in _SEPARATORS.items() if separator in header and b"," not in header]
    return f" Its columns are separated by {found[0]}: save it with commas." if found else ""
