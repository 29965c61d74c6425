"""How good phone times are: forced alignment against given times, and GradNAPs by the one, the other, and by letters.

The corpus has a tier of phones with their times, exact or by hand. Prints the rows of the tables in
docs/how-to/phone-times.md.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas

import otoscope
from otoscope.base import BadInput, OtoscopeError
from otoscope.hear.corpus import Utterance
from otoscope.hear.phones import guess_source
from otoscope.hear.text import normalise_text
from otoscope.hear.tiers import Segment
from otoscope.learn.letters import LetterAligner
from otoscope.reduce.likeness import standardised
from otoscope.study.alignment_quality import joined_closures
from otoscope.study.groupings import fold_phones

# As the 39 classes of Lee and Hon count them.
SAME = {"AO": "AA", "ZH": "SH"}
VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "without the move to spectral changes": {"refine_s": 0.0},
    "without the delay either": {"refine_s": 0.0, "delay_s": 0.0},
    'boundaries midway between letters (`extent="midway"`)': {"extent": "midway"},
    'from the last frame of the letter before (`"since_last"`)': {"extent": "since_last"},
    'frames of the path only (`"path"`)': {"extent": "path"},
}
LEAST = 10
DRAWS = 300


def given(utterance: Utterance) -> list[Segment]:
    """The given phones as ARPAbet, TIMIT's closures with their stops, silence left out."""
    return fold_phones([joined_closures(utterance.tiers["phone"])], lee_hon=False)[0]


def counted(tiers: Sequence[Sequence[Segment]], timit: bool) -> list[list[Segment]]:
    """As they are compared: TIMIT's in 39 classes."""
    return [[one._replace(label=SAME.get(one.label, one.label) if timit else one.label) for one in t] for t in tiers]


def own_pronunciations(utterances: Sequence[Utterance]) -> Callable[[str], Any]:
    """Words as these speakers say them: of each the most frequent, its letters and phones matched by EM."""
    said: dict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
    for utterance in utterances:
        phones = given(utterance)
        for word in utterance.tiers["word"]:
            inside = [one for one in phones if word.start_s - 1e-6 <= (one.start_s + one.end_s) / 2 < word.end_s]
            said[normalise_text(word.label)][tuple(one.label for one in inside)] += 1
    pairs = [(word, spoken) for word, ways in said.items() for spoken, count in ways.items() for _ in range(count)]
    aligner = LetterAligner.fit(pairs)
    made = {
        word: list(zip(word, aligner.align(word, ways.most_common(1)[0][0]), strict=True))
        for word, ways in said.items()
        if word
    }

    def pronounce(word: str) -> Any:
        if word not in made:
            raise BadInput("nobody says this word", got=word)
        return made[word]

    return pronounce


