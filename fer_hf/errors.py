"""The one base class of every complaint about what a user gave us. Imports nothing."""


class BadInputError(ValueError):
    """
    Something the user gave is wrong: an argument, a file, a row, a module name.

    The message is one line that says what is wrong, where, and what to do. Commands print it and exit with code 2;
    library callers catch it as the `ValueError` that it is.
    """


class DataError(BadInputError):
    """A data set on disk is not what its loader expects. The message names the file, the row and the remedy."""


class ModelError(BadInputError):
    """A classifier that was asked for and cannot be had."""
