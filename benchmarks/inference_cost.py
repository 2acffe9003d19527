"""
The time that each network of the zoo takes for a face on this CPU: in milliseconds, alone and in batches of 64, and
the latter as a ratio to `compact-cnn`, timed in the same run.

    python benchmarks/inference_cost.py --output costs.json
    python benchmarks/inference_cost.py --only compact-cnn vgg16 --threads 1

Weights are fresh: time does not depend on them. Convolutional networks run in channels_last, all in float32 and
inference mode. A batch that would take too long is made smaller, and the table says so.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from pathlib import Path

import torch
import transformers
from torch import nn
from tqdm import tqdm
from transformers import PreTrainedModel

from fer_hf.models import ARCHITECTURES, build, describe


REFERENCE = "compact-cnn"
BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=ARCHITECTURES, help="Rows of the zoo to time.")
    parser.add_argument("--output", type=Path, help="JSON file for the same numbers, unrounded.")
    parser.add_argument(
        "--repeats", type=int, default=21, help="Timings of each batch size at most; the median counts."
    )
    parser.add_argument("--seconds", type=float, default=30, help="Bound on the time of a row, building it aside.")
    parser.add_argument("--threads", type=int, help="Of PyTorch; its own choice by default.")
    parser.add_argument("--disable_tqdm", action="store_true", help="Show no progress bar.")
    args = parser.parse_args()
    if args.repeats < 1 or args.seconds <= 0:
        parser.error(f"--repeats must be >= 1 and --seconds > 0, got {args.repeats} and {args.seconds}.")
    if args.threads:
        torch.set_num_threads(args.threads)
    # The reference is always timed, and first.
    names = dict.fromkeys([REFERENCE, *(args.only or ARCHITECTURES)])
    rows = []
    for name in tqdm(names, disable=args.disable_tqdm, file=sys.stderr):
        rows.append(measure(name, args.repeats, args.seconds))
        rows[-1]["ratio"] = rows[-1]["ms_batch"] / rows[0]["ms_batch"]
    run = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "machine": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }
    print_table(run, rows)
    if args.output:
        args.output.write_text(json.dumps({**run, "rows": rows}, indent=2) + "\n")


def print_table(run: dict, rows: list[dict]) -> None:
    """Print what [`measure`] found, as markdown; faster first."""
    print(", ".join(f"{name} {value}" for name, value in run.items()), "\n")
    print(f"| network | px | parameters | multiply-adds | ms, batch 1 | ms per face, batch {BATCH} | to {REFERENCE} |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in sorted(rows, key=lambda row: row["ratio"]):
        note = "" if row["batch"] == BATCH else f" (batch {row['batch']})"
        print(
            f"| {row['name']} | {row['image_size']} | {row['parameters']:,} | {row['multiply_adds'] / 1e6:,.1f} M "
            f"| {row['ms_alone']:.2f} | {row['ms_batch']:.3f}{note} | {row['ratio']:.2f}x |"
        )


def measure(name: str, repeats: int, seconds: float) -> dict:
    """
    Time one row of the zoo.

    Args:
        name (`str`): Of the row.
        repeats (`int`): Timings of each batch size at most; at least one is made.
        seconds (`float`): For everything, warming up included. The single face gets a fifth of it. If three batches
            of 64 do not fit into the rest, batches are halved until they do.

    Returns:
        `dict`: Those of [`describe`]; `ms_alone` and `ms_batch`, median milliseconds per face; `batch`, its size;
        `repeats_alone` and `repeats_batch`, the number of timings behind each median.
    """
    row = describe(name)
    model = build(name).eval()
    memory_format = torch.contiguous_format if is_vit(model) else torch.channels_last
    model.to(memory_format=memory_format)
    channels, size = row["num_channels"], row["image_size"]

    def timed(batch: int, budget: float) -> list[float]:
        images = torch.randn(batch, channels, size, size).contiguous(memory_format=memory_format)
        end = time.perf_counter() + budget
        milliseconds = []
        with torch.inference_mode():
            model(images)  # warms up
            while len(milliseconds) < repeats and (not milliseconds or time.perf_counter() < end):
                start = time.perf_counter()
                model(images)
                milliseconds.append(1e3 * (time.perf_counter() - start) / batch)
        return milliseconds

    alone = timed(1, seconds / 5)
    batch = BATCH
    # A face in a batch costs about as much as alone, or less.
    while batch > 1 and 3 * batch * statistics.median(alone) / 1e3 > 0.8 * seconds:
        batch //= 2
    batched = timed(batch, 0.8 * seconds)
    return {
        **row,
        "ms_alone": statistics.median(alone),
        "ms_batch": statistics.median(batched),
        "batch": batch,
        "repeats_alone": len(alone),
        "repeats_batch": len(batched),
    }


def is_vit(model: PreTrainedModel) -> bool:
    """Whether the only convolution is the one that makes patches: there is nothing for channels_last to do."""
    return sum(isinstance(module, nn.Conv2d) for module in model.modules()) == 1


if __name__ == "__main__":
    main()
