import io
import json
from itertools import chain, pairwise

import datasets
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from fer_hf.data.drawing import draw_face
from fer_hf.data.drawing_rig import LANDMARKS, UNIT_NAMES
from fer_hf.data.synthetic import ACTION_UNITS, sample_units, source
from fer_hf.errors import DataError
from fer_hf.labels import EXPRESSIONS


def drawn(split="train", start=0, stop=None, **options):
    """The rows of a split, or of a part of it."""
    data = source(**{"train": 14, "validation": 14, "test": 14, **options})
    rows = chain.from_iterable(table.to_pylist() for shard in data.shards[split] for table in data.read(shard))
    return list(rows)[start:stop]


def pixels(row):
    return np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))


def point(name, units, seed=0, size=48):
    """Where the landmark `name` of one and the same person lies under these action units, as `(x, y)`."""
    return draw_face(np.random.default_rng(seed), units, size)[1][LANDMARKS.index(name)]


def full(expression):
    return dict.fromkeys(ACTION_UNITS[expression], 1.0)


def test_every_expression_has_its_action_units():
    assert tuple(ACTION_UNITS) == EXPRESSIONS
    assert ACTION_UNITS["fear"] == (1, 2, 4, 5, 7, 20, 26)
    assert ACTION_UNITS["neutral"] == ()


def test_the_same_seed_draws_the_same_bytes_and_another_seed_draws_others():
    assert drawn() == drawn()
    ours, others = drawn(), drawn(seed=1)
    assert all(one["image"] != other["image"] for one, other in zip(ours, others, strict=True))
    assert source().fingerprint == source().fingerprint
    changed = [source(seed=1), source(train=7), source(image_size=64), source(imbalance="fer2013")]
    changed += [source(landmarks=True), source()]
    assert len({data.fingerprint for data in changed}) == len(changed)


@pytest.mark.parametrize("imbalance", ["none", "fer2013"])
def test_a_longer_split_starts_with_the_faces_of_a_shorter_one(imbalance):
    assert drawn(train=30, imbalance=imbalance)[:10] == drawn(train=10, imbalance=imbalance)


def test_no_two_faces_of_any_split_have_the_same_pixels():
    faces = [pixels(row).tobytes() for split in ("train", "validation", "test") for row in drawn(split)]
    assert len(set(faces)) == 42


def test_rows_count_up_and_pictures_are_gray_png_files_of_the_asked_size():
    rows = drawn(train=3, image_size=64)
    assert [row["row"] for row in rows] == [0, 1, 2]
    image = Image.open(io.BytesIO(rows[0]["image"]["bytes"]))
    assert (image.format, image.mode, image.size) == ("PNG", "L", (64, 64))
    assert np.asarray(image).std() > 5


def labels_of(data, split):
    from fer_hf.data.synthetic import _labels

    return [
        label
        for part, start, stop, options in data.shards[split]
        for label in _labels(part, start, stop, options["seed"], options["imbalance"])
    ]


def test_a_balanced_split_holds_equally_many_faces_of_each_expression_in_mixed_order():
    labels = labels_of(source(), "train")
    assert np.bincount(labels).tolist() == [400] * 7
    assert labels[:7] != labels[7:14]
    uneven = np.bincount(labels_of(source(test=100), "test"))
    assert sorted(uneven.tolist()) == [14] * 5 + [15] * 2


@pytest.mark.parametrize("count", [70, 700, 2800, 28707])
def test_the_shares_of_fer2013_are_kept_within_rounding(count):
    counts = np.bincount(labels_of(source(train=count, imbalance="fer2013"), "train"), minlength=7)
    shares = np.array([3995, 436, 4097, 7215, 4830, 3171, 4965]) / 28709
    assert np.abs(counts - shares * count).max() < 1.0


def test_two_shards_joined_equal_one_shard():
    read, options = source().read, source(landmarks=True).shards["train"][0][3]
    whole = pa.concat_tables(read(("train", 0, 12, options)))
    parts = pa.concat_tables([*read(("train", 0, 5, options)), *read(("train", 5, 12, options))])
    assert whole.equals(parts.combine_chunks())


