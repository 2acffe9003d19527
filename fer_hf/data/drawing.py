"""Draws gray faces from action units: a two-dimensional rig, crisp features from Pillow, soft relief from numpy."""

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFilter


# Part of the fingerprint of every drawn data set: raise it with any change that moves a pixel or a landmark.
DRAWING_VERSION = 2

# The action units that `draw_face` knows, numbered as in the Facial Action Coding System (Ekman and Friesen, 1978).
UNIT_NAMES = {
    1: "inner brow raiser",
    2: "outer brow raiser",
    4: "brow lowerer",
    5: "upper lid raiser",
    6: "cheek raiser",
    7: "lid tightener",
    9: "nose wrinkler",
    12: "lip corner puller",
    15: "lip corner depressor",
    16: "lower lip depressor",
    20: "lip stretcher",
    23: "lip tightener",
    26: "jaw drop",
}

# Order of the landmarks that `draw_face` returns. Left and right are sides of the picture, not of the person.
LANDMARKS = (
    *(f"{side}_brow_{part}" for side in ("left", "right") for part in ("inner", "middle", "outer")),
    *(f"{side}_{part}" for side in ("left", "right") for part in ("eye_inner", "upper_lid", "eye_outer", "lower_lid")),
    *("nose_tip", "left_nose_wing", "right_nose_wing"),
    *("left_mouth_corner", "right_mouth_corner"),
    *("upper_lip_outer", "upper_lip_inner", "lower_lip_inner", "lower_lip_outer", "chin"),
)

# What makes two faces differ when their action units do not. All are drawn uniformly, before and without regard to
# the units. Lengths are in face units: the eyes lie at y = 0, some 0.34 from the midline, y points down, and the chin
# of an average face is at 1.12. Tones are shares of white; rates are thresholds for one uniform draw.
_TRAITS = {
    # Head and features.
    "width": (0.66, 0.79), "jaw": (1.05, 1.18), "jaw_power": (1.9, 2.7), "jaw_taper": (0.0, 0.3), "crown": (1.0, 1.2),
    "eye_gap": (0.31, 0.365), "eye_width": (0.165, 0.2), "lid_up": (0.07, 0.105), "lid_low": (0.042, 0.06),
    "eye_tilt": (-0.08, 0.16), "iris": (0.07, 0.084), "gaze_x": (-0.03, 0.03), "gaze_y": (-0.015, 0.015),
    "brow_y": (-0.265, -0.205), "brow_arch": (0.02, 0.07), "brow_drop": (-0.02, 0.05), "brow_thick": (0.035, 0.075),
    "nose_y": (0.40, 0.48), "nose_width": (0.11, 0.165), "nose_relief": (0.10, 0.17), "mouth_y": (0.68, 0.75),
    "mouth_width": (0.25, 0.31), "lip_up": (0.03, 0.07), "lip_low": (0.05, 0.095), "mouth_bend": (-0.012, 0.016),
    "age": (0.0, 1.0), "asymmetry_up": (-0.14, 0.14), "asymmetry_low": (-0.14, 0.14), "toothy": (0.0, 1.0),
    # Tones.
    "skin": (0.32, 0.86), "hair": (0.0, 1.0), "brow_tone": (0.25, 0.6), "iris_tone": (0.1, 0.4),
    "lip_tone": (0.6, 0.85), "sclera": (0.72, 0.92), "cloth": (0.05, 0.9),
    # Hair, beard, glasses.
    "style": (0.0, 1.0), "hair_line": (-0.78, -0.58), "hair_part": (-0.5, 0.5), "hair_side": (0.0, 1.0),
    "hair_volume": (1.03, 1.16), "beard": (0.0, 1.0), "beard_depth": (0.2, 0.55), "glasses": (0.0, 1.0),
    "glasses_shape": (2.0, 5.0), "glasses_tone": (0.02, 0.3),
    # Camera.
    "yaw": (-0.38, 0.38), "pitch": (-0.16, 0.16), "roll": (-0.2, 0.2), "scale": (0.46, 0.545),
    "shift_x": (-0.03, 0.03), "eyes_at": (0.33, 0.39), "light_x": (-0.75, 0.75), "light_y": (-0.7, 0.25),
    "light_depth": (0.35, 0.8), "gain": (0.8, 1.15), "gamma": (0.8, 1.25), "lift": (0.0, 0.08), "blur": (0.0, 0.8),
    "noise": (0.4, 6.0),
}  # fmt: skip

