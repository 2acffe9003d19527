import numpy as np
import pytest

from fer_hf.data import DataError
from fer_hf.data.splits import carve


def make_labels(counts=(50, 20, 30), seed=0):
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))


def test_every_face_stands_in_one_part_and_positions_are_sorted():
    kept, carved = carve(make_labels(), 0.2, 0)
    assert kept.dtype == carved.dtype == np.int64
    assert np.all(np.diff(kept) > 0)
    assert np.all(np.diff(carved) > 0)
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, carved])), np.arange(100))


def test_both_parts_hold_the_classes_in_the_same_proportions():
    labels = make_labels()
    kept, carved = carve(labels, 0.2, 0)
    assert np.bincount(labels[kept]).tolist() == [40, 16, 24]
    assert np.bincount(labels[carved]).tolist() == [10, 4, 6]


def test_the_number_taken_out_is_rounded_up():
    # 0.2 x 28,709 = 5,741.8: the 22,967 and 5,742 that are known from 80/20 splits of FER-2013's Training faces.
    labels = make_labels((3995, 436, 4097, 7215, 4830, 3171, 4965))
    kept, carved = carve(labels, 0.2, 42)
    assert (len(kept), len(carved)) == (22_967, 5_742)


def test_the_same_seed_gives_the_same_faces_and_another_seed_others():
    labels = make_labels()
    first, again, other = (carve(labels, 0.3, seed)[1].tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_the_rows_of_a_seed_never_change():
    # Worked out once: if this changes, so does every split that was ever reported.
    assert carve(np.arange(20) % 2, 0.25, 42)[1].tolist() == [6, 8, 9, 14, 15]


@pytest.mark.parametrize("fraction", [0, 1, 0.0, 1.0, -0.1, 1.5, float("nan"), "0.2", None, True])
def test_a_share_that_is_none_is_refused(fraction):
    with pytest.raises(DataError, match="between 0 and 1, got"):
        carve(make_labels(), fraction, 0)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, None, True])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(DataError, match="whole number from 0 to 4294967295, got"):
        carve(make_labels(), 0.2, seed)


@pytest.mark.parametrize(("counts", "fraction"), [((9, 1), 0.5), ((9, 9, 9), 0.05), ((), 0.5)])
def test_classes_too_small_to_stand_in_both_parts_are_refused(counts, fraction):
    with pytest.raises(DataError, match="so that every class is in both parts; faces by class id"):
        carve(make_labels(counts), fraction, 0)


def test_what_is_left_out_stays_and_the_others_are_divided_as_if_there_were_nothing_else():
    labels = make_labels()
    rows = np.flatnonzero(labels != 1)
    kept, carved = carve(labels, 0.2, 42, left_out=[1])
    np.testing.assert_array_equal(carved, rows[carve(labels[rows], 0.2, 42)[1]])
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, carved])), np.arange(100))
