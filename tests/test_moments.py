"""Running sums against numpy's two-pass covariance; any split, order and merge gives the same; words of errors."""

from __future__ import annotations

import errno
import itertools
import pickle

import numpy as np
import pytest
import torch
from direct_measures import cka_debiased as direct_cka_debiased
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from otoscope.base import BadInput, BadOption, OtoscopeError
from otoscope.reduce import moments as module
from otoscope.reduce.moments import Moments
from otoscope.reduce.similarity import similarities


def covariance(x, y):
    """Two passes, in float64: the definition."""
    x, y = (np.asarray(a, dtype=np.float64) for a in (x, y))
    return (x - x.mean(0)).T @ (y - y.mean(0)) / len(x)


def streams(seed=0, frames=200, offset=0.0, widths=(5, 3, 1, 4)):
    """Correlated nodes a, b, c, d on an offset."""
    rng = np.random.default_rng(seed)
    source = rng.normal(size=(frames, 6))
    return {
        name: source @ rng.normal(size=(6, width)) + rng.normal(size=(frames, width)) + offset
        for name, width in zip("abcd", widths, strict=False)
    }


def assert_right(moments, data, rtol=1e-10):
    assert moments.frames == len(next(iter(data.values())))
    for a in data:
        np.testing.assert_allclose(
            moments.finalize().mean(a), np.asarray(data[a], np.float64).mean(0), rtol=rtol, atol=rtol
        )
        for b in data:
            wanted = covariance(data[a], data[b])
            np.testing.assert_allclose(
                moments.finalize().covariance(a, b), wanted, rtol=rtol, atol=rtol * abs(wanted).max()
            )


CASTS = {
    "numpy float64": lambda x: x,
    "numpy float32": lambda x: x.astype(np.float32),
    "numpy float16": lambda x: x.astype(np.float16),
    "numpy integers": lambda x: np.round(x * 10).astype(np.int32),
    "numpy bytes": lambda x: np.abs(np.round(x * 10)).astype(np.uint8),
    "numpy booleans": lambda x: x > 0,
    "big-endian": lambda x: x.astype(">f4"),
    "backwards": lambda x: x[::-1, ::-1],
    "every other frame": lambda x: x.repeat(2, 0)[::2],
    "torch float32": lambda x: torch.tensor(x, dtype=torch.float32),
    "torch bfloat16": lambda x: torch.tensor(x, dtype=torch.bfloat16),
    "torch with gradient": lambda x: torch.tensor(x, requires_grad=True),
    "torch transposed": lambda x: torch.tensor(x.T.copy()).T,
}


@pytest.mark.parametrize("cast", CASTS)
def test_every_kind_of_array_gives_numpys_covariance(cast):
    data = {name: CASTS[cast](x) for name, x in streams().items()}
    moments = Moments()
    moments.update(data)
    plain = {name: x.detach().double().numpy() if isinstance(x, torch.Tensor) else x for name, x in data.items()}
    assert_right(moments, plain)


def test_a_read_only_array_is_taken_without_a_warning(recwarn):
    x = streams()["a"]
    x.flags.writeable = False
    moments = Moments()
    moments.update({"a": x})
    assert not recwarn.list
    assert_right(moments, {"a": x})


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    cuts=st.lists(st.integers(0, 120), max_size=6),
    shard_of=st.lists(st.integers(0, 2), min_size=7, max_size=7),
    order=st.permutations(range(3)),
    offset=st.sampled_from([0.0, -3.0, 1e4]),
    block=st.sampled_from([1, 7, 64, 2**20]),
)
def test_any_split_order_and_merge_of_batches_agrees(seed, cuts, shard_of, order, offset, block):
    data = streams(seed, frames=120, offset=offset)
    # The shards' shifts differ: their first batches lie on different stretches of a drift.
    data = {name: x + np.linspace(0, 5, 120)[:, None] for name, x in data.items()}
    edges = [0, *sorted(cuts), 120]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_BYTES", block * 13 * 8)
        patch.setattr(module, "BLOCK_FRAMES", (1, 8192))
        shards = [Moments() for _ in range(3)]
        for shard, start, stop in zip(shard_of, edges, edges[1:], strict=False):
            shards[shard].update({name: x[start:stop] for name, x in data.items()})
        total = Moments()
        for index in order:
            total.merge(shards[index])
    assert total.utterances == len(edges) - 1
    whole = Moments()
    whole.update(data)
    for a in data:
        scale = np.sqrt(np.diag(covariance(data[a], data[a])))
        np.testing.assert_allclose(total.finalize().mean(a), whole.finalize().mean(a), rtol=1e-12, atol=1e-10)
        for b in data:
            other = np.sqrt(np.diag(covariance(data[b], data[b])))
            error = total.finalize().covariance(a, b).numpy() - covariance(data[a], data[b])
            assert abs(error / np.outer(scale, other)).max() < 1e-10


