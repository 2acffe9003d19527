"""Draws gray faces from action units: crisp features here, on the curves of a rig, and soft light from elsewhere."""

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw

from fer_hf.data.drawing_light import develop, light_on
from fer_hf.data.drawing_rig import (
    CIRCLE,
    LID,
    NOSE_BUMP,
    TRAITS,
    UNIT_NAMES,
    Pose,
    ellipse,
    landmarks_of,
    rig_of,
    through,
)


# Part of the fingerprint of every drawn data set: raise it with any change that moves a pixel or a landmark.
DRAWING_VERSION = 2

# How wide a stroke is along its points, by their number: it thins to both ends.
_TAPERS = {count: 1.0 - 0.8 * np.linspace(-1.0, 1.0, count) ** 2 for count in (9, 17)}


class _Canvas:
    """Shapes in face units, in the order of drawing. They are worked out together: one at a time is slow in numpy."""

    def __init__(self):
        self.shapes, self.tones, self.bumps, self.strokes = [], [], [], []

    def fill(self, points: np.ndarray, tone: float, bump: float = 0.0):
        self.shapes.append(points)
        self.tones.append(int(tone * 255))
        self.bumps.append(bump)

    def stroke(self, points: np.ndarray, tone: float, width: float | np.ndarray, bump: float = 0.0):
        """A strip along `points`, as wide as `width` (one number, thinning to both ends, or one for each point)."""
        self.strokes.append((len(self.shapes), width * _TAPERS[len(points)] if isinstance(width, float) else width))
        self.fill(points, tone, bump)

    def _widen(self):
        lines = [self.shapes[index] for index, _ in self.strokes]
        ends = np.cumsum([len(line) for line in lines])
        points, half = np.concatenate(lines), 0.5 * np.concatenate([width for _, width in self.strokes])
        before, after = np.arange(len(points)) - 1, np.arange(len(points)) + 1
        after[ends - 1] -= 1
        before[np.concatenate([[0], ends[:-1]])] += 1
        along = points[after] - points[before]
        across = along[:, ::-1] * (-1.0, 1.0) * (half / np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-6))[:, None]
        one, other = points + across, points - across
        for (index, _), end, line in zip(self.strokes, ends.tolist(), lines, strict=True):
            start = end - len(line)
            self.shapes[index] = np.concatenate([one[start:end], other[start:end][::-1]])

    def paint(self, image: Image.Image, pose: Pose):
        """Draws the shapes in turn, without antialiasing: shrinking an enlarged picture is what smooths the edges."""
        if self.strokes:
            self._widen()
        lengths = [len(points) for points in self.shapes]
        corners = pose.project(np.concatenate(self.shapes), np.repeat(self.bumps, lengths)) * image.width
        pen, corners, start = ImageDraw.Draw(image), corners.ravel().tolist(), 0
        for length, tone in zip(lengths, self.tones, strict=True):
            pen.polygon(corners[start : start + 2 * length], fill=tone)
            start += 2 * length


def _hair_tone(t: dict) -> float:
    # Most hair is darker than its skin; some is white or fair.
    return 0.05 + 0.6 * t["skin"] * t["hair"] ** 1.7 + (0.25 if t["hair"] > 0.93 else 0.0)


def _white(t: dict) -> float:
    # Eyes and teeth of a dark face, which the camera exposes longer, would glare.
    return t["sclera"] * (0.3 + 0.7 * min(1.0, t["skin"] / 0.8))


def _draw_behind(canvas: _Canvas, t: dict, rig: dict):
    """Long hair, neck, shoulders and ears, all of them behind the head."""
    hair, chin = _hair_tone(t), rig["head"][36, 1]
    width = t["width"]
    if t["style"] > 0.68:
        wide, long = width * t["hair_volume"] + 0.12, 0.6 + 0.9 * t["hair_side"]
        crown = -t["crown"] * t["hair_volume"] - 0.03
        top = ellipse(0.0, -0.1, wide, -crown - 0.1)[12:]
        canvas.fill(np.concatenate([top, [(wide + 0.03, long), (-wide - 0.03, long)]]), 0.8 * hair)
    neck = np.array([(-0.42, 0.6), (0.42, 0.6), (0.45, 2.2), (-0.45, 2.2)])
    canvas.fill(neck, 0.62 * t["skin"])
    canvas.fill(
        np.array(
            [(-0.4, chin + 0.22), (0.4, chin + 0.22), (1.6, chin + 0.5), (1.6, 3), (-1.6, 3), (-1.6, chin + 0.5)]
        ),
        t["cloth"],
    )
    for side in (-1, 1):
        canvas.fill(ellipse(side * (width + 0.01), 0.12, 0.09, 0.19), 0.82 * t["skin"])


