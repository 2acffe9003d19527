"""In which layout a data set lies in a folder, told by what stands there; and where it may be meant if it does not."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path

from fer_hf.errors import DataError, no_such_path


Layouts = Mapping[str, tuple[str, ...]]  # a layout is present where one of its files or folders stands


def find_layout(folder: Path, layout: str | None, layouts: Layouts, what: str) -> str:
    """
    The layout of a data set.

    Args:
        folder (`Path`):
            Where to look.
        layout (`str`, *optional*):
            What the user asked for.
        layouts (`Mapping[str, tuple[str, ...]]`):
            The layouts that there are.
        what (`str`):
            The data set, for messages.

    Returns:
        `str`: A key of `layouts`.

    Raises:
        `DataError`: If there is none or not the one that was asked for, or several and none was asked for.
    """
    if layout is not None and layout not in layouts:
        raise DataError(f"`layout` must be one of {sorted(layouts)}, got {layout!r}.")
    names = [name for entries in layouts.values() for name in entries]
    check_folder(folder, " or ".join(names))
    found = present(folder, layouts)
    if not found:
        raise DataError(
            f"{folder} holds no known layout of {what}: looked for {', '.join(names)}. Check `data_dir`."
            f"{near_hint(folder, names)}"
        )
    if layout is None and len(found) > 1:
        raise DataError(
            f"{folder} holds {what} in several layouts: {', '.join(found)}. Say which: layout={found[0]!r}."
        )
    if layout is not None and layout not in found:
        missing = " or ".join(layouts[layout])
        raise DataError(f"{folder} has no {missing}, as layout={layout!r} needs. Found here: {', '.join(found)}.")
    return layout or found[0]


def present(folder: Path, layouts: Layouts) -> list[str]:
    """The layouts of which a file or folder stands there."""
    return [name for name, entries in layouts.items() if any((folder / entry).exists() for entry in entries)]


def check_folder(folder: Path, wanted: str) -> None:
    """Raise `DataError` unless it is a folder; `wanted` is what it should hold, for the message."""
    if not folder.is_dir():
        state = f"{folder} is a file." if folder.exists() else no_such_path(folder)
        raise DataError(f"{state} `data_dir` must be the folder that holds {wanted}.")


def near_hint(folder: Path, names: Iterable[str]) -> str:
    """
    What a complaint about missing files adds: that one of them lies one folder down, or under a name much like it.
    Empty if neither is so.
    """
    for name in names:
        for inside in sorted(folder.glob("[!.]*/")):
            if (inside / name).exists():
                return f" There is {inside / name}: give {inside} as `data_dir`."
    here = {path.name.lower(): path for path in sorted(folder.iterdir())}
    for name in names:
        for near in difflib.get_close_matches(name, here, n=1, cutoff=0.8):
            return f" There is {here[near]}: unpack it or rename it to {name}."
    return ""
