import ast
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import fer_hf
from fer_hf.data import DataError
from fer_hf.data.folders import entries, find_images, fingerprint, images_by_label
from fer_hf.data.images import encoded_image, open_image, read_bytes


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path, pixels, mode=None, **how):
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **how)
    return path


def encoded(path, **options):
    return encoded_image(read_bytes(path), str(path), **options)


def opened(content):
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def raw_png(width, height, depth, colour_type, rows=b""):
    """A PNG with any header, however untrue."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def assert_refused(path, *parts, **options):
    with pytest.raises(DataError) as caught:
        encoded(path, **options)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert "BytesIO" not in message
    for part in parts:
        assert part in message


# What is kept and what is converted


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("shape", [(10, 12), (10, 12, 3)])
def test_a_plain_jpeg_or_png_keeps_its_own_bytes(tmp_path, suffix, shape):
    path = save(tmp_path / f"face.{suffix}", noise(*shape))
    assert encoded(path) == path.read_bytes()


def test_the_format_is_told_by_the_content(tmp_path):
    path = save(tmp_path / "face.png", noise(10, 12), format="JPEG")
    assert encoded(path) == path.read_bytes()


@pytest.mark.parametrize("suffix", ["bmp", "pgm", "tif", "webp"])
def test_other_formats_become_png_with_the_same_pixels(tmp_path, suffix):
    pixels = noise(10, 12) if suffix != "webp" else noise(10, 12, 3)
    image = opened(
        encoded(save(tmp_path / f"face.{suffix}", pixels, **{"lossless": True} if suffix == "webp" else {}))
    )
    assert image.format == "PNG"
    np.testing.assert_array_equal(np.asarray(image), pixels)


def test_a_gray_file_becomes_rgb_on_request(tmp_path):
    image = opened(encoded(save(tmp_path / "face.png", noise(10, 12)), mode="RGB"))
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), np.repeat(noise(10, 12)[:, :, None], 3, axis=2))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_gray_is_divided_by_257(tmp_path, suffix):
    values = np.zeros((8, 8), dtype=np.uint16)
    values[0, :5] = 257 * 100, 257 * 100 + 128, 257 * 100 + 129, 257 * 7, 65535
    image = opened(encoded(save(tmp_path / f"face.{suffix}", values)))
    assert image.mode == "L"
    assert np.asarray(image)[0, :6].tolist() == [100, 100, 101, 7, 255, 0]


def test_16_bit_colours_keep_the_upper_byte(tmp_path):
    path = tmp_path / "face.png"
    path.write_bytes(raw_png(8, 8, 16, 2, (b"\0" + struct.pack(">HHH", 0x0AFF, 0x1401, 0x1E80) * 8) * 8))
    content = encoded(path)
    assert content[24] == 8  # bit depth
    assert np.asarray(opened(content))[3, 3].tolist() == [0x0A, 0x14, 0x1E]


def test_a_palette_becomes_colours(tmp_path):
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    pixels[:4] = 255, 0, 0
    for suffix in ("png", "gif", "bmp"):
        image = opened(encoded(save(tmp_path / f"face.{suffix}", pixels, mode="P")))
        assert image.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(image), pixels)


def test_black_and_white_becomes_gray(tmp_path):
    pixels = np.eye(8, dtype=np.uint8) * 255
    image = opened(encoded(save(tmp_path / "face.png", pixels, mode="1")))
    assert image.mode == "L"
    np.testing.assert_array_equal(np.asarray(image), pixels)


def test_cmyk_becomes_rgb(tmp_path):
    pixels = np.full((16, 16, 3), (250, 20, 20), dtype=np.uint8)
    image = opened(encoded(save(tmp_path / "face.jpg", pixels, mode="CMYK", quality=100)))
    assert image.mode == "RGB"
    np.testing.assert_allclose(np.asarray(image)[8, 8], (250, 20, 20), atol=3)


def test_transparent_pictures_are_laid_on_black(tmp_path):
    pixels = np.full((8, 8, 4), (200, 100, 50, 128), dtype=np.uint8)
    pixels[0] = 255, 255, 255, 0
    image = opened(encoded(save(tmp_path / "face.png", pixels)))
    assert image.mode == "RGB"
    np.testing.assert_allclose(np.asarray(image)[4, 4], (100, 50, 25), atol=1)
    assert np.asarray(image)[0, 0].tolist() == [0, 0, 0]
    gray = opened(encoded(save(tmp_path / "gray.png", pixels, mode="LA")))
    assert gray.mode == "L"
    assert np.asarray(gray)[0, 0] == 0


def test_a_transparent_colour_is_black_as_well(tmp_path):
    pixels = np.full((8, 8, 3), (9, 8, 7), dtype=np.uint8)
    pixels[0] = 1, 2, 3
    path = save(tmp_path / "face.png", pixels, transparency=(9, 8, 7))
    assert np.asarray(opened(encoded(path)))[:2, 0].tolist() == [[1, 2, 3], [0, 0, 0]]


def test_a_picture_with_an_exif_orientation_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees, clockwise
    pixels = np.zeros((8, 16), dtype=np.uint8)
    pixels[:, :8] = 255  # left becomes top
    path = save(tmp_path / "face.jpg", pixels, exif=exif, quality=100)
    image = opened(encoded(path))
    assert image.size == (8, 16)
    assert image.getexif().get(0x0112) is None
    assert np.asarray(image)[4, 4] > 250
    assert np.asarray(image)[12, 4] < 5
    exif[0x0112] = 1
    assert encoded(save(path, pixels, exif=exif)) == path.read_bytes()


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif", "mpo"])
def test_of_an_animation_the_first_picture_is_taken(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("white", "black", "red")]
    path = tmp_path / f"face.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    image = opened(encoded(path))
    assert not getattr(image, "is_animated", False)
    np.testing.assert_allclose(np.asarray(image), 255, atol=2)


# What is refused


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "face.png").touch()
    assert_refused(tmp_path / "face.png", "an empty file (0 bytes)")


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "tif", "webp"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_refused(tmp_path, suffix, share):
    path = save(tmp_path / f"face.{suffix}", noise(48, 48, 3))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert_refused(path, "not a readable image")


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("missing", [1, 12, 20])
def test_a_file_without_its_last_bytes_is_refused(tmp_path, suffix, missing):
    path = save(tmp_path / f"face.{suffix}", noise(48, 48, 3))
    path.write_bytes(path.read_bytes()[:-missing])
    assert_refused(path, "not a readable image (image file is truncated")


@pytest.mark.parametrize(
    "content", [b"hello", b"\0" * 1000, b"<svg/>", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]
)
def test_what_is_no_image_or_of_a_strange_format_is_refused(tmp_path, content):
    (tmp_path / "face.png").write_bytes(content)
    assert_refused(tmp_path / "face.png", "not a readable image (of no known format)")


@pytest.mark.filterwarnings("error")  # Pillow only warns of the smaller bombs
@pytest.mark.parametrize(("width", "height"), [(30_000, 30_000), (12_000, 9_000), (10_001, 8), (1, 1), (7, 500)])
def test_bombs_and_absurd_sizes_are_refused_before_they_are_decoded(tmp_path, width, height):
    (tmp_path / "face.png").write_bytes(raw_png(width, height, 8, 0))
    assert_refused(tmp_path / "face.png", "pixels")


def test_a_bomb_in_a_comment_is_refused(tmp_path):
    comments = PngImagePlugin.PngInfo()
    comments.add_text("comment", "a" * 2_000_000, zip=True)
    assert_refused(save(tmp_path / "face.png", noise(9, 9), pnginfo=comments), "not a readable image (Decompressed")


def test_a_huge_file_is_refused_unread(tmp_path):
    with open(tmp_path / "face.png", "wb") as file:
        file.truncate(100_000_001)  # holds no blocks
    assert_refused(tmp_path / "face.png", "100,000,001 bytes")


@pytest.mark.parametrize("kind", ["float32", "int32"])
def test_pixels_of_no_known_range_are_refused(tmp_path, kind):
    assert_refused(save(tmp_path / "face.tif", np.zeros((9, 9), dtype=kind)), "have no known range")


def test_another_size_than_the_expected_one_is_refused(tmp_path):
    assert_refused(save(tmp_path / "face.png", noise(9, 8)), "8x9 pixels, but 10x10 are expected", size=(10, 10))


def test_a_picture_may_be_smaller_where_it_need_not_be_a_face():
    dot = raw_png(1, 1, 8, 0, b"\0\7")
    assert np.asarray(open_image(dot, "dot", min_side=1)).tolist() == [[7]]
    with pytest.raises(DataError, match="dot: 1x1 pixels, but an image must have 8 to 10,000 a side"):
        open_image(dot, "dot")


def test_nothing_else_in_the_package_opens_images():
    # A second reader would have other rules for formats, depths, limits and complaints.
    found = set()
    for path in Path(fer_hf.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_open = isinstance(node, ast.Attribute) and node.attr == "open" and "Image" in ast.unparse(node.value)
            # torchvision's, Transformers' and matplotlib's ways to the same.
            other = getattr(node, "id", getattr(node, "attr", getattr(node, "name", "")))
            if is_open or other in {"load_image", "decode_image", "read_image", "imread"}:
                found.add(path.name)
    assert found == {"images.py"}


def test_a_missing_file_and_a_pipe_are_refused(tmp_path):
    assert_refused(tmp_path / "none.png", "cannot be read (No such file or directory)")
    os.mkfifo(tmp_path / "face.png")
    assert_refused(tmp_path / "face.png", "not a file")
    with pytest.raises(DataError, match="not a file"):
        read_bytes(tmp_path)


# Folders


def test_images_are_found_at_any_depth_in_the_order_of_their_names(tmp_path):
    for name in (
        "b.PNG",
        "a/2.jpg",
        "a/10.jpeg",
        "notes.txt",
        ".hidden.png",
        "._b.png",
        "Thumbs.db",
        "__MACOSX/b.png",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    images, others = find_images(tmp_path)
    assert [os.path.relpath(path, tmp_path) for path in images] == ["a/10.jpeg", "a/2.jpg", "b.PNG"]
    assert others == [str(tmp_path / "notes.txt")]


def test_links_are_followed_but_not_in_circles(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/1.png").touch()
    (tmp_path / "faces/deep").mkdir(parents=True)
    (tmp_path / "faces/deep/link").symlink_to(tmp_path / "elsewhere")
    assert find_images(tmp_path / "faces")[0] == [str(tmp_path / "faces/deep/link/1.png")]
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "faces")
    with pytest.raises(DataError, match="deep/link/back: a symbolic link that leads back to a folder above it"):
        find_images(tmp_path / "faces")


def test_images_are_listed_by_label_and_the_rest_is_counted(tmp_path, caplog):
    for name in ("sad/deep/1.png", "sad/0.jpg", "sad/list.csv", "notes.txt", "Thumbs.db"):
        (tmp_path / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / name).touch()
    (tmp_path / "train/happy").mkdir()
    found = images_by_label(tmp_path / "train")
    assert list(found) == ["happy", "sad"]
    assert found["happy"] == []
    assert [os.path.relpath(path, tmp_path) for path in found["sad"]] == ["train/sad/0.jpg", "train/sad/deep/1.png"]
    assert "no images and are not read: 2, such as notes.txt, sad/list.csv" in caplog.text
    (tmp_path / "train/2.png").touch()
    with pytest.raises(DataError, match=r"2\.png: an image outside of the label folders. Move it into train/<label>"):
        images_by_label(tmp_path / "train")


@pytest.mark.parametrize("target", ["nowhere", "link.png"])
def test_a_link_to_nowhere_or_to_itself_is_refused(tmp_path, target):
    (tmp_path / "link.png").symlink_to(tmp_path / target)
    with pytest.raises(DataError, match=r"link.png: a symbolic link that leads nowhere or to itself"):
        entries(tmp_path)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="none: cannot be listed"):
        entries(tmp_path / "none")


def test_the_fingerprint_follows_names_and_bytes_but_not_the_place(tmp_path):
    digests = set()
    for folder, name, content, described in (
        ("one", "a", b"1", "x"),
        ("two", "a", b"1", "x"),
        ("three", "b", b"1", "x"),
        ("four", "a", b"2", "x"),
        ("five", "a", b"1", "y"),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(content)
        digests.add(fingerprint(described, tmp_path / folder, [str(tmp_path / folder / name)]))
    assert len(digests) == 4