def test_a_large_split_has_several_shards_that_cover_it_once():
    spans = [(start, stop) for _, start, stop, _ in source(train=2800).shards["train"]]
    assert len(spans) > 1
    assert (spans[0][0], spans[-1][1]) == (0, 2800)
    assert all(one[1] == other[0] for one, other in pairwise(spans))
    json.dumps(source().shards)  # plain values, so that workers can be handed them


@pytest.mark.parametrize("landmarks", [False, True])
def test_tables_have_the_columns_that_the_features_promise(landmarks):
    data = source(train=3, landmarks=landmarks)
    (table,) = data.read(data.shards["train"][0])
    assert datasets.Features.from_arrow_schema(table.cast(data.features.arrow_schema).schema) == data.features
    assert table.schema.names == list(data.features)
    if landmarks:
        assert len(table["landmarks"][0]) == 2 * len(LANDMARKS) == 48


def test_the_landmarks_column_changes_nothing_else():
    with_landmarks = drawn(landmarks=True)
    assert [{key: row[key] for key in ("image", "label", "row")} for row in with_landmarks] == drawn()


def test_the_action_units_column_tells_what_was_drawn_and_changes_no_face():
    rows = drawn(train=70, action_units=True)
    assert [row["image"] for row in rows] == [row["image"] for row in drawn(train=70)]
    units = np.array([row["action_units"] for row in rows])
    assert units.shape == (70, len(UNIT_NAMES))
    assert units.min() >= 0.0
    assert units.max() <= 1.0
    labels = np.array([row["label"] for row in rows])
    smile = list(UNIT_NAMES).index(12)
    happy, neutral = (units[labels == EXPRESSIONS.index(name), smile].mean() for name in ("happy", "neutral"))
    assert happy > neutral + 0.3


@pytest.mark.parametrize("seed", range(3))
def test_each_expression_moves_the_features_that_its_action_units_name(seed):
    def moved(name, expression, axis=1):
        return point(name, full(expression), seed)[axis] - point(name, {}, seed)[axis]

    for side in ("left", "right"):
        assert moved(f"{side}_mouth_corner", "happy") < -0.02  # up is less y
        assert moved(f"{side}_mouth_corner", "sad") > 0.02
        assert moved(f"{side}_brow_inner", "angry") > 0.03
        assert moved(f"{side}_brow_inner", "sad") < -0.03
        assert moved(f"{side}_brow_inner", "fear") < -0.03
        assert moved(f"{side}_brow_outer", "surprise") < -0.03
        assert moved(f"{side}_upper_lid", "fear") < -0.01
        assert moved(f"{side}_nose_wing", "disgust") < -0.01
    assert moved("upper_lip_outer", "disgust") < -0.02
    assert moved("lower_lip_outer", "disgust") > 0.01
    assert moved("chin", "surprise") > 0.04
    assert moved("lower_lip_inner", "surprise") - moved("upper_lip_inner", "surprise") > 0.08
    # Fear stretches the mouth that surprise rounds, and draws the brows together.
    assert moved("right_mouth_corner", "fear", 0) > 0.01 > moved("right_mouth_corner", "surprise", 0)
    assert moved("right_brow_inner", "fear", 0) - moved("left_brow_inner", "fear", 0) < -0.01
    assert moved("right_brow_inner", "surprise", 0) == pytest.approx(moved("left_brow_inner", "surprise", 0), abs=0.01)


def test_a_stronger_action_unit_moves_its_feature_further():
    heights = [point("left_mouth_corner", {12: strength})[1] for strength in (0.0, 0.3, 0.6, 1.0)]
    assert heights == sorted(heights, reverse=True)


