"""Where input-layer GradNAPs of vowels peak, against the formants measured from the same recordings.

python recipes/formants/formants.py RUN CORPUS --where gender=f --vowels AA,AE
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import otoscope
from otoscope.hear.corpus import Utterance
from otoscope.study.formants import TOP_HZ, chance_of_peaks, measured_vowels, nearest, peaks_hz


@dataclass(frozen=True)
class Formant:
    """One formant of one vowel: by linear prediction, as a peak of the mean spectrum, and as a peak of the profile."""

    vowel: str
    number: int
    instances: int
    predicted_hz: float
    spectral_hz: float | None
    profile_hz: float | None
    holds: bool
    chance: float
    """Share of the mel bins that lie as close to some peak of the profile: how likely any frequency is to hold."""


def compare(
    network: object, utterances: Sequence[Utterance], vowels: Sequence[str], top_hz: float = TOP_HZ
) -> list[Formant]:
    """F1 and F2 of each vowel: measured in the utterances' `phone` tier, and read off the network's profiles."""
    heard = []
    for utterance in utterances:
        # A tier of its own, for phones are folded: TIMIT's /ao/ would count as /aa/.
        tier = [segment._replace(label=segment.label.upper()) for segment in utterance.tiers["phone"]]
        tier = [segment for segment in tier if segment.label in vowels]
        heard.append(utterance.replace(tiers={**utterance.tiers, "vowel": tier}))
    measured = measured_vowels(heard, vowels, "vowel", top_hz)
    # The mean of |gradient| holds in every network tried; its absolute mean, as in the paper, in one and not the next.
    profiles = otoscope.gradnap(network, heard, layers="input", by=("symbol", "vowel"), mask="mean_of_abs")
    found = []
    for vowel, truth in measured.items():
        group = f"vowel:{vowel}"
        peaks = peaks_hz(profiles.profile["input"].sel(group=group).sum("offset").values)
        count = int(profiles.instances.sel(layer="input", group=group))
        for number in (1, 2):
            predicted, hump = truth.predicted_hz[number - 1], truth.spectral_hz[number - 1]
            peak = nearest(peaks, predicted)
            holds = truth.near(number, peak)
            found.append(Formant(vowel, number, count, predicted, hump, peak, holds, chance_of_peaks(peaks)))
    return found


def main() -> None:
    """Print one line for each formant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run's folder, or one of its checkpoints")
    parser.add_argument("corpus", help="a manifest whose utterances have phones")
    parser.add_argument("--where", help="which utterances, such as gender=f")
    parser.add_argument("--vowels", default="AA,AE")
    parser.add_argument("--top", type=float, default=TOP_HZ, help="highest frequency of linear prediction, in Hz")
    given = parser.parse_args()
    utterances = otoscope.read_corpus(given.corpus)
    if given.where:
        utterances = otoscope.select(utterances, given.where)
    for row in compare(otoscope.load(given.run), list(utterances), given.vowels.split(","), given.top):
        shown = ["none" if hertz is None else f"{hertz:.0f}" for hertz in (row.spectral_hz, row.profile_hz)]
        print(
            f"/{row.vowel}/ F{row.number}  N = {row.instances}  linear prediction {row.predicted_hz:.0f} Hz  "
            f"mean spectrum {shown[0]}  profile {shown[1]}  {'holds' if row.holds else 'does not hold'} "
            f"(by chance {row.chance:.0%})"
        )


if __name__ == "__main__":
    main()
