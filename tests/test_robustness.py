"""Damage to faces: the same every time, worse with severity, and of the strength that is written down."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from fer_hf.errors import BadInputError
from fer_hf.evaluation.robustness import CORRUPTIONS, SEVERITIES, corrupt, robustness, robustness_text


@pytest.fixture
def face(drawn_faces):
    return drawn_faces["test"][0]["image"].convert("L")


def distance(image, other):
    return np.abs(np.asarray(image, dtype=float) - np.asarray(other, dtype=float)).mean()


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_damage_grows_with_severity_and_repeats_itself(kind, face):
    damage = [distance(corrupt(face, kind, severity), face) for severity in SEVERITIES]
    assert damage[0] > 0
    assert damage == sorted(damage)
    assert damage == [distance(corrupt(face, kind, severity), face) for severity in SEVERITIES]


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_faces_keep_their_size_and_gray_ones_stay_gray(kind, mode, face):
    image = face.resize((40, 52)).convert(mode)
    before = image.tobytes()
    damaged = corrupt(image, kind, 3)
    assert damaged.size == (40, 52)
    assert damaged.mode == ("L" if mode == "L" else "RGB")
    assert image.tobytes() == before


def test_strengths_are_those_of_the_table(face):
    gray = Image.new("L", (200, 200), 100)
    assert np.unique(corrupt(gray, "low_light", 2)).tolist() == [60]
    assert np.unique(corrupt(gray, "low_light", 5)).tolist() == [20]
    noise = np.asarray(corrupt(gray, "noise", 1), dtype=float)
    assert noise.mean() == pytest.approx(100, abs=0.5)
    assert noise.std() == pytest.approx(255 * 0.04, rel=0.02)
    # One pixel at 32, two at 64: the same share of the face.
    for side in (32, 64):
        image = face.resize((side, side))
        expected = image.filter(ImageFilter.GaussianBlur(side / 32))
        assert corrupt(image, "blur", 5).tobytes() == expected.tobytes()
    turned = {corrupt(face, "rotation", 3, row).tobytes() for row in range(20)}
    assert turned == {face.rotate(angle, resample=Image.Resampling.BILINEAR).tobytes() for angle in (-20, 20)}


def test_noise_differs_from_face_to_face_and_from_seed_to_seed(face):
    seen = {corrupt(face, "noise", 1, row, seed).tobytes() for row in (0, 1) for seed in (0, 1)}
    assert len(seen) == 4


@pytest.mark.parametrize(("kind", "severity"), [("fog", 1), ("blur", 0), ("blur", 6)])
def test_unknown_damage_is_refused(kind, severity, face):
    with pytest.raises(BadInputError, match="must be one of blur, noise, low_light, rotation, jpeg"):
        corrupt(face, kind, severity)


def test_the_table_holds_what_the_damaged_faces_scored(face):
    def score(change, what):
        kind, severity = what.split()
        assert change(face, 4).tobytes() == corrupt(face, kind, int(severity), 4).tobytes()
        return {"accuracy": 0.5 if kind == "blur" else 1 - int(severity) / 10}

    result = robustness(score, {"accuracy": 0.9})
    assert result["clean"] == 0.9
    assert [row["accuracy"] for row in result["corruptions"]["jpeg"]] == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5])
    assert [row["strength"] for row in result["corruptions"]["jpeg"]] == [80, 65, 58, 50, 40]
    assert result["mean_accuracy"] == pytest.approx((0.5 + 4 * 0.7) / 5)
    lines = robustness_text(result).splitlines()
    assert lines[1].split() == ["blur", *["0.500"] * 5]
    assert len(lines) == 7