@pytest.mark.parametrize("offset", [1e4, -1e6])
def test_an_offset_cancels_nothing(offset):
    data = {name: x.astype(np.float32) for name, x in streams(frames=5000, offset=offset).items()}
    moments = Moments()
    for start in range(0, 5000, 700):
        moments.update({name: x[start : start + 700] for name, x in data.items()})
    for a in data:
        for b in data:
            wanted = covariance(data[a], data[b])
            np.testing.assert_allclose(
                moments.finalize().covariance(a, b), wanted, rtol=1e-9, atol=1e-9 * abs(wanted).max()
            )


@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_tiny_and_huge_values_keep_their_precision(scale):
    data = {name: x * scale for name, x in streams().items()}
    moments = Moments()
    moments.update(data)
    for a in data:
        wanted = covariance(data[a], data["b"])
        np.testing.assert_allclose(
            moments.finalize().covariance(a, "b"), wanted, rtol=1e-9, atol=1e-12 * abs(wanted).max()
        )


# Pairs.


@settings(max_examples=25, deadline=None)
@given(chosen=st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd")), max_size=8))
def test_only_asked_for_pairs_are_formed(chosen):
    data = streams()
    moments = Moments(pairs=chosen)
    moments.update(data)
    wanted = {frozenset(pair) for pair in chosen if pair[0] != pair[1]}
    assert {frozenset(pair) for pair in moments.pairs} == wanted
    assert len(moments.pairs) == len(wanted)
    for a in data:
        for b in data:
            if a == b or frozenset((a, b)) in wanted:
                np.testing.assert_allclose(
                    moments.finalize().covariance(a, b), covariance(data[a], data[b]), atol=1e-10
                )
            else:
                with pytest.raises(BadInput, match=rf"the pair \('{a}', '{b}'\) was not asked for"):
                    moments.finalize().covariance(a, b)
    numbers = sum(product.numel() for product in moments._parts[0].products)
    width = moments.finalize().width
    assert numbers == sum(width(n) ** 2 for n in data) + sum(width(a) * width(b) for a, b in moments.pairs)


def test_all_pairs_take_one_product_for_each_node():
    moments = Moments({"a": 5, "b": 3, "c": 1})
    assert moments.pairs == (("a", "b"), ("a", "c"), ("b", "c"))
    assert [tuple(product.shape) for product in moments._parts[0].products] == [(5, 9), (3, 4), (1, 1)]


# Merge, save, load.


def filled(data=None, **arguments):
    moments = Moments(**arguments)
    moments.update(data or streams())
    return moments


def test_merge_leaves_the_other_as_it_is_and_adds_twice_if_asked():
    data = streams()
    moments, other = filled(data), filled(data)
    for _ in range(2):
        moments.merge(other)
    assert (moments.frames, moments.utterances) == (600, 3)
    assert (other.frames, other.utterances) == (200, 1)
    assert_right(other, data)
    assert_right(moments, {name: np.concatenate([x] * 3) for name, x in data.items()})
    other.merge(other)
    assert_right(other, {name: np.concatenate([x] * 2) for name, x in data.items()})


def test_merge_knows_nodes_by_name_not_by_place():
    data, more = streams(0), streams(1)
    moments = filled(data)
    moments.merge(filled(dict(reversed(more.items()))))
    assert_right(moments, {name: np.concatenate([data[name], more[name]]) for name in data})


def test_merge_with_an_empty_one_either_way():
    data = streams()
    for empty in (Moments(), Moments({"a": 5, "b": 3, "c": 1, "d": 4})):
        full = filled(data)
        full.merge(empty)
        assert_right(full, data)
        empty.merge(full)
        assert_right(empty, data)


def test_a_batch_without_frames_counts_its_utterances_only():
    data = streams()
    none = {name: x[:0] for name, x in data.items()}
    moments = Moments()
    moments.update(none)
    moments.update(data, [50, 100, 50])
    moments.update(none)
    assert moments.utterances == 5
    assert_right(moments, data)


def test_save_and_load_give_the_same_sums_and_the_pass_goes_on(tmp_path):
    data = streams(offset=7.0)
    first, second = ({n: x[part] for n, x in data.items()} for part in (slice(90), slice(90, None)))
    for number, pairs in enumerate(["all", [("d", "a")], []]):
        path = tmp_path / f"{number}.safetensors"
        moments = Moments(pairs=pairs)
        moments.update({name: x.astype(np.float32) for name, x in first.items()}, [40, 50])
        moments.save(path)
        before = path.read_bytes()
        loaded = Moments.load(path)
        assert (loaded.nodes, loaded.pairs, loaded.frames, loaded.utterances) == (
            moments.nodes,
            moments.pairs,
            90,
            2,
        )
        for a, b in [("a", "a"), *moments.pairs]:
            assert torch.equal(loaded.finalize().covariance(a, b), moments.finalize().covariance(a, b))
        assert torch.equal(loaded.finalize().rounding("a"), moments.finalize().rounding("a"))
        for each in (loaded, moments):
            each.update(second)
        assert torch.equal(loaded.finalize().covariance("c", "c"), moments.finalize().covariance("c", "c"))
        assert loaded.frames == 200
        assert path.read_bytes() == before


def test_an_empty_one_can_be_saved(tmp_path):
    Moments(pairs=[("a", "b")]).save(tmp_path / "empty")
    loaded = Moments.load(tmp_path / "empty")
    loaded.update(streams())
    assert loaded.pairs == (("a", "b"),)


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "sums.safetensors"
    filled().save(path)
    before = path.read_bytes()

    def full(*arguments, **named):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.safetensors.torch, "save_file", full)
    with pytest.raises(OtoscopeError, match="no space left on the disk"):
        filled().save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_file_of_sums_is_refused(tmp_path):
    path = tmp_path / "sums.safetensors"
    with pytest.raises(BadInput, match=r"could not read running sums(.|\n)*No such file"):
        Moments.load(path)
    filled().save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadInput, match="could not read running sums"):
        Moments.load(path)
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(BadInput, match=r"format unknown(.|\n)*Moments\.save, format 2"):
        Moments.load(path)


