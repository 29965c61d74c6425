"""The sample of frames: the same in any order, split and merge; every frame as likely as any other."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from otoscope.base import BadInput
from otoscope.reduce.samples import FrameSample

LENGTHS = [7, 1, 12, 0, 5, 15]


def corpus(lengths=LENGTHS):
    """By utterance the frames of two nodes, whose values say key and place."""
    return [
        {"x": torch.tensor([[100.0 * key + place] for place in range(n)]).reshape(n, 1)}
        | {"y": -torch.tensor([[100.0 * key + place] * 2 for place in range(n)]).reshape(n, 2)}
        for key, n in enumerate(lengths)
    ]


def drawn(size, keys=range(6), seed=0, into=None, at_once=1):
    sample, data = FrameSample(size, seed) if into is None else into, corpus()
    keys = list(keys)
    for start in range(0, len(keys), at_once):
        some = keys[start : start + at_once]
        batch = {node: torch.cat([data[key][node] for key in some]) for node in "xy"}
        sample.update(batch, [LENGTHS[key] for key in some], some, [key % 3 for key in some])
    return sample


def same(sample, other):
    assert sample.seen == other.seen == sum(LENGTHS)
    assert len(sample) == len(other)
    np.testing.assert_array_equal(sample.folds, other.folds)
    for node in "xy":
        assert torch.equal(sample.frames[node], other.frames[node])


@settings(max_examples=12, deadline=None)
@given(
    size=st.sampled_from([None, 1, 9, 39, 40, 41, 1000]),
    order=st.permutations(range(6)),
    at_once=st.integers(1, 6),
    cut=st.integers(1, 5),
    seed=st.integers(0, 5),
)
def test_order_split_and_merge_make_no_difference(size, order, at_once, cut, seed):
    whole = drawn(size, seed=seed, at_once=6)
    same(drawn(size, order, seed, at_once=at_once), whole)
    merged = drawn(size, order[:cut], seed)
    merged.merge(drawn(size, order[cut:], seed, at_once=2))
    same(merged, whole)


def test_nodes_and_folds_stay_together_in_the_order_of_the_speech():
    sample = drawn(11, keys=[4, 2, 0, 5, 1, 3])
    x = sample.frames["x"][:, 0].numpy()
    assert len(sample) == len(x) == 11
    assert (np.diff(x) > 0).all()
    np.testing.assert_array_equal(sample.frames["y"], -np.stack([x, x], 1))
    np.testing.assert_array_equal(sample.folds, x // 100 % 3)
    assert set(x) <= {100 * key + place for key, n in enumerate(LENGTHS) for place in range(n)}


@pytest.mark.parametrize("size", [None, 40, 41, 5000])
def test_where_there_are_no_more_all_are_kept(size):
    sample = drawn(size, keys=[5, 3, 1, 0, 2, 4])
    assert len(sample) == sample.seen == 40
    assert torch.equal(sample.frames["x"], torch.cat([each["x"] for each in corpus()]))


def test_every_frame_is_as_likely_as_any_other():
    seeds, size = 400, 10
    counts: dict[float, int] = {}
    alike = 0
    for seed in range(seeds):
        place: dict[int, int] = {}
        for value in drawn(size, seed=seed, at_once=4).frames["x"][:, 0].tolist():
            counts[value] = counts.get(value, 0) + 1
            place[int(value) % 100] = place.get(int(value) % 100, 0) + 1
        alike += sum(n * (n - 1) // 2 for n in place.values())
    frames, share = sum(LENGTHS), size / sum(LENGTHS)
    found = np.array(list(counts.values()))
    assert len(found) == frames
    # Drawn without replacement, a count varies by seeds p (1 - p), and the counts have one sum.
    statistic = ((found - seeds * share) ** 2).sum() / (seeds * share * (1 - share)) * (frames - 1) / frames
    assert 1e-3 < scipy.stats.chi2.sf(statistic, frames - 1) < 1 - 1e-3
    # And each is drawn for itself: frames at one place of two utterances are no likelier to come together.
    at = np.bincount([place for n in LENGTHS for place in range(n)])
    together = seeds * (at * (at - 1) // 2).sum() * size * (size - 1) / (frames * (frames - 1))
    assert alike == pytest.approx(together, rel=0.1)


def test_another_seed_draws_another_sample():
    assert not torch.equal(drawn(10, seed=0).frames["x"], drawn(10, seed=1).frames["x"])


def test_what_is_kept_is_no_view_of_the_batch():
    batch = corpus()[5]
    sample = FrameSample(None)
    sample.update(batch, [15], [0], [0])
    before = sample.frames["x"].clone()
    batch["x"].zero_()
    assert torch.equal(sample.frames["x"], before)


@pytest.mark.parametrize(("size", "seed"), [(5, 0), (None, 0), (6, 1)])
def test_samples_of_another_kind_are_not_merged(size, seed):
    sample = drawn(6)
    with pytest.raises(
        BadInput, match=rf"different kinds do not add up\n.*{size} frames, seed {seed}\n.*6 frames, seed 0"
    ):
        sample.merge(drawn(size, seed=seed))
    same(sample, drawn(6))


@pytest.mark.parametrize("size", [None, 10])
def test_a_part_of_the_corpus_that_heard_nothing_merges_either_way(size):
    for sample, other in [(drawn(size), FrameSample(size)), (FrameSample(size), drawn(size))]:
        sample.merge(other)
        same(sample, drawn(size))
