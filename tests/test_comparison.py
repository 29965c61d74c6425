"""One pass for value, interval and baseline, against the same done by hand on arrays of whole utterances."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from otoscope.base import BadInput, BadOption
from otoscope.reduce.comparison import Comparison
from otoscope.reduce.measures import MEASURES
from otoscope.reduce.similarity import RankWarning, similarity, similarity_matrix

FOLDS = 4
PAIRS = [("x", "y"), ("y", "x"), ("z", "x")]


@pytest.fixture(autouse=True)
def silent():
    """Few frames are meant here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RankWarning)
        yield


def utterances(count=11, seed=0, shared=1.0, widths=(4, 3, 6)):
    """Utterances of 15 to 40 frames; nodes x, y, z hear `shared` of a common source that drifts slowly."""
    rng = np.random.default_rng(seed)
    maps = [rng.normal(size=(5, width)) for width in widths]
    made = []
    for frames in rng.integers(15, 41, count):
        slow = [rng.normal(size=(1, 5)) + rng.normal(size=(frames, 5)) / 2 for _ in range(4)]
        made.append(
            {
                name: (shared * slow[0] + slow[index]) @ to + rng.normal(size=(frames, to.shape[1])) / 3
                for index, (name, to) in enumerate(zip("xyz", maps, strict=True), 1)
            }
        )
    return made


def together(some):
    return {name: np.concatenate([each[name] for each in some]) for name in some[0]}


def filled(comparison, speech, batches=((0, 5), (5, 8), (8, 11)), keyed=False):
    """In batches that are padded, and not."""
    for start, stop in batches:
        some = speech[start:stop]
        lengths = [len(each["x"]) for each in some]
        batch = together(some)
        if start:
            padded = {name: np.full((len(some), max(lengths), rows.shape[1]), np.nan) for name, rows in batch.items()}
            for index, each in enumerate(some):
                for name, rows in each.items():
                    padded[name][index, : len(rows)] = rows
            batch = padded
        comparison.update(batch, lengths, keys=range(start, stop) if keyed else None)
    return comparison


def by_hand(speech, measure, pair, **options):
    data = together(speech)
    return similarity(data[pair[0]], data[pair[1]], measure, sample=None, **options)


@pytest.fixture(scope="module")
def read():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RankWarning)
        comparison = Comparison(tuple(MEASURES), PAIRS, folds=FOLDS, repairings=4, sample=None, level=0.9)
        return filled(comparison, utterances()).read()


@pytest.mark.parametrize("measure", MEASURES)
def test_values_and_intervals_are_those_with_utterances_left_out_by_hand(measure, read):
    speech = utterances()
    exact = 1e-7 if measure == "angular" else 1e-9
    low, high = MEASURES[measure].range
    for pair in PAIRS:
        value = by_hand(speech, measure, pair)
        assert read.values[measure][pair] == pytest.approx(value, abs=exact)
        left = [[each for i, each in enumerate(speech) if i % FOLDS != fold] for fold in range(FOLDS)]
        parts = np.array([by_hand(some, measure, pair) for some in left])
        np.testing.assert_allclose(read.parts[measure][pair], parts, atol=exact)
        # The jackknife, once more.
        reach = scipy.stats.t.ppf(0.95, FOLDS - 1) * np.sqrt((FOLDS - 1) * parts.var())
        wanted = max(low, value - reach), min(high, value + reach)
        np.testing.assert_allclose(read.intervals[measure][pair], wanted, atol=20 * exact)


@pytest.mark.parametrize("measure", MEASURES)
def test_the_baseline_is_that_of_utterances_re_paired_by_hand(measure, read):
    speech = utterances()
    for a, b in PAIRS:
        wanted = []
        for shift in range(1, 5):
            first, second = [], []
            for start, stop in [(0, 5), (5, 8), (8, 11)]:
                count = stop - start
                for index in range(count):
                    partner = (index + shift) % count
                    if partner != index:
                        x, y = speech[start + index][a], speech[start + partner][b]
                        shorter = min(len(x), len(y))
                        first.append(x[:shorter])
                        second.append(y[:shorter])
            wanted.append(similarity(np.concatenate(first), np.concatenate(second), measure, sample=None))
        np.testing.assert_allclose(read.baseline[measure][a, b], wanted, atol=1e-7 if measure == "angular" else 1e-9)


