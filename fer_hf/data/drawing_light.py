"""Light on a drawn face and what a camera makes of it: soft relief and beards from numpy, blur from Pillow."""

import numpy as np
from PIL import Image, ImageFilter

from fer_hf.data.drawing_rig import NOSE_BUMP, Pose


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


def _relief(t: dict, au: dict, rig: dict, pose: Pose, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Light on the face, 1 on a flat front, at the points `x`, `y`: Lambert's law on a sum of bumps and dents."""
    bumps = []  # x, y, spread along, spread across, angle, height, height above the front

    def bump(x, y, along, across, angle, height, above=0.0):
        bumps.append((x, y, along, across, angle, height, above))

    nose = t["nose_relief"]
    bump(0.0, 0.2, 0.055, 0.2, 0.0, 0.6 * nose, 0.1)
    bump(0.0, rig["nose_y"] - 0.03, 0.08, 0.07, 0.0, nose, NOSE_BUMP)
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


def _beard(t: dict, rig: dict, pose: Pose, x: np.ndarray, y: np.ndarray) -> np.ndarray | float:
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


def light_on(t: dict, au: dict, rig: dict, pose: Pose, side: int) -> np.ndarray:
    x, y = pose.grid(min(side, 128))  # light is soft: finer pictures enlarge it
    light = _relief(t, au, rig, pose, x, y) * _beard(t, rig, pose, x, y)
    return light if side <= 128 else np.asarray(Image.fromarray(light).resize((side, side), Image.Resampling.BICUBIC))


def develop(picture: np.ndarray, t: dict, grain: np.ndarray) -> np.ndarray:
    """What the camera does to a picture of floats in [0, 1]: exposure, blur, noise."""
    size = len(picture)
    # A camera exposes a dark face longer, though not so long that all faces come out alike.
    gain = t["gain"] * (0.75 / t["skin"]) ** 0.5
    picture = t["lift"] + (1.0 - t["lift"]) * np.clip(picture * gain, 0.0, 1.0) ** t["gamma"]
    image = Image.fromarray((picture * 255.0).astype(np.uint8))
    # Blur and noise are those of the picture the face was cropped from, some 48 pixels wide.
    image = image.filter(ImageFilter.GaussianBlur(t["blur"] * size / 48.0))
    return np.clip(np.asarray(image, dtype=np.float32) + t["noise"] * grain, 0.0, 255.0).astype(np.uint8)