def unlike(profiles: otoscope.Profiles, layer: str, one: str, other: str) -> float:
    """The median correlation of profiles of different phones, one from each grouping."""
    names = [[name for name in profiles.groups if name.startswith(f"{by}:")] for by in (one, other)]
    first, second = (standardised(profiles.profile[layer].sel(group=each).values) for each in names)
    table = first.reshape(len(first), -1) @ second.reshape(len(second), -1).T
    labels = [np.array([name.partition(":")[2] for name in each]) for each in names]
    return float(np.nanmedian(table[labels[0][:, None] != labels[1][None, :]]))


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run, or a checkpoint")
    parser.add_argument("corpus", type=Path, help="its manifest")
    parser.add_argument("--where", help="only these utterances: split=test")
    parser.add_argument("--lexicon", type=Path, help="a dictionary, asked first")
    parser.add_argument(
        "--own", action="store_true", help="words as the corpus itself says them, to measure times only"
    )
    parser.add_argument("--variants", action="store_true", help="also without parts of the method, and other extents")
    parser.add_argument("--profiles", type=int, metavar="N", help="also GradNAPs on N of the utterances")
    parser.add_argument("--csv", type=Path, help="correlations of each phone in each layer")
    chosen = parser.parse_args()

    network = otoscope.load(chosen.run)
    corpus = otoscope.read_corpus(chosen.corpus)
    speech = otoscope.listen(otoscope.select(corpus, chosen.where) if chosen.where else corpus, mels=network.mels)
    if chosen.own:
        pronounce = own_pronunciations(corpus)
    else:
        pronouncer = otoscope.Pronouncer(otoscope.read_lexicon(chosen.lexicon) if chosen.lexicon else None)
        pronouncer.words(sorted({word for u in speech.utterances for word in normalise_text(u.text).split()}))

        def pronounce(word: str) -> Any:
            return pronouncer.word(word).letters

    exact = {utterance.id: given(utterance) for utterance in speech.utterances}
    timit = guess_source({one.label for u in speech.utterances for one in u.tiers["phone"]}) == "timit"
    aligned: dict[str, list[Segment]] = {}
    delay_s = 0.0
    for name, options in VARIANTS.items():
        if options and not chosen.variants:
            break
        found = otoscope.align(network, speech, pronounce, **options)
        quality = otoscope.alignment_quality(
            counted([exact[utterance.id] for utterance in found.utterances], timit),
            counted([utterance.tiers["phone"] for utterance in found.utterances], timit),
            draws=DRAWS,
        )
        print(f"{name}: {quality}; delay {1000 * found.delay_s:.0f} ms; {quality.phones} phones,", end=" ")
        print(f"{quality.unmatched} unmatched, {quality.extra} extra, {quality.other} of another label", flush=True)
        if not options:
            aligned = {utterance.id: utterance.tiers["phone"] for utterance in found.utterances}
            delay_s = found.delay_s
    if not chosen.profiles:
        return

    step = max(1, len(speech) // chosen.profiles)
    some = speech.among(
        [i for i in range(0, len(speech), step) if speech.utterances[i].id in aligned][: chosen.profiles]
    )
    some.utterances = [
        utterance.replace(
            tiers={
                "exact": exact[utterance.id],
                "late": [Segment(a + delay_s, b + delay_s, label) for a, b, label in exact[utterance.id]],
                "aligned": aligned[utterance.id],
            }
        )
        for utterance in some.utterances
    ]
    profiles = otoscope.gradnap(
        network, some, by=["exact", "late", "aligned", "reference-phone"], min_instances=LEAST, pronounce=pronounce
    )
    print(f"{len(some)} utterances, {profiles.n} instances, ungrouped {profiles.settings['ungrouped']}")
    print(profiles.settings["stand_for"])
    tables = []
    for one, other in (("exact", "aligned"), ("exact", "reference-phone"), ("late", "reference-phone")):
        found = otoscope.profile_agreement(profiles, profiles, one, other)
        tables.append(found.drop_vars("median").to_dataframe().reset_index().assign(one=one, other=other))
        there = np.isfinite(found["correlation"].values)
        print(f"{one} and {other}: {int(there.all(0).sum())} phones with {LEAST} instances or more; median by layer")
        print(
            "  "
            + ", ".join(f"{layer} {float(found['median'].sel(layer=layer)):.2f}" for layer in found["layer"].values)
        )
        others = ", ".join(f"{layer} {unlike(profiles, layer, one, other):.2f}" for layer in profiles.layers)
        print(f"  of different phones: {others}")
        mean = found["correlation"].mean("layer", skipna=False)
        listed = [f"{label} {float(mean.sel(label=label)):.2f}" for label in mean["label"].values]
        print("  mean over layers: " + ", ".join(row for row in listed if "nan" not in row), flush=True)
    if chosen.csv:
        pandas.concat(tables).to_csv(chosen.csv, index=False)


if __name__ == "__main__":
    try:
        main()
    except OtoscopeError as error:
        sys.exit(str(error))
