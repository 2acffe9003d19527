"""
The one base class of every complaint about what a user gave us, what such complaints say about mistyped names, and the
parser of maps. Imports nothing of ours.
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


class BadInputError(ValueError):
    """
    Something the user gave is wrong: an argument, a file, a row, a module name.

    The message is one line that says what is wrong, where, and what to do. Commands print it and exit with code 2;
    library callers catch it as the `ValueError` that it is.
    """


class DataError(BadInputError):
    """A data set on disk is not what its loader expects. The message names the file, the row and the remedy."""


class ModelError(BadInputError):
    """The model could not be loaded."""


def nearest(name: object, known: Iterable[str]) -> str:
    """
    How a complaint about an unknown name ends: with the nearest known ones or, where none is near and they are few,
    with all.

    Args:
        name: As it was given.
        known (iterable of `str`): What it could have been.

    Returns:
        `str`: A question or a clause with its punctuation, such as `did you mean resnet50?`.
    """
    names = {str(other).lower(): str(other) for other in known}
    name = str(name).lower()
    near = difflib.get_close_matches(name, names, n=3) or [other for other in names if other.startswith(name)][:3]
    if not near and len(names) > 20:
        near = difflib.get_close_matches(name, names, n=1, cutoff=0)
    if near:
        return f"did you mean {' or '.join(names[other] for other in near)}?"
    return f"it can be {', '.join(names.values())}." if names else "there are none."


def no_such_path(path: str | Path) -> str:
    """`PATH does not exist.`, with the name that is nearest to the first part that is missing, if one is near."""
    place = missing = Path(path).expanduser().absolute()
    while not place.is_dir() and place != place.parent:
        missing, place = place, place.parent
    try:
        near = difflib.get_close_matches(missing.name, [other.name for other in place.iterdir()], n=1)
    except OSError:  # a folder that may not be listed
        near = []
    return f"{path} does not exist" + (f": did you mean {place / near[0]}?" if near else ".")


def is_hub_id(name: str) -> bool:
    """
    Whether a name that is no folder or file here may be one of the Hub, `owner/name`. A path that is mistyped is not:
    looked up on the Hub, it would cost half a minute of retries where there is no network.
    """
    owner = name.partition("/")[0]
    return re.fullmatch(r"\w[\w.-]*/[\w.-]+", name) is not None and not Path(owner).is_dir() and owner != "runs"


def parse_map(flag: str, value: Mapping | str | None, form: str = "a map of options") -> dict[Any, Any]:
    """
    The value of a flag that is a map in a YAML file and JSON text on the command line.

    Args:
        flag (`str`): Its name, for the message.
        value (`Mapping` or `str`, *optional*): As given; `None` is the empty map.
        form (`str`): What it must be, for the message.

    Raises:
        BadInputError: If it is no map.
    """
    try:
        parsed = json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError as error:
        raise BadInputError(f"`{flag}` must be {form}, got {value!r}, which is no JSON: {error}.") from error
    if parsed is None:
        return {}
    if not isinstance(parsed, Mapping):
        raise BadInputError(f"`{flag}` must be {form}, got {value!r}.")
    return dict(parsed)