def test_it_travels_between_processes_without_its_block_of_waiting_frames():
    moments = filled()
    letter = pickle.dumps(moments)
    assert len(letter) < 20_000
    copy = pickle.loads(letter)
    copy.update(streams(1))
    moments.update(streams(1))
    assert torch.equal(copy.finalize().covariance("a", "b"), moments.finalize().covariance("a", "b"))


# Rounding.


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 300.0])
def test_rounding_tells_a_constant_from_a_unit_that_varies(dtype, value):
    step = max(abs(value), 1.0) * torch.finfo(dtype).eps
    constant = torch.full((999, 1), value, dtype=dtype)
    varying = (constant.double() + 8 * step * torch.randn(999, 1, generator=torch.manual_seed(0))).to(dtype)
    moments = Moments()
    for start in (0, 100, 500):
        moments.update({"constant": constant[start:], "varying": varying[start:]})
    assert moments.finalize().covariance("constant", "constant") <= moments.finalize().rounding("constant")
    assert moments.finalize().covariance("varying", "varying") > moments.finalize().rounding("varying")


def test_the_coarsest_dtype_decides_about_rounding():
    x = torch.tensor([[1.0], [2.0], [4.0]])
    fine, coarse = Moments(), Moments()
    fine.update({"x": x})
    coarse.update({"x": x.half()})
    wanted = 2.0**-20 / 12 * 7
    assert float(coarse.finalize().rounding("x")) == pytest.approx(wanted, rel=1e-6)
    assert float(fine.finalize().rounding("x")) == pytest.approx(wanted / 2**26, rel=1e-1)
    fine.merge(coarse)
    assert float(fine.finalize().rounding("x")) == pytest.approx(wanted, rel=1e-6)


