"""Phone times for any speech: transcripts aligned with the sound by a CTC network, written as tiers.

Letters come from forced alignment (`otoscope.learn.align`), phones from what each letter of a word makes
(`otoscope.learn.phone_times`), and boundaries are moved to where the sound changes (`otoscope.learn.boundaries`).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import EllipsisType
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from otoscope.base import BadInput, BadOption, OtoscopeError, Progress, Seconds, choose, silent
from otoscope.hear.audio import HOP_S
from otoscope.hear.corpus import Problem, Utterance, write_manifest
from otoscope.hear.label_files import write_ctm, write_textgrids
from otoscope.hear.text import encode
from otoscope.hear.tiers import Segment
from otoscope.learn.align import Alignment, Extent, as_letters, best_paths, extents
from otoscope.learn.boundaries import MOST_S, measured_delay, refined, spectral_change
from otoscope.learn.phone_times import Spelling, phone_segments, word_segment
from otoscope.probe.layers import list_layers
from otoscope.probe.taps import evaluating
from otoscope.study.explained import symbol_names
from otoscope.study.predictions import at_home
from otoscope.study.speech import Speech, heard_by

TIERS = ("grapheme", "phone", "word")
# How long a letter may last before and after its peak, in seconds: what is beyond is a pause.
REACH_S = 0.2

Pronounce: TypeAlias = Callable[[str], Spelling]
"""From a word in small letters to its letters, each with the phones that it makes: `otoscope.learn.phone_times`."""


@dataclass
class Aligned:
    """Utterances with the tiers `grapheme`, `word` and, if pronunciations were given, `phone`; and what was met.

    Attributes:
        utterances: copies, in the order of the corpus; the tiers replace those of the same name.
        scores: of each utterance the mean over its letters of the mean natural logarithm of the probability of a
            letter's frames, 0 at best. A low one tells of a text that is not what is said.
        seconds: id → how long an utterance is.
        delay_s: how long after a sound the network says its letter; subtracted.
        measured: whether the delay was measured on this speech.
        problems: what was left out, and why.
        unpronounced: word → how often it came; such words have no phones.
    """

    utterances: list[Utterance] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    seconds: dict[str, Seconds] = field(default_factory=dict)
    delay_s: Seconds = 0.0
    measured: bool = False
    problems: list[Problem] = field(default_factory=list)
    unpronounced: dict[str, int] = field(default_factory=dict)

    @property
    def tiers(self) -> tuple[str, ...]:
        """The tiers that were made."""
        return tuple(name for name in TIERS if any(name in utterance.tiers for utterance in self.utterances))

    def count(self, tier: str) -> int:
        """The number of segments in a tier, over all utterances."""
        return sum(len(utterance.tiers.get(tier, [])) for utterance in self.utterances)


def align(
    network: nn.Module,
    utterances: Iterable[Utterance] | Speech,
    pronounce: Pronounce | None = None,
    *,
    symbols: Sequence[str] | None = None,
    blank: int | EllipsisType | None = ...,
    extent: str = "until_next",
    delay_s: Seconds | None = None,
    refine_s: Seconds = MOST_S,
    reach_s: Seconds = REACH_S,
    batch_size: int = 16,
    strict: bool = False,
    progress: Progress = silent,
) -> Aligned:
    """Align transcripts with their sound: when each letter, phone and word is said.

    Args:
        network: gives CTC's logits `(batch, frame, symbol)`.
        utterances: with texts. What cannot be aligned is left out and named: an empty text, characters that are no
            symbols of the network, a text longer than its audio allows.
        pronounce: which phones the letters of a word make; without it there are no phones. Words for which it raises
            an `OtoscopeError` or gives None have none, and are counted.
        symbols, blank: as for `gradnap`.
        extent: how long a letter lasts, see `otoscope.learn.align.extents`.
        delay_s: how long after a sound the network says its letter; None: measured, see
            `otoscope.learn.boundaries.measured_delay`, and 0 where there is too little speech for that.
        refine_s: how far boundaries are moved to the nearest change of the spectrum; 0: not at all.
        reach_s: how long a letter may last before and after its peak.
        batch_size: utterances at once.
        strict: raise at the first utterance that cannot be used.
        progress: called after each batch.

    Raises:
        BadInput: no utterance can be aligned, or the network has no blank; with `strict`, the first that cannot.
        BadOption: an unknown extent, a negative distance.
    """
    if not (refine_s >= 0 and reach_s > 0):
        raise BadOption("times of an alignment", got=f"refine_s={refine_s}, reach_s={reach_s}", wanted="0 s or more")
    speech = heard_by(network, utterances, strict=strict)
    survey = list_layers(network, speech.features[0])
    if survey.output is None:
        raise BadInput("this network has no output per frame", wanted="logits (batch, frame, symbol)")
    names = as_letters(symbol_names(network, symbols, survey.output.width))
    blank = getattr(network, "blank", None) if isinstance(blank, EllipsisType) else blank
    if blank is None:
        raise BadInput("only networks with CTC's blank align", got="a network without a blank", wanted="blank=0, say")
    problems = list(speech.problems)
    targets = readable(speech, names, problems, strict=strict)
    paths = path_of_each(network, speech, targets, blank, batch_size, problems, strict=strict, progress=progress)
    if not paths:
        got = "; ".join(map(str, problems[:3])) or "an empty corpus"
        raise BadInput("no utterance can be aligned", got=got, wanted="at least one")
    frame_s = survey.output.stride_s
    space = names.index(" ") if " " in names else None
    found = {
        index: extents(path, extent, space=space, reach=reach_s / frame_s) for index, path in sorted(paths.items())
    }
    changes = {index: spectral_change(speech.features[index]) for index in found}
    result = Aligned(problems=problems, delay_s=0.0 if delay_s is None else float(delay_s))
    if delay_s is None:
        # When a symbol is first said, whatever is made of that.
        rows = [extents(paths[index], "path") for index in found]
        starts = [[(one.start - 0.5) * frame_s for one in row if one.symbol != space] for row in rows]
        delay = measured_delay(starts, list(changes.values()))
        result.delay_s, result.measured = delay or 0.0, delay is not None
    lexicon: dict[str, Spelling | None] = {}
    unpronounced: Counter[str] = Counter()
    for index, row in found.items():
        utterance = speech.utterances[index]
        words = letters_in_time(row, names, frame_s, result.delay_s, changes[index], refine_s)
        tiers = {"grapheme": [letter for word in words for letter in word], "word": [word_segment(w) for w in words]}
        if pronounce is not None:
            tiers["phone"] = phones_in_time(words, pronounce, lexicon, unpronounced)
        result.utterances.append(utterance.replace(tiers={**utterance.tiers, **tiers}))
        result.scores.append(sum(one.score for one in row) / len(row))
        result.seconds[utterance.id] = len(speech.features[index]) * HOP_S
    result.unpronounced = dict(unpronounced.most_common())
    return result


def readable(speech: Speech, symbols: Sequence[str], problems: list[Problem], *, strict: bool) -> dict[int, list[int]]:
    """Index of the utterance → numbers of its text's symbols; what has no such text is added to `problems`."""
    found = {}
    for index, utterance in enumerate(speech.utterances):
        try:
            numbers = encode(utterance.text, symbols)
            if not any(symbols[number].strip("' ") for number in numbers):
                raise BadInput("the text has no letters", got=repr(utterance.text)[:80], wanted="what is said")
            found[index] = numbers
        except OtoscopeError as error:
            if strict:
                raise
            problems.append(Problem.of(0, utterance.id, error))
    return found


