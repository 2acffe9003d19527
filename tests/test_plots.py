import numpy as np
import pytest
from PIL import Image

from fer_hf.evaluation.plots import BLUE, draw_faces


def found(box, expression="happy", score=0.5, landmarks=None):
    """A face as the pipeline tells of it."""
    edges = dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return {"box": edges, "expression": expression, "score": score, "landmarks": landmarks}


def blue(image):
    """Where a picture has the colour of boxes and labels."""
    return (np.asarray(image) == [int(BLUE[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=-1)


def test_a_box_is_drawn_on_its_edges_and_leaves_the_face_as_it_is():
    photo = Image.new("RGB", (600, 500), "gray")
    drawn = draw_faces(photo, [found((200, 200, 400, 400), landmarks=[[250, 260], [350, 260]])])
    assert drawn.size == photo.size
    assert blue(drawn)[200, 200:401].all()
    assert blue(drawn)[200:401, 400].all()
    assert blue(drawn)[260, 250] and blue(drawn)[260, 350]  # noqa: PT018
    assert np.array_equal(np.asarray(drawn)[280:390, 210:390], np.asarray(photo)[280:390, 210:390])
    assert blue(drawn)[170:199, 200:260].sum() > 500  # the label, above
    assert not blue(photo).any()


def test_a_small_face_is_enlarged_until_its_label_can_be_read():
    drawn = draw_faces(Image.new("L", (48, 60)), [found((0, 0, 48, 60))])
    assert drawn.size == (240, 300)
    assert drawn.mode == "RGB"


@pytest.mark.parametrize("box", [(-20, -20, 90, 90), (250, 250, 400, 400), (0, 0, 300, 300)])
def test_a_label_stays_inside_of_the_photo(box):
    photo = Image.new("RGB", (300, 300), "black")
    with_label = blue(draw_faces(photo, [found(box, "surprise", 1.0)])).sum()
    without = blue(draw_faces(photo, [found(box, "", 1.0)])).sum()
    assert with_label - without > 500


def test_labels_of_neighbours_do_not_hide_each_other():
    photo = Image.new("RGB", (900, 600), "black")
    boxes = [(300, 300, 360, 360), (340, 300, 400, 360), (380, 300, 440, 360)]
    alone = [blue(draw_faces(photo, [found(box, "neutral")])).sum() for box in boxes]
    frames = [blue(draw_faces(photo, [found(box, "")])).sum() for box in boxes]
    labels = sum(alone) - sum(frames)
    together = blue(draw_faces(photo, [found(box, "neutral") for box in boxes])).sum()
    assert together > 0.9 * (labels + blue(draw_faces(photo, [found(box, "") for box in boxes])).sum())


def test_no_face_leaves_the_photo_as_it_is():
    photo = Image.new("RGB", (300, 300), "teal")
    assert np.array_equal(np.asarray(draw_faces(photo, [])), np.asarray(photo))
