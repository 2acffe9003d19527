"""
Words from a terminal: flags, launching, what recipes share, and the sub-commands of `fer-hf`.

Imported before torch, it sets how long threads of GNU OpenMP spin, and what Ctrl-C says while imports go on.
"""

import os
import sys
from types import TracebackType


# OpenMP reads it when torch loads it. Threads that wait for another spin, by default so long that two threads beside a
# busy process trained nine times slower; this costs 4 to 15 % on an idle machine (benchmarks/threads.py).
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

_show_traceback = sys.excepthook


def _say_interrupted(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """One line for Ctrl-C also while imports go on, before [`~fer_hf.cli.ending.run_to_end`] is reached."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        _show_traceback(kind, error, traceback)


sys.excepthook = _say_interrupted
