"""Hours of photos in small: nothing is lost, and what was read is let go of."""

import gc
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_hf.errors import BadInputError
from fer_hf.inference.detectors import whole_image
from fer_hf.inference.predict import Places, find_entries, load_pipeline, predict_to


# By hand: 20000.
NUM_PHOTOS = int(os.environ.get("FER_HF_SOAK", 1000))
NUM_KINDS, BATCH = 40, 16


def make_photos(folder: Path, count: int, max_side: int) -> int:
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
    for number in range(NUM_KINDS):
        mode, suffix = forms[number % len(forms)]
        sides = random.integers(16, max_side, 2)
        noise = random.integers(0, 256, (*np.maximum(sides // 16, 1), 3), dtype=np.uint8)
        picture = Image.fromarray(noise).resize(tuple(map(int, sides)), Image.Resampling.BILINEAR).convert(mode)
        picture.save(kinds / f"{number:02}.{suffix}")
    files = sorted(kinds.iterdir())
    for number in range(count):
        source, below = files[number % len(files)], folder / f"{number // 500:03}"
        below.mkdir(parents=True, exist_ok=True)
        copy = below / f"{number:06}{source.suffix}"
        if number % 100 == 0:
            copy.write_bytes(source.read_bytes()[:60])
        else:
            shutil.copy(source, copy)
    return -(-count // 100)


def predicted(folder: Path, model: str, detector) -> list[str]:
    """Names of the photos below a folder in the file that `predict` leaves, some of them unreadable."""
    entries, _ = find_entries([folder])
    output = folder.parent / "faces.jsonl"
    with pytest.raises(BadInputError, match="photos could not be read"):
        predict_to(load_pipeline(model, detector=detector), entries, Places(output), None, BATCH, disable_tqdm=True)
    with open(output, encoding="utf-8") as file:
        return [json.loads(line)["image"] for line in file]


def test_nothing_of_a_photo_stays_in_memory(classifier_folder, tmp_path):
    make_photos(tmp_path / "photos", 6 * BATCH, max_side=64)
    predicted(tmp_path / "photos", classifier_folder, whole_image)  # loads what is loaded once, such as decoders
    seen, objects = 0, []

    def find(image):
        nonlocal seen
        if seen % (2 * BATCH) == 0:
            gc.collect()
            objects.append(len(gc.get_objects()))
        seen += 1
        return whole_image(image)

    predicted(tmp_path / "photos", classifier_folder, find)
    # A photo is more than one object, and so is each of its faces.
    assert len(objects) == 3
    assert objects[-1] - objects[0] < 4 * BATCH


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_many_photos_need_no_more_memory_than_few(classifier_folder, tmp_path, capsys):
    broken = make_photos(tmp_path / "photos", NUM_PHOTOS, max_side=1200)
    held, passed = [], []

    def find(image):
        held.append(resident())
        passed.append(image.nbytes)
        return whole_image(image)

    named = predicted(tmp_path / "photos", classifier_folder, find)
    assert len(named) == len(set(named)) == NUM_PHOTOS - broken == len(held)
    assert capsys.readouterr().err.count("unreadable: ") == broken
    # The first photos load decoders, and make the allocator keep room for a batch of the largest: two rounds of all
    # kinds are for that. Then memory may waver, by much less than the photos that have gone through it.
    settled, tenth = 2 * NUM_KINDS, NUM_PHOTOS // 10
    first, last = max(held[settled : settled + tenth]), max(held[-tenth:])
    with capsys.disabled():
        print(f"\n{NUM_PHOTOS:,} photos: {first / 1e6:.0f} MB in the first tenth, {last / 1e6:.0f} MB in the last")
    assert last - first < sum(passed[settled:]) / 20
