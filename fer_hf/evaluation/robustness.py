"""Robustness: accuracy on damaged images, over five kinds of damage, each in five severities."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from fer_hf.data.images import open_image
from fer_hf.errors import BadInputError


# By kind, from mild to severe. Blur, noise and JPEG have the strengths of CIFAR-10-C, whose images are about as small
# as FER-2013's (Hendrycks and Dietterich, 2019, https://huggingface.co/papers/1903.12261; `make_cifar_c.py` in
# https://github.com/hendrycks/robustness); the others are ours. Blur is a share of the face's shorter side, so that
# it hides the same at 48 and at 224 pixels.
CORRUPTIONS = {
    "blur": (0.4 / 32, 0.6 / 32, 0.7 / 32, 0.8 / 32, 1 / 32),  # standard deviation of the Gaussian, share of the side
    "noise": (0.04, 0.06, 0.08, 0.09, 0.10),  # standard deviation, of gray levels in [0, 1]
    "low_light": (0.8, 0.6, 0.45, 0.3, 0.2),  # factor on gray levels, which are then rounded
    "rotation": (5, 10, 20, 30, 45),  # degrees, either way
    "jpeg": (80, 65, 58, 50, 40),  # quality
}
SEVERITIES = (1, 2, 3, 4, 5)


def corrupt(image: Image.Image, kind: str, severity: int, row: int = 0, seed: int = 0) -> Image.Image:
    """
    Damage an image as a bad camera would. The result is always the same: noise and the direction of a rotation depend
    on (seed, row) alone, so that an image has the same noise at every severity, only more or less of it.

    Args:
        image (`PIL.Image.Image`): In any mode.
        kind (`str`): One of [`CORRUPTIONS`].
        severity (`int`): 1 to 5.
        row (`int`, defaults to 0): Its row in the table.
        seed (`int`, defaults to 0): Any integer from 0.

    Returns:
        `PIL.Image.Image`: Of the same size; gray if `image` is gray, else RGB.

    Raises:
        BadInputError: If there is no such kind or severity.
    """
    if kind not in CORRUPTIONS or severity not in SEVERITIES:
        raise BadInputError(
            f"`kind` must be one of {', '.join(CORRUPTIONS)} and `severity` 1 to 5, got {kind!r} and {severity!r}."
        )
    image = image if image.mode == "L" else image.convert("RGB")
    rng = np.random.default_rng([seed, row])
    return _CORRUPT[kind](image, CORRUPTIONS[kind][severity - 1], rng)


def _blur(image: Image.Image, share: float, rng: np.random.Generator) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(share * min(image.size)))


def _noise(image: Image.Image, deviation: float, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image)
    noisy = pixels + 255 * deviation * rng.standard_normal(pixels.shape)
    return Image.fromarray(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))


def _low_light(image: Image.Image, factor: float, rng: np.random.Generator) -> Image.Image:
    return image.point([round(factor * level) for level in range(256)] * len(image.getbands()))


def _rotation(image: Image.Image, degrees: float, rng: np.random.Generator) -> Image.Image:
    return image.rotate(degrees * rng.choice((-1, 1)), resample=Image.Resampling.BILINEAR)


def _jpeg(image: Image.Image, quality: int, rng: np.random.Generator) -> Image.Image:
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=quality)
    return open_image(file.getvalue(), "the compressed face", min_side=1).convert(image.mode)


_CORRUPT = {"blur": _blur, "noise": _noise, "low_light": _low_light, "rotation": _rotation, "jpeg": _jpeg}


def robustness(score: Callable[[Callable, str], dict], clean: dict, seed: int = 0) -> dict:
    """
    Scores over every kind and severity of [`CORRUPTIONS`].

    Args:
        score (`Callable`):
            Takes a change, as [`~fer_hf.evaluation.scoring.score_faces`] does, and a description of it; returns the
            scores of the changed images, with `accuracy`.
        clean (`dict`): The scores of the images as they are.
        seed (`int`, defaults to 0): Any integer from 0.

    Returns:
        `dict`: `seed`; `clean`, the accuracy on the images as they are; `mean_accuracy` over all 25; and
        `corruptions`, for every kind five rows with `severity`, `strength` and the scores.
    """
    table = {}
    for kind, strengths in CORRUPTIONS.items():
        table[kind] = []
        for severity, strength in zip(SEVERITIES, strengths, strict=True):

            def change(image: Image.Image, row: int, kind=kind, severity=severity) -> Image.Image:
                return corrupt(image, kind, severity, row, seed)

            scores = score(change, f"{kind} {severity}")
            table[kind].append({"severity": severity, "strength": strength, **scores})
    accuracies = [row["accuracy"] for rows in table.values() for row in rows]
    return {
        "seed": seed,
        "clean": clean["accuracy"],
        "mean_accuracy": float(np.mean(accuracies)),
        "corruptions": table,
    }


def robustness_text(result: dict) -> str:
    """The accuracies of [`robustness`] as a table for the terminal."""
    lines = [f"{'accuracy at severity':<22}" + "".join(f"{severity:>8}" for severity in SEVERITIES)]
    for kind, rows in result["corruptions"].items():
        lines.append(f"{kind:<22}" + "".join(f"{row['accuracy']:>8.3f}" for row in rows))
    lines.append(f"undamaged {result['clean']:.3f}, mean over all damage {result['mean_accuracy']:.3f}")
    return "\n".join(lines)