def _wrinkles(t: dict, au: dict, rig: dict) -> list[tuple]:
    """The lines that action units fold into the skin: three points to go through, depth in [0, 1], width."""
    aged, lines = 0.6 + 0.4 * t["age"], []
    wide, sag = 0.2 + 0.22 * au[2], 0.03 * au[2]
    for number in range(3):  # across the forehead
        y = t["brow_y"] - 0.16 - 0.11 * number - 0.06 * au[1]
        depth = aged * au[1] * (0.5 + 0.5 * au[2]) * 0.8
        lines.append(((-wide, y + sag), (0.0, y), (wide, y + sag), depth, 0.022))
    for side in (-1, 1):
        x = side * (0.05 + 0.02 * t["age"])
        top, low = t["brow_y"] - 0.09 + 0.03 * au[4], t["brow_y"] + 0.09
        lines.append(((x, top), (x * 0.8, 0.5 * (top + low)), (x * 1.1, low), 0.95 * aged * au[4], 0.034))
        for y in (0.06, 0.145):  # beside the bridge of the nose
            ends = (side * 0.02, y + 0.02), (side * 0.08, y + 0.01), (side * 0.15, y + 0.06)
            lines.append((*ends, 1.2 * aged * au[9], 0.028))
        x = side * (t["eye_gap"] + t["eye_width"] + 0.04)
        for way in (-1, 0, 1):  # crow's feet
            ends = (x, 0.02 + 0.02 * way), (x + side * 0.06, 0.03 + 0.05 * way), (x + side * 0.11, 0.04 + 0.09 * way)
            lines.append((*ends, 0.8 * aged * au[6], 0.016))
        # The fold from the nose's wing past the corner of the mouth.
        x, y = rig["mouth"]["upper_inner"][0 if side < 0 else 16].tolist()
        wing = (side * (rig["nose_width"] + 0.025), rig["wing_y"] - 0.02)
        out = (0.5 * (wing[0] + x) + side * (0.05 + 0.03 * au[12]), 0.5 * (wing[1] + y) - 0.03)
        depth = 0.12 * t["age"] + 0.5 * au[12] + 0.75 * au[9] + 0.15 * au[15]
        lines.append((wing, out, (x + side * 0.06, y - 0.02), depth, 0.028))
    return lines


def _draw_skin(canvas: _Canvas, t: dict, au: dict, rig: dict):
    canvas.fill(rig["head"], t["skin"])
    for *points, depth, width in _wrinkles(t, au, rig):
        if depth > 0.04:
            canvas.stroke(through(*points), t["skin"] * (1.0 - 0.5 * min(depth, 1.0)), width)


def _draw_eye(canvas: _Canvas, t: dict, au: dict, rig: dict, side: int):
    upper, lower = rig["eye", side]
    skin = t["skin"]
    # The fold above the lid is what the lid leaves free when it opens: it narrows as the eye widens.
    fold = upper.copy()
    fold[:, 1] -= (0.045 - 0.02 * au[5] + 0.01 * au[1]) * (0.4 + 0.6 * LID)
    canvas.stroke(fold, 0.78 * skin, 0.022)
    canvas.fill(np.concatenate([upper, lower[::-1]]), _white(t))
    iris = ellipse(side * t["eye_gap"] + t["gaze_x"], t["gaze_y"] - 0.012, t["iris"], t["iris"])
    lids = np.argsort(upper[:, 0])
    top = np.interp(iris[:, 0], upper[lids, 0], upper[lids, 1])
    bottom = np.interp(iris[:, 0], lower[lids, 0], lower[lids, 1])
    iris[:, 1] = np.clip(iris[:, 1], top, bottom)
    canvas.fill(iris, t["iris_tone"] * 0.7)
    pupil = ellipse(side * t["eye_gap"] + t["gaze_x"], t["gaze_y"] - 0.012, 0.45 * t["iris"], 0.45 * t["iris"])
    pupil[:, 1] = np.clip(pupil[:, 1], np.interp(pupil[:, 0], upper[lids, 0], upper[lids, 1]), bottom.max())
    canvas.fill(pupil, 0.04)
    if upper[8, 1] < -0.05:
        canvas.fill(ellipse(side * t["eye_gap"] + t["gaze_x"] + 0.025, t["gaze_y"] - 0.035, 0.018, 0.018), 0.95)
    canvas.stroke(upper, 0.22 * skin, 0.045)
    canvas.stroke(lower, (0.62 - 0.12 * max(au[6], au[7], au[9])) * skin, 0.022)
    if max(au[6], au[7], au[9]) > 0.15:  # a tight lower lid bags
        bag = lower.copy()
        bag[:, 1] += 0.05 * (0.5 + 0.5 * LID)
        canvas.stroke(bag, (1.0 - 0.25 * max(au[6], au[7], au[9])) * skin, 0.025)


