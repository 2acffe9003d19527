"""A wheel is enough: where there is no repository, it trains, scores, predicts, exports, shows and publishes."""

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from PIL import Image


ROOT = Path(__file__).parent.parent
TINY = json.dumps({"train": 28, "validation": 14, "test": 14})


def call(*words, folder):
    done = subprocess.run([*map(str, words)], cwd=folder, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def fer_hf(tmp_path_factory):
    """The command of a fresh environment that has the wheel, and sees the packages of this one behind it."""
    folder = tmp_path_factory.mktemp("wheel")
    source, wheels, fresh = folder / "source", folder / "wheels", folder / "fresh"
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, files.split("\0")):
        if name.startswith(("fer_hf/", "recipes/")) or "/" not in name:  # a build writes into its source
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    call(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, source, folder=folder)
    venv.create(fresh)
    (site,) = fresh.glob("lib/python*/site-packages")
    # A path in a .pth file is searched after the environment's own, and what it installs as editable is not.
    (site / "parent.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")) + "\n")
    call(*pip, "--python", fresh / "bin" / "python", "install", "--no-deps", "--no-index", *wheels.glob("*.whl"),
         folder=folder)  # fmt: skip
    return fresh / "bin" / "fer-hf"


@pytest.mark.slow
def test_an_installed_wheel_needs_no_repository(fer_hf, drawn_faces, tmp_path):
    def run(*words):
        return call(fer_hf, *words, folder=tmp_path)

    python = fer_hf.with_name("python")
    assert str(fer_hf.parent.parent) in call(python, "-c", "import fer_hf; print(fer_hf.__file__)", folder=tmp_path)
    drawn_faces["test"][0]["image"].resize((96, 96), Image.Resampling.BILINEAR).save(tmp_path / "face.png")
    data = ("--dataset", "synthetic", "--dataset_options", TINY)
    ended = run("train", "demo_cnn", "--max_steps", 3, "--use_cpu", "--disable_tqdm", "--output_dir", "run", *data[2:])
    assert 'model="run", trust_remote_code=True' in ended  # the network's code travels
    assert "14 faces" in run("evaluate", "--model", "run", *data, "--disable_tqdm")
    predicted = run("predict", "face.png", "--model", "run", "--detector", "none", "--output", "faces.csv")
    assert "1 face " in predicted
    assert "1 faces" not in predicted
    run("export", "--model", "run", *data, "--output", "model.onnx", "--max_drop", 1, "--disable_tqdm")
    run("report", "--run", "run")
    shown = run("push", "run", "--repo_id", "owner/name", "--dry_run")
    assert {"modeling_plain_cnn.py", "report.html"} <= set(shown.split())
    assert {path.name for path in tmp_path.iterdir()} >= {"run", "faces.csv", "model.onnx"}
