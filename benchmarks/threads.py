"""
What two threads cost beside other work: seconds of a training step, on an idle machine and on a crowded one.

    python benchmarks/threads.py

Threads of GNU OpenMP spin while they wait for each other, `GOMP_SPINCOUNT` times; who has lost its core to another
process keeps all others spinning. Every row is a process of its own, since OpenMP reads the environment once; crowded
means one busy process for every core but one. Wall time, the median of `--repeats`: needs an otherwise idle machine.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import time


SETTINGS = {
    "as torch has it": {},
    "GOMP_SPINCOUNT=30000": {"GOMP_SPINCOUNT": "30000"},
    "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
    "GOMP_SPINCOUNT=3000": {"GOMP_SPINCOUNT": "3000"},
    "OMP_WAIT_POLICY=passive": {"OMP_WAIT_POLICY": "passive"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=3, help="Processes for each figure; the median counts.")
    parser.add_argument("--architecture", default="dacl-reduced", help="A network of the zoo.")
    parser.add_argument("--image_size", type=int, default=64, help="Pixels of its faces.")
    parser.add_argument("--step", type=int, metavar="THREADS", help="Print what a step takes with so many.")
    args = parser.parse_args()
    if args.step:
        print(seconds_per_step(args.architecture, args.image_size, args.step))
        return
    cores = os.cpu_count()
    print("| threads | environment | idle, s per step | crowded, s per step |\n| --- | --- | --- | --- |")
    for threads, settings in ((cores, SETTINGS), (1, {"as torch has it": {}})):
        for name, variables in settings.items():
            idle = median(args, threads, variables)
            with busy(cores - 1):
                crowded = median(args, threads, variables)
            print(f"| {threads} | {name} | {idle:.3f} | {crowded:.3f} |", flush=True)


def median(args: argparse.Namespace, threads: int, variables: dict[str, str]) -> float:
    """Seconds of a step in processes of their own."""
    command = [sys.executable, __file__, "--architecture", args.architecture, "--image_size", str(args.image_size)]
    unset = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP_", "OMP_"))}
    run = [*command, "--step", str(threads)]
    printed = [subprocess.check_output(run, env={**unset, **variables}, text=True) for _ in range(args.repeats)]
    return statistics.median(map(float, printed))


@contextlib.contextmanager
def busy(processes: int):
    """So many processes that do nothing but count."""
    # Sessions of their own, as another terminal's: Linux shares the cores out among sessions first.
    words = [sys.executable, "-c", "while True: pass"]
    started = [subprocess.Popen(words, start_new_session=True) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def seconds_per_step(architecture: str, image_size: int, threads: int, steps: int = 8) -> float:
    """Forward and backward of 32 faces."""
    import torch  # after the environment

    from fer_hf.models import build

    torch.set_num_threads(threads)
    model = build(architecture, image_size=image_size).train()
    faces, class_ids = torch.randn(32, model.config.num_channels, image_size, image_size), torch.zeros(32, dtype=int)
    for step in range(steps + 1):
        if step == 1:  # the first one warms up
            started = time.perf_counter()
        model(pixel_values=faces, labels=class_ids).loss.backward()
    return (time.perf_counter() - started) / steps


if __name__ == "__main__":
    main()
