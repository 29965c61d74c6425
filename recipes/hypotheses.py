"""What a network hears, as a file that any scoring program reads: trn, or ctm for references in stm.

python recipes/hypotheses.py RUN --corpus hub5.jsonl --out hub5.ctm [--where subset=swbd] [--method attention --beam 10]

The ending of --out decides. In a ctm file the words of an utterance share its time evenly: networks that write without
frames do not know better, and counting by segments, as `otoscope score --format stm-ctm` does, needs no more.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import otoscope
from otoscope.base import BadInput, BadOption, OtoscopeError, write_text
from otoscope.hear.corpus import Utterance
from otoscope.hear.utterance import duration_s
from otoscope.learn.networks import validated
from otoscope.learn.transcribe import Decoding
from otoscope.study.console import Terminal
from otoscope.study.recogniser import transcribe


def trn(utterance: Utterance, text: str) -> Iterator[str]:
    """One line: the words, and the id in parentheses."""
    yield f"{text} ({utterance.id})".strip()


def ctm(utterance: Utterance, text: str) -> Iterator[str]:
    """A line a word: recording, side, start and duration in seconds, the word.

    Raises:
        BadInput: the utterance does not tell its recording, its side and where it begins.
    """
    recording, start = utterance.attributes.get("conversation"), utterance.attributes.get("offset")
    if recording is None or start is None:
        wanted = "the attributes conversation, channel and offset, as otoscope corpus import gives them for hub5"
        raise BadInput(f"{utterance.id} cannot be placed in a recording", got=utterance, wanted=wanted)
    words = text.split()
    each = duration_s(utterance) / max(1, len(words))
    side = "AB"[utterance.attributes.get("channel", 0)]
    for index, word in enumerate(words):
        yield f"{recording} {side} {start + index * each:.3f} {each:.3f} {word}"


WRITERS = {".trn": trn, ".ctm": ctm}


def main() -> None:
    """Recognise and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a run's folder, or a checkpoint")
    parser.add_argument("--corpus", type=Path, required=True, help="its manifest, or the folder of it")
    parser.add_argument("--out", type=Path, required=True, help="NAME.trn or NAME.ctm")
    parser.add_argument("--where", help="only these utterances: subset=swbd")
    parser.add_argument("--epoch", type=int, help="which checkpoint; the last if left out")
    parser.add_argument("--method", default="greedy", help="greedy; beam, over CTC's frames; attention")
    parser.add_argument("--beam", type=int, help="its width")
    parser.add_argument("--ctc-weight", type=float, help="with attention: share of CTC; 0: none")
    options = parser.parse_args()
    if options.out.suffix not in WRITERS:
        raise BadOption("no such file of transcripts", got=options.out, wanted="a name that ends in .trn or .ctm")
    given = {"method": options.method, "beam": options.beam, "ctc_weight": options.ctc_weight}
    decoding = validated(Decoding, given)
    network = otoscope.load(options.run, options.epoch)
    corpus = otoscope.read_corpus(options.corpus)
    chosen = otoscope.select(corpus, options.where) if options.where else corpus
    terminal = Terminal()
    with terminal.stage("features") as progress:
        speech = otoscope.listen(chosen, network=network, progress=progress)
    with terminal.stage("recognising") as progress:
        texts = transcribe(network, speech, decoding=decoding, progress=progress)
    lines = [
        line
        for utterance, text in zip(speech.utterances, texts, strict=True)
        for line in WRITERS[options.out.suffix](utterance, text)
    ]
    write_text(options.out, "".join(f"{line}\n" for line in lines))
    terminal.show(None, f"{options.out}: {len(speech)} utterances, {sum(len(text.split()) for text in texts)} words")
    for problem in speech.problems:
        terminal.say(f"left out: {problem}")


if __name__ == "__main__":
    try:
        main()
    except OtoscopeError as error:
        raise SystemExit(str(error)) from None
