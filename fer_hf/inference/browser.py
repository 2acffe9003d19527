"""
A static page that finds faces and names their expressions in the browser, where the pictures stay: ONNX Runtime's
WebAssembly, the model's ONNX file, and the scripts in `web`.
"""

import re
import shutil
import tempfile
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional
from transformers import AutoImageProcessor, BaseImageProcessor

from fer_hf.data.training_set import model_size
from fer_hf.errors import BadInputError
from fer_hf.files import whole_folder, write_json
from fer_hf.inference.alignment import FACE_MARGIN, SHARE
from fer_hf.inference.browser_runtime import check_runtime
from fer_hf.inference.onnx_file import export_onnx, read_metadata
from fer_hf.models.loading import load_trained_classifier


WEB = Path(__file__).parent / "web"
HOST, PORT = "127.0.0.1", 7860


def write_page(model: str, folder: str | Path) -> None:
    """
    Write the page to a folder that any web server can show.

    Args:
        model (`str`): A folder, a Hub id, the name of a checkpoint that ships, or an ONNX file of `fer-hf export`.
        folder (`str` or `Path`): New or empty. It appears whole or not at all.

    Raises:
        BadInputError: If the folder holds something, the runtime is missing, or the page cannot run the model.
    """
    check_runtime(WEB / "runtime")
    with whole_folder("export", folder) as page:
        shutil.copytree(WEB, page, dirs_exist_ok=True)
        name = _write_network(model, page / "model.onnx")
        write_json(page / "model.json", {"name": name, **_described(page / "model.onnx")})


def _write_network(model: str, file: Path) -> str:
    """The model as an ONNX file; returns its name for people."""
    if Path(model).suffix == ".onnx":
        read_metadata(model)  # so that a complaint names the user's file
        shutil.copyfile(model, file)
        name = Path(model).stem
    else:
        classifier, processor = load_trained_classifier(model, trust_remote_code=False)
        preparation(processor)  # what the page cannot do is told before the export
        export_onnx(classifier, file, processor, image_size=model_size(processor))
        name = Path(model).resolve().name if Path(model).is_dir() else model
    if any(path.exists() for path in (file.with_name("model.onnx.data"), Path(f"{model}.data"))):
        raise BadInputError(f"{model} is too large for a browser: its weights do not fit into one ONNX file.")
    return name


def _described(file: Path) -> dict[str, Any]:
    """What the scripts have to know of a network: its labels, and how a face becomes its input."""
    metadata = read_metadata(file)
    processor = _processor(metadata)
    return {
        "labels": list(metadata["id2label"].values()),
        "margin": getattr(processor, "face_margin", FACE_MARGIN),
        "share": SHARE,
        **preparation(processor),
    }


def _processor(metadata: dict[str, Any]) -> BaseImageProcessor:
    if "image_processor" not in metadata:
        raise BadInputError("The ONNX file says nothing of an image processor: write it anew with `fer-hf export`.")
    with tempfile.TemporaryDirectory() as place:
        write_json(Path(place, "preprocessor_config.json"), metadata["image_processor"])
        return AutoImageProcessor.from_pretrained(place)


def preparation(processor: BaseImageProcessor) -> dict[str, Any]:
    """
    What an image processor does, as the page does it: resize with antialiasing, cut out the center, normalize.

    Returns:
        `dict`: `size` (`[height, width]` or the shorter side) and `filter` of the resize, `crop` (`[height, width]`),
        and `scale`, `mean` and `std`: a value becomes `(scale * value - mean) / std`.

    Raises:
        BadInputError: If the processor does something else.
    """
    given = processor.to_dict()
    size = given.get("size") or {}
    size = _sides(size) or size.get("shortest_edge")
    steps = {
        "size": size,
        "filter": {2: "bilinear", 3: "bicubic"}.get(given.get("resample")),
        "crop": _sides(given["crop_size"]) if given.get("do_center_crop") else size,
        "scale": given["rescale_factor"] if given.get("do_rescale") else 1,
        "mean": given["image_mean"] if given.get("do_normalize") else [0, 0, 0],
        "std": given["image_std"] if given.get("do_normalize") else [1, 1, 1],
    }
    # Processors have steps and rules of their own: only what comes out tells.
    if not all(_prepare_alike(processor, steps, *shape) for shape in ((301, 301), (30, 41))):
        raise BadInputError(f"The page cannot prepare faces as the model's {type(processor).__name__} does.")
    return steps


def _sides(size: dict[str, int]) -> list[int] | None:
    return [size["height"], size["width"]] if size.get("height") and size.get("width") else None


def _prepare_alike(processor: BaseImageProcessor, steps: dict[str, Any], height: int, width: int) -> bool:
    """Whether the steps, which are those of `prepare` in `faces.js`, make of noise what the processor makes of it."""
    if steps["filter"] is None or not isinstance(steps["crop"], list):
        return False
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = processor(Image.fromarray(noise), return_tensors="pt")["pixel_values"][0]
    size, (crop_height, crop_width) = steps["size"], steps["crop"]
    to = size if isinstance(size, list) else [size * side // min(height, width) for side in (height, width)]
    resized = functional.resize(
        torch.from_numpy(noise).permute(2, 0, 1), to, InterpolationMode(steps["filter"]), antialias=True
    )  # (3, *to)
    top, left = (to[0] - crop_height) // 2, (to[1] - crop_width) // 2
    cut = resized[:, max(top, 0) : top + crop_height, max(left, 0) : left + crop_width]
    mean, std = (torch.tensor(steps[name]).view(3, 1, 1) for name in ("mean", "std"))
    ours = (steps["scale"] * cut - mean) / std
    return ours.shape == expected.shape and torch.allclose(ours, expected.float(), atol=1e-4)


class _Handler(SimpleHTTPRequestHandler):
    """Sends the page's own policy as a header, too, and the types that browsers insist on."""

    extensions_map = {**SimpleHTTPRequestHandler.extensions_map} | {
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", f"{policy()}; frame-ancestors 'none'")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, *args: Any) -> None:
        """Nothing: whoever looks at the page needs no list of its files."""


def policy() -> str:
    """The Content-Security-Policy in the page: requests go nowhere but to where the page came from."""
    html = (WEB / "index.html").read_text(encoding="utf-8")
    return re.search(r'Content-Security-Policy" content="([^"]+)"', html)[1]


def server_of(folder: str | Path) -> ThreadingHTTPServer:
    """A web server that shows a folder to this machine alone: at [`PORT`], or at any other if that is taken."""
    handler = partial(_Handler, directory=str(folder))
    try:
        return ThreadingHTTPServer((HOST, PORT), handler)
    except OSError:
        return ThreadingHTTPServer((HOST, 0), handler)


def serve_page(model: str) -> None:
    """
    Show the page to this machine until Ctrl-C.

    Raises:
        BadInputError: As [`write_page`].
    """
    with tempfile.TemporaryDirectory() as place:
        write_page(model, Path(place, "page"))
        with server_of(Path(place, "page")) as server, suppress(KeyboardInterrupt):
            print(
                f"http://{HOST}:{server.server_port} shows the page, to this machine alone. Ctrl-C ends it.",
                flush=True,
            )
            server.serve_forever()
