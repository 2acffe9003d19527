"""
`fer2013.csv` to Arrow tables: `load_dataset("fer2013")` against the usual way, a row of `csv.DictReader` at a time to
a PIL image and on through `Dataset.from_generator`. Also the peak memory, for the file and for one of four times its
size, the second load, and a file of which one byte changes.

    python benchmarks/csv_to_arrow.py                      # drawn faces
    python benchmarks/csv_to_arrow.py --csv fer2013.csv    # your own copy

Every measurement is a process of its own that the standard library alone starts: on Linux, a process inherits the peak
of the one that starts it.
"""

import argparse
import csv
import itertools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--csv", type=Path, help="fer2013.csv; without it, faces are drawn.")
    parser.add_argument("--rows", type=int, default=4200, help="Rows of the file of drawn faces.")
    parser.add_argument("--timed_rows", type=int, default=1050, help="Rows that both sides convert in turns.")
    parser.add_argument("--repeats", type=int, default=5, help="Timings of each side; the median counts.")
    parser.add_argument("--step", help=argparse.SUPPRESS)  # what a child process measures
    args = parser.parse_args()
    if args.step:
        print(json.dumps(STEPS[args.step](args)))
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), args)


def measure(folder: Path, args: argparse.Namespace) -> None:
    """Print the tables."""
    path, larger, part = (folder / name / "fer2013.csv" for name in ("once", "four_times", "part"))
    for file in (path, larger, part):
        file.parent.mkdir()
    if args.csv:
        path.symlink_to(args.csv.resolve())
    else:
        in_child("draw", path, args)
    repeat_rows(path, larger, times=4)
    sample_rows(path, part, args.timed_rows)

    times = in_child("time", part, args)
    print(times.pop("versions"), "\n")
    print("| to Arrow | usual, us per row | ours, us per row | ratio |")
    print("| --- | --- | --- | --- |")
    for clock, (usual, ours) in times.items():
        print(f"| {clock} time | {usual:.0f} | {ours:.0f} | {usual / ours:.1f}x |")
    print()
    print("| file | rows | peak memory above importing, MB | first load, s (CPU) | second load, s (CPU) |")
    print("| --- | --- | --- | --- | --- |")
    for name, file in (("as it is", path), ("four times", larger)):
        result = in_child("load", file, args)
        loads = " | ".join(f"{wall:.2f} ({cpu:.2f})" for wall, cpu in result["seconds"])
        print(f"| {name} | {result['rows']:,} | {result['peak']:.0f} | {loads} |")
    assert in_child("change", part, args)
    print("\nA file of which one byte changed, with its old size and time: read anew.")


