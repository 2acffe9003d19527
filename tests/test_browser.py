"""The page of `fer-hf page`: its folder, its server, what it refuses, and itself in a real browser."""

import io
import json
import re
import shutil
import tarfile
import threading
import urllib.request
from contextlib import contextmanager

import onnx
import pytest
from transformers import CLIPImageProcessor, ConvNextImageProcessor, EfficientNetImageProcessor, ViTImageProcessor

from fer_hf.cli.main import main
from fer_hf.errors import BadInputError
from fer_hf.inference import browser, browser_runtime
from fer_hf.inference.browser import preparation, server_of, write_page
from fer_hf.labels import EXPRESSIONS


OURS = {"index.html", "style.css", "page.js", "faces.js", "pixels.js", "icon.svg", "NOTICE.txt", "README.md"}
RUNTIME = {"ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm", "blazeface.onnx"}


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    """The files of the page with a runtime that does nothing, which is enough to write and serve it."""
    folder = tmp_path_factory.mktemp("installed") / "web"
    shutil.copytree(browser.WEB, folder, ignore=shutil.ignore_patterns("runtime"))
    (folder / "runtime").mkdir()
    for name in RUNTIME:
        (folder / "runtime" / name).write_bytes(b"runtime")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(browser, "WEB", folder)
        yield folder


@pytest.fixture(scope="module")
def page(web, tmp_path_factory):
    """The page of the checkpoint that ships."""
    folder = tmp_path_factory.mktemp("pages") / "new" / "page"
    assert main(["page", "--export", str(folder)]) == 0
    return folder