def test_the_order_of_a_pair_matters_for_asymmetric_measures_only(read):
    for name, measure in MEASURES.items():
        parts = read.parts[name]["x", "y"], read.parts[name]["y", "x"]
        assert np.allclose(*parts, atol=1e-9) == measure.symmetric
        # Re-paired the other way round it is another question for every measure: y hears the first utterance.
        assert abs(read.baseline[name]["x", "y"][0] - read.baseline[name]["y", "x"][0]) > 1e-6


def test_a_node_with_itself_is_1_and_its_baseline_is_not():
    comparison = Comparison(["cka", "knn"], [("x", "x")], folds=FOLDS, repairings=2)
    found = filled(comparison, utterances()).read()
    for measure in ("cka", "knn"):
        assert found.intervals[measure]["x", "x"] == pytest.approx((1, 1))
        assert found.baseline[measure]["x", "x"].max() < 0.9


@settings(max_examples=4, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 10), max_size=3, unique=True), turned=st.booleans(), sample=st.sampled_from([90, None])
)
def test_merged_parts_of_a_corpus_are_the_whole(cuts, turned, sample):
    speech = utterances()

    def empty():
        measures = ["cca", "cka_debiased", "r2", "knn"]
        return Comparison(measures, PAIRS, folds=FOLDS, repairings=2, sample=sample, seed=3)

    edges = [0, *sorted(cuts), 11]
    batches = list(itertools.pairwise(edges))
    whole = filled(empty(), speech, batches, keyed=True)
    parts = [filled(empty(), speech, [batch], keyed=True) for batch in batches]
    total = empty()
    for part in reversed(parts) if turned else parts:
        total.merge(part)
    assert (total.utterances, total.frames) == (11, sum(len(each["x"]) for each in speech))
    found, wanted = total.read(), whole.read()
    for measure, values in wanted.values.items():
        for pair in values:
            assert found.values[measure][pair] == pytest.approx(values[pair], abs=1e-10)
            np.testing.assert_allclose(found.parts[measure][pair], wanted.parts[measure][pair], atol=1e-10)
            np.testing.assert_allclose(found.intervals[measure][pair], wanted.intervals[measure][pair], atol=1e-9)
            np.testing.assert_allclose(found.baseline[measure][pair], wanted.baseline[measure][pair], atol=1e-10)


def test_keys_and_not_the_order_of_batches_decide_on_folds_and_sample():
    speech = utterances()
    comparisons = [Comparison(["cka", "rsa"], PAIRS, folds=FOLDS, sample=60) for _ in range(2)]
    filled(comparisons[0], speech, keyed=True)
    filled(comparisons[1], speech, [(8, 11), (0, 5), (5, 8)], keyed=True)
    first, second = (each.read() for each in comparisons)
    for measure in ("cka", "rsa"):
        for pair in PAIRS:
            np.testing.assert_allclose(first.parts[measure][pair], second.parts[measure][pair], atol=1e-10)


def test_measures_of_frames_look_at_a_sample_from_which_folds_are_left_out():
    comparison = filled(Comparison("knn", PAIRS, folds=FOLDS, sample=80, k=5), utterances())
    found = comparison.read()
    frames, folds = comparison.sample.frames, comparison.sample.folds
    assert len(folds) == 80
    assert found.remarks[-1] == f"knn: over a sample of 80 of {comparison.frames} frames"
    for a, b in PAIRS:
        parts = [
            similarity(frames[a][np.flatnonzero(folds != fold)], frames[b][np.flatnonzero(folds != fold)], "knn", k=5)
            for fold in range(FOLDS)
        ]
        np.testing.assert_allclose(found.parts["knn"][a, b], parts, atol=1e-12)


def test_some_measures_may_be_read_alone():
    comparison = filled(Comparison(["cka", "cca", "knn"], PAIRS, folds=FOLDS, repairings=1), utterances())
    found, some = comparison.read(), comparison.read(["cca"])
    assert set(some.values) == set(some.parts) == set(some.intervals) == set(some.baseline) == {"cca"}
    assert some.values["cca"] == found.values["cca"]
    assert some.intervals["cca"] == found.intervals["cca"]


def test_what_was_not_asked_for_is_not_there():
    found = filled(Comparison("cka", PAIRS), utterances()).read()
    assert (found.parts, found.intervals, found.baseline) == ({}, {}, {})