_MAX_JAW_DROP = 0.16
_NOSE_BUMP = 0.22  # of the tip, above the front of the face
_T = np.linspace(-1.0, 1.0, 17)  # along a lid or a lip
_ROUND = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
_CIRCLE = np.stack([np.cos(_ROUND), np.sin(_ROUND)], axis=1)  # (24, 2)
_S = np.linspace(0.0, 1.0, 9)  # along a stroke
# A parabola through three points, met at the start, the middle and the end of the stroke.
_THROUGH_THREE = np.stack([(1 - _S) * (1 - 2 * _S), 4 * _S * (1 - _S), _S * (2 * _S - 1)], axis=1)  # (9, 3)
_TAPERS = {count: 1.0 - 0.8 * np.linspace(-1.0, 1.0, count) ** 2 for count in (len(_S), len(_T))}
_LID = 1.0 - np.abs(_T) ** 2.3
_LIP_X = np.sin(_T * np.pi / 2)
_LIP_OPEN = np.cos(_T * np.pi / 2)


class _Pose:
    """Where points of the face land in the picture: a turn in depth (yaw, pitch), then roll, scale and shift."""

    def __init__(self, traits: dict[str, float]):
        self.sin_yaw, self.cos_yaw = np.sin(traits["yaw"]), np.cos(traits["yaw"])
        self.sin_pitch, self.cos_pitch = np.sin(traits["pitch"]), np.cos(traits["pitch"])
        roll = traits["roll"]
        self.rotation = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
        # The highest brows and the lowest chin that action units can give this face stay in the picture. The bounds
        # are its traits' alone, so that the crop tells nothing of its expression.
        brow = traits["brow_y"] - traits["brow_arch"] - 0.21
        reach = np.array(
            [(0.0, traits["jaw"] + _MAX_JAW_DROP), (-0.34, brow), (0.34, brow), (-0.57, brow), (0.57, brow)]
        )
        reach = (self.turn(reach) @ self.rotation)[:, 1]
        self.scale = min(traits["scale"], 0.97 / (reach.max() - reach.min()))
        highest, lowest = 0.015 - reach.min() * self.scale, 0.985 - reach.max() * self.scale
        eyes_at = min(max(traits["eyes_at"], highest), lowest)
        # Half of what the roll does to the middle of the face is undone, as a face detector's crop would.
        middle = np.array([[0.0, 0.4]]) @ self.rotation * self.scale
        self.shift = np.array([0.5 + traits["shift_x"] - middle[0, 0], eyes_at])

    def turn(self, points: np.ndarray, bump: float | np.ndarray = 0.0) -> np.ndarray:
        """Yaw and pitch of points `(n, 2)` on a curved front; `bump` is their height above it."""
        x, y = points[:, 0], points[:, 1]
        depth = 0.3 + bump - 0.83 * x**2 - 0.13 * (y - 0.1) ** 2
        return np.stack([x * self.cos_yaw + depth * self.sin_yaw, y * self.cos_pitch + depth * self.sin_pitch], axis=1)

    def project(self, points: np.ndarray, bump: float | np.ndarray = 0.0) -> np.ndarray:
        """Face units `(n, 2)` to image coordinates `(n, 2)`, in [0, 1] inside the picture."""
        return self.turn(points, bump) @ self.rotation * self.scale + self.shift

    def grid(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """The turned face units, each `(side, side)`, that the pixels of a square picture lie on."""
        x, y = (((np.arange(side) + 0.5) / side)[:, None] - self.shift).T / self.scale
        (a, b), (c, d) = self.rotation
        return (x * a + y[:, None] * b).astype(np.float32), (x * c + y[:, None] * d).astype(np.float32)


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

    def paint(self, image: Image.Image, pose: _Pose):
        """Draws the shapes in turn, without antialiasing: shrinking an enlarged picture is what smooths the edges."""
        if self.strokes:
            self._widen()
        lengths = [len(points) for points in self.shapes]
        corners = pose.project(np.concatenate(self.shapes), np.repeat(self.bumps, lengths)) * image.width
        pen, corners, start = ImageDraw.Draw(image), corners.ravel().tolist(), 0
        for length, tone in zip(lengths, self.tones, strict=True):
            pen.polygon(corners[start : start + 2 * length], fill=tone)
            start += 2 * length


def _through(start: tuple, middle: tuple, end: tuple) -> np.ndarray:
    """A smooth stroke `(9, 2)` through three points."""
    return _THROUGH_THREE @ np.array([start, middle, end], dtype=float)


def _ellipse(x: float, y: float, radius_x: float, radius_y: float) -> np.ndarray:
    return _CIRCLE * (radius_x, radius_y) + (x, y)


def _head(t: dict, au: dict, grow: float = 1.0) -> np.ndarray:
    """The outline `(48, 2)` of the head, clockwise from the left temple over the crown; the chin is point 36."""
    angle = np.linspace(0.0, 2.0 * np.pi, 48, endpoint=False)
    x, y = -np.cos(angle), -np.sin(angle)
    below = y > 0
    power = 2.0 / t["jaw_power"]
    drop = _MAX_JAW_DROP * au[26]
    jaw_x = (
        np.sign(x) * np.abs(x) ** power * (1.0 - t["jaw_taper"] * np.abs(y) ** 1.5) * (1.0 - 0.05 * au[26] * np.abs(y))
    )
    cheeks = 1.0 + 0.03 * au[12] * np.exp(-(((y - 0.5) / 0.3) ** 2))
    x = np.where(below, jaw_x * cheeks, x) * t["width"] * grow
    y = np.where(below, np.abs(y) ** power * (t["jaw"] + drop), y * t["crown"] * grow)
    return np.stack([x, y], axis=1)


def _brow(t: dict, au: dict, side: int) -> np.ndarray:
    """The middle line `(9, 2)` of a brow from its inner to its outer end; `side` is -1 left, 1 right."""
    # The inner raiser wins over the lowerer, which then only draws the brows together: the brow of fear and sadness.
    lowered = au[4] * (1.0 - 0.85 * au[1])
    inner = t["brow_y"] - 0.17 * au[1] + 0.13 * lowered + 0.06 * au[9]
    middle = t["brow_y"] - t["brow_arch"] - 0.07 * au[1] - 0.14 * au[2] + 0.1 * lowered + 0.05 * au[9]
    outer = t["brow_y"] + t["brow_drop"] - 0.13 * au[2] + 0.02 * au[4] + 0.03 * au[1] * (1.0 - au[2])
    # Raised and drawn together, a brow goes straight; raised alone, it arches.
    middle += 0.05 * au[1] * au[4]
    together = 0.055 * au[4] + 0.02 * au[9]
    return _through((side * (0.14 - together), inner), (side * (0.34 - 0.5 * together), middle), (side * 0.57, outer))


def _eye(t: dict, au: dict, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Upper and lower lid, each `(17, 2)` from the inner to the outer corner."""
    sad = min(au[1], au[4]) * (1.0 - au[5])
    up = t["lid_up"] + 0.065 * au[5] - 0.02 * au[7] - 0.02 * au[6] - 0.03 * au[9] - 0.03 * sad
    low = t["lid_low"] - 0.03 * au[7] - 0.045 * au[6] - 0.04 * au[9] + 0.012 * au[5] + 0.015 * au[26] * au[5]
    lean = 0.3 * au[4] * (1.0 - au[1]) - 0.45 * au[1] * (1.0 - au[2]) - 0.15 * au[1] * au[4]
    x = side * (t["eye_gap"] + _T * t["eye_width"])
    tilt = -t["eye_tilt"] * t["eye_width"] * _T
    upper = tilt - max(up, 0.016) * _LID * (1.0 + lean * _T)
    lower = np.maximum(tilt + low * _LID, upper + 0.012 * _LID)
    return np.stack([x, upper], axis=1), np.stack([x, lower], axis=1)


def _mouth(t: dict, au: dict, left: dict, right: dict) -> dict[str, np.ndarray]:
    """The four curves of the lips, each `(17, 2)` from the left to the right corner."""
    half, corner = [], []
    for one in (left, right):
        pull = (
            0.1 * one[12]
            + 0.11 * one[20]
            - 0.03 * one[23]
            + 0.02 * one[15]
            - 0.075 * one[26] * (1.0 - one[20]) * (1.0 - one[12])
        )
        half.append(t["mouth_width"] + pull)
        corner.append(-0.14 * one[12] + 0.12 * one[15] + 0.03 * one[20] + 0.07 * one[26] - t["mouth_bend"])
    x = _LIP_X * np.where(_T < 0, half[0], half[1])
    middle = t["mouth_y"] + 0.02 * au[12] - 0.03 * au[9] - 0.02 * au[15]
    bend = np.where(_T < 0, corner[0], corner[1]) * np.abs(_LIP_X) ** 1.8
    # A stretched mouth opens as a slot, a dropped jaw alone as an oval.
    opening = _LIP_OPEN ** (1.0 - 0.5 * max(au[20], 0.7 * au[16]))
    smile = max(0.0, au[12] - 0.35) * (0.3 + t["toothy"]) * 0.16
    rise = 0.07 * au[9] + 0.35 * smile + 0.03 * au[26] + 0.025 * au[20] * au[26]
    fall = 0.27 * au[26] + 0.085 * au[16] + 0.65 * smile + 0.02 * au[20]
    # However many units pull at it, the lower lip does not reach the chin.
    fall = min(fall, t["jaw"] + _MAX_JAW_DROP * au[26] - 0.06 - t["lip_low"] - middle)
    thin = (1.0 - 0.65 * au[23]) * (1.0 - 0.25 * au[12]) * (1.0 - 0.25 * au[20])
    upper_inner = middle + bend - rise * opening
    lower_inner = middle + bend + fall * opening
    bow = _LIP_OPEN**0.7 * (1.0 - 0.25 * np.exp(-((_T / 0.14) ** 2)))
    upper_outer = upper_inner - t["lip_up"] * thin * (1.0 - 0.2 * au[9]) * bow
    lower_outer = lower_inner + t["lip_low"] * thin * _LIP_OPEN**0.8
    curves = {
        "upper_outer": upper_outer, "upper_inner": upper_inner, "lower_inner": lower_inner, "lower_outer": lower_outer
    }  # fmt: skip
    return {name: np.stack([x, y], axis=1) for name, y in curves.items()}


def _rig(t: dict, au: dict) -> dict:
    """All curves of the face in face units, from traits and action units."""
    rig = {"head": _head(t, au)}
    sides = {}
    for side in (-1, 1):
        up, low = 1.0 + side * t["asymmetry_up"], 1.0 + side * t["asymmetry_low"]
        sides[side] = {number: min(1.0, value * (up if number < 8 else low)) for number, value in au.items()}
        rig["brow", side] = _brow(t, sides[side], side)
        rig["eye", side] = _eye(t, sides[side], side)
    rig["mouth"] = _mouth(t, au, sides[-1], sides[1])
    rig["nose_y"] = t["nose_y"] - 0.035 * au[9] + 0.01 * au[26]
    rig["wing_y"] = rig["nose_y"] - 0.045 * au[9] - 0.015 * au[12]
    rig["nose_width"] = t["nose_width"] * (1.0 + 0.16 * au[9] + 0.1 * au[12])
    return rig


def _landmarks(rig: dict, pose: _Pose) -> np.ndarray:
    points = []
    for side in (-1, 1):
        points += [rig["brow", side][index] for index in (0, 4, 8)]
    for side in (-1, 1):
        upper, lower = rig["eye", side]
        points += [upper[0], upper[8], upper[16], lower[8]]
    mouth = rig["mouth"]
    lips = [mouth["upper_inner"][0], mouth["upper_inner"][16]]
    lips += [mouth[name][8] for name in ("upper_outer", "upper_inner", "lower_inner", "lower_outer")]
    lips.append(rig["head"][36])
    nose = [(0.0, rig["nose_y"])] + [(side * rig["nose_width"], rig["wing_y"]) for side in (-1, 1)]
    bumps = np.zeros(len(LANDMARKS))
    bumps[14:17] = np.array([1.0, 0.5, 0.5]) * _NOSE_BUMP
    return pose.project(np.array(points + nose + lips), bumps).astype(np.float32)


def _bells(spots: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Gaussian bells `(spots, pixels)` of height 1; a spot is its middle x and y, spread along and across, angle."""
    cx, cy, along, across, angle = spots.T
    cos, sin, along, across = np.cos(angle), np.sin(angle), 0.5 / along**2, 0.5 / across**2
    xx, yy, xy = cos**2 * along + sin**2 * across, sin**2 * along + cos**2 * across, 2 * cos * sin * (along - across)
    # Multiplied out, the squares of all spots at all pixels are one product of matrices.
    rest = xx * cx**2 + yy * cy**2 + xy * cx * cy
    factors = np.stack([xx, yy, xy, -2 * xx * cx - xy * cy, -2 * yy * cy - xy * cx, rest], axis=1).astype(np.float32)
    x, y = x.ravel(), y.ravel()
    squares = factors @ np.stack([x * x, y * y, x * y, x, y, np.ones_like(x)])
    return np.exp(np.negative(squares, out=squares), out=squares)


def _relief(t: dict, au: dict, rig: dict, pose: _Pose, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Light on the face, 1 on a flat front, at the points `x`, `y`: Lambert's law on a sum of bumps and dents."""
    bumps = []  # x, y, spread along, spread across, angle, height, height above the front

    def bump(x, y, along, across, angle, height, above=0.0):
        bumps.append((x, y, along, across, angle, height, above))

    nose = t["nose_relief"]
    bump(0.0, 0.2, 0.055, 0.2, 0.0, 0.6 * nose, 0.1)
    bump(0.0, rig["nose_y"] - 0.03, 0.08, 0.07, 0.0, nose, _NOSE_BUMP)
    smile = max(au[6], 0.7 * au[12])
    mouth = rig["mouth"]
    for sign in (-1, 1):
        bump(sign * rig["nose_width"] * 0.8, rig["wing_y"], 0.045, 0.045, 0.0, 0.35 * nose, 0.1)
        bump(sign * t["eye_gap"], 0.0, 0.17, 0.11, 0.0, -0.075)
        bump(sign * t["eye_gap"], t["brow_y"] - 0.03, 0.2, 0.06, 0.0, 0.03)
        bump(sign * 0.43, 0.33 - 0.08 * smile, 0.16, 0.13, 0.0, 0.04 + 0.07 * smile)
        corner = mouth["upper_inner"][0 if sign < 0 else 16]
        fold = 0.006 + 0.012 * t["age"] + 0.05 * max(au[12], 0.9 * au[9], 0.5 * au[20])
        middle = (0.5 * (sign * rig["nose_width"] + corner[0]) + sign * 0.07, 0.5 * (rig["wing_y"] + corner[1]) - 0.02)
        angle = np.arctan2(corner[1] - rig["wing_y"], corner[0] + sign * 0.06 - sign * rig["nose_width"])
        bump(*middle, 0.13, 0.028, angle, -fold)
        bump(corner[0] + sign * 0.04, corner[1] + 0.01, 0.03, 0.035, 0.0, -0.02 - 0.02 * (au[12] + au[15]))
    # Brows drawn together push a fold of skin up between them.
    bump(0.0, t["brow_y"] + 0.02, 0.05, 0.08, 0.0, 0.035 * au[4] + 0.03 * au[9])
    lip = mouth["lower_outer"][8, 1]
    bump(0.0, mouth["upper_outer"][8, 1] - 0.03, 0.025, 0.05, 0.0, -0.012)
    bump(0.0, 0.5 * (mouth["upper_outer"][8, 1] + mouth["upper_inner"][8, 1]), 0.2, 0.03, 0.0, 0.015)
    bump(0.0, 0.5 * (lip + mouth["lower_inner"][8, 1]), 0.17, 0.04, 0.0, 0.025)
    bump(0.0, lip + 0.055, 0.16, 0.04, 0.0, -0.03 - 0.02 * au[15])
    bump(0.0, rig["head"][36, 1] - 0.14, 0.15, 0.09, 0.0, 0.05 + 0.02 * au[15])
    bump(0.0, -0.55, 0.35, 0.2, 0.0, 0.04)

    table = np.array(bumps)
    table[:, :2] = pose.turn(table[:, :2], table[:, 6])
    surface = (table[:, 5].astype(np.float32) @ _bells(table[:, :5], x, y)).reshape(x.shape)
    surface -= 0.42 * x**2 + 0.13 * (y - 0.15) ** 2
    slope_y, slope_x = np.gradient(surface, 1.0 / (len(x) * pose.scale))
    return _lambert(t, slope_x, slope_y)


def _lambert(t: dict, slope_x: np.ndarray, slope_y: np.ndarray) -> np.ndarray:
    light_x, light_y = t["light_x"], t["light_y"]
    length = np.sqrt(1.0 + light_x**2 + light_y**2)
    facing = (1.0 - light_x * slope_x - light_y * slope_y) / (length * np.sqrt(1.0 + slope_x**2 + slope_y**2))
    depth = t["light_depth"]
    return (1.0 - depth + depth * np.maximum(facing, 0.0) * length).clip(0.25, 1.45)


def _beard(t: dict, rig: dict, pose: _Pose, x: np.ndarray, y: np.ndarray) -> np.ndarray | float:
    """Share of light, at the points `x`, `y`, that a beard or moustache leaves; 1 on a shaven face."""
    kind = t["beard"]
    if kind < 0.72:
        return 1.0
    mouth, spots = rig["mouth"], []
    if kind < 0.9:  # moustache, lying between the nose and the lip wherever the lip goes
        middle = 0.5 * (rig["wing_y"] + mouth["upper_outer"][8, 1]) + 0.02
        spots += [(side * 0.1, middle, 0.09, 0.035, 0.0) for side in (-1, 1)]
    if kind > 0.82:  # beard, along the jaw
        spots += [(*point, 0.1, 0.11, 0.0) for point in 0.93 * rig["head"][26:47:2]]
    spots = np.array(spots)
    spots[:, :2] = pose.turn(spots[:, :2])
    return 1.0 - t["beard_depth"] * _bells(spots, x, y).sum(axis=0).clip(0.0, 1.0).reshape(x.shape)


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
        top = _ellipse(0.0, -0.1, wide, -crown - 0.1)[12:]
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
        canvas.fill(_ellipse(side * (width + 0.01), 0.12, 0.09, 0.19), 0.82 * t["skin"])


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
            canvas.stroke(_through(*points), t["skin"] * (1.0 - 0.5 * min(depth, 1.0)), width)


def _draw_eye(canvas: _Canvas, t: dict, au: dict, rig: dict, side: int):
    upper, lower = rig["eye", side]
    skin = t["skin"]
    # The fold above the lid is what the lid leaves free when it opens: it narrows as the eye widens.
    fold = upper.copy()
    fold[:, 1] -= (0.045 - 0.02 * au[5] + 0.01 * au[1]) * (0.4 + 0.6 * _LID)
    canvas.stroke(fold, 0.78 * skin, 0.022)
    canvas.fill(np.concatenate([upper, lower[::-1]]), _white(t))
    iris = _ellipse(side * t["eye_gap"] + t["gaze_x"], t["gaze_y"] - 0.012, t["iris"], t["iris"])
    lids = np.argsort(upper[:, 0])
    top = np.interp(iris[:, 0], upper[lids, 0], upper[lids, 1])
    bottom = np.interp(iris[:, 0], lower[lids, 0], lower[lids, 1])
    iris[:, 1] = np.clip(iris[:, 1], top, bottom)
    canvas.fill(iris, t["iris_tone"] * 0.7)
    pupil = _ellipse(side * t["eye_gap"] + t["gaze_x"], t["gaze_y"] - 0.012, 0.45 * t["iris"], 0.45 * t["iris"])
    pupil[:, 1] = np.clip(pupil[:, 1], np.interp(pupil[:, 0], upper[lids, 0], upper[lids, 1]), bottom.max())
    canvas.fill(pupil, 0.04)
    if upper[8, 1] < -0.05:
        canvas.fill(_ellipse(side * t["eye_gap"] + t["gaze_x"] + 0.025, t["gaze_y"] - 0.035, 0.018, 0.018), 0.95)
    canvas.stroke(upper, 0.22 * skin, 0.045)
    canvas.stroke(lower, (0.62 - 0.12 * max(au[6], au[7], au[9])) * skin, 0.022)
    if max(au[6], au[7], au[9]) > 0.15:  # a tight lower lid bags
        bag = lower.copy()
        bag[:, 1] += 0.05 * (0.5 + 0.5 * _LID)
        canvas.stroke(bag, (1.0 - 0.25 * max(au[6], au[7], au[9])) * skin, 0.025)


def _draw_brow(canvas: _Canvas, t: dict, rig: dict, side: int):
    tone = min(_hair_tone(t), t["brow_tone"] * (0.3 + t["skin"]))
    canvas.stroke(rig["brow", side], tone, t["brow_thick"] * np.array([0.7, 1, 1.1, 1.1, 1.05, 0.95, 0.8, 0.55, 0.25]))


def _draw_nose(canvas: _Canvas, t: dict, au: dict, rig: dict):
    skin, y, wing_y, width = t["skin"], rig["nose_y"], rig["wing_y"], rig["nose_width"]
    for side in (-1, 1):
        canvas.fill(_ellipse(side * 0.5 * width, y + 0.025 - 0.02 * au[9], 0.035, 0.02), 0.35 * skin, 0.6 * _NOSE_BUMP)
        arc = _through(
            (side * 0.82 * width, wing_y - 0.06), (side * 1.08 * width, wing_y), (side * 0.8 * width, wing_y + 0.05)
        )
        canvas.stroke(arc, (0.68 - 0.2 * au[9]) * skin, 0.024, 0.4 * _NOSE_BUMP)
    under = _through((-0.5 * width, y + 0.03), (0.0, y + 0.06), (0.5 * width, y + 0.03))
    canvas.stroke(under, 0.72 * skin, 0.03, 0.7 * _NOSE_BUMP)


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
        canvas.fill(_ellipse(upper[index, 0], upper[index, 1] + 0.005, 0.03, 0.022), 0.45 * skin)


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
        strand = _through((start * 0.3, -0.95 * t["crown"]), (start * 0.55, -0.8), (start * 0.75, -0.62 - 0.1 * bend))
        canvas.stroke(strand, min(1.0, hair * (0.7 + 0.9 * bend) + 0.05 * bend), 0.04)


def _draw_glasses(canvas: _Canvas, t: dict):
    if t["glasses"] < 0.83:
        return
    power = 2.0 / t["glasses_shape"]
    frame = np.sign(_CIRCLE) * np.abs(_CIRCLE) ** power
    frame = np.concatenate([frame, frame[:2]])
    for side in (-1, 1):
        rim = frame * (0.255, 0.205) + (side * (t["eye_gap"] + 0.0), 0.03)
        canvas.stroke(rim, t["glasses_tone"], np.full(len(rim), 0.032), 0.1)
        temple = np.array([(side * (t["eye_gap"] + 0.255), -0.02), (side * t["width"], -0.04)])
        canvas.stroke(temple, t["glasses_tone"], np.full(2, 0.032), 0.05)
    inner = t["eye_gap"] - 0.255
    canvas.stroke(_through((-inner, 0.0), (0.0, -0.03), (inner, 0.0)), t["glasses_tone"], np.full(9, 0.032), 0.15)


def _light(t: dict, au: dict, rig: dict, pose: _Pose, side: int) -> np.ndarray:
    x, y = pose.grid(min(side, 128))  # light is soft: finer pictures enlarge it
    light = _relief(t, au, rig, pose, x, y) * _beard(t, rig, pose, x, y)
    return light if side <= 128 else np.asarray(Image.fromarray(light).resize((side, side), Image.Resampling.BICUBIC))


def _develop(picture: np.ndarray, t: dict, grain: np.ndarray) -> np.ndarray:
    """What the camera does to a picture of floats in [0, 1]: exposure, blur, noise."""
    size = len(picture)
    # A camera exposes a dark face longer, though not so long that all faces come out alike.
    gain = t["gain"] * (0.75 / t["skin"]) ** 0.5
    picture = t["lift"] + (1.0 - t["lift"]) * np.clip(picture * gain, 0.0, 1.0) ** t["gamma"]
    image = Image.fromarray((picture * 255.0).astype(np.uint8))
    # Blur and noise are those of the picture the face was cropped from, some 48 pixels wide.
    image = image.filter(ImageFilter.GaussianBlur(t["blur"] * size / 48.0))
    return np.clip(np.asarray(image, dtype=np.float32) + t["noise"] * grain, 0.0, 255.0).astype(np.uint8)


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
            1978) and named in [`UNIT_NAMES`]; those left out are at rest, those not drawn raise `KeyError`.
        image_size (`int`, *optional*, defaults to 48):
            Side of the square picture in pixels.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: The face, `(image_size, image_size)` of `uint8`, and its landmarks,
        `(24, 2)` of `float32` in the order of [`LANDMARKS`]: x and y from the upper left corner, in [0, 1].
    """
    au = dict.fromkeys(UNIT_NAMES, 0.0)
    for number, intensity in units.items():
        if number not in au:
            raise KeyError(f"action unit {number!r} is not drawn; those drawn are {sorted(au)}")
        au[number] = min(max(float(intensity), 0.0), 1.0)
    uniform = rng.random(len(_TRAITS)).tolist()
    t = {name: low + (high - low) * u for (name, (low, high)), u in zip(_TRAITS.items(), uniform, strict=True)}
    jags, backdrop = rng.random(12), rng.random((3, 3))
    grain = rng.standard_normal((image_size, image_size), dtype=np.float32)
    pose = _Pose(t)
    rig = _rig(t, au)

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
    enlarge = 4 if image_size < 96 else 2
    backdrop = Image.fromarray((40 + 180 * backdrop).astype(np.uint8))
    picture = backdrop.resize((enlarge * image_size, enlarge * image_size), Image.Resampling.BILINEAR)
    canvas.paint(picture, pose)

    # What lies off the face gets a third of its light and shadow.
    share = _Canvas()
    share.fill(rig["head"], 1.0)
    mask = Image.new("L", (image_size, image_size), 80)
    share.paint(mask, pose)
    flat = np.asarray(picture.reduce(enlarge), dtype=np.float32) / 255.0
    light = _light(t, au, rig, pose, image_size) - 1.0
    face = flat * (1.0 + np.asarray(mask, dtype=np.float32) / 255.0 * light)
    return _develop(face, t, grain), _landmarks(rig, pose)
