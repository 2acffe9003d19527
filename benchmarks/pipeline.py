"""
The speed of pipelines, compared with the bare model, and with the bare image processor and model, on the same crops:
`image-classification` of Transformers, and our `facial-expression` with each image taken for a face, given a list or a
column of a `datasets` table; 64 images at a time, and one.

    python benchmarks/pipeline.py
    python benchmarks/pipeline.py --model compact-vit --images 128

The bare model gets pixel values that are ready. All take turns in one process with one thread; medians of CPU time.
"""

import argparse
import operator
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import torch
from tqdm import tqdm
from transformers import pipeline

from fer_hf.data import load_dataset
from fer_hf.models import ARCHITECTURES, build, image_processor


BATCHES = (64, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", nargs="+", default=["compact-cnn", "compact-vit"], choices=ARCHITECTURES)
    parser.add_argument("--images", type=int, default=128, help="Drawn faces, gray, of 48 pixels.")
    parser.add_argument("--repeats", type=int, default=11, help="Rounds; medians count.")
    parser.add_argument("--disable_tqdm", action="store_true", help="Show no progress bar.")
    args = parser.parse_args()
    torch.set_num_threads(1)
    options = {"train": 7, "validation": 7, "test": args.images}
    images = load_dataset("synthetic", **options)["test"]["image"]
    print("| model | images at a time | what | ms per image | bare model's speed | bare parts' speed |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in args.model:
        for batch_size in BATCHES:
            table(name, batch_size, measure(name, images, batch_size, args.repeats, args.disable_tqdm))


def measure(
    name: str, images: Sequence, batch_size: int, repeats: int, disable_tqdm: bool = True
) -> dict[str, list[float]]:
    """
    Seconds of CPU time per image, for each way of classifying them, round by round.

    Args:
        name (`str`): Row of the zoo.
        images (column of PIL images): The faces.
        batch_size (`int`): Images at a time.
        repeats (`int`): Rounds; in each, every way has its turn.
        disable_tqdm (`bool`, defaults to `True`): Show no progress bar.
    """
    ways = make_ways(name, images, batch_size)
    seconds = {way: [] for way in ways}
    for _ in tqdm(range(repeats + 1), desc=f"{name}, {batch_size}", disable=disable_tqdm, file=sys.stderr):
        for way, run in ways.items():
            start = time.process_time()
            run()
            seconds[way].append(time.process_time() - start)
    # The first round warms up.
    return {way: [second / len(images) for second in times[1:]] for way, times in seconds.items()}


def make_ways(name: str, column: Sequence, batch_size: int) -> dict[str, Callable]:
    """What is timed."""
    images = list(column)
    model = build(name).eval()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        image_processor(name, model.config).save_pretrained(folder)
        stock = pipeline("image-classification", model=folder, device="cpu", top_k=7)
        ours = pipeline("facial-expression", model=folder, device="cpu", detector="none")
    processor, bare = ours.image_processor, ours.model
    batches = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    ready = [processor([image.convert("RGB") for image in b], return_tensors="pt")["pixel_values"] for b in batches]

    def run_bare() -> None:
        with torch.inference_mode():
            for pixel_values in ready:
                bare(pixel_values=pixel_values)

    def run_processor() -> None:
        for batch in batches:
            processor([image.convert("RGB") for image in batch], return_tensors="pt")

    def run_parts(given: Sequence) -> None:
        with torch.inference_mode():
            for start in range(0, len(given), batch_size):
                batch = [image.convert("RGB") for image in given[start : start + batch_size]]
                bare(**processor(batch, return_tensors="pt")).logits.softmax(dim=-1).tolist()

    return {
        "bare model": run_bare,
        "image processor alone": run_processor,
        "bare parts": lambda: run_parts(images),
        "bare parts of a column": lambda: run_parts(column),
        "image-classification": lambda: stock(images, batch_size=batch_size),
        "facial-expression": lambda: ours(images, batch_size=batch_size),
        "facial-expression of a column": lambda: ours(column, batch_size=batch_size),
    }


def table(name: str, batch_size: int, seconds: dict[str, list[float]]) -> None:
    """Print a row for each way, as markdown, from seconds per image. Ratios are medians of those in the same round."""
    for way, times in seconds.items():
        parts = (
            "bare parts of a column" if way.endswith("of a column") else "bare parts"
        )  # images are decoded on the way
        ratios = [
            "" if way == "image processor alone" else f"{statistics.median(map(operator.truediv, base, times)):.2f}x"
            for base in (seconds["bare model"], seconds[parts])
        ]
        print(f"| {name} | {batch_size} | {way} | {1e3 * statistics.median(times):.3f} | {' | '.join(ratios)} |")


if __name__ == "__main__":
    main()
