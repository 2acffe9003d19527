"""
What smaller inputs save in training: `--progressive_resizing` of a compact CNN, `--patch_dropout` of a compact ViT.

    python benchmarks/smaller_inputs.py

Each row trains one epoch of drawn faces through `FerTrainer`, from the end of the first step to that of the last, on
one thread. All rows of a network take turns within one run, and the medians of CPU time are compared, so that whatever
else the machine does counts little.
"""

import argparse
import json
import shlex
import statistics
import tempfile
from pathlib import Path

import datasets
import torch
import transformers
from training_speed import StepClock, our_trainer

from fer_hf.data import load_dataset


# Of each network: its flag, and the values, the first of which leaves faces as they are.
NETWORKS = {
    "compact-cnn": ("progressive_resizing", [{}, {"0": 32}, {"0": 24}]),
    "compact-vit": ("patch_dropout", [0.0, 0.25, 0.5, 0.75]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--faces", type=int, default=320, help="Faces of an epoch; whole batches.")
    parser.add_argument("--batch", type=int, default=64, help="Faces in a batch.")
    parser.add_argument("--repeats", type=int, default=5, help="Epochs of each row, in turns; the median counts.")
    args = parser.parse_args()
    if args.faces % args.batch:
        parser.error(f"--faces {args.faces} must be whole batches of {args.batch}.")
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    transformers.utils.logging.set_verbosity_error()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, batch {args.batch}, one thread\n")
    print("| network | flag | us per face | as fast as without |")
    print("| --- | --- | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        table = load_dataset("synthetic", cache_dir=folder, train=args.faces, validation=7, test=7)["train"]
        for name, (flag, values) in NETWORKS.items():
            times = compare(name, table, [{flag: value} for value in values], args, Path(folder))
            for value, time in zip(values, times, strict=True):
                words = shlex.join([f"--{flag}", json.dumps(value)])
                print(f"| {name} | `{words}` | {time:,.0f} | {times[0] / time:.2f}x |", flush=True)


def compare(
    name: str, table: datasets.Dataset, rows: list[dict], args: argparse.Namespace, folder: Path
) -> list[float]:
    """Median CPU microseconds per face of training with each of `rows`' flags."""
    trainers, times = [], [[] for _ in rows]
    for row in rows:
        flags = {"channels_last": True, "per_device_train_batch_size": args.batch, "learning_rate": 1e-4, **row}
        trainer = our_trainer(name, table, "flip", folder, **flags)
        clock = StepClock()
        trainer.add_callback(clock)
        trainers.append((trainer, clock))
    for repeat in range(args.repeats + 1):
        for (trainer, clock), seen in zip(trainers, times, strict=True):
            trainer.optimizer = trainer.lr_scheduler = None
            trainer.train()
            if repeat > 0:  # the first round warms up
                seen.append(1e6 * (clock.steps[-1] - clock.steps[0]) / (len(table) - args.batch))
    return [statistics.median(seen) for seen in times]


if __name__ == "__main__":
    main()
