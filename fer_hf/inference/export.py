"""`fer-hf export`: an ONNX file, in floats or 8-bit integers, scored on a whole split beside the model."""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from transformers import BaseImageProcessor, PreTrainedModel

from fer_hf.bars import Bar
from fer_hf.data.collator import FaceCollator
from fer_hf.data.training_set import own_sizes
from fer_hf.errors import BadInputError
from fer_hf.inference.onnx_file import ExportError, export_onnx, written_whole
from fer_hf.models.processors import check_fit


FORMATS = ("onnx", "int8")
BATCH = 64
CALIBRATION_IMAGES = 512

Network = Callable[[np.ndarray], np.ndarray]


@dataclass
class Scored:
    """
    One form of a model, measured.

    Args:
        name (`str`): `PyTorch`, `ONNX` or `ONNX int8`.
        network (`Callable`): From pixel values to logits.
        megabytes (`float`): Its weights (PyTorch) or its file.
        accuracy (`float`): Share of the split's faces, in [0, 1].
        difference (`float`): Largest difference of a logit to PyTorch's, over the whole split.
        milliseconds (`dict[int, float]`): Median time of a batch of 1 and of 64 images, per batch.
    """

    name: str
    network: Network
    megabytes: float
    accuracy: float = 0.0
    difference: float = 0.0
    milliseconds: dict[int, float] = field(default_factory=dict)


def export_scored(
    model: PreTrainedModel,
    processor: BaseImageProcessor,
    tables: DatasetDict,
    path: str | Path,
    form: str = "onnx",
    split: str = "validation",
    max_drop: float = 0.005,
    disable_tqdm: bool = False,
) -> list[Scored]:
    """
    Export a classifier, and keep the file only if it is as good on a whole split of a data set, or nearly so.

    With `int8`, weights are 8-bit integers. Activations of convolutional networks are, too, in ranges seen on 512
    images of `train`; transformers compute the ranges of each batch.

    Args:
        model, processor: The classifier and its image processor.
        tables (`DatasetDict`): With `split`, and with `train` for `int8` of convolutional networks.
        path (`str` or `Path`): File to write, with the metadata of [`~fer_hf.inference.export_onnx`].
        form (`str`, defaults to `"onnx"`): One of [`FORMATS`].
        split (`str`, defaults to `"validation"`): The split that is scored. Whether a file is good enough is a choice,
            and test is not for choices.
        max_drop (`float`, defaults to 0.005): By how much accuracy may be lower than PyTorch's, in [0, 1].
        disable_tqdm (`bool`, defaults to `False`): Show no progress bar.

    Returns:
        `list[Scored]`: PyTorch first, the kept file last. They are printed as a table, too.

    Raises:
        ExportError: If the file loses more, and then it is not written; or something is missing.
        ModelError: If the faces come out of the image processor at sizes that the model does not take.
    """
    _check(model, tables, form, split)
    model = model.to("cpu", torch.float32).eval()
    check_fit(model, processor, own_sizes(processor, *tables.values()))
    height, width = FaceCollator(processor)([tables[split][0]])["pixel_values"].shape[-2:]
    with written_whole(path) as file:
        export_onnx(model, file, processor, image_size=(height, width))
        scored = [_of_model(model), _of_file("ONNX", file)]
        if form == "int8":
            whole = file.rename(file.with_name(f"float-{file.name}"))
            quantize(whole, file, _batches(tables["train"], processor) if "train" in tables else None)
            scored.append(_of_file("ONNX int8", file))
        _score(scored, tables[split], processor, disable_tqdm)
        print(_table(scored, split, len(tables[split])))
        before, after = scored[0].accuracy, scored[-1].accuracy
        if before - after > max_drop:
            raise ExportError(
                f"{path} was not written: accuracy on {split} falls from {before:.2%} to {after:.2%}, by "
                f"{before - after:.4f}, and `max_drop` allows {max_drop}."
            )
    return scored


def quantize(source: str | Path, path: str | Path, calibration: Iterator[np.ndarray] | None) -> str:
    """
    Write an ONNX file with 8-bit integers in place of another's floats.

    Args:
        source, path (`str` or `Path`): From and to.
        calibration (iterator of `np.ndarray` of shape `(batch_size, channels, height, width)`): Pixel values, from
            which convolutional networks take the ranges of their activations.

    Returns:
        `str`: `"static"` or `"dynamic"`, which is how it was done.

    Raises:
        ExportError: If a convolutional network has nothing to calibrate with.
    """
    import onnx
    from onnxruntime.quantization import quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = Path(path).with_name(f"prepared-{Path(path).name}")
    network = onnx.load(source)
    # Shapes that the exporter noted before it transposed weights contradict those that are inferred here.
    network.graph.ClearField("value_info")
    onnx.save(network, path)
    quant_pre_process(path, prepared, skip_symbolic_shape=True)
    # A vision transformer has one convolution, which makes its patches.
    static = sum(node.op_type == "Conv" for node in onnx.load(prepared).graph.node) > 1
    if static:
        _quantize_static(prepared, path, calibration)
    else:
        quantize_dynamic(prepared, path, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True)
    prepared.unlink()
    written = onnx.load(path)
    known = {entry.key for entry in written.metadata_props}
    written.metadata_props.extend(entry for entry in network.metadata_props if entry.key not in known)
    onnx.save(written, path)
    return "static" if static else "dynamic"


