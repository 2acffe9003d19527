"""
What `FerTrainer` costs beside the training itself: images per second of a recipe's trainer at 48 px, against a bare
loop over tensors that lie in memory.

    python benchmarks/trainer_overhead.py

Both sides train the same network from the same weights with the same batch size and the same AdamW, clip gradients
alike and make every step in full, on one thread. The bare loop takes slices of one float tensor: decoded, enlarged and
normalised before, without augmentation and in fixed order. The trainer starts from the table of a recipe: it draws
the order, gathers uint8 faces, augments them (column 2), normalises, logs and calls its callbacks. What happens once
in a training is outside: decoding, and all up to the end of the first step, on both sides. The two take turns within
one run, an epoch each, and CPU time is compared, so that whatever else the machine does counts little.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import datasets
import torch
import transformers
from transformers import TrainerCallback

from fer_hf.data import load_dataset
from fer_hf.data.collator import FaceCollator
from fer_hf.data.training_set import training_faces
from fer_hf.models.zoo import build, image_processor
from fer_hf.training import FerTrainer, FerTrainingArguments


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--faces", type=int, default=640, help="Faces of an epoch; whole batches.")
    parser.add_argument("--batch", type=int, default=64, help="Faces in a batch.")
    parser.add_argument("--repeats", type=int, default=5, help="Epochs of each side, in turns; the median counts.")
    parser.add_argument("--only", nargs="+", default=["compact-cnn", "compact-vit"], help="Networks of the zoo.")
    args = parser.parse_args()
    if args.faces % args.batch:
        parser.error(f"--faces {args.faces} must be whole batches of {args.batch}.")
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    transformers.utils.logging.set_verbosity_error()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, batch {args.batch}, one thread\n")
    print("| network | augmentation | bare loop, us per face | trainer, us per face | trainer's share of its speed |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        table = load_dataset("synthetic", cache_dir=folder, train=args.faces, validation=7, test=7)["train"]
        for name in args.only:
            for augmentation in ("none", "flip"):
                bare, ours = compare(name, table, augmentation, args, Path(folder))
                print(f"| {name} | {augmentation} | {bare:.0f} | {ours:.0f} | {bare / ours:.3f} |", flush=True)
    print("\nWanted: 0.93.")


def compare(name: str, table: datasets.Dataset, augmentation: str, args: argparse.Namespace, folder: Path):
    """Median CPU microseconds per face of the bare loop and of the trainer."""
    model = build(name)
    processor = image_processor(name, model.config)
    start = {key: value.clone() for key, value in model.state_dict().items()}
    faces = training_faces(table, processor, "none", "fast")
    pixel_values = faces.to_pixel_values(faces.images)
    trainer = our_trainer(model, table, processor, augmentation, args.batch, folder)
    clock = StepClock()
    trainer.add_callback(clock)
    times = {"bare": [], "ours": []}
    for repeat in range(args.repeats + 1):
        for side in ("bare", "ours") if repeat % 2 else ("ours", "bare"):
            model.load_state_dict(start)
            if side == "bare":
                steps = bare_epoch(model, pixel_values, faces.labels, args.batch)
            else:
                trainer.optimizer = trainer.lr_scheduler = None
                clock.steps.clear()
                trainer.train()
                steps = clock.steps
            if repeat > 0:  # the first round warms up
                times[side].append(1e6 * (steps[-1] - steps[0]) / (len(table) - args.batch))
    return statistics.median(times["bare"]), statistics.median(times["ours"])


class StepClock(TrainerCallback):
    """CPU time at the end of each step."""

    def __init__(self):
        self.steps = []

    def on_step_end(self, *args, **kwargs):
        self.steps.append(time.process_time())


def bare_epoch(model: torch.nn.Module, pixel_values: torch.Tensor, labels: torch.Tensor, batch: int) -> list[float]:
    """What remains of training without a trainer; CPU time at the end of each step."""
    steps = []
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    model.train()
    for first in range(0, len(labels), batch):
        chosen = slice(first, first + batch)
        model(pixel_values[chosen], labels=labels[chosen]).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        steps.append(time.process_time())
    return steps


def our_trainer(model, table, processor, augmentation: str, batch: int, folder: Path, **flags) -> FerTrainer:
    """The trainer of a recipe with the recipe's data path, without evaluation and checkpoints."""
    options = FerTrainingArguments(
        str(folder / "run"), num_train_epochs=1, per_device_train_batch_size=batch, learning_rate=1e-4, use_cpu=True,
        eval_strategy="no", save_strategy="no", load_best_model_at_end=False, disable_tqdm=True, **flags,
    )  # fmt: skip
    train = training_faces(table, processor, augmentation, "fast")
    return FerTrainer(model, options, FaceCollator(processor), train)


if __name__ == "__main__":
    main()
