"""Words from a terminal: flags, launching, what recipes share, and the sub-commands of `fer-hf`."""

import sys
from types import TracebackType


_show_traceback = sys.excepthook


def _say_interrupted(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """One line for Ctrl-C also while imports go on, before [`~fer_hf.cli.ending.run_to_end`] is reached."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        _show_traceback(kind, error, traceback)


sys.excepthook = _say_interrupted