def in_child(step: str, path: Path, args: argparse.Namespace):
    """What one of [`STEPS`] gives, run in a new process on the file."""
    options = ["--csv", path, "--step", step, "--rows", str(args.rows), "--repeats", str(args.repeats)]
    done = subprocess.run([sys.executable, __file__, *options], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def draw(args: argparse.Namespace) -> None:
    """Write drawn faces as `fer2013.csv`: 700 of them, again and again, split 8 : 1 : 1."""
    import datasets
    import numpy as np

    from fer_hf.data import load_dataset

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache:
        faces = load_dataset("synthetic", cache_dir=cache, train=700, validation=7, test=7)["train"]
        rows = [(face["label"], " ".join(map(str, np.asarray(face["image"]).ravel()))) for face in faces]
    usages = ["Training"] * 8 + ["PublicTest", "PrivateTest"]
    with open(args.csv, "w") as file:
        file.write("emotion,pixels,Usage\n")
        for row in range(args.rows):
            file.write(",".join([*map(str, rows[row % len(rows)]), usages[row * 10 // args.rows]]) + "\n")


def repeat_rows(path: Path, target: Path, times: int) -> None:
    """Write a file's rows several times, under one header."""
    with open(target, "wb") as out:
        for again in range(times):
            with open(path, "rb") as file:
                header = file.readline()
                out.write(b"" if again else header)
                while block := file.read(1 << 20):
                    out.write(block)


def sample_rows(path: Path, target: Path, count: int) -> None:
    """Write about `count` rows of a file, evenly spaced, so that all splits are there."""
    with open(path, "rb") as file:
        total = sum(1 for _ in file) - 1
        file.seek(0)
        with open(target, "wb") as out:
            out.write(file.readline())
            out.writelines(itertools.islice(file, 0, None, max(1, total // count)))


def time_both(args: argparse.Namespace) -> dict:
    """Median microseconds per row of the usual way and of ours, by two clocks, in turns and with fresh caches."""
    import datasets
    import numpy
    import PIL
    import torch

    from fer_hf.data import load_dataset

    datasets.disable_progress_bars()
    torch.set_num_threads(1)
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.Value("int64"), "usage": datasets.Value("string")}
    )

    def usual(cache: str) -> int:
        generator = {"generator": usual_rows, "gen_kwargs": {"path": str(args.csv)}}
        return len(datasets.Dataset.from_generator(**generator, features=features, cache_dir=cache))

    def ours(cache: str) -> int:
        return sum(map(len, load_dataset("fer2013", args.csv.parent, cache_dir=cache).values()))

    clocks = {"CPU": time.process_time, "wall": time.perf_counter}
    times = {(clock, way): [] for clock in clocks for way in (usual, ours)}
    for repeat in range(args.repeats + 1):
        for way in (usual, ours):
            with tempfile.TemporaryDirectory() as cache:
                starts = {clock: read() for clock, read in clocks.items()}
                count = way(cache)
                for clock, read in clocks.items():
                    if repeat > 0:  # the first round warms up
                        times[clock, way].append(1e6 * (read() - starts[clock]) / count)
    versions = {"datasets": datasets.__version__, "numpy": numpy.__version__, "pillow": PIL.__version__}
    medians = {clock: [statistics.median(times[clock, way]) for way in (usual, ours)] for clock in clocks}
    return {"versions": ", ".join(f"{name} {version}" for name, version in versions.items()), **medians}


def usual_rows(path: str) -> Iterator[dict]:
    """A row at a time, as one finds it in most notebooks."""
    import numpy as np
    from PIL import Image

    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            pixels = np.array([int(pixel) for pixel in row["pixels"].split()], dtype=np.uint8)
            image = Image.fromarray(pixels.reshape(48, 48))
            yield {"image": image, "label": int(row["emotion"]), "usage": row["Usage"]}


def load(args: argparse.Namespace) -> dict:
    """Load a file twice; the peak is that of both, in MB above what it was after importing."""
    import datasets

    from fer_hf.data import load_dataset

    datasets.disable_progress_bars()
    imported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    with tempfile.TemporaryDirectory() as cache:
        for _ in range(2):
            wall, cpu = time.perf_counter(), time.process_time()
            faces = load_dataset("fer2013", args.csv.parent, cache_dir=cache)
            seconds.append((time.perf_counter() - wall, time.process_time() - cpu))
        rows = sum(faces.num_rows.values())
    unit = 2**20 if sys.platform == "darwin" else 2**10
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - imported) / unit
    return {"rows": rows, "peak": peak, "seconds": seconds}


def change(args: argparse.Namespace) -> bool:
    """Whether a file is read anew after one digit of its first face changed, and served from the cache before."""
    import os

    import datasets
    import numpy as np

    from fer_hf.data import load_dataset

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache:

        def first() -> tuple[np.ndarray, str]:
            table = load_dataset("fer2013", args.csv.parent, cache_dir=cache)["train"]
            return np.asarray(table[0]["image"]).astype(int), table.cache_files[0]["filename"]

        (before, old), (_, again) = first(), first()
        stat = args.csv.stat()
        content = bytearray(args.csv.read_bytes())
        at = content.index(b" ", content.index(b"\n")) - 1  # the last digit of the first pixel
        content[at] = ord("1") if content[at] != ord("1") else ord("2")
        args.csv.write_bytes(content)
        os.utime(args.csv, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        after, new = first()
        return old == again and old != new and (before != after).sum() == 1 and args.csv.stat().st_size == stat.st_size


STEPS: dict[str, Callable] = {"draw": draw, "time": time_both, "load": load, "change": change}


if __name__ == "__main__":
    main()
