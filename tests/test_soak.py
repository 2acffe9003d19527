"""Hours of photos in small: nothing is lost, and memory does not grow with their number."""

import json
import os
import shutil
import statistics
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_hf.errors import BadInputError
from fer_hf.inference.detectors import whole_image
from fer_hf.inference.predict import Places, find_entries, load_pipeline, predict_to


# By hand: 20000. A few hundred are over before memory has settled.
NUM_PHOTOS = int(os.environ.get("FER_HF_SOAK", 1000))


def make_photos(folder: Path, count: int) -> int:
    """So many photos of mixed kinds and sizes, one in a hundred cut off; how many those are."""
    random, kinds = np.random.default_rng(0), folder.parent / "kinds"
    kinds.mkdir()
    forms = [
        ("RGB", "jpg"),
        ("L", "png"),
        ("RGBA", "png"),
        ("P", "gif"),
        ("RGB", "bmp"),
        ("CMYK", "jpg"),
        ("L", "tiff"),
    ]
    for number in range(40):
        mode, suffix = forms[number % len(forms)]
        sides = random.integers(16, 1200, 2)
        noise = random.integers(0, 256, (*np.maximum(sides // 16, 1), 3), dtype=np.uint8)
        picture = Image.fromarray(noise).resize(tuple(map(int, sides)), Image.Resampling.BILINEAR).convert(mode)
        picture.save(kinds / f"{number:02}.{suffix}")
    files = sorted(kinds.iterdir())
    for number in range(count):
        source, below = files[number % len(files)], folder / f"{number // 500:03}"
        below.mkdir(parents=True, exist_ok=True)
        copy = below / f"{number:06}{source.suffix}"
        if number % 100 == 99:
            copy.write_bytes(source.read_bytes()[:60])
        else:
            shutil.copy(source, copy)
    return count // 100


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_many_photos_need_no_more_memory_than_few(classifier_folder, tmp_path, capsys):
    broken = make_photos(tmp_path / "photos", NUM_PHOTOS)
    held = []

    def find(image):
        held.append(resident())
        return whole_image(image)

    entries, _ = find_entries([tmp_path / "photos"])
    output = tmp_path / "faces.jsonl"
    with pytest.raises(BadInputError, match=f"{broken:,} of {NUM_PHOTOS:,} photos could not be read"):
        predict_to(load_pipeline(classifier_folder, detector=find), entries, Places(output), disable_tqdm=True)
    with open(output, encoding="utf-8") as file:
        named = [json.loads(line)["image"] for line in file]
    assert len(named) == len(set(named)) == NUM_PHOTOS - broken == len(held)
    assert capsys.readouterr().err.count("unreadable: ") == broken
    tenth = len(held) // 10
    first, last = statistics.median(held[:tenth]), statistics.median(held[-tenth:])
    with capsys.disabled():
        print(f"\n{NUM_PHOTOS:,} photos: {first / 1e6:.0f} MB in the first tenth, {last / 1e6:.0f} MB in the last")
    assert last < 1.05 * first
