"""The page of `fer-hf page` in a real Chromium, with its runtime: scores, webcam, keyboard, and where requests go."""

import base64
import json
import re
import shutil
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from PIL import Image

from fer_hf.data.drawing import draw_face
from fer_hf.data.images import png
from fer_hf.inference import Detection, browser
from fer_hf.inference.browser_runtime import FOLDER as RUNTIME
from fer_hf.inference.browser_runtime import check_runtime
from fer_hf.inference.predict import load_pipeline


pytestmark = pytest.mark.slow

SIZE = (640, 480)
# Where faces are drawn in a picture: center, side, and by how much they are turned, in degrees.
PLACES = [((180, 200), 220, 12), ((470, 250), 160, -20)]
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --use-fake-ui-for-media-stream --use-fake-device-for-media-stream"
)


def drawn_face(side, seed):
    return Image.fromarray(draw_face(np.random.default_rng(seed), {6: 1, 12: 1}, side)[0])


def picture():
    """Two drawn faces, turned, in color, on a ground that is not even."""
    slope = np.linspace(60, 200, SIZE[0]).astype(np.uint8)
    scene = Image.fromarray(np.tile(slope, (SIZE[1], 1))).convert("RGB")
    for seed, ((x, y), side, degrees) in enumerate(PLACES):
        face = Image.merge("RGB", [drawn_face(side, seed).point(lambda v, k=k: v * k) for k in (1, 0.9, 0.8)])
        shape = Image.new("L", face.size, 255).rotate(degrees, expand=True)
        face = face.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
        scene.paste(face, (x - face.width // 2, y - face.height // 2), shape)
    return scene


@contextmanager
def running(server):
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    try:
        check_runtime(RUNTIME)
    except browser.BadInputError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("pages") / "page"
    browser.write_page("fer-compact-cnn", folder)
    with running(browser.server_of(folder)) as address:
        yield address


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """A browser whose webcam shows a drawn face."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install selenium")
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed: Debian's packages chromium and chromium-driver")
    video = tmp_path_factory.mktemp("video") / "face.y4m"
    scene = Image.new("L", SIZE, 110)
    scene.paste(drawn_face(240, 3), (200, 120))
    frame = b"FRAME\n" + scene.tobytes() + bytes([128]) * (SIZE[0] * SIZE[1] // 2)
    video.write_bytes(b"YUV4MPEG2 W%d H%d F30:1 Ip A1:1 C420jpeg\n" % SIZE + 2 * frame)
    options = webdriver.ChromeOptions()
    options.binary_location = program
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    profile = tmp_path_factory.mktemp("profile")
    for flag in [*FLAGS.split(), f"--use-file-for-fake-video-capture={video}", f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    chromium = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield chromium
    chromium.quit()


class Page:
    """The page as someone in front of it sees and uses it."""

    def __init__(self, driver, address):
        self.driver = driver
        driver.get(address)
        self.until(lambda: self.status.startswith("Ready"))

    def __getitem__(self, name):
        return self.driver.find_element("id", name)

    def until(self, true, seconds=120):
        end = time.monotonic() + seconds
        while not (answer := true()):
            assert time.monotonic() < end, self.status
            time.sleep(0.1)
        return answer

    @property
    def status(self):
        return self["status"].text

    def faces(self):
        """What is shown of each face, once the page has looked."""
        self.until(lambda: "ound" in self.status or " face" in self.status)
        return [json.loads(card.get_attribute("data-face")) for card in self["faces"].find_elements("tag name", "li")]


@pytest.fixture
def page(chromium, address):
    return Page(chromium, address)


def expected(photo, faces=None):
    """The scores that the pipeline gives to faces that the page found; or to the whole picture."""

    def found(image):
        return [Detection(face["box"], face["score"], [*face["landmarks"], face["landmarks"][-1]]) for face in faces]

    answers = load_pipeline(None, detector=found if faces else "none")(photo)
    return [list(answer["scores"].values()) for answer in answers]


def test_faces_are_found_and_have_the_scores_of_the_pipeline(page, tmp_path):
    picture().save(tmp_path / "two.png")
    page["file"].send_keys(str(tmp_path / "two.png"))
    faces = page.faces()
    assert len(faces) == len(PLACES)
    for face, ((x, y), side, _) in zip(faces, PLACES, strict=True):
        left, top, right, bottom = face["box"]
        assert left < x < right
        assert top < y < bottom
        assert 0.4 * side < right - left < side
    scores = [face["scores"] for face in faces]
    np.testing.assert_allclose(scores, expected(picture(), faces), atol=1e-3)
    assert np.ptp(scores, axis=1).min() > 0.1
    for face, card in zip(faces, page["faces"].find_elements("tag name", "li"), strict=True):
        shown = [row.text.split() for row in card.find_elements("tag name", "tr")]
        assert [float(row[1]) for row in shown] == [round(100 * score) for score in face["scores"]]


def test_a_picture_that_is_a_face_has_the_scores_of_the_pipeline_by_file_drop_and_paste(page):
    page["find"].click()
    face = drawn_face(70, 5).crop((0, 4, 60, 70))
    want = expected(face)
    content = base64.b64encode(png(np.asarray(face))).decode()
    for event in ("new DragEvent('drop', {dataTransfer: data})", "new ClipboardEvent('paste', {clipboardData: data})"):
        page.driver.execute_script(
            "document.getElementById('status').textContent = '';"
            "const bytes = Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0)), data = new DataTransfer();"
            f"data.items.add(new File([bytes], 'face.png', {{type: 'image/png'}})); document.dispatchEvent({event});",
            content,
        )
        np.testing.assert_allclose([found["scores"] for found in page.faces()], want, atol=1e-3)


def test_the_webcam_shows_a_face_frame_by_frame_until_it_is_stopped(page):
    page["webcam"].click()
    rate = page.until(lambda: re.fullmatch(r"(\d\.\d|\d\d+) frames per second", page["rate"].text))
    assert float(rate[1]) > 0
    (face,) = page.faces()
    assert sum(face["scores"]) == pytest.approx(1)
    left, top, right, bottom = face["box"]
    assert 200 < left < right < 440
    assert 120 < top < bottom < 360
    assert page["webcam"].text == "Stop webcam"
    page["webcam"].click()
    assert page["webcam"].text == "Start webcam"
    assert page["rate"].text == ""


def test_the_picture_stays_in_sight_beside_many_faces_but_not_on_a_phone(page):
    page.driver.execute_script("document.getElementById('faces').style.paddingBottom = '3000px'; scrollTo(0, 1000);")
    tops = []
    for width in (1280, 390):
        page.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False},
        )
        tops.append(page.driver.execute_script("return document.getElementById('stage').getBoundingClientRect().top"))
    page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert tops[0] > 0 > tops[1]


def test_what_is_no_picture_is_said_and_the_page_goes_on(page, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    page["file"].send_keys(str(tmp_path / "text.png"))
    page.until(lambda: "cannot read it as a picture" in page.status)
    Image.new("RGB", (64, 64)).save(tmp_path / "black.png")
    page["file"].send_keys(str(tmp_path / "black.png"))
    page.until(lambda: page.status == "No face found.")


def test_every_control_is_reached_by_keyboard_and_has_a_name(page):
    from selenium.webdriver import ActionChains, Keys

    names = []
    for _ in range(3):
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
        names.append(page.driver.switch_to.active_element.accessible_name)
    assert names[:2] == ["Start webcam", "Choose a picture"]
    assert names[2].startswith("Find faces")


def test_no_request_leaves_the_page_or_its_worker(page, address):
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)

        do_POST = do_OPTIONS = do_GET

    with running(HTTPServer(("127.0.0.1", 0), Handler)) as elsewhere:
        tries = f"""
            const tries = () => Promise.allSettled([
              fetch("{elsewhere}/fetch"), import("{elsewhere}/import"), fetch("{elsewhere}/sent", {{method: "POST"}}),
            ]).then((all) => all.map(({{status}}) => status));
            """
        answers = page.driver.execute_async_script(
            f"""const done = arguments[0]; {tries}
            new Image().src = "{elsewhere}/image";
            const code = `{tries} tries().then(postMessage)`;
            const worker = new Worker(URL.createObjectURL(new Blob([code], {{type: "text/javascript"}})));
            worker.onmessage = async ({{data}}) => done([await tries(), data]);"""
        )
    assert answers == [["rejected"] * 3] * 2
    assert asked == []
    page.driver.get_log("performance")  # forgets what was before
    Page(page.driver, address)
    messages = [json.loads(entry["message"])["message"] for entry in page.driver.get_log("performance")]
    urls = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert f"{address}/page.js" in urls
    assert [url for url in urls if not url.startswith((f"{address}/", f"blob:{address}/"))] == []