def test_what_cancels_between_shift_and_mean_counts_as_rounding():
    moments = Moments()
    for value, frames in [(1e6, 1), (0.0, 999)]:
        moments.update({"x": np.full((frames, 1), value)})
    # The mean is 1e3, 0.999e6 from the shift; the variance, 1e9 - 1e6, is small beside that.
    assert float(moments.finalize().rounding("x")) == pytest.approx(2.0**-52 * (0.999e6**2 + 0.999e9), rel=1e-9)


# Errors.


def spoiled(value, times=1):
    x = streams()["a"].astype(np.float32)
    x[17, :times] = value
    return x


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        (
            {"a": spoiled(np.nan, 3)},
            r"node 'a' holds.*not numbers\n.*3 NaN and 0 infinite of 1000 values, from frame 17",
        ),
        ({"a": spoiled(np.inf, 2)}, r"node 'a' holds.*not numbers\n.*0 NaN and 2 infinite of 1000"),
        ({"a": spoiled(-np.inf)}, "0 NaN and 1 infinite"),
        ({"a": spoiled(np.nan).astype(np.float16)}, "1 NaN and 0 infinite"),
        ({"a": np.full((3, 2), -1e200)}, r"node 'a' holds values too large to square\n.*1e\+200"),
        ({"a": np.zeros((3, 2)), "b": np.zeros((4, 2))}, r"differ in their number of frames\n.*'a' 3, 'b' 4"),
        ({"a": np.zeros(3)}, r"node 'a' is no matrix of frames\n.*shape \(3,\)"),
        ({"a": np.zeros((2, 3, 4, 5))}, r"shape \(2, 3, 4, 5\)(.|\n)*with lengths"),
        ({"a": np.zeros((3, 0))}, "node 'a' has no units"),
        ({"a": np.zeros((3, 2), complex)}, "node 'a' is not an array of real numbers\n.*complex128"),
        ({"a": torch.zeros(3, 2, dtype=torch.complex64)}, "node 'a' is not an array of real numbers\n.*complex64"),
        ({"a": np.array([["x"]])}, "node 'a' is not an array of real numbers"),
        ({}, "there are no nodes"),
    ],
)
def test_a_bad_first_batch_is_refused_in_words(batch, words):
    moments = Moments()
    with pytest.raises(BadInput, match=words):
        moments.update(batch)
    moments.update(streams())
    assert_right(moments, streams())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"b": np.zeros((200, 4))}, r"this batch has node 'b' in another width\n.*4 units\n.*3 units"),
        ({"e": np.zeros((200, 4))}, "this batch has other nodes than before\n.*missing: none; new: 'e'"),
        ({"b": None}, "this batch has other nodes than before\n.*missing: 'b'; new: none"),
        ({"d": np.full((200, 4), np.nan)}, "node 'd' holds values that are not numbers\n.*800 NaN"),
    ],
)
def test_a_bad_later_batch_is_refused_and_adds_nothing(change, words):
    data = streams()
    moments = filled(data)
    bad = {name: x for name, x in {**data, **change}.items() if x is not None}
    with pytest.raises(BadInput, match=words):
        moments.update(bad)
    assert moments.utterances == 1
    assert_right(moments, data)


