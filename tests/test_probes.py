"""Linear probes from sums against scikit-learn's linear discriminant analysis on the frames themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from otoscope.base import BadInput, BadOption
from otoscope.reduce.moments import Moments
from otoscope.reduce.probes import fit_probe


def frames(seed=0, count=3000, units=12, labels=5):
    """Frames around a mean for each label, unevenly many of each, on an offset and of a shared uneven covariance."""
    rng = np.random.default_rng(seed)
    numbers = rng.choice(labels, size=count, p=np.arange(1, labels + 1) / np.arange(1, labels + 1).sum())
    turn = np.linalg.qr(rng.normal(size=(units, units)))[0]
    noise = rng.normal(size=(count, units)) * np.geomspace(3, 0.7, units) @ turn
    return rng.normal(size=(labels, units))[numbers] + noise + 10, numbers


def sums(x, numbers, labels=5, batches=3):
    moments = Moments(pairs=[("layer", "phone")])
    hot = np.eye(labels)[numbers]
    for rows, some in zip(np.array_split(x, batches), np.array_split(hot, batches), strict=True):
        moments.update({"layer": rows, "phone": some})
    return moments.finalize()


def centred(scores):
    """Up to what all labels have in common, which decides nothing."""
    return scores - scores.mean(1, keepdims=True)


@pytest.mark.parametrize("shrinkage", [0.0, 1e-3, 0.1, 0.9, 1.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_the_discriminant_of_scikit_learn(seed, shrinkage):
    # Theirs shrinks the covariance of each label towards its own mean variance; the mean over labels, weighted by
    # their shares, is the covariance within labels shrunk towards its mean variance, as here.
    x, numbers = frames(seed)
    held_out, _ = frames(seed + 10)
    wanted = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(x, numbers)
    probe = fit_probe(sums(x, numbers), "layer", "phone", shrinkage=shrinkage)
    np.testing.assert_allclose(centred(probe.weight.numpy()), centred(wanted.coef_.T), atol=1e-6)
    both = np.concatenate([x, held_out])
    scores = both @ probe.weight.numpy() + probe.bias.numpy()
    np.testing.assert_allclose(centred(scores), centred(wanted.decision_function(both)), atol=1e-6)
    found = probe.predict(torch.tensor(both)).numpy()
    assert (found == wanted.predict(both)).mean() >= 0.999
    # And it is no trivial task.
    assert 0.5 < (found[: len(x)] == numbers).mean() < 0.99


def test_two_labels():
    x, numbers = frames(labels=2)
    wanted = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.01).fit(x, numbers)
    probe = fit_probe(sums(x, numbers, 2), "layer", "phone", shrinkage=0.01)
    difference = probe.weight[:, 1] - probe.weight[:, 0]
    np.testing.assert_allclose(difference, wanted.coef_[0], atol=1e-6)
    assert (probe.predict(torch.tensor(x)).numpy() == wanted.predict(x)).mean() >= 0.999


def test_frames_of_any_kind_are_given_a_label():
    x, numbers = frames()
    probe = fit_probe(sums(x, numbers), "layer", "phone")
    found = probe.predict(torch.tensor(x))
    assert found.dtype == torch.int64
    assert found.shape == (len(x),)
    assert (probe.predict(torch.tensor(x, dtype=torch.float32)) == found).double().mean() > 0.999


def test_a_label_that_never_occurs_is_never_given():
    x, numbers = frames(labels=3)
    places = np.array([1, 2, 5])
    probe = fit_probe(sums(x, places[numbers], 7), "layer", "phone")
    assert (probe.bias.isinf() == torch.tensor([True, False, False, True, True, False, True])).all()
    without = fit_probe(sums(x, numbers, 3), "layer", "phone")
    anywhere = torch.tensor(np.random.default_rng(1).normal(size=(2000, 12)) * 30)
    np.testing.assert_array_equal(probe.predict(anywhere), places[without.predict(anywhere).numpy()])
    assert not probe.weight.isnan().any()


@pytest.mark.parametrize("seed", range(4))
def test_collinear_and_dead_units_add_nothing(seed):
    x, numbers = frames(seed)
    more = np.hstack([x, x[:, :3] @ np.random.default_rng(seed).normal(size=(3, 2)), np.full((len(x), 1), 4.0)])
    plain = fit_probe(sums(x, numbers), "layer", "phone", shrinkage=0.0).predict(torch.tensor(x))
    found = fit_probe(sums(more, numbers), "layer", "phone", shrinkage=0.0).predict(torch.tensor(more))
    assert (found == plain).double().mean() >= 0.999
    shrunk = fit_probe(sums(more, numbers), "layer", "phone")
    assert shrunk.weight.abs().max() < 100
    assert (shrunk.predict(torch.tensor(more)) == plain).double().mean() > 0.95


def test_more_units_than_frames_are_no_division_by_nothing():
    x, numbers = frames(count=40, units=100)
    wanted = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=1e-3).fit(x, numbers)
    found = fit_probe(sums(x, numbers), "layer", "phone").predict(torch.tensor(x)).numpy()
    np.testing.assert_array_equal(found, wanted.predict(x))


@pytest.mark.parametrize("shrinkage", [-0.1, 1.1, float("nan")])
def test_another_shrinkage_is_refused_in_words(shrinkage):
    with pytest.raises(BadOption, match=rf"shrinkage is a share of the covariance\n.*{shrinkage}\n.*0 to 1"):
        fit_probe(sums(*frames()), "layer", "phone", shrinkage=shrinkage)


def test_what_cannot_be_probed_is_refused_in_words():
    x, numbers = frames()
    with pytest.raises(BadInput, match=r"a probe needs labels to tell apart\n.*1 that occur\n.*2 or more"):
        fit_probe(sums(x, numbers * 0), "layer", "phone")
    with pytest.raises(BadInput, match="node 'layer' has no variance"):
        fit_probe(sums(np.full_like(x, 0.1), numbers), "layer", "phone")
    for hot, mean in [(np.eye(5)[numbers] * (numbers > 1)[:, None], r"0\.\d+"), (np.eye(5)[numbers] * 2, r"2\.0000")]:
        moments = Moments()
        moments.update({"layer": x, "phone": hot})
        with pytest.raises(BadInput, match=rf"frames of 'phone' do not have one label each\n.*{mean} labels a frame"):
            fit_probe(moments.finalize(), "layer", "phone")
    moments = Moments(pairs=[])
    moments.update({"layer": x, "phone": np.eye(5)[numbers]})
    with pytest.raises(BadInput, match=r"\('layer', 'phone'\) was not asked for"):
        fit_probe(moments.finalize(), "layer", "phone")
    with pytest.raises(BadInput, match="there is no node 'word'"):
        fit_probe(moments.finalize(), "layer", "word")


@pytest.mark.parametrize("seed", range(4))
def test_a_layer_that_says_the_label_and_nothing_else_is_read_without_a_fault(seed):
    rng = np.random.default_rng(seed)
    numbers = rng.integers(5, size=2000)
    x = (rng.normal(size=(5, 12)) * 3 + 10)[numbers]
    found = fit_probe(sums(x, numbers), "layer", "phone").predict(torch.tensor(x)).numpy()
    np.testing.assert_array_equal(found, numbers)