def _quantize_static(source: Path, path: str | Path, calibration: Iterator[np.ndarray] | None) -> None:
    from onnxruntime.quantization import QuantType, quantize_static

    if calibration is None:
        raise ExportError("int8 of a convolutional network needs a `train` split to calibrate with.")
    # Weights of 7 bits: where a processor has no VNNI instructions, sums of products of 8 bits overflow.
    # https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
    options = {"activation_type": QuantType.QUInt8, "per_channel": True, "reduce_range": True}
    with redirect_stdout(sys.stderr):  # it counts its steps on stdout
        quantize_static(source, path, _Reader(calibration), **options)


class _Reader:
    """Calibration data as ONNX Runtime asks for it."""

    def __init__(self, batches: Iterator[np.ndarray]):
        self.batches = batches

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"pixel_values": batch}


def _check(model: PreTrainedModel, tables: DatasetDict, form: str, split: str) -> None:
    if form not in FORMATS:
        raise ExportError(f"`format` must be one of {', '.join(FORMATS)}, got {form!r}.")
    if split not in tables:
        raise BadInputError(f"`split` must be one of {', '.join(tables)}, got {split!r}.")
    names, own = tables[split].features["label"].names, list(model.config.id2label.values())
    if names != own:
        raise BadInputError(f"The model's labels are {', '.join(own)}, and the data set's {', '.join(names)}.")


def _batches(table: Dataset, processor: BaseImageProcessor) -> Iterator[np.ndarray]:
    """Pixel values of [`CALIBRATION_IMAGES`] images, spread evenly over a split."""
    rows = np.unique(np.linspace(0, len(table) - 1, min(CALIBRATION_IMAGES, len(table))).astype(int))
    collate = FaceCollator(processor)
    for start in range(0, len(rows), BATCH):
        yield collate(list(table.select(rows[start : start + BATCH])))["pixel_values"].numpy()


def _of_model(model: PreTrainedModel) -> Scored:
    def run(pixel_values: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(pixel_values=torch.from_numpy(pixel_values)).logits.numpy()

    return Scored("PyTorch", run, sum(p.numel() * p.element_size() for p in model.state_dict().values()) / 1e6)


def _of_file(name: str, path: Path) -> Scored:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()  # the same for both
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    size = sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))  # with weights beside it
    return Scored(name, lambda pixel_values: session.run(["logits"], {"pixel_values": pixel_values})[0], size / 1e6)


def _score(scored: list[Scored], table: Dataset, processor: BaseImageProcessor, disable_tqdm: bool) -> None:
    """Fill in accuracies, differences and times; all forms see the same batches, in turns."""
    collate, networks = FaceCollator(processor), [form.network for form in scored]
    for start in Bar(range(0, len(table), BATCH), desc="scoring", disable=disable_tqdm):
        batch = collate(list(table.select(range(start, min(start + BATCH, len(table))))))
        labels, pixel_values = batch["labels"].numpy(), batch["pixel_values"].numpy()
        labels = labels.argmax(axis=-1) if labels.ndim == 2 else labels
        logits = [network(pixel_values) for network in networks]
        for form, own in zip(scored, logits, strict=True):
            form.accuracy += float((own.argmax(axis=-1) == labels).sum()) / len(table)
            form.difference = max(form.difference, float(np.abs(own - logits[0]).max()))
        for size in (1, BATCH) if start == 0 else ():
            for form, median in zip(scored, _times(networks, pixel_values, size), strict=True):
                form.milliseconds[size] = median


def _times(
    networks: list[Network],
    pixel_values: np.ndarray,
    size: int,
    seconds: float = 5.0,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Median milliseconds of a batch for each network, in turns: of 51 batches, or as many as `seconds` allow."""
    images = np.resize(pixel_values, (size, *pixel_values.shape[1:]))
    times = [[] for _ in networks]
    end = clock() + seconds
    while len(times[0]) < 3 or (len(times[0]) < 51 and clock() < end):
        for network, own in zip(networks, times, strict=True):
            start = clock()
            network(images)
            own.append(1e3 * (clock() - start))
    return [statistics.median(own) for own in times]


def _table(scored: list[Scored], split: str, num_faces: int) -> str:
    head = f"{'':<10}{'MB':>8}{'accuracy':>11}{'logits off by':>15}{'ms, 1 face':>13}{f'ms, {BATCH} faces':>14}"
    rows = [
        f"{s.name:<10}{s.megabytes:>8.2f}{s.accuracy:>11.2%}{s.difference:>15.1e}"
        f"{s.milliseconds[1]:>13.2f}{s.milliseconds[BATCH]:>14.1f}"
        for s in scored
    ]
    note = f"Accuracy on all {num_faces:,} faces of {split}; medians on {torch.get_num_threads()} CPU threads."
    return "\n".join([head, *rows, note])
