"""Switchboard as it is learned from: conversations held out, stretches too short or long and worn-out ones left out.

python recipes/insights-switchboard/prepare.py switchboard.jsonl train.jsonl [--conversations 40]

`split` is train or dev; no speaker of dev is in train (with LDC's tables of callers a speaker is a person, without them
a side of a conversation).
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import otoscope
from otoscope.base import BadInput, OtoscopeError, derive_seed
from otoscope.hear.corpus import Utterance
from otoscope.hear.text import normalise_text
from otoscope.hear.utterance import duration_s
from otoscope.study.console import Terminal

SHORTEST_S, LONGEST_S = 0.1, 20.0
MOST_ALIKE = 300
"""So often one and the same text is learned, as in Kaldi's recipe: a tenth of all utterances are "yeah" or "uh-huh"."""


def prepare(corpus: Sequence[Utterance], conversations: int, seed: int = 0) -> list[Utterance]:
    """The utterances to learn from and to choose by, with `split`.

    Raises:
        BadInput: no more conversations than are to be held out, or nothing is left of one part.
    """
    names = sorted({str(utterance.attributes.get("conversation")) for utterance in corpus})
    if not 0 < conversations < len(names):
        wanted = f"1 to {len(names) - 1}"
        raise BadInput("so many conversations cannot be held out", got=conversations, wanted=wanted)
    dev = set(random.Random(derive_seed(seed, "held out")).sample(names, conversations))
    speakers = {utterance.speaker for utterance in corpus if str(utterance.conversation) in dev}
    alike: Counter[str] = Counter()
    found = []
    for utterance in corpus:
        text = normalise_text(utterance.text)
        if not text or not SHORTEST_S <= duration_s(utterance) <= LONGEST_S:
            continue
        if str(utterance.conversation) in dev:
            found.append(utterance.replace(split="dev"))
        elif utterance.speaker not in speakers and alike[text] < MOST_ALIKE:
            alike[text] += 1
            found.append(utterance.replace(split="train"))
    for split in ("train", "dev"):
        if not any(utterance.split == split for utterance in found):
            raise BadInput(f"nothing is left for {split}", got=f"{len(corpus)} utterances", wanted="more conversations")
    return found


def main() -> None:
    """Read, choose, write, and say how much there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path, help="as otoscope corpus import wrote it")
    parser.add_argument("out", type=Path, help="the manifest to write")
    parser.add_argument("--conversations", type=int, default=40, help="how many are held out; 40 are about 4,000 turns")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    kept = prepare(list(otoscope.read_corpus(options.manifest)), options.conversations, options.seed)
    otoscope.write_manifest(kept, options.out)
    terminal = Terminal()
    for split in ("train", "dev"):
        part = [utterance for utterance in kept if utterance.split == split]
        hours = sum(map(duration_s, part)) / 3600
        terminal.show(None, f"{split}: {len(part)} utterances, {hours:.1f} hours")


if __name__ == "__main__":
    try:
        main()
    except OtoscopeError as error:
        raise SystemExit(str(error)) from None
