"""Image classifiers of Transformers as ONNX files, for use without PyTorch."""

import copy
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import BaseImageProcessor, PreTrainedModel

from fer_hf.errors import BadInputError


# Largest difference in logits between PyTorch and ONNX Runtime; both compute in float32.
TOLERANCE = 1e-4
# Properties of a file, as JSON.
METADATA = ("id2label", "image_size", "image_processor")


class ExportError(BadInputError):
    """A model could not be exported as asked."""


class ExportMismatchError(ExportError):
    """The logits of an exported file differ from the model's. The file is not kept."""


def export_onnx(
    model: PreTrainedModel,
    path: str | Path,
    image_processor: BaseImageProcessor | None = None,
    image_size: int | Sequence[int] | None = None,
    num_channels: int = 3,
) -> float:
    """
    Write an image classifier to one ONNX file (https://onnx.ai), and check it with ONNX Runtime.

    The file has an input `pixel_values` of shape `(batch_size, num_channels, height, width)` and an output `logits` of
    shape `(batch_size, num_labels)`, both float32; only the batch size may vary. Weights are inside, except for models
    near ONNX's limit of 2 GB, whose weights PyTorch puts beside the file under its name with `.data`. Metadata
    properties, as JSON: `id2label`, `image_size` (`[height, width]` in pixels) and `image_processor`, if given.

    The model itself does not change: a float32 copy in eval mode is exported. The file is written, or replaces an
    older one, only if the logits of both libraries agree within 1e-4 on seeded random images, in batches of 1 and 3.

    Args:
        model (`PreTrainedModel`):
            With `pixel_values` in and `logits` out.
        path (`str` or `Path`):
            File to write. Missing folders are made.
        image_processor (`BaseImageProcessor`, *optional*):
            Goes into the metadata, so that the file says how `pixel_values` are made.
        image_size (`int` or `(height, width)`, *optional*):
            In pixels. The configuration's by default; needed where it has none, as ResNet's.
        num_channels (`int`, defaults to 3):
            Of `pixel_values` as the image processor makes them. Our gray networks take RGB as well.

    Returns:
        `float`: The largest difference between the logits of both libraries.

    Raises:
        ExportError: If packages are missing, or the image size is unknown.
        ExportMismatchError: If the file's logits are not the model's.
    """
    _check_packages()
    height, width = _size(model, image_size)
    network = _Logits(copy.deepcopy(model).to("cpu", torch.float32)).eval()
    generator = torch.Generator().manual_seed(0)
    traced, *checked = (torch.randn(n, num_channels, height, width, generator=generator) for n in (2, 1, 3))
    with torch.inference_mode():
        expected = [network(images) for images in checked]  # a wrong shape is the model's own, readable error here
    program = _trace(network, traced)
    metadata = {"id2label": model.config.id2label, "image_size": [height, width]}
    if image_processor is not None:
        metadata["image_processor"] = image_processor.to_dict()
    for node in program.model.graph.all_nodes():  # stack traces, with paths of this machine
        node.metadata_props.clear()
    program.model.metadata_props.update({name: json.dumps(value) for name, value in metadata.items()})
    with written_whole(path) as file:
        program.save(file)
        difference = _largest_difference(file, checked, expected)
        if not difference <= TOLERANCE:  # NaN is no agreement either
            raise ExportMismatchError(
                f"{path} was not written: its logits differ from the model's by up to {difference:.1e}, and at most "
                f"{TOLERANCE:.0e} is accepted."
            )
    return difference


def read_metadata(path: str | Path) -> dict[str, Any]:
    """
    What [`export_onnx`] noted in a file: `id2label`, `image_size`, and `image_processor` if it was given.

    Raises:
        ExportError: If packages are missing, or the file was not written so.
    """
    _check_packages()
    import onnx
    from google.protobuf.message import DecodeError

    try:
        properties = onnx.load(path, load_external_data=False).metadata_props
        # A quantizer adds words of its own, which need not be JSON.
        metadata = {entry.key: json.loads(entry.value) for entry in properties if entry.key in METADATA}
    except (OSError, DecodeError, ValueError) as error:
        raise ExportError(f"{path} cannot be read as an ONNX file: {str(error).partition(chr(10))[0]}") from error
    if not metadata.keys() >= {"id2label", "image_size"}:
        raise ExportError(f"{path} does not say what its labels are: it was not written by `fer-hf export`.")
    return metadata


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """
    A file to write in a temporary folder. At the end it moves to `path`, and with it the files whose names begin with
    its own, such as weights beside it; if an error is raised, nothing moves.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        # Under its final name, because a file with weights beside it names them.
        yield Path(folder, path.name)
        for file in sorted(Path(folder).glob(f"{path.name}*"), reverse=True):  # the weights, if any, first
            file.replace(path.with_name(file.name))


def _check_packages() -> None:
    missing = [package for package in ("onnx", "onnxscript", "onnxruntime") if find_spec(package) is None]
    if missing:
        raise ExportError(f"Export needs {', '.join(missing)}: pip install {' '.join(missing)}.")


def _size(model: PreTrainedModel, image_size: int | Sequence[int] | None) -> tuple[int, int]:
    """Height and width in pixels."""
    size = image_size or getattr(model.config, "image_size", None)
    if size is None:
        raise ExportError(f"`image_size` must be given: a {model.config.model_type} configuration has none.")
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def _trace(network: nn.Module, images: torch.Tensor) -> "torch.onnx.ONNXProgram":
    return torch.onnx.export(
        network,
        (images,),
        dynamo=True,
        input_names=["pixel_values"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch_size")},),
        verbose=False,
    )


class _Logits(nn.Module):
    """A classifier that takes and gives tensors alone."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.model(pixel_values=pixel_values).logits


def _largest_difference(path: Path, batches: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    differences = [
        torch.from_numpy(session.run(["logits"], {"pixel_values": images.numpy()})[0]) - logits
        for images, logits in zip(batches, expected, strict=True)
    ]
    return torch.cat(differences).abs().max().item()