# What the baseline is for.


def test_unrelated_nodes_are_within_their_baseline_and_related_ones_are_not():
    within = 0
    for seed in range(12):
        comparisons = []
        for shared in (0.0, 3.0):
            comparison = Comparison("cka", [("x", "z")], repairings=9)
            comparisons.append(filled(comparison, utterances(10, seed, shared), [(0, 10)]).read())
        unrelated, related = (each.values["cka"]["x", "z"] for each in comparisons)
        by_chance, chance = (each.baseline["cka"]["x", "z"] for each in comparisons)
        assert related > chance.max() + 0.05
        within += by_chance.min() <= unrelated <= by_chance.max()
    # By chance the value is the largest or the smallest of ten in 2 of 10 cases.
    assert within >= 6


# As a table.


@pytest.mark.parametrize("three_d", [False, True])
def test_the_matrix_gives_the_same_numbers(three_d):
    speech = utterances()
    lengths = [len(each["x"]) for each in speech]
    data = together(speech)
    if three_d:
        rows = data
        data = {name: np.full((11, max(lengths), rows[name].shape[1]), np.nan) for name in rows}
        for index, each in enumerate(speech):
            for name in data:
                data[name][index, : lengths[index]] = each[name]
    nodes = {"conv": data["x"], "out": data["y"]}
    dataset = similarity_matrix(
        nodes, {"mel": data["z"]}, ["cka", "r2", "knn"], 0.8, "permutation", lengths=lengths, folds=5, repairings=3, k=4
    )
    pairs = [("x", "z"), ("y", "z")]
    comparison = Comparison(["cka", "r2", "knn"], pairs, folds=5, repairings=3, level=0.8, k=4)
    found = filled(comparison, speech, [(0, 11)]).read()
    assert (dataset.attrs["utterances"], dataset.attrs["frames"]) == (11, sum(lengths))
    for measure in ("cka", "r2", "knn"):
        assert dataset[f"{measure}_interval"].attrs["level"] == 0.8
        assert dataset[f"{measure}_interval"].attrs["folds"] == 5
        for layer, pair in zip(("conv", "out"), pairs, strict=True):
            at = {"layer": layer, "other_layer": "mel"}
            assert dataset[measure].sel(at).item() == pytest.approx(found.values[measure][pair], abs=1e-12)
            bounds = [dataset[f"{measure}_interval"].sel(**at, bound=bound).item() for bound in ("low", "high")]
            np.testing.assert_allclose(bounds, found.intervals[measure][pair], atol=1e-12)
            np.testing.assert_allclose(
                dataset[f"{measure}_baseline"].sel(at), found.baseline[measure][pair], atol=1e-12
            )


def test_the_matrix_has_as_many_folds_as_utterances_at_most():
    data = together(utterances())
    lengths = [60, 40, len(data["x"]) - 100]
    dataset = similarity_matrix(data, measures="cka", interval="jackknife", baseline="permutation", lengths=lengths)
    assert dataset.cka_interval.attrs["folds"] == 3
    assert dataset.sizes["repairing"] == 2
    assert dataset.cka_interval.attrs["level"] == 0.95
    assert "stretches" not in dataset.notes