def test_merging_other_nodes_widths_or_pairs_is_refused_and_adds_nothing():
    data = streams()
    moments = filled(data)
    others = [
        (filled({"a": data["a"]}), r"the sums to be added have other nodes(.|\n)*missing: 'b', 'c', 'd'"),
        (filled({**data, "a": data["b"]}), "the sums to be added have node 'a' in another width"),
        (filled(data, pairs=[("a", "b")]), r"sums of different pairs(.|\n)*got: +\('a', 'b'\)\n"),
    ]
    for other, words in others:
        with pytest.raises(BadInput, match=words):
            moments.merge(other)
    assert_right(moments, data)
    with pytest.raises(BadInput, match=r"names a node that is not there(.|\n)*'z'"):
        Moments(pairs=[("a", "z")]).merge(moments)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Moments(pairs="al"), BadOption, r"unknown choice of pairs(.|\n)*did you mean 'all'"),
        (lambda: Moments(pairs=["ab"]), BadInput, "a pair is two node names\n.*'ab'"),
        (lambda: Moments(pairs=[("a", "b", "c")]), BadInput, "a pair is two node names"),
        (lambda: Moments({"a": 2}, pairs=[("a", "z")]), BadInput, r"not there\n.*'z'\n.*among 'a'"),
        (lambda: Moments({"a": 0}), BadInput, "node 'a' has no units\n.*width 0"),
        (lambda: Moments({"a": 2}).finalize().mean("a"), BadInput, "nothing to read yet\n.*0 frames"),
        (lambda: Moments({"a": 2}).finalize().covariance("a", "a"), BadInput, "nothing to read yet"),
        (lambda: filled().finalize().mean("z"), BadInput, "there is no node 'z'\n.*one of 'a'"),
        (lambda: filled().finalize().covariance("a", "z"), BadInput, "there is no node 'z'"),
    ],
)
def test_wrong_requests_are_refused_in_words(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_it_says_what_it_holds():
    assert repr(filled()) == "Moments(nodes=4, pairs=6, frames=200, utterances=1)"


# Folds.


def spoken(count=11, seed=0, offset=0.0):
    """Utterances of 1 to 30 frames, which drift."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 31, count).tolist()
    data = streams(seed, frames=sum(lengths), offset=offset)
    data = {name: x + np.linspace(0, 5, len(x))[:, None] for name, x in data.items()}
    return data, lengths


def of_utterances(data, lengths, wanted):
    rows = np.repeat(wanted, lengths)
    return {name: x[rows] for name, x in data.items()}


def assert_folds_right(moments, data, lengths, owners):
    for fold in range(moments.folds):
        rest = of_utterances(data, lengths, np.array(owners) != fold)
        sums = moments.finalize(without=fold)
        assert (sums.frames, sums.utterances) == (len(rest["a"]), sum(owner != fold for owner in owners))
        for a in data:
            np.testing.assert_allclose(sums.mean(a), rest[a].mean(0), rtol=1e-10, atol=1e-10)
            for b in data:
                np.testing.assert_allclose(sums.covariance(a, b), covariance(rest[a], rest[b]), rtol=1e-9, atol=1e-8)
    assert_right(moments, data, rtol=1e-9)


@settings(max_examples=8, deadline=None)
@given(
    folds=st.integers(2, 5),
    drawn=st.one_of(st.none(), st.lists(st.integers(0, 4), min_size=11, max_size=11)),
    cuts=st.lists(st.integers(0, 11), max_size=3),
    block=st.sampled_from([3, 64, 8192]),
    offset=st.sampled_from([0.0, 1e4]),
)
def test_without_a_fold_are_the_sums_of_the_other_utterances(folds, drawn, cuts, block, offset):
    data, lengths = spoken(offset=offset)
    owners = [index % folds for index in range(11)] if drawn is None else [fold % folds for fold in drawn]
    if len(set(owners)) == 1:
        owners[0] = (owners[0] + 1) % folds
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_FRAMES", (block, block))
        moments = Moments(folds=folds)
        edges = [0, *sorted(cuts), 11]
        for start, stop in itertools.pairwise(edges):
            here = np.array([start <= index < stop for index in range(11)])
            batch = of_utterances(data, lengths, here)
            moments.update(batch, lengths[start:stop], folds=None if drawn is None else owners[start:stop])
        assert_folds_right(moments, data, lengths, owners)


def test_folds_are_saved_and_merged_each_with_its_own(tmp_path):
    data, lengths = spoken()
    shards = []
    for start, stop in [(4, 11), (0, 4)]:
        here = np.array([start <= index < stop for index in range(11)])
        shard = Moments(folds=3)
        shard.update(of_utterances(data, lengths, here), lengths[start:stop], folds=[i % 3 for i in range(start, stop)])
        shard.save(tmp_path / "sums")
        shards.append(Moments.load(tmp_path / "sums"))
        assert shards[-1].folds == 3
    total = Moments(folds=3)
    for shard in shards:
        total.merge(shard)
    assert_folds_right(total, data, lengths, [index % 3 for index in range(11)])


def test_batches_with_masks_deal_utterances_to_folds_too():
    data, lengths = spoken(4)
    mask = np.arange(30) < np.array(lengths)[:, None]
    batch = {name: np.full((4, 30, x.shape[1]), np.nan) for name, x in data.items()}
    for name, x in data.items():
        batch[name][mask] = x
    moments = Moments(folds=2)
    moments.update(batch, mask=mask)
    assert_folds_right(moments, data, lengths, [0, 1, 0, 1])


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Moments(folds=1), BadOption, r"folds are parts of the utterances\n.*1\n.*0, or 2 and more"),
        (lambda: Moments(folds=-3), BadOption, r"folds are parts of the utterances\n.*-3"),
        (lambda: Moments(precision="half"), BadOption, r"unknown precision\n.*'half'"),
        (lambda: filled().finalize(without=0), BadOption, r"there is no such fold\n.*0\n.*one of 0 folds"),
        (lambda: filled(folds=2).finalize(without=2), BadOption, r"there is no such fold\n.*2\n.*one of 2 folds"),
        (lambda: filled(folds=2).finalize(without=0), BadInput, r"nothing to read yet\n.*0 frames"),
        (
            lambda: filled(folds=2).update(streams(), folds=[2]),
            BadInput,
            r"folds do not fit.*\n.*2\n.*1 numbers from 0 to 1",
        ),
        (lambda: filled(folds=2).update(streams(), folds=[0, 1]), BadInput, r"folds do not fit.*\n.*0, 1\n.*1 numbers"),
        (lambda: filled(folds=2).merge(filled()), BadInput, r"different kinds(.|\n)*0 folds.*\n.*2 folds"),
        (
            lambda: filled().merge(filled(squared_norms=True)),
            BadInput,
            r"different kinds(.|\n)*norms: True\n.*norms: False",
        ),
    ],
)
def test_wrong_folds_are_refused_in_words(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_wrong_folds_add_nothing():
    data = streams()
    moments = filled(data, folds=2)
    with pytest.raises(BadInput, match="the folds do not fit the utterances"):
        moments.update(data, [100, 100], folds=[0, 5])
    assert_right(moments, data)


# Squared norms.


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("folds", [0, 3])
def test_squared_norms_are_the_plain_mean_of_their_products(folds, offset):
    data, lengths = spoken(offset=offset)
    moments = Moments(squared_norms=True, folds=folds)
    moments.update(data, lengths)
    sums = moments.finalize()
    norms = {name: ((x - x.mean(0)) ** 2).sum(1) for name, x in data.items()}
    for a in data:
        for b in data:
            assert sums.squared_norms(a, b) == pytest.approx((norms[a] * norms[b]).mean(), rel=1e-9)


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    cuts=st.lists(st.integers(1, 79), max_size=4, unique=True),
    order=st.permutations(range(5)),
    offset=st.sampled_from([0.0, -30.0, 1e4]),
    turned=st.booleans(),
)
def test_the_debiased_cka_of_merged_shards_is_the_direct_formula(seed, cuts, order, offset, turned):
    data = streams(seed, frames=80, offset=offset, widths=(5, 3))
    data = {name: x + np.linspace(0, 5, 80)[:, None] for name, x in data.items()}
    edges = [0, *sorted(cuts), 80]
    shards = []
    for start, stop in itertools.pairwise(edges):
        part = {name: x[start:stop] for name, x in data.items()}
        # Each shard has the shift of its own first frames; the order of its nodes may be another.
        shards.append(filled(dict(reversed(part.items())) if turned and start else part, squared_norms=True))
    total = Moments(squared_norms=True)
    for index in [index for index in order if index < len(shards)]:
        total.merge(shards[index])
    assert total.frames == 80
    found = similarities(total, "cka_debiased", [("a", "b"), ("b", "a")]).values["cka_debiased"]
    wanted = direct_cka_debiased(data["a"], data["b"])
    assert found["a", "b"] == pytest.approx(wanted, abs=1e-9)
    assert found["b", "a"] == pytest.approx(wanted, abs=1e-9)


def test_what_was_finalized_stays_what_it_was_while_the_pass_goes_on():
    data, more = streams(0), streams(1, offset=3.0)
    moments = filled(data)
    sums = moments.finalize()
    moments.update(more)
    moments.finalize()
    for a in data:
        np.testing.assert_allclose(sums.mean(a), data[a].mean(0), atol=1e-10)
        np.testing.assert_allclose(sums.covariance(a, "b"), covariance(data[a], data["b"]), atol=1e-10)
