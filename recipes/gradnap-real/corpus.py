"""Put TIMIT, LibriSpeech and the embedded corpus together: one manifest to train on, and one of each to look at.

python recipes/gradnap-real/corpus.py OUT --timit TIMIT.jsonl --librispeech LIBRISPEECH.jsonl --embedded EMBEDDED.jsonl

Every utterance gets `source` and `split`. Held out (`split` = test) are of TIMIT all sentences of one woman and one
man, of LibriSpeech every tenth utterance, and of the embedded corpus its own test part. What other transcribed speech
there is (`--more`, one manifest or several) is learned from, too: all but one woman and one man of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path

import otoscope
from otoscope.base import BadInput
from otoscope.hear.corpus import Utterance
from otoscope.study.console import Terminal

SOURCES = ("timit", "librispeech", "embedded")
EVERY = 10


def held_out(source: str, utterances: list[Utterance]) -> set[str]:
    """The ids of the utterances that are not trained on."""
    if source == "embedded":
        return {utterance.id for utterance in utterances if utterance.attributes.get("split") == "test"}
    ordered = sorted(utterances, key=lambda utterance: utterance.id)
    if source == "librispeech":
        return {utterance.id for utterance in ordered[::EVERY]}
    speakers: dict[str, str] = {}
    for utterance in ordered:
        speakers.setdefault(str(utterance.attributes.get("gender")), str(utterance.speaker))
    return {utterance.id for utterance in ordered if str(utterance.speaker) in speakers.values()}


def together(parts: Mapping[str, Iterable[Utterance]]) -> dict[str, list[Utterance]]:
    """The utterances of each source with `source` and `split`.

    Raises:
        BadInput: two utterances have the same id, or a source has nothing to hold out.
    """
    found: dict[str, list[Utterance]] = {}
    seen: set[str] = set()
    for source, part in parts.items():
        utterances = list(part)
        kept = held_out(source, utterances)
        twice = sorted(seen & {utterance.id for utterance in utterances})
        if twice or not kept:
            raise BadInput(
                "these corpora cannot be put together" if twice else f"nothing of {source} can be held out",
                got=f"{', '.join(twice[:3])} in {source} and before it" if twice else f"{len(utterances)} utterances",
                wanted="ids that are all different" if twice else "utterances with split=test, or several speakers",
            )
        seen |= {utterance.id for utterance in utterances}
        found[source] = [
            utterance.replace(source=source, split="test" if utterance.id in kept else "train")
            for utterance in utterances
        ]
    return found


def main() -> None:
    """Read the options, write OUT/SOURCE.jsonl of each, and OUT/manifest.jsonl."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder for the manifests")
    for source in SOURCES:
        parser.add_argument(f"--{source}", type=Path, required=True, help="a manifest")
    parser.add_argument("--more", type=Path, nargs="+", default=[], help="manifests of other speech to learn from")
    parser.add_argument("--phones", type=Path, help="a CTM file with the phones of LibriSpeech")
    given = parser.parse_args()
    terminal = Terminal()
    parts: dict[str, list[Utterance]] = {}
    manifests = [(source, getattr(given, source)) for source in SOURCES] + [("more", path) for path in given.more]
    for source, path in manifests:
        ctm = {"phone": given.phones} if source == "librispeech" and given.phones else None
        corpus = otoscope.read_corpus(path, ctm=ctm)
        parts.setdefault(source, []).extend(corpus)
        for problem in corpus.problems:
            terminal.say(f"{source}: left out: {problem}")
    made = together(parts)
    for source, utterances in made.items():
        otoscope.write_manifest(utterances, given.out / f"{source}.jsonl")
        kept = sum(utterance.attributes["split"] == "test" for utterance in utterances)
        terminal.say(f"{source}: {len(utterances)} utterances, {kept} of them held out")
    otoscope.write_manifest([one for utterances in made.values() for one in utterances], given.out / "manifest.jsonl")


if __name__ == "__main__":
    main()