def test_without_lengths_stretches_stand_for_utterances_and_a_note_says_so():
    data = together(utterances())
    found = similarity_matrix(data, measures="cka", interval="jackknife")
    count = len(data["x"])
    stretches = [count // 20 + (index < count % 20) for index in range(20)]
    wanted = similarity_matrix(data, measures="cka", interval="jackknife", lengths=stretches)
    np.testing.assert_array_equal(found.cka_interval, wanted.cka_interval)
    assert "the frames are taken in 20 stretches, not in utterances" in found.notes


# Errors.


def test_too_few_utterances_are_refused_in_words():
    speech = utterances()
    comparison = filled(Comparison("cka", PAIRS, folds=6), speech, [(0, 5)])
    with pytest.raises(
        BadInput,
        match=r"too few utterances to leave some out\n.*5 utterances in 5 folds\n.*6 folds with frames\n.*fewer",
    ):
        comparison.read()
    filled(comparison, speech, [(5, 6)]).read()
    alone = Comparison("cka", PAIRS, repairings=2)
    filled(alone, speech, [(0, 1), (1, 2), (2, 3)])
    with pytest.raises(BadInput, match=r"cannot be re-paired\n.*3 utterances, one at a time\n.*two in a batch"):
        alone.read()
    with pytest.raises(BadInput, match=r"nothing to read yet|too few frames"):
        Comparison("cka", PAIRS).read()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"measures": "ckaa"}, r"unknown measure(.|\n)*did you mean 'cka'"),
        ({"treshold": 0.9}, "has no option 'treshold'"),
        ({"level": 0.0}, r"level is a share of intervals\n.*0\.0\n.*between 0 and 1"),
        ({"level": 95}, r"level is a share of intervals\n.*95"),
        ({"repairings": -1}, r"cannot be re-paired so often\n.*-1\n.*0 or more"),
        ({"folds": 1}, r"folds are parts of the utterances\n.*1\n"),
        ({"folds": -2}, r"folds are parts of the utterances\n.*-2\n"),
        ({"precision": "float16"}, r"unknown precision\n.*'float16'\n.*'auto', 'float64', 'float32'"),
    ],
)
def test_wrong_settings_are_refused_in_words(arguments, words):
    with pytest.raises(BadOption, match=words):
        Comparison(**({"measures": ["cka", "svcca"], "pairs": PAIRS} | arguments))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"interval": "bootstrap"}, r"unknown interval\n.*'bootstrap'\n.*'jackknife'"),
        ({"interval": 2.0}, "an interval has a level"),
        ({"baseline": "permutations"}, "unknown baseline(.|\n)*did you mean 'permutation'"),
        ({"preset": "ollerenshaw"}, "unknown preset(.|\n)*did you mean 'ollerenshaw2021'"),
    ],
)
def test_wrong_requests_of_the_matrix_are_refused_in_words(arguments, words):
    with pytest.raises(BadOption, match=words):
        similarity_matrix(together(utterances()), **arguments)


def test_a_bad_batch_adds_nothing():
    speech = utterances()
    comparison = filled(Comparison(["cka_debiased", "knn"], PAIRS, folds=FOLDS, repairings=2), speech)
    before = comparison.read()
    bad = together(speech[:2])
    bad["y"][3] = np.nan
    with pytest.raises(BadInput, match="node 'y' holds values that are not numbers"):
        comparison.update(bad, [len(each["x"]) for each in speech[:2]])
    after = comparison.read()
    assert (before.values, before.intervals) == (after.values, after.intervals)


def test_folds_without_utterances_are_refused_in_words():
    # Of folds 0 to 3 only two have utterances: leaving the others out leaves nothing out.
    comparison = Comparison("cka", PAIRS, folds=4)
    speech = utterances(4)
    comparison.update(together(speech), [len(each["x"]) for each in speech], keys=[0, 4, 8, 1])
    with pytest.raises(BadInput, match="fold"):
        comparison.read()


@pytest.mark.parametrize("arguments", [{"interval": "jackknife"}, {"baseline": "permutation"}])
def test_one_utterance_has_neither_interval_nor_baseline_and_is_told_so(arguments):
    data = together(utterances(1))
    with pytest.raises(BadInput, match="utterances"):
        similarity_matrix(data, measures="cka", lengths=[len(data["x"])], **arguments)


@pytest.mark.parametrize(
    ("theirs", "words"),
    [
        ({"measures": ["cka"]}, "measures"),
        ({"repairings": 2}, "re-pair|repairings"),
        ({"measures": ["cka", "knn"], "folds": FOLDS}, "folds"),
    ],
)
def test_comparisons_of_other_settings_are_not_merged(theirs, words):
    comparison, other = (Comparison(**({"measures": ["cka", "knn"], "pairs": PAIRS} | each)) for each in ({}, theirs))
    for each in (comparison, other):
        filled(each, utterances())
    with pytest.raises(BadInput, match=words):
        comparison.merge(other)


def test_a_preset_knows_padded_utterances_without_being_told_their_lengths():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 6, 10, 3))
    dataset = similarity_matrix(x, y, "cka", interval="jackknife", preset="ollerenshaw2021")
    assert dataset.attrs["utterances"] == 6
    assert "stretches" not in dataset.notes


@pytest.mark.parametrize("sample", [0, -5])
def test_a_sample_of_nothing_is_refused_in_words(sample):
    with pytest.raises(BadOption, match="sample"):
        Comparison("knn", PAIRS, sample=sample)
