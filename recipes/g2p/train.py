"""Train the network from spelling to sound on a pronouncing dictionary, and say how well it reads held-out words.

Started again it goes on where it was. The folder gets `g2p.safetensors`, the network, and `g2p.json`, how it was made
and what it reaches.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

import otoscope
from otoscope.base import OtoscopeError, fingerprint, write_json
from otoscope.hear.lexicon import read_lexicon
from otoscope.learn.checkpoint import read_log
from otoscope.learn.g2p import LETTERS, load_g2p
from otoscope.learn.g2p_decode import BEAM, GRAPHONE_WEIGHT, read_words
from otoscope.learn.g2p_score import reading_errors
from otoscope.learn.g2p_train import G2PTraining, train_g2p
from otoscope.learn.g2p_words import split_words


def say(done: int, total: int, note: str = "") -> None:
    """A line for every twentieth step."""
    if done % 20 == 0 or done == total:
        print(f"{done}/{total} {note}", flush=True)


def main() -> None:
    """Read the options, train, score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dictionary", type=Path, help="in the format of CMU's, or the folder of cmudict.dict")
    parser.add_argument("folder", type=Path, help="where it goes; what it holds is continued")
    parser.add_argument("--epochs", type=int, default=G2PTraining().epochs)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--beam", type=int, default=BEAM, help="for the score")
    chosen = parser.parse_args()

    if chosen.dictionary.is_dir():
        chosen.dictionary /= "cmudict.dict"
    lexicon = read_lexicon(chosen.dictionary)
    for problem in lexicon.problems:
        print(f"left out: {chosen.dictionary}, {problem}", file=sys.stderr)
    options = G2PTraining(epochs=chosen.epochs, seed=chosen.seed)
    facts = {"dictionary": {"name": chosen.dictionary.name, "sha256": fingerprint(chosen.dictionary)}}
    train_g2p(
        chosen.folder, lexicon, options=options, facts=facts, progress=say, on_epoch=lambda e: print(e, flush=True)
    )

    # As it was saved, in bfloat16: the figures are those of the file.
    network = load_g2p(chosen.folder / "g2p.safetensors")
    scores: dict[str, Any] = {}
    words = split_words(lexicon)
    for part, truth in (("development", words.development), ("heldout", words.heldout)):
        if truth:
            readings = read_words(network, list(truth), beam=chosen.beam)
            errors = reading_errors(truth, {word: r.phones for word, r in zip(truth, readings, strict=True)})
            scores[part] = errors.as_dict()
            print(f"{part}: {errors}")
    last = read_log(chosen.folder)[-1]
    write_json(
        chosen.folder / "g2p.json",
        {
            **network.facts,
            "letters": LETTERS,
            "split": "held out: derive_seed('g2p', headword) % 100 < 10; development: == 10; of headwords of letters "
            "and apostrophes; all pronunciations of a headword together",
            "scores": scores,
            "scoring": f"beam of {chosen.beam} in both directions and n-grams of weight {GRAPHONE_WEIGHT}, "
            "stress dropped, nearest listed pronunciation",
            "parameters": sum(weight.numel() for weight in network.parameters()),
            "training_time": {"wall_s": last["wall_s"], "processor_s": last["processor_s"]},
            "threads": torch.get_num_threads(),
            "versions": {"otoscope": otoscope.__version__, "torch": torch.__version__},
        },
    )


if __name__ == "__main__":
    try:
        main()
    except OtoscopeError as error:
        sys.exit(str(error))