@contextmanager
def served(folder):
    with server_of(folder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_folder_holds_scripts_runtime_and_network_and_says_how_a_face_is_prepared(page):
    files = {file.relative_to(page).as_posix() for file in page.rglob("*") if file.is_file()}
    assert files == OURS | {f"runtime/{name}" for name in RUNTIME} | {"model.onnx", "model.json"}
    assert [file.name for file in page.parent.iterdir()] == ["page"]
    assert json.loads((page / "model.json").read_text()) == {
        "name": "fer-compact-cnn",
        "labels": list(EXPRESSIONS),
        "margin": 0.0,
        "share": 0.39,
        "size": [48, 48],
        "filter": "bilinear",
        "crop": [40, 40],
        "scale": pytest.approx(1 / 255),
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
    }


def test_no_file_of_the_page_names_another_place(page):
    for name in OURS - {"NOTICE.txt", "icon.svg"}:  # a licence's address, and the name of SVG
        assert not re.search(r"https?:|//\w+\.", (page / name).read_text(encoding="utf-8")), name


def test_the_server_answers_this_machine_alone_with_the_pages_policy_and_the_types_browsers_insist_on(page):
    with served(page) as address:
        answers = {
            name: urllib.request.urlopen(f"{address}/{name}").headers
            for name in ("", "page.js", "runtime/ort.wasm.bundle.min.mjs", "runtime/ort-wasm-simd-threaded.wasm")
        }
    types = ["text/html", "text/javascript", "text/javascript", "application/wasm"]
    assert [headers["Content-Type"].partition(";")[0] for headers in answers.values()] == types
    for headers in answers.values():
        policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["connect-src"] == "'self'"
        assert policy["script-src"] == "'self' 'wasm-unsafe-eval'"
        assert policy["frame-ancestors"] == "'none'"
        assert not re.search(r"https?:|\*|unsafe-inline|'unsafe-eval'", " ".join(policy.values()))


def test_a_second_page_gets_another_port(page):
    with server_of(page) as first, server_of(page) as second:
        assert first.server_port != second.server_port
        assert first.server_address[0] == second.server_address[0] == "127.0.0.1"


def test_a_file_of_fer_hf_export_is_taken_as_it_is(page, tmp_path):
    network = onnx.load(page / "model.onnx")
    network.metadata_props.add(key="onnx.infer", value="by a quantizer")
    onnx.save(network, tmp_path / "mine.onnx")
    (tmp_path / "empty").mkdir()
    write_page(str(tmp_path / "mine.onnx"), tmp_path / "empty")
    assert (tmp_path / "empty" / "model.onnx").read_bytes() == (tmp_path / "mine.onnx").read_bytes()
    described = json.loads((tmp_path / "empty" / "model.json").read_text())
    assert described == {**json.loads((page / "model.json").read_text()), "name": "mine"}


def onnx_file(path, **metadata):
    node = onnx.helper.make_node("Identity", ["pixel_values"], ["logits"])
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in node.input]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "one", ends, []))
    onnx.helper.set_model_props(model, {name: json.dumps(value) for name, value in metadata.items()})
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("none.onnx", "none.onnx cannot be read as an ONNX file"),
        ("text.onnx", "text.onnx cannot be read as an ONNX file"),
        ("bare.onnx", "bare.onnx does not say what its labels are: it was not written by `fer-hf export`"),
        ("old.onnx", "says nothing of an image processor"),
        ("large.onnx", "large.onnx is too large for a browser"),
        ("own_sizes", "cannot prepare faces as the model's ViTImageProcessor does"),
        ("elsewhere/none", "elsewhere/none"),
    ],
)
def test_what_the_page_cannot_show_is_refused_in_one_line_and_leaves_nothing(
    web, model, reason, classifier_folder, tmp_path, capsys
):
    shutil.copytree(classifier_folder, tmp_path / "own_sizes")
    ViTImageProcessor(do_resize=False).save_pretrained(tmp_path / "own_sizes")
    (tmp_path / "text.onnx").write_text("no network")
    onnx_file(tmp_path / "bare.onnx")
    for name in ("old.onnx", "large.onnx"):
        onnx_file(tmp_path / name, id2label={"0": "happy"}, image_size=[48, 48])
    (tmp_path / "large.onnx.data").write_bytes(b"weights")
    there = sorted(tmp_path.rglob("*"))
    assert main(["page", "--model", str(tmp_path / model), "--export", str(tmp_path / "page")]) == 2
    assert reason in capsys.readouterr().err.splitlines()[-1]  # what comes before is a bar
    assert sorted(tmp_path.rglob("*")) == there


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_nothing_is_replaced(web, kind, tmp_path, capsys):
    place = tmp_path / "page"
    kept = place / "mine.txt" if kind == "folder" else place
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("mine")
    assert main(["page", "--export", str(place)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "holds files" in line or "is a file" in line
    assert kept.read_text() == "mine"


def test_without_the_runtime_the_command_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(browser, "WEB", tmp_path)
    for words in ([], ["--export", str(tmp_path / "page")]):
        assert main(["page", *words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "ort-wasm-simd-threaded.wasm" in line
        assert "`python -m fer_hf.inference.browser_runtime`" in line
    assert list(tmp_path.iterdir()) == []


def archive(path, content):
    with tarfile.open(path, "w:gz") as packed:
        member = tarfile.TarInfo("package/a.js")
        member.size = len(content)
        packed.addfile(member, io.BytesIO(content))
    return path


def test_of_a_package_the_files_that_were_tried_are_taken_and_others_refused(tmp_path, monkeypatch):
    checksum = "21a0270b7f66a1e4c25933f13a1e5a1bbb4757578072930c8189131f9c6aaae1"
    monkeypatch.setattr(browser_runtime, "FILES", {"b.js": ("a@1", "package/a.js", checksum)})
    folder = tmp_path / "runtime"
    with pytest.raises(BadInputError, match=r"package/a\.js of a@1 is not the file that this version was tested with"):
        browser_runtime.unpack(archive(tmp_path / "a.tgz", b"other"), "a@1", folder)
    assert not folder.exists()
    browser_runtime.unpack(archive(tmp_path / "a.tgz", b"script"), "a@1", folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {"b.js": b"script"}


def test_without_npm_getting_the_runtime_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInputError, match="npm is needed"):
        browser_runtime.fetch(tmp_path / "runtime")


def test_image_processors_are_described_as_the_page_needs_them():
    square = preparation(ViTImageProcessor(size={"height": 48, "width": 40}))
    assert (square["size"], square["crop"], square["filter"]) == ([48, 40], [48, 40], "bilinear")
    cropped = preparation(CLIPImageProcessor(size={"shortest_edge": 50}, crop_size={"height": 40, "width": 44}))
    assert (cropped["size"], cropped["crop"], cropped["filter"]) == (50, [40, 44], "bicubic")
    bare = preparation(ViTImageProcessor(do_rescale=False, do_normalize=False, size={"height": 9, "width": 9}))
    assert (bare["scale"], bare["mean"], bare["std"]) == (1, [0] * 3, [1] * 3)


@pytest.mark.parametrize(
    "processor",
    [
        ConvNextImageProcessor(size={"shortest_edge": 48}),  # resizes more than it says, and cuts out
        EfficientNetImageProcessor(size={"height": 48, "width": 48}, rescale_offset=True),
        ViTImageProcessor(size={"height": 48, "width": 48}, resample=0),
        ViTImageProcessor(
            size={"height": 40, "width": 40}, crop_size={"height": 48, "width": 48}, do_center_crop=True
        ),
        ViTImageProcessor(do_resize=False),
    ],
    ids=["convnext", "offset", "nearest", "padding", "no-resize"],
)
def test_image_processors_that_do_something_else_are_refused(processor):
    with pytest.raises(BadInputError, match=f"cannot prepare faces as the model's {type(processor).__name__} does"):
        preparation(processor)
