"""The one base class of every complaint about what a user gave us, and the parser of maps. Imports nothing of ours."""

import json
from collections.abc import Mapping
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
