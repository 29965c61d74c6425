"""Similarity against word errors: the numbers of `compare`, and a rank correlation that was planted."""

from __future__ import annotations

import itertools
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
from test_through_training import make_run, make_speech

from otoscope.base import BadInput, BadOption
from otoscope.reduce.similarity import RankWarning
from otoscope.study import performance as module
from otoscope.study.compare import compare
from otoscope.study.performance import similarity_and_performance
from otoscope.study.representations import open_networks


@pytest.fixture
def four(tmp_path, monkeypatch):
    """Four networks, and word error rates by their order: the weights are random, so that they cannot recognise."""
    run = make_run(tmp_path / "run")
    networks = {f"n{epoch}": run / "checkpoints" / f"epoch-00{epoch}.safetensors" for epoch in range(3)}
    networks["n3"] = make_run(tmp_path / "other", stride=2)
    errors = {name: [31.0, 12.0, 25.0, 48.0][index] for index, name in enumerate(networks)}
    scored = []

    def score(network, speech):
        scored.append(len(speech))
        total = SimpleNamespace(as_dict=lambda: {"wer": errors[f"n{(len(scored) - 1) % 4}"], "words": 10})
        return {"total": total}

    monkeypatch.setattr(module, "score_recogniser", score)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RankWarning)
        yield networks, errors


def with_text(speech):
    return [utterance.replace(text="a b") for utterance in speech]


@pytest.mark.parametrize("kind", ["adjacent", "others"])
def test_the_similarity_of_each_network_and_its_rank_correlation(four, kind):
    networks, errors = four
    conditions = {"clean": with_text(make_speech()), "short": with_text(make_speech()[:3])}
    found = similarity_and_performance(networks, conditions, similarity=kind, measure="cka", batch_size=1)
    layers = ("layer1", "layer2", "layer3")
    for condition, speech in conditions.items():
        modules = {listener.network: listener.module for listener in open_networks(networks, "*", None)}
        pairs = compare(modules, speech, measures=["cka"], batch_size=1).cka.squeeze()
        for name in networks:
            if kind == "adjacent":
                own = pairs.sel(network=name, other_network=name)
                wanted = np.mean([own.sel(layer=a, other_layer=b) for a, b in itertools.pairwise(layers)])
            else:
                rows = pairs.sel(network=name)
                wanted = np.mean([rows.sel(other_network=o).max("other_layer").mean() for o in networks if o != name])
            assert float(found.similarity.sel(condition=condition, network=name)) == pytest.approx(wanted, abs=1e-9)
        values = found.similarity.sel(condition=condition).values
        rho = scipy.stats.spearmanr(values, list(errors.values())).statistic
        assert float(found.rank_correlation.sel(condition=condition)) == pytest.approx(rho)
    assert found.wer.sel(condition="clean").values.tolist() == list(errors.values())
    assert found.attrs["words"].startswith("clean: ")
    assert found.attrs["utterances"] == [4, 3]


def test_what_cannot_be_asked_is_refused_in_words(four):
    networks, _ = four
    speech = with_text(make_speech())
    with pytest.raises(BadInput, match=r"takes networks\n.*2\n.*at least 3"):
        similarity_and_performance({k: networks[k] for k in ("n0", "n1")}, {"clean": speech})
    with pytest.raises(BadOption, match="unknown kind of similarity"):
        similarity_and_performance(networks, {"clean": speech}, similarity="nearest")
    with pytest.raises(BadInput, match="nothing says what was spoken in 'mute'"):
        similarity_and_performance(networks, {"mute": make_speech()})
