"""Boxes, landmarks and expressions drawn onto a photo."""

from collections.abc import Sequence

from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from fer_hf.plots.style import BLUE


# A smaller picture is enlarged: no label could be read beside a face of 48 pixels.
SMALLEST_SIDE = 240


def draw_faces(image: Image.Image, faces: Sequence[dict]) -> Image.Image:
    """
    A copy of a photo with a box around every face, and what the face says above it.

    Lines and letters grow with the photo. Labels stay inside of it and, as far as there is room, off each other.

    Args:
        image (`PIL.Image.Image`):
            The photo, in any mode.
        faces (`Sequence[dict]`):
            Each with `box` (`{"xmin", "ymin", "xmax", "ymax"}` in pixels of the photo, maybe beyond its edges),
            `expression`, `score` in [0, 1], `landmarks`, a list of `[x, y]` or `None`, and maybe a number `face`.

    Returns:
        `PIL.Image.Image`: In RGB; of the photo's size, or the smallest whole multiple of it with
        [`SMALLEST_SIDE`] pixels or more on its shorter side.
    """
    scale = max(1, -(-SMALLEST_SIDE // min(image.size)))
    drawn = image.convert("RGB").resize((image.width * scale, image.height * scale), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(drawn)
    width = max(2, round(min(drawn.size) / 250))
    boxes = [[scale * face["box"][edge] for edge in ("xmin", "ymin", "xmax", "ymax")] for face in faces]
    for face, box in zip(faces, boxes, strict=True):
        # White on both sides of the line: it is seen on dark and on blue ground.
        draw.rectangle([box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1], outline="white", width=width + 2)
        draw.rectangle(box, outline=BLUE, width=width)
        radius = min(width + 1, max(1, (box[2] - box[0]) / 25))
        for x, y in face["landmarks"] or ():
            draw.circle((scale * x, scale * y), radius, fill=BLUE, outline="white")
    labels = []
    for face, box in zip(faces, boxes, strict=True):
        number = f"{face['face']}: " if "face" in face else ""
        text = f"{number}{face['expression']} {face['score']:.0%}"
        labels.append(_draw_label(draw, drawn.size, text, box, labels, boxes))
    return drawn


def _draw_label(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], text: str, box: list, labels: list[tuple], boxes: list[list]
) -> tuple:
    """Write a label where it hides least, of other labels above all and then of faces; return the place it takes."""
    letters = max(14, round(min(min(size) / 32, (box[2] - box[0]) / 4)))  # in a crowd as small as its faces
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), letters)
    longest = size[0] - letters
    if draw.textlength(text, font) > longest:
        font = ImageFont.truetype(font.path, max(6, int(letters * longest / draw.textlength(text, font))))
    pad = font.size // 4
    width, height = round(draw.textlength(text, font)) + 2 * pad, round(font.size * 1.2) + pad
    columns = (box[0], box[2] - width)
    rows = (box[1] - height, box[3], box[1], box[3] - height)  # above, below, and inside at the top and the bottom
    beside = [(x, y) for x in (box[2], box[0] - width) for y in (box[1], box[3] - height)]
    places = []
    for x, y in [(x, y) for y in rows[:2] for x in columns] + beside + [(x, y) for y in rows[2:] for x in columns]:
        left, top = (
            min(max(0, round(at)), max(0, room)) for at, room in ((x, size[0] - width), (y, size[1] - height))
        )
        places.append((left, top, left + width, top + height))
    place = min(places, key=lambda p: (sum(_shared(p, q) for q in labels), sum(_shared(p, q) for q in boxes)))
    draw.rectangle([*place[:2], place[2] - 1, place[3] - 1], fill=BLUE)
    middle = ((place[0] + place[2]) / 2, (place[1] + place[3]) / 2)
    draw.text(middle, text, fill="white", font=font, anchor="mm")
    return place


def _shared(one: Sequence[float], other: Sequence[float]) -> float:
    """Area that two rectangles have in common."""
    width, height = (min(one[i + 2], other[i + 2]) - max(one[i], other[i]) for i in (0, 1))
    return max(0, width) * max(0, height)