def test_action_units_change_the_face_and_leave_the_rest_of_the_picture():
    calm, _ = draw_face(np.random.default_rng(3), {})
    smiling, points = draw_face(np.random.default_rng(3), {12: 1.0})
    corners = points[[LANDMARKS.index("left_mouth_corner"), LANDMARKS.index("right_mouth_corner")]] * 48
    changed = np.abs(calm.astype(int) - smiling) > 20
    rows, columns = np.nonzero(changed)
    assert len(rows) > 20
    assert changed[: int(corners[:, 1].min()) - 24].sum() == 0  # above the eyes
    assert columns.min() > corners[:, 0].min() - 8
    assert columns.max() < corners[:, 0].max() + 8


def test_landmarks_lie_inside_the_picture_whatever_the_expression():
    for seed in range(20):
        for expression in ("fear", "surprise", "happy", "angry"):
            _, points = draw_face(np.random.default_rng(seed), full(expression))
            assert points.shape == (len(LANDMARKS), 2)
            assert points.dtype == np.float32
            assert points.min() > 0.0
            assert points.max() < 1.0


def test_landmarks_lie_where_the_picture_has_the_feature():
    # An open mouth is dark between the inner lips, under the teeth; the iris is darker than the chin.
    for seed in range(10):
        face, points = draw_face(np.random.default_rng(seed), full("surprise"), 96)
        places = dict(zip(LANDMARKS, points * 96, strict=True))
        inside = 0.35 * places["upper_lip_inner"] + 0.65 * places["lower_lip_inner"]
        cheek = 0.5 * (places["left_mouth_corner"] + places["left_eye_outer"])
        cheeks = 0.5 * (places["right_mouth_corner"] + places["right_eye_outer"])
        eye = 0.5 * (places["left_eye_inner"] + places["left_eye_outer"])
        tones = [face[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3].mean() for x, y in (inside, cheek, cheeks)]
        assert tones[0] < 0.7 * min(tones[1:])
        x, y = eye.astype(int)
        assert face[y - 4 : y + 5, x - 6 : x + 7].min() < 0.6 * max(tones[1:])


def test_a_face_keeps_its_landmarks_at_another_size():
    small, large = (draw_face(np.random.default_rng(1), {6: 1.0, 12: 1.0}, size) for size in (48, 224))
    np.testing.assert_array_equal(small[1], large[1])
    shrunk = np.asarray(Image.fromarray(large[0]).resize((48, 48), Image.Resampling.BOX), dtype=float)
    assert np.corrcoef(shrunk.ravel(), small[0].ravel())[0, 1] > 0.9


def test_an_action_unit_that_is_not_drawn_is_refused():
    with pytest.raises(KeyError, match="action unit 45"):
        draw_face(np.random.default_rng(0), {45: 1.0})


def test_one_face_in_eight_is_weak_or_ambiguous():
    rng = np.random.default_rng(0)
    smiles = [sample_units(rng, "happy") for _ in range(2000)]
    assert all(0.0 <= value <= 1.0 for units in smiles for value in units.values())
    weak = np.mean([units[12] < 0.25 for units in smiles])
    mixed = np.mean([len(units) > 4 for units in smiles])
    assert 0.02 < weak < 0.08
    assert 0.03 < mixed < 0.08


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data_dir": "faces"}, "`data_dir` must be left out"),
        ({"train": 0}, "`train` must be a whole number from 1"),
        ({"test": 2.5}, "`test` must be a whole number"),
        ({"validation": True}, "`validation` must be a whole number"),
        ({"image_size": 31}, "`image_size` must be a whole number from 32 to 512, got 31"),
        ({"image_size": 513}, "`image_size` must be a whole number from 32 to 512, got 513"),
        ({"seed": -1}, "`seed` must be a whole number from 0"),
        ({"imbalance": "raf"}, "`imbalance` must be one of .*, got 'raf'"),
        ({"landmarks": "yes"}, "`landmarks` must be true or false"),
    ],
)
def test_a_bad_option_is_named_in_one_line(options, message):
    with pytest.raises(DataError, match=message) as caught:
        source(**options)
    assert "\n" not in str(caught.value)
