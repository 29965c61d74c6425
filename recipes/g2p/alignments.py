"""Which letter makes which phone, by the network's attention and by expectation-maximisation: how often they agree.

On words of the dictionary that are held out from training, with the phones that the network reads.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from otoscope.base import OtoscopeError
from otoscope.hear.lexicon import read_lexicon, without_stress
from otoscope.learn.g2p import load_g2p
from otoscope.learn.g2p_decode import read_words
from otoscope.learn.g2p_words import split_words
from otoscope.learn.pronounce import SHIPPED


def main() -> None:
    """Read the options, read the words, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dictionary", type=Path, help="in the format of CMU's, or the folder of cmudict.dict")
    parser.add_argument("--network", type=Path, default=SHIPPED, help="g2p.safetensors; left out, the one that ships")
    parser.add_argument("--every", type=int, default=12, help="of the held-out words in order, each so-manieth")
    chosen = parser.parse_args()
    if chosen.dictionary.is_dir():
        chosen.dictionary /= "cmudict.dict"
    heldout = split_words(read_lexicon(chosen.dictionary)).heldout
    words = sorted(heldout)[:: chosen.every]
    network = load_g2p(chosen.network)
    readings = dict(zip(words, read_words(network, words), strict=True))
    for name, keep in (("all readings", False), ("readings that the dictionary has", True)):
        letters = same = whole = count = phones = owned = 0
        for word, reading in readings.items():
            if keep and reading.phones not in {without_stress(spoken) for spoken in heldout[word]}:
                continue
            by_table = network.aligner.align(word, reading.phones)
            equal = [one == other for one, other in zip(reading.letters, by_table, strict=True)]
            owners, others = (
                [i for i, chunk in enumerate(made) for _ in chunk] for made in (reading.letters, by_table)
            )
            count, letters, same, whole = count + 1, letters + len(equal), same + sum(equal), whole + all(equal)
            phones, owned = phones + len(owners), owned + sum(a == b for a, b in zip(owners, others, strict=True))
        print(
            f"{name}: {count} words; {100 * same / letters:.2f} % of {letters} letters make the same, "
            f"{100 * owned / phones:.2f} % of {phones} phones are of the same letter, "
            f"{100 * whole / count:.2f} % of words agree in every letter",
            flush=True,
        )


if __name__ == "__main__":
    try:
        main()
    except OtoscopeError as error:
        sys.exit(str(error))