def _draw_brow(canvas: _Canvas, t: dict, rig: dict, side: int):
    tone = min(_hair_tone(t), t["brow_tone"] * (0.3 + t["skin"]))
    canvas.stroke(rig["brow", side], tone, t["brow_thick"] * np.array([0.7, 1, 1.1, 1.1, 1.05, 0.95, 0.8, 0.55, 0.25]))


def _draw_nose(canvas: _Canvas, t: dict, au: dict, rig: dict):
    skin, y, wing_y, width = t["skin"], rig["nose_y"], rig["wing_y"], rig["nose_width"]
    for side in (-1, 1):
        canvas.fill(ellipse(side * 0.5 * width, y + 0.025 - 0.02 * au[9], 0.035, 0.02), 0.35 * skin, 0.6 * NOSE_BUMP)
        arc = through(
            (side * 0.82 * width, wing_y - 0.06), (side * 1.08 * width, wing_y), (side * 0.8 * width, wing_y + 0.05)
        )
        canvas.stroke(arc, (0.68 - 0.2 * au[9]) * skin, 0.024, 0.4 * NOSE_BUMP)
    under = through((-0.5 * width, y + 0.03), (0.0, y + 0.06), (0.5 * width, y + 0.03))
    canvas.stroke(under, 0.72 * skin, 0.03, 0.7 * NOSE_BUMP)


def _draw_mouth(canvas: _Canvas, t: dict, au: dict, rig: dict):
    mouth, skin = rig["mouth"], t["skin"]
    upper, lower = mouth["upper_inner"], mouth["lower_inner"]
    lips = skin * t["lip_tone"]
    gap = lower[8, 1] - upper[8, 1]
    canvas.fill(np.concatenate([mouth["upper_outer"], upper[::-1]]), 0.88 * lips)
    canvas.fill(np.concatenate([lower, mouth["lower_outer"][::-1]]), lips)
    if gap > 0.02:
        canvas.fill(np.concatenate([upper, lower[::-1]]), 0.1 * skin + 0.03)
        # Teeth hang from the upper lip as far as it has been lifted; the lower row shows when the lower lip is down.
        shown = 0.09 * max(au[12], 0.95 * au[9], 0.8 * au[20]) + 0.03 * au[26]
        teeth = upper.copy()
        teeth[:, 1] = np.minimum(upper[:, 1] + shown, lower[:, 1])
        if shown > 0.02:
            canvas.fill(np.concatenate([upper[2:-2], teeth[-3:1:-1]]), 1.05 * _white(t))
        row = lower.copy()
        row[:, 1] = np.maximum(lower[:, 1] - 0.07 * max(au[16], 0.7 * au[20]), teeth[:, 1] + 0.012)
        if max(au[16], au[20]) > 0.15:
            canvas.fill(np.concatenate([row[3:-3], np.maximum(lower, row)[-4:2:-1]]), 0.9 * _white(t))
    else:
        canvas.stroke(0.5 * (upper + lower), (0.34 - 0.14 * au[23]) * skin, 0.03 + 0.015 * au[23])
    for index in (0, 16):  # the shadow in the corners of the mouth
        canvas.fill(ellipse(upper[index, 0], upper[index, 1] + 0.005, 0.03, 0.022), 0.45 * skin)


def _draw_hair(canvas: _Canvas, t: dict, rig: dict, jags: np.ndarray):
    """Hair in front of the forehead; `jags` `(12,)` in [0, 1) makes its lower edge uneven."""
    style, hair, line = t["style"], _hair_tone(t), t["hair_line"]
    if style < 0.12:
        return
    grow = t["hair_volume"]
    outline = rig["head"][:25] * (grow, grow) + (0.0, -0.01)
    width = t["width"] * grow
    side_y = -0.05 if style < 0.68 else 0.35 * t["hair_side"] + 0.1
    x = np.linspace(0.9, -0.9, 12)
    if style < 0.45:  # combed back
        edge = line + 0.35 * np.abs(x) ** 3 + 0.04 * jags
    elif style < 0.68 or style > 0.88:  # fringe
        edge = -0.5 - 0.08 * t["hair_part"] - 0.12 * jags + 0.08 * np.abs(x)
    else:  # parted
        edge = line - 0.1 + 0.75 * np.abs(x - t["hair_part"] * 0.6) ** 1.3 + 0.04 * jags
        edge = np.minimum(edge, 0.0)
    inner = np.stack([x * t["width"], edge], axis=1)
    right, left = (width * 0.99, side_y), (-width * 0.99, side_y)
    temple = 0.94 * t["width"]
    canvas.fill(np.concatenate([outline, [right, (temple, side_y)], inner, [(-temple, side_y), left]]), hair)
    for start, bend in zip(x[1:-1:2], jags[1::2], strict=False):  # strands
        strand = through((start * 0.3, -0.95 * t["crown"]), (start * 0.55, -0.8), (start * 0.75, -0.62 - 0.1 * bend))
        canvas.stroke(strand, min(1.0, hair * (0.7 + 0.9 * bend) + 0.05 * bend), 0.04)


