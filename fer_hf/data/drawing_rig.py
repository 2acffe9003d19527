"""The rig of a drawn face: its traits, its pose, and the curves that action units move; two-dimensional."""

import numpy as np


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
TRAITS = {
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
NOSE_BUMP = 0.22  # of the tip, above the front of the face
_T = np.linspace(-1.0, 1.0, 17)  # along a lid or a lip
_ROUND = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
CIRCLE = np.stack([np.cos(_ROUND), np.sin(_ROUND)], axis=1)  # (24, 2)
_S = np.linspace(0.0, 1.0, 9)  # along a stroke
# A parabola through three points, met at the start, the middle and the end of the stroke.
_THROUGH_THREE = np.stack([(1 - _S) * (1 - 2 * _S), 4 * _S * (1 - _S), _S * (2 * _S - 1)], axis=1)  # (9, 3)
LID = 1.0 - np.abs(_T) ** 2.3
_LIP_X = np.sin(_T * np.pi / 2)
_LIP_OPEN = np.cos(_T * np.pi / 2)


class Pose:
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


def through(start: tuple, middle: tuple, end: tuple) -> np.ndarray:
    """A smooth stroke `(9, 2)` through three points."""
    return _THROUGH_THREE @ np.array([start, middle, end], dtype=float)


def ellipse(x: float, y: float, radius_x: float, radius_y: float) -> np.ndarray:
    return CIRCLE * (radius_x, radius_y) + (x, y)


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
    return through((side * (0.14 - together), inner), (side * (0.34 - 0.5 * together), middle), (side * 0.57, outer))


def _eye(t: dict, au: dict, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Upper and lower lid, each `(17, 2)` from the inner to the outer corner."""
    sad = min(au[1], au[4]) * (1.0 - au[5])
    up = t["lid_up"] + 0.065 * au[5] - 0.02 * au[7] - 0.02 * au[6] - 0.03 * au[9] - 0.03 * sad
    low = t["lid_low"] - 0.03 * au[7] - 0.045 * au[6] - 0.04 * au[9] + 0.012 * au[5] + 0.015 * au[26] * au[5]
    lean = 0.3 * au[4] * (1.0 - au[1]) - 0.45 * au[1] * (1.0 - au[2]) - 0.15 * au[1] * au[4]
    x = side * (t["eye_gap"] + _T * t["eye_width"])
    tilt = -t["eye_tilt"] * t["eye_width"] * _T
    upper = tilt - max(up, 0.016) * LID * (1.0 + lean * _T)
    lower = np.maximum(tilt + low * LID, upper + 0.012 * LID)
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


def rig_of(t: dict, au: dict) -> dict:
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


def landmarks_of(rig: dict, pose: Pose) -> np.ndarray:
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
    bumps[14:17] = np.array([1.0, 0.5, 0.5]) * NOSE_BUMP
    return pose.project(np.array(points + nose + lips), bumps).astype(np.float32)
