"""
Training a shipped network by its config, against the stock `Trainer` and against a bare loop.

    python benchmarks/training_speed.py

- stock: `transformers.Trainer` at its defaults on `load_dataset("imagefolder")` of PNG files, with the same
  augmentation written in torchvision, one image at a time. float32.
- ours: the trainer of the recipes with the config's flags. First at the model's full size, in float32 and, where the
  processor has it, in bfloat16; then as the config is, with smaller inputs: each size counts by its epochs, and layers
  are thawed.
- bare: a loop over slices of one float tensor that lies in memory, in fixed order and not augmented, with the
  config's optimizer and clipping.

All sides train the same network on the same drawn faces with the same batch size on one thread; each makes an epoch in
turn. Counted is CPU time from the end of the first step to that of the last, so that whatever else the machine does
counts little; what happens once in a training, such as decoding, is left out.
"""

import argparse
import contextlib
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import datasets
import torch
import transformers
import yaml
from torchvision import transforms
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.utils import logging as transformers_logging

from fer_hf.data import load_dataset
from fer_hf.data.collator import FaceCollator
from fer_hf.data.training_set import training_faces
from fer_hf.models.zoo import build, image_processor
from fer_hf.training import FerTrainer, FerTrainingArguments


CONFIGS = Path(__file__).parents[1] / "recipes" / "configs"
NETWORKS = {"compact-cnn": "fer2013_compact_cnn", "compact-vit": "fer2013_vit_mae"}
FLAGS = {field.name for field in dataclasses.fields(FerTrainingArguments)}
FULL_SIZE = {"progressive_resizing": None, "patch_dropout": None}
# The augmentations of the two configs, as one writes them with torchvision for one gray image.
USUAL = {
    "fer48": [
        transforms.RandomResizedCrop(48, scale=(0.8, 1.2)),
        transforms.RandomApply([transforms.RandomAffine(0, translate=(0.2, 0.2))], p=0.5),
        transforms.RandomHorizontalFlip(),
        transforms.RandomApply([transforms.RandomRotation(10, transforms.InterpolationMode.BILINEAR)], p=0.5),
        transforms.RandomCrop(40),
    ],
    "compact_vit": [
        transforms.RandomResizedCrop(48, scale=(0.7, 1.2)),
        transforms.RandomRotation(10, transforms.InterpolationMode.BILINEAR),
        transforms.RandomHorizontalFlip(),
        transforms.ColorJitter(0.2, 0.2),
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--faces", type=int, default=640, help="Faces of an epoch; whole batches.")
    parser.add_argument("--repeats", type=int, default=3, help="Epochs of each side, in turns; the median counts.")
    parser.add_argument("--only", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    transformers_logging.set_verbosity_error()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, one thread\n")
    print("| network | side | us per face | times stock | of the bare loop's speed |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as place:
        table = load_dataset("synthetic", cache_dir=place, train=args.faces, validation=7, test=7)["train"]
        for name in args.only:
            config = yaml.safe_load((CONFIGS / f"{NETWORKS[name]}.yaml").read_text(encoding="utf-8"))
            if args.faces % config["per_device_train_batch_size"]:
                parser.error(f"--faces must be whole batches of {config['per_device_train_batch_size']}.")
            report(name, take_turns(sides(name, config, table, Path(place)), args.repeats))


def report(name: str, times: dict[str, float]) -> None:
    """Print a row for each side."""
    for side, time_per_face in times.items():
        bare = times.get(side.replace("ours", "bare"))
        share = f"{bare / time_per_face:.3f}" if bare and side.startswith("ours") else ""
        print(
            f"| {name} | {side} | {time_per_face:,.0f} | {times['stock'] / time_per_face:.2f} | {share} |", flush=True
        )


def sides(name: str, config: dict, table: datasets.Dataset, folder: Path) -> dict[str, Callable[[], float]]:
    """What makes an epoch on each side and gives its CPU microseconds per face."""
    has_bfloat16 = FerTrainingArguments(str(folder / "run"), use_cpu=True, bf16="auto").bf16
    ways = {"stock": epoch_of(stock_trainer(name, config, table, folder))}
    for precision in ("float32", "bfloat16") if has_bfloat16 else ("float32",):
        trainer = config_trainer(name, config, table, folder, bf16=precision == "bfloat16", **FULL_SIZE)
        ways[f"bare, {precision}"] = lambda trainer=trainer, precision=precision: bare_epoch(trainer, precision)
        ways[f"ours, {precision}"] = epoch_of(trainer)
    phases = [
        (epochs, epoch_of(config_trainer(name, config, table, folder, **flags))) for epochs, flags in phases_of(config)
    ]
    total = sum(epochs for epochs, _ in phases)
    ways["as the config is"] = lambda: sum(epochs * epoch() for epochs, epoch in phases) / total
    return ways


def phases_of(config: dict) -> list[tuple[int, dict]]:
    """For how many epochs a config trains at which size of its faces."""
    starts = config.get("progressive_resizing") or {0: None}
    ends = [*list(starts)[1:], config["num_train_epochs"]]
    return [
        (end - start, {"progressive_resizing": {"0": size} if size else None})
        for (start, size), end in zip(starts.items(), ends, strict=True)
    ]


def take_turns(ways: dict[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """The median of each way; the first round warms up."""
    rounds = [{name: epoch() for name, epoch in ways.items()} for _ in range(repeats + 1)]
    return {name: statistics.median(times[name] for times in rounds[1:]) for name in ways}


class StepClock(TrainerCallback):
    """CPU time at the end of each step."""

    def __init__(self):
        self.steps = []

    def on_train_begin(self, *args, **kwargs):
        self.steps.clear()

    def on_step_end(self, *args, **kwargs):
        self.steps.append(time.process_time())


def epoch_of(trainer: Trainer) -> Callable[[], float]:
    """An epoch of a trainer, from a new optimizer; CPU microseconds per face."""
    clock = StepClock()
    trainer.add_callback(clock)

    def epoch() -> float:
        trainer.optimizer = trainer.lr_scheduler = None
        trainer.train()
        return per_face(clock.steps, trainer)

    return epoch


def bare_epoch(trainer: FerTrainer, precision: str) -> float:
    """What remains of that without a trainer."""
    model, size = trainer.model.train(), trainer.args.per_device_train_batch_size
    faces, steps = trainer.train_dataset, []
    pixel_values = faces.to_pixel_values(faces.images)
    trainer.optimizer = None
    optimizer = trainer.create_optimizer()
    autocast = torch.autocast("cpu", torch.bfloat16) if precision == "bfloat16" else contextlib.nullcontext()
    for first in range(0, len(faces.labels), size):
        chosen = slice(first, first + size)
        with autocast:
            loss = model(pixel_values[chosen], labels=faces.labels[chosen]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), trainer.args.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        steps.append(time.process_time())
    return per_face(steps, trainer)


def per_face(steps: list[float], trainer: Trainer) -> float:
    return 1e6 * (steps[-1] - steps[0]) / (len(steps) - 1) / trainer.args.per_device_train_batch_size


def config_trainer(name: str, config: dict, table: datasets.Dataset, folder: Path, **flags) -> FerTrainer:
    """The trainer of a recipe for one epoch of a config, all layers training."""
    taken = {key: value for key, value in config.items() if key in FLAGS} | {"unfreeze_schedule": None} | flags
    return our_trainer(name, table, config["augmentation"], folder, config.get("config_overrides", {}), **taken)


def our_trainer(
    name: str, table: datasets.Dataset, augmentation: str, folder: Path, overrides: dict | None = None, **flags
) -> FerTrainer:
    """The trainer of a recipe with the recipe's data path, without evaluation and checkpoints."""
    model = build(name, **(overrides or {}))
    processor = image_processor(name, model.config)
    options = {
        **flags, "num_train_epochs": 1, "use_cpu": True, "eval_strategy": "no", "save_strategy": "no",
        "load_best_model_at_end": False, "disable_tqdm": True, "logging_strategy": "no",
    }  # fmt: skip
    train = training_faces(table, processor, augmentation, "fast")
    return FerTrainer(model, FerTrainingArguments(str(folder / "run"), **options), FaceCollator(processor), train)


def stock_trainer(name: str, config: dict, table: datasets.Dataset, folder: Path) -> Trainer:
    """The stock trainer on the same faces as PNG files."""
    model = build(name, **config.get("config_overrides", {}))
    steps = [*USUAL[config["augmentation"]], transforms.ToTensor(), transforms.Normalize([0.5], [0.5])]
    if config["augmentation"] == "fer48":
        steps.append(transforms.RandomErasing(0.5, (0.02, 0.33)))
    chain, channels = transforms.Compose(steps), model.config.num_channels

    def transform(batch: dict) -> dict:
        faces = [chain(image.convert("L")).expand(channels, -1, -1) for image in batch["image"]]
        return {"pixel_values": faces, "labels": batch["label"]}

    for row, example in enumerate(table):
        path = folder / "images" / str(example["label"]) / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        example["image"].save(path)
    files = datasets.load_dataset("imagefolder", data_dir=str(folder / "images"), cache_dir=str(folder / "cache"))
    options = TrainingArguments(
        str(folder / "stock"), num_train_epochs=1, remove_unused_columns=False, use_cpu=True, save_strategy="no",
        per_device_train_batch_size=config["per_device_train_batch_size"], disable_tqdm=True, report_to="none",
    )  # fmt: skip
    return Trainer(model, options, train_dataset=files["train"].with_transform(transform))


if __name__ == "__main__":
    main()
