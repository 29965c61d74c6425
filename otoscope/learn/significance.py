"""How sure a word error rate is, and whether two systems differ: the bootstrap, and matched pairs of segments."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray

from otoscope.base import BadInput, BadOption
from otoscope.learn.score_files import Scores
from otoscope.learn.word_alignment import CORRECT, INSERTION, Pair

SAMPLES = 10_000
# Draws are made in blocks, so that many samples of many utterances fit in memory.
_BLOCK = 1_000_000


class Interval(NamedTuple):
    """A bootstrap percentile interval of a rate in percent.

    Attributes:
        value: the rate itself.
        level: share of such intervals that hold the true rate, if units like these were drawn again.
        units: how many utterances, or speakers, were drawn from.
        samples: how many times.
    """

    value: float
    low: float
    high: float
    level: float
    units: int
    samples: int


class Difference(NamedTuple):
    """A paired bootstrap of two systems on the same units.

    Attributes:
        value: the second system's rate less the first's, in percent; below 0 the second is better.
        better: share of the samples in which the second has fewer errors (half of those with as many); Bisani and
            Ney's probability of improvement.
        p: two-sided, twice the smaller of `better` and `1 - better`; at least 1 / samples.
    """

    value: float
    low: float
    high: float
    level: float
    better: float
    p: float
    units: int
    samples: int


class MatchedPairs(NamedTuple):
    """The matched-pairs test on the errors of two systems in the same segments of speech.

    Attributes:
        segments: those in which at least one of the systems errs.
        mean: of the first system's errors less the second's, in a segment.
        sd: their standard deviation.
        z: mean / (sd / sqrt(segments)); NaN where there are no two segments.
        p: two-sided, from the normal distribution.
    """

    segments: int
    mean: float
    sd: float
    z: float
    p: float


class Comparison(NamedTuple):
    """Two systems on the utterances that both have.

    Attributes:
        difference: by the paired bootstrap.
        matched_pairs: on the stretches in which one of them errs.
        utterances: how many both have.
        left_out: how many only one of them has.
    """

    difference: Difference
    matched_pairs: MatchedPairs
    utterances: int
    left_out: int


def _by_unit(units: Sequence[Hashable] | None, *columns: ArrayLike) -> list[NDArray[np.int64]]:
    """Sums of each column over each unit."""
    arrays = [np.asarray(column, dtype=np.int64) for column in columns]
    if units is None:
        return arrays
    numbers: dict[Hashable, int] = {}
    index = [numbers.setdefault(unit, len(numbers)) for unit in units]
    return [np.bincount(index, weights=array, minlength=len(numbers)).astype(np.int64) for array in arrays]


def _check(words: NDArray[np.int64], level: float, samples: int) -> None:
    if not 0 < level < 1:
        raise BadOption("an interval has a level", got=f"{level:g}", wanted="between 0 and 1, as 0.95")
    if samples < 100:
        raise BadOption("a percentile needs samples", got=samples, wanted="at least 100, better 10000")
    if len(words) < 2:
        raise BadInput("an interval needs something to draw from", got=f"{len(words)}", wanted="2 or more units")
    if words.sum() == 0:
        raise BadInput("a rate needs reference words", got="0 words", wanted="a reference that is not empty")


def _resampled(columns: Sequence[NDArray[np.int64]], samples: int, seed: int) -> NDArray[np.int64]:
    """Sums of each column over units drawn with replacement: `(column, sample)`; every sample is of all columns."""
    count = len(columns[0])
    rng = np.random.default_rng(seed)
    sums = np.empty((len(columns), samples), dtype=np.int64)
    block = max(1, _BLOCK // count)
    for start in range(0, samples, block):
        end = min(start + block, samples)
        drawn = rng.integers(count, size=(end - start, count))
        for index, column in enumerate(columns):
            sums[index, start:end] = column[drawn].sum(1)
    return sums


def bootstrap_interval(
    errors: ArrayLike,
    words: ArrayLike,
    *,
    units: Sequence[Hashable] | None = None,
    level: float = 0.95,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Interval:
    """The percentile interval of a word error rate, by drawing utterances with replacement.

    Errors within an utterance depend on each other, so utterances are drawn whole; so do, less, those of a speaker.

    Args:
        errors: of each utterance, `(utterance,)`.
        words: of its reference, `(utterance,)`.
        units: what is drawn, for each utterance the name of that which it belongs to, as its speaker; utterances
            themselves if left out.
        level: between 0 and 1.
        samples: at least 100.
        seed: the same gives the same.

    Raises:
        BadInput: fewer than two units, or no reference words.
        BadOption: a level or a number of samples out of range.

    Source: Bisani and Ney 2004, "Bootstrap estimates for confidence intervals in ASR performance evaluation";
    percentiles as in Efron and Tibshirani 1993, "An introduction to the bootstrap", chapter 13.
    """
    wrong, said = _by_unit(units, errors, words)
    _check(said, level, samples)
    drawn_errors, drawn_words = _resampled([wrong, said], samples, seed)
    # A draw of nothing but empty references has no rate.
    rates = 100 * drawn_errors[drawn_words > 0] / drawn_words[drawn_words > 0]
    low, high = np.quantile(rates, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(100 * wrong.sum() / said.sum()), float(low), float(high), level, len(said), samples)


def paired_bootstrap(
    first: ArrayLike,
    second: ArrayLike,
    words: ArrayLike,
    second_words: ArrayLike | None = None,
    *,
    units: Sequence[Hashable] | None = None,
    level: float = 0.95,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Difference:
    """Whether two systems differ: both are scored on the same draws of utterances.

    What makes an utterance hard makes it hard for both, so the difference is far surer than two intervals say.

    Args:
        first: errors of the first system in each utterance, `(utterance,)`.
        second: errors of the second.
        words: of the reference.
        second_words: of the reference as the second system was scored, where alternatives of it differ in their words.
        units, level, samples, seed: as in `bootstrap_interval`.

    Raises:
        BadInput, BadOption: as `bootstrap_interval`.

    Source: Bisani and Ney 2004, as in `bootstrap_interval`; `better` is their probability of improvement.
    """
    one, two, said, heard = _by_unit(units, first, second, words, words if second_words is None else second_words)
    for each in (said, heard):
        _check(each, level, samples)
    ones, twos, first_words, other_words = _resampled([one, two, said, heard], samples, seed)
    kept = (first_words > 0) & (other_words > 0)
    differences = 100 * (twos[kept] / other_words[kept] - ones[kept] / first_words[kept])
    better = float(np.mean((differences < 0) + 0.5 * (differences == 0)))
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    value = 100 * (two.sum() / heard.sum() - one.sum() / said.sum())
    p = min(1.0, max(2 * min(better, 1 - better), 1 / samples))
    return Difference(float(value), float(low), float(high), level, better, p, len(said), samples)


def matched_pairs(first: ArrayLike, second: ArrayLike) -> MatchedPairs:
    """The matched-pairs test on errors of two systems in segments that do not depend on each other.

    With Z the first's errors less the second's in each of n segments, W = mean(Z) / (sd(Z) / sqrt(n)) is normal with
    variance 1 for large n if the systems do not differ.

    Args:
        first: errors of the first system, `(segment,)`.
        second: errors of the second in the same segments.

    Source: Gillick and Cox 1989, "Some statistical issues in the comparison of speech recognition algorithms".
    """
    z = np.asarray(first, float) - np.asarray(second, float)
    count = len(z)
    if count < 2:
        return MatchedPairs(count, float(z.mean()) if count else 0.0, math.nan, math.nan, math.nan)
    mean, sd = float(z.mean()), float(z.std(ddof=1))
    if sd == 0:
        # All segments differ alike: not at all, or surely.
        return MatchedPairs(count, mean, sd, 0.0 if mean == 0 else math.copysign(math.inf, mean), float(mean == 0))
    score = mean / (sd / math.sqrt(count))
    return MatchedPairs(count, mean, sd, score, float(2 * scipy.stats.norm.sf(abs(score))))


def error_segments(first: Sequence[Pair], second: Sequence[Pair], *, apart: int = 2) -> list[tuple[int, int]]:
    """The stretches of an utterance in which at least one of two systems errs, with the errors of each.

    Two errors belong to one stretch unless `apart` words or more between them are right in both systems: after so many
    right words an error says nothing about the next. Where the two alignments chose different alternatives of the
    reference, and so have different reference words, the utterance is one stretch.

    Args:
        first: the alignment of the first system, from `align`.
        second: of the second, with the same reference.
        apart: how many right words part two stretches.

    Returns: `(errors of the first, errors of the second)` of each stretch.

    Source: Gillick and Cox 1989; two words as in NIST's implementation (Pallett et al. 1990, "Tools for the analysis of
    benchmark speech recognition tests").
    """
    sides = [_places(pairs) for pairs in (first, second)]
    if [word for word, _ in sides[0]] != [word for word, _ in sides[1]]:
        errors = tuple(sum(count for _, count in side) for side in sides)
        return [(errors[0], errors[1])] if any(errors) else []
    found: list[tuple[int, int]] = []
    right = apart
    for (word, one), (_, two) in zip(*sides, strict=True):
        if one or two:
            if right >= apart:
                found.append((0, 0))
            found[-1] = (found[-1][0] + one, found[-1][1] + two)
            right = 0
        elif word is not None:
            right += 1
    return found


def _places(pairs: Sequence[Pair]) -> list[tuple[str | None, int]]:
    """Errors at each word of the reference and, named None, in the gap before each and after the last."""
    places: list[tuple[str | None, int]] = [(None, 0)]
    for pair in pairs:
        if pair.reference is None:
            places[-1] = (None, places[-1][1] + (pair.kind == INSERTION))
        else:
            places += [(pair.reference, int(pair.kind != CORRECT)), (None, 0)]
    return places


def score_interval(
    scores: Scores, *, by_speaker: bool = False, level: float = 0.95, samples: int = SAMPLES, seed: int = 0
) -> Interval:
    """The interval of `bootstrap_interval` for what `score_files` counted.

    Args:
        by_speaker: draw speakers in place of utterances, to say what other speakers would give.
        level, samples, seed: as there.
    """
    return bootstrap_interval(
        [each.counts.errors for each in scores.utterances],
        [each.counts.words for each in scores.utterances],
        units=[each.speaker for each in scores.utterances] if by_speaker else None,
        level=level,
        samples=samples,
        seed=seed,
    )


def compare_scores(
    first: Scores,
    second: Scores,
    *,
    by_speaker: bool = False,
    level: float = 0.95,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Comparison:
    """Two systems on the same utterances: `Scores` of the same reference.

    Args:
        first, second: from `score_files`.
        by_speaker: draw speakers in place of utterances.
        level, samples, seed: of the bootstrap.

    Raises:
        BadInput: no utterance in common.
    """
    other = {each.id: each for each in second.utterances}
    pairs = [(each, other[each.id]) for each in first.utterances if each.id in other]
    if not pairs:
        raise BadInput("the two systems have no utterance in common", wanted="hypotheses for the same reference")
    stretches = [stretch for one, two in pairs for stretch in error_segments(one.pairs, two.pairs)]
    return Comparison(
        paired_bootstrap(
            [one.counts.errors for one, _ in pairs],
            [two.counts.errors for _, two in pairs],
            [one.counts.words for one, _ in pairs],
            [two.counts.words for _, two in pairs],
            units=[one.speaker for one, _ in pairs] if by_speaker else None,
            level=level,
            samples=samples,
            seed=seed,
        ),
        matched_pairs([one for one, _ in stretches], [two for _, two in stretches]),
        len(pairs),
        len(first.utterances) + len(second.utterances) - 2 * len(pairs),
    )
