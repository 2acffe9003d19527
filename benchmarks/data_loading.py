"""
Training batches, CPU time per face: the fast path of `fer_hf` against the usual way, torchvision's `ImageFolder` of
PNG files with a transform for each image. One process, one thread, no workers; the faces are drawn here.

    python benchmarks/data_loading.py

The usual way gives normalised float batches of the model's size. Ours gives uint8 faces of their own size, which the
trainer enlarges and normalises on the model's device. What that costs where the device is this CPU stands in a column
of its own, and the last ratio counts it.
"""

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import datasets
import PIL
import torch
import torchvision
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder
from transformers import TrainingArguments, ViTImageProcessor

from fer_hf.data import load_dataset
from fer_hf.data.collator import FaceCollator
from fer_hf.data.training_set import decode_faces, training_faces
from fer_hf.training import FerTrainer


BATCH = 64

# (pixels that the model takes, preset) -> the same steps as one writes them with torchvision, for one gray image.
USUAL = {
    (48, "flip"): [transforms.RandomHorizontalFlip()],
    (48, "fer48"): [
        # The preset cuts 40 of 48 pixels; for a model that takes 48, that is 48 of 58.
        transforms.RandomResizedCrop(58, scale=(0.8, 1.2)),
        transforms.RandomApply([transforms.RandomAffine(0, translate=(0.2, 0.2))], p=0.5),
        transforms.RandomHorizontalFlip(),
        transforms.RandomApply([transforms.RandomRotation(10, transforms.InterpolationMode.BILINEAR)], p=0.5),
        transforms.RandomCrop(48),  # for one of five crops, which are fixed: no dearer
    ],
    (224, "flip"): [transforms.Resize((224, 224)), transforms.RandomHorizontalFlip()],
    (224, "cnn_comparison"): [
        transforms.Resize((230, 230)),
        transforms.RandomRotation(15, transforms.InterpolationMode.BILINEAR),
        transforms.RandomCrop(224, padding=8),
        transforms.RandomHorizontalFlip(),
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--faces", type=int, default=640, help="Faces in the set.")
    parser.add_argument("--repeats", type=int, default=5, help="Timings of each side, in turns; the median counts.")
    args = parser.parse_args()
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__, "pillow": PIL.__version__}
    print(", ".join(f"{name} {version}" for name, version in versions.items()), platform.machine(), sep=", ")
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), args.faces, args.repeats)


def measure(folder: Path, count: int, repeats: int) -> None:
    """Print one line for each of [`USUAL`], in CPU microseconds per face."""
    table = load_dataset("synthetic", cache_dir=folder / "cache", train=count, validation=7, test=7)["train"]
    for row, example in enumerate(table):
        path = folder / "images" / str(example["label"]) / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        example["image"].save(path)
    once = alternate({"decode": lambda: len(decode_faces(table))}, repeats)["decode"]
    print(f"Not counted: ours decodes each face once, when training starts, in {once:.0f} us.\n")
    print("| model | augmentation | usual, us | ours: loader, us | ours: device's part, us | loader's ratio | all |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for size, augmentation in USUAL:
        trainer = our_trainer(folder, table, size, augmentation)
        times = compare(trainer, usual_loader(folder / "images", size, augmentation), repeats)
        usual, ours, device = times["usual"], times["ours"], times["device"]
        print(
            f"| {size} px | {augmentation} | {usual:.0f} | {ours:.1f} | {device:.1f} "
            f"| {usual / ours:.1f}x | {usual / (ours + device):.1f}x |"
        )


def compare(trainer: FerTrainer, usual: DataLoader, repeats: int) -> dict[str, float]:
    """CPU microseconds per face of both loaders, and of what the trainer does with our batches afterwards."""
    ours = trainer.get_train_dataloader()
    faces, pixel_values = next(iter(ours)), next(iter(usual))[0]
    to_pixel_values = trainer.train_dataset.to_pixel_values  # as the trainer does it
    assert to_pixel_values(faces["pixel_values"]).shape == pixel_values.shape
    return alternate(
        {
            "usual": lambda: sum(len(labels) for _, labels in usual),
            "ours": lambda: sum(len(batch["labels"]) for batch in ours),
            "device": lambda: len(to_pixel_values(faces["pixel_values"])),
        },
        repeats,
    )


def our_trainer(folder: Path, table: datasets.Dataset, size: int, augmentation: str) -> FerTrainer:
    """A trainer with the DataLoader of a real run; its model is never called."""
    processor = ViTImageProcessor(size={"height": size, "width": size})
    faces = training_faces(table, processor, augmentation, data_path="fast")
    options = TrainingArguments(
        str(folder / "run"), per_device_train_batch_size=BATCH, remove_unused_columns=False, use_cpu=True,
        dataloader_pin_memory=False, report_to="none",
    )  # fmt: skip
    return FerTrainer(torch.nn.Linear(1, 1), options, FaceCollator(processor), faces)


def usual_loader(folder: Path, size: int, augmentation: str) -> DataLoader:
    """Gray until the last step, which is quicker than torchvision's usual RGB."""
    end = [transforms.ToTensor(), transforms.Normalize([0.5], [0.5])]
    if augmentation == "fer48":
        end.append(transforms.RandomErasing(0.5, (0.02, 0.33)))
    to_rgb = transforms.Lambda(lambda face: face.expand(3, -1, -1))
    chain = transforms.Compose([transforms.Grayscale(), *USUAL[size, augmentation], *end, to_rgb])
    return DataLoader(ImageFolder(folder, chain), BATCH, shuffle=True)


def alternate(ways: dict[str, Callable[[], int]], repeats: int) -> dict[str, float]:
    """
    Median CPU microseconds per face of each way, timed in turns: whatever else the machine does then hits all alike.
    """
    times = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, way in ways.items():
            start = time.process_time()
            count = way()
            if repeat > 0:  # the first round warms up
                times[name].append(1e6 * (time.process_time() - start) / count)
    return {name: statistics.median(values) for name, values in times.items()}


if __name__ == "__main__":
    main()
