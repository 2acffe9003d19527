"""Photos by URL are read by the same rules as files: formats, depth, limits, one line where they are refused."""

import base64
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from PIL import Image

from fer_hf.data.images import png
from fer_hf.errors import BadInputError
from fer_hf.inference.photos import load_photo


LEVELS = np.arange(12, dtype=np.uint8).reshape(3, 4)
DEEP = png(LEVELS.astype(np.uint16) * 257)
ANSWERS = {
    "/deep.png": DEEP,
    "/half.png": DEEP[:60],
    "/drawing.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
}


@pytest.fixture(scope="module")
def address():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path in ANSWERS else 404)
            self.end_headers()
            self.wfile.write(ANSWERS.get(self.path, b"nothing"))

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_16_bits_from_a_url_or_a_data_uri_are_scaled_as_those_of_a_file(address, tmp_path):
    (tmp_path / "deep.png").write_bytes(DEEP)
    uri = "data:image/png;base64," + base64.b64encode(DEEP).decode()
    for photo in (f"{address}/deep.png", uri, tmp_path / "deep.png"):
        assert np.asarray(load_photo(photo, timeout=10))[..., 0].tolist() == LEVELS.tolist()


@pytest.mark.parametrize(
    ("path", "reason"), [("half.png", "truncated"), ("drawing.eps", "of no known format"), ("none.png", "404")]
)
def test_what_a_url_gives_that_is_no_photo_is_refused_in_one_line(address, path, reason):
    with pytest.raises(BadInputError, match=rf"{address}/{path}: not a readable image \(.*{reason}") as error:
        load_photo(f"{address}/{path}", timeout=10)
    assert "\n" not in str(error.value)


def test_a_damaged_data_uri_is_not_repeated_in_the_message():
    uri = "data:image/png;base64," + base64.b64encode(DEEP[:60]).decode()
    with pytest.raises(BadInputError, match=r"^the data URI: not a readable image"):
        load_photo(uri)


def test_an_absurdly_wide_photo_is_refused():
    with pytest.raises(BadInputError, match="the Image: 10001x1 pixels, but an image must have 1 to 10,000 a side"):
        load_photo(Image.new("L", (10_001, 1)))
