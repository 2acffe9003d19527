"""
Kill a small run at random moments, go on with it until it ends, and compare with the run that never was killed.

    python benchmarks/kills.py --kills 20                  # one process
    python benchmarks/kills.py --kills 10 --processes 2    # two, of one training

The runs are those of `tests/test_resume.py`: dropout, a weight average, gradual unfreezing, a plateau schedule, early
stopping, weighted sampling, accumulation and loader workers. All processes die by SIGKILL, wherever they are: first at
a moment drawn from the duration of a whole run, after each new start from twice that.
"""

import argparse
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

import torch


sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from test_resume import EPOCHS, STEPS, train

from fer_hf.data import load_dataset


EQUAL = ("weights", "optimizer", "scheduler", "log", "metrics", "best", "phases")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    draw, kills, runs, equal = random.Random(args.seed), 0, 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        faces = load_dataset("synthetic", train=44, validation=7, test=7, cache_dir=folder / "cache")
        whole, seconds = {}, {}
        for case, flags in {"steps": STEPS, "epochs": EPOCHS}.items():
            began = time.perf_counter()
            assert attempt(args.processes, faces, folder / case, flags)
            whole[case], seconds[case] = ends(folder / case, args.processes), time.perf_counter() - began
        while kills < args.kills:
            case = ("steps", "epochs")[runs % 2]
            run, flags, killed = folder / f"{case}-{runs}", {"steps": STEPS, "epochs": EPOCHS}[case], []
            after = draw.uniform(0, seconds[case])
            while not attempt(args.processes, faces, run, flags, after):
                killed.append(round(after, 2))
                after = draw.uniform(0, 2 * seconds[case])
            same = [[key for key in EQUAL if not is_equal(a[key], b[key])] for a, b in
                    zip(whole[case], ends(run, args.processes), strict=True)]  # fmt: skip
            runs, kills, equal = runs + 1, kills + len(killed), equal + (not any(same))
            print(
                f"{run.name}: killed after {killed} of {seconds[case]:.1f} s; {same if any(same) else 'equal'}",
                flush=True,
            )
            shutil.rmtree(run)
    print(f"{args.processes} process(es): {kills} kills in {runs} runs, {equal} of {runs} bit-equal")


def attempt(processes: int, faces, run: Path, flags: dict, kill_after: float | None = None) -> bool:
    """Whether the run came to its end, begun or gone on with, before it was killed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    children = [fork(rank, processes, port, faces, run, flags) for rank in range(processes)]
    end = None if kill_after is None else time.perf_counter() + kill_after
    status = {}
    while len(status) < processes:
        for child in children:
            if child not in status and (found := os.waitpid(child, os.WNOHANG))[0]:
                status[child] = os.waitstatus_to_exitcode(found[1])
        if end is not None and time.perf_counter() > end:
            for child in set(children) - set(status):
                os.kill(child, signal.SIGKILL)
            end = None
        time.sleep(0.005)
    assert set(status.values()) <= {0, -signal.SIGKILL}, (status, Path(f"{run}.log").read_text()[-3000:])
    return set(status.values()) == {0}


def fork(rank: int, processes: int, port: str, faces, run: Path, flags: dict) -> int:
    """The process id of one rank of a training."""
    if child := os.fork():
        return child
    status = 1
    try:
        stream = os.open(f"{run}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        if processes > 1:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
            os.environ |= {"LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        train(faces, run, flags, resume=True, out=Path(f"{run}-{rank}.pt"))
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def ends(run: Path, processes: int) -> list[dict]:
    return [torch.load(f"{run}-{rank}.pt") for rank in range(processes)]


def is_equal(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(is_equal(one[key], other[key]) for key in one)
    return one == other


if __name__ == "__main__":
    main()