@torch.no_grad()
def path_of_each(
    network: nn.Module,
    speech: Speech,
    targets: dict[int, list[int]],
    blank: int,
    batch_size: int,
    problems: list[Problem],
    *,
    strict: bool,
    progress: Progress,
) -> dict[int, Alignment]:
    """Index of the utterance → the best path of its text; what has none is added to `problems`."""
    found: dict[int, Alignment] = {}
    batches = -(-len(targets) // batch_size)
    with evaluating(network):
        for number, (indices, features, lengths) in enumerate(speech.batches(batch_size, list(targets))):
            logits, frames = network(*at_home(network, features, lengths))[:2]
            log_probs = logits.float().cpu().log_softmax(-1)
            paths = best_paths(log_probs, frames.cpu(), [targets[index] for index in indices], blank)
            for index, path in zip(indices, paths, strict=True):
                if isinstance(path, Alignment):
                    found[index] = path
                elif strict:
                    raise path
                else:
                    problems.append(Problem.of(0, speech.utterances[index].id, path))
            progress(number + 1, batches, f"{len(found)} utterances aligned")
    return found


def letters_in_time(
    row: Sequence[Extent],
    symbols: Sequence[str],
    frame_s: Seconds,
    delay_s: Seconds,
    change: NDArray[np.float64],
    refine_s: Seconds,
) -> list[list[Segment]]:
    """The letters of each word in seconds. Frame t stands for the time around t * frame_s."""
    end_s = len(change) * HOP_S

    def time(edge: float) -> Seconds:
        return min(max(0.0, (edge - 0.5) * frame_s - delay_s), end_s)

    tier = [Segment(time(one.start), time(one.end), symbols[one.symbol]) for one in row]
    moved = iter(refined([one for one in tier if one.label != " "], change, most_s=refine_s))
    grouped = itertools.groupby(tier, lambda one: one.label == " ")
    words = [[next(moved) for _ in letters] for is_space, letters in grouped if not is_space]
    return [[Segment(round(one.start_s, 5), round(one.end_s, 5), one.label) for one in word] for word in words]


def phones_in_time(
    words: Sequence[Sequence[Segment]],
    pronounce: Pronounce,
    lexicon: dict[str, Spelling | None],
    unpronounced: Counter[str],
) -> list[Segment]:
    """The phones of the words that can be pronounced; `lexicon` remembers words, `unpronounced` counts the others."""
    found = []
    for word in words:
        text = "".join(letter.label for letter in word)
        if text not in lexicon:
            try:
                lexicon[text] = pronounce(text)
            except OtoscopeError:
                lexicon[text] = None
        spelling = lexicon[text]
        if spelling is None:
            unpronounced[text] += 1
        else:
            found += phone_segments(word, spelling)
    return [Segment(round(one.start_s, 5), round(one.end_s, 5), one.label) for one in found]


def write_alignment(aligned: Aligned, out: Path | str, tiers: Sequence[str] | None = None) -> list[Path]:
    """Write tiers to FILE.ctm (one tier), FILE.jsonl (a manifest, all tiers of the utterances in it) or a folder.

    Args:
        aligned: by `align`.
        out: where to; a folder gets a TextGrid an utterance.
        tiers: which; when left out all that were made, in CTM the phones or else the letters.

    Returns: the paths that were written.

    Raises:
        BadOption: a tier that was not made, more than one for CTM, or a file of another ending.
        BadInput, OtoscopeError: what cannot be written.
    """
    out = Path(out)
    kind = out.suffix.lower()
    for name in tiers or ():
        choose("tier of the alignment", name, aligned.tiers)
    if kind == ".ctm":
        chosen = list(tiers or (["phone"] if "phone" in aligned.tiers else ["grapheme"]))
        if len(chosen) != 1:
            raise BadOption("a CTM file has one tier", got=", ".join(chosen), wanted="one of them")
        write_ctm({u.id: u.tiers.get(chosen[0], []) for u in aligned.utterances}, out)
        return [out]
    chosen = list(tiers or aligned.tiers)
    if kind == ".jsonl":
        dropped = set(aligned.tiers) - set(chosen)
        kept = [
            u.replace(tiers={name: tier for name, tier in u.tiers.items() if name not in dropped})
            for u in aligned.utterances
        ]
        write_manifest(kept, out)
        return [out]
    if kind:
        wanted = "FILE.ctm, FILE.jsonl, or a folder for TextGrids"
        raise BadOption("an alignment cannot be written to such a file", got=str(out), wanted=wanted)
    return write_textgrids(aligned.utterances, chosen, aligned.seconds, out)
