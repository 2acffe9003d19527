"""
Words from a terminal: flags, launching, what recipes share, and the sub-commands of `fer-hf`.

Importing this before torch sets how long idle threads of GNU OpenMP spin, unless the environment says it.
"""

import os


# OpenMP reads it when torch loads it. Threads that wait for another spin, by default so long that two threads beside a
# busy process trained nine times slower; this costs 4 % on an idle machine (benchmarks/threads.py).
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
