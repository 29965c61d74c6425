"""Batches with lengths, with masks and without: the valid frames are taken by hand here; words of errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from otoscope.base import BadInput
from otoscope.reduce.frames import valid_frames
from otoscope.reduce.moments import Moments

LARGEST = 1e100


def taken(batch, lengths=None, mask=None):
    arrays, counts = valid_frames(batch, lengths, mask, LARGEST)
    return {node: array.numpy() for node, array in arrays.items()}, counts


def numbered(utterances=3, frames=4, units=2):
    """Every value says where it stood."""
    return np.arange(utterances * frames * units, dtype=np.float64).reshape(utterances, frames, units)


def padded(values, lengths, filling=np.nan):
    values = values.copy()
    for utterance, length in enumerate(lengths):
        values[utterance, length:] = filling
    return values


@pytest.mark.parametrize("filling", [np.nan, np.inf, -1e300, 7.0])
@pytest.mark.parametrize("lengths", [[2, 4, 1], [0, 3, 0], [4, 4, 4], [0, 0, 0], (1, 2, 3), torch.tensor([3, 0, 2])])
def test_padding_is_left_out_whatever_it_holds(lengths, filling):
    x, y = numbered(), numbered(units=5) - 17
    counts = [int(n) for n in lengths]
    arrays, found = taken({"x": padded(x, counts, filling), "y": torch.tensor(padded(y, counts, filling))}, lengths)
    assert found == counts
    for node, values in {"x": x, "y": y}.items():
        by_hand = np.concatenate([rows[:n] for rows, n in zip(values, counts, strict=True)])
        np.testing.assert_array_equal(arrays[node], by_hand)


@pytest.mark.parametrize("form", [np.asarray, torch.as_tensor])
def test_a_mask_may_have_holes(form):
    mask = np.array([[True, False, True, True], [False, False, False, False], [False, True, False, False]])
    x = numbered()
    spoiled = np.where(mask[..., None], x, np.nan)
    arrays, counts = taken({"x": spoiled, "y": spoiled * 2}, mask=form(mask))
    assert counts == [3, 0, 1]
    np.testing.assert_array_equal(arrays["x"], [x[0, 0], x[0, 2], x[0, 3], x[2, 1]])
    np.testing.assert_array_equal(arrays["y"], arrays["x"] * 2)


def test_without_lengths_every_frame_is_valid():
    x = numbered()
    arrays, counts = taken({"x": x})
    assert counts == [4, 4, 4]
    np.testing.assert_array_equal(arrays["x"], x.reshape(12, 2))
    arrays, counts = taken({"x": x[0]})
    assert counts == [4]
    np.testing.assert_array_equal(arrays["x"], x[0])


def test_utterances_below_each_other_are_told_apart_by_lengths():
    rows = numbered(1, 9)[0]
    arrays, counts = taken({"x": rows, "y": rows[:, :1]}, [4, 0, 5])
    assert counts == [4, 0, 5]
    np.testing.assert_array_equal(arrays["x"], rows)


def test_padded_and_unpadded_nodes_go_together():
    x, lengths = numbered(), [2, 4, 1]
    rows = np.concatenate([each[:n] for each, n in zip(x, lengths, strict=True)])
    arrays, counts = taken({"padded": padded(x, lengths), "rows": rows}, lengths)
    assert counts == lengths
    np.testing.assert_array_equal(arrays["padded"], arrays["rows"])


def test_no_utterances_are_no_frames():
    assert taken({"x": np.zeros((0, 4, 2))})[1] == []
    assert taken({"x": np.zeros((0, 4, 2))}, [])[0]["x"].shape == (0, 2)
    assert taken({"x": np.zeros((0, 2))}, [])[1] == []
    assert taken({}) == ({}, [])


def test_values_and_dtypes_stay_and_the_gradient_goes():
    x = torch.tensor(numbered(), dtype=torch.float16, requires_grad=True)
    arrays, _ = valid_frames({"x": x, "n": np.ones((3, 4, 1), np.uint8)}, [4, 4, 4], None, LARGEST)
    assert arrays["x"].dtype == torch.float16
    assert not arrays["x"].requires_grad
    assert arrays["n"].dtype == torch.uint8


def with_value(value, frame=5):
    rows = np.ones((9, 2))
    rows[frame, 1] = value
    return {"x": rows}


@pytest.mark.parametrize(
    ("batch", "lengths", "mask", "words"),
    [
        (
            {"x": numbered()},
            [2, 4],
            None,
            r"the lengths do not fit node 'x'\n.*2 lengths from 2 to 4\n.*3 lengths from 0",
        ),
        ({"x": numbered()}, [2, 5, 1], None, r"the lengths do not fit node 'x'\n.*1 to 5\n.*from 0 to 4"),
        ({"x": numbered()}, [2, -1, 1], None, r"these are no lengths\n.*2, -1, 1"),
        ({"x": numbered(1, 9)[0]}, [4, 4], None, r"lengths do not add up to the frames\n.*8 in 2 lengths\n.*9"),
        ({"x": numbered()}, [4, 4, 4], np.ones((3, 4), bool), "lengths and a mask both say which frames are valid"),
        ({"x": numbered()}, None, np.ones((3, 5), bool), r"mask does not fit node 'x'\n.*mask \(3, 5\)\n.*\(3, 4\)"),
        ({"x": numbered()}, None, np.ones((3, 4)), r"this is no mask\n.*float64 of shape \(3, 4\)\n.*booleans"),
        ({"x": numbered()}, None, np.ones(12, bool), r"this is no mask\n.*bool of shape \(12,\)"),
        ({"x": numbered(1)[0]}, None, np.ones((1, 4), bool), r"'x' is no \(batch, frame, unit\) array, as the mask"),
        ({"x": numbered(), "y": numbered(2)}, None, None, r"differ in their number of frames\n.*'y'"),
        ({"x": numbered(1, 9)[0], "y": numbered(1, 8)[0]}, None, None, r"differ in their number.*\n.*'x' 9, 'y' 8"),
        ({"x": numbered()[0, 0]}, None, None, r"node 'x' is no matrix of frames\n.*shape \(2,\)\n"),
        ({"x": numbered()[None]}, None, None, r"node 'x' is no matrix of frames\n.*shape \(1, 3, 4, 2\)\n"),
        ({"x": [["a"]]}, None, None, "node 'x' is not an array of real numbers\n.*list of no dtype"),
        ({"x": numbered() + 1j}, None, None, "node 'x' is not an array of real numbers\n.*complex128"),
        (with_value(np.nan), None, None, r"'x' holds.*not numbers\n.*1 NaN and 0 infinite of 18 .* frame 5 of 9"),
        (with_value(-np.inf), [4, 5], None, r"'x' holds.*not numbers\n.*0 NaN and 1 infinite of 18 .* frame 5 of 9"),
        (with_value(-2e100), None, None, r"'x' holds values too large to square\n.*up to 2e\+100\n.*within ±1e\+100"),
    ],
)
def test_what_is_no_batch_is_refused_in_words(batch, lengths, mask, words):
    with pytest.raises(BadInput, match=words):
        valid_frames(batch, lengths, mask, LARGEST)


def test_the_largest_value_itself_is_let_through():
    arrays, _ = valid_frames(with_value(-LARGEST), None, None, LARGEST)
    assert arrays["x"].abs().max() == LARGEST
    with pytest.raises(BadInput, match="too large"):
        valid_frames(with_value(math.nextafter(LARGEST, math.inf)), None, None, LARGEST)


@pytest.mark.parametrize("order", [("x", "y"), ("y", "x")])
def test_nodes_of_different_frame_rates_are_refused_in_either_order(order):
    batch = {"x": numbered(), "y": numbered(frames=5)}
    with pytest.raises(BadInput, match=r"do not fit node '[xy]'|differ in their number of frames"):
        valid_frames({node: batch[node] for node in order}, None, None, LARGEST)


def test_negative_lengths_are_refused_though_they_add_up():
    with pytest.raises(BadInput, match="lengths"):
        valid_frames({"x": numbered(1, 10)[0]}, [5, -2, 7], None, LARGEST)


def test_a_padded_node_without_units_is_refused_in_words():
    with pytest.raises(BadInput, match="no units"):
        Moments().update({"x": np.zeros((2, 3, 0))})