def _draw_glasses(canvas: _Canvas, t: dict):
    if t["glasses"] < 0.83:
        return
    power = 2.0 / t["glasses_shape"]
    frame = np.sign(CIRCLE) * np.abs(CIRCLE) ** power
    frame = np.concatenate([frame, frame[:2]])
    for side in (-1, 1):
        rim = frame * (0.255, 0.205) + (side * (t["eye_gap"] + 0.0), 0.03)
        canvas.stroke(rim, t["glasses_tone"], np.full(len(rim), 0.032), 0.1)
        temple = np.array([(side * (t["eye_gap"] + 0.255), -0.02), (side * t["width"], -0.04)])
        canvas.stroke(temple, t["glasses_tone"], np.full(2, 0.032), 0.05)
    inner = t["eye_gap"] - 0.255
    canvas.stroke(through((-inner, 0.0), (0.0, -0.03), (inner, 0.0)), t["glasses_tone"], np.full(9, 0.032), 0.15)


def _features(t: dict, au: dict, rig: dict, jags: np.ndarray) -> _Canvas:
    """All shapes of a face, from the back to the front."""
    canvas = _Canvas()
    _draw_behind(canvas, t, rig)
    _draw_skin(canvas, t, au, rig)
    _draw_nose(canvas, t, au, rig)
    _draw_hair(canvas, t, rig, jags)
    for side in (-1, 1):
        _draw_eye(canvas, t, au, rig, side)
        _draw_brow(canvas, t, rig, side)
    _draw_mouth(canvas, t, au, rig)
    _draw_glasses(canvas, t)
    return canvas


def draw_face(
    rng: np.random.Generator, units: Mapping[int, float], image_size: int = 48
) -> tuple[np.ndarray, np.ndarray]:
    """
    Draws one gray face whose expression lives in its action units alone: head, hair, beard, glasses, pose, light and
    camera come from `rng`, which gives the same numbers whatever the units are.

    Args:
        rng (`np.random.Generator`):
            Decides everything but the expression.
        units (`Mapping[int, float]`):
            Intensity in [0, 1] of each action unit, numbered as in the Facial Action Coding System (Ekman and Friesen,
            1978) and named in [`~fer_hf.data.drawing_rig.UNIT_NAMES`]; those left out are at rest, those not drawn
            raise `KeyError`.
        image_size (`int`, *optional*, defaults to 48):
            Side of the square picture in pixels.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: The face, `(image_size, image_size)` of `uint8`, and its landmarks,
        `(24, 2)` of `float32` in the order of [`~fer_hf.data.drawing_rig.LANDMARKS`]: x and y from the upper left
        corner, in [0, 1].
    """
    au = dict.fromkeys(UNIT_NAMES, 0.0)
    for number, intensity in units.items():
        if number not in au:
            raise KeyError(f"action unit {number!r} is not drawn; those drawn are {sorted(au)}")
        au[number] = min(max(float(intensity), 0.0), 1.0)
    uniform = rng.random(len(TRAITS)).tolist()
    t = {name: low + (high - low) * u for (name, (low, high)), u in zip(TRAITS.items(), uniform, strict=True)}
    jags, backdrop = rng.random(12), rng.random((3, 3))
    grain = rng.standard_normal((image_size, image_size), dtype=np.float32)
    pose = Pose(t)
    rig = rig_of(t, au)

    enlarge = 4 if image_size < 96 else 2
    backdrop = Image.fromarray((40 + 180 * backdrop).astype(np.uint8))
    picture = backdrop.resize((enlarge * image_size, enlarge * image_size), Image.Resampling.BILINEAR)
    _features(t, au, rig, jags).paint(picture, pose)

    # What lies off the face gets a third of its light and shadow.
    share = _Canvas()
    share.fill(rig["head"], 1.0)
    mask = Image.new("L", (image_size, image_size), 80)
    share.paint(mask, pose)
    flat = np.asarray(picture.reduce(enlarge), dtype=np.float32) / 255.0
    light = light_on(t, au, rig, pose, image_size) - 1.0
    face = flat * (1.0 + np.asarray(mask, dtype=np.float32) / 255.0 * light)
    return develop(face, t, grain), landmarks_of(rig, pose)
