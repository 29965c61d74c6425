"""Decoding: frames per second of each way to make texts, beside the network's forward pass.

    python benchmarks/bench_decoding.py                            # small
    python benchmarks/bench_decoding.py --minutes 10 --words 5000
    python benchmarks/bench_decoding.py --attention                # the decoders only

Made-up speech: sentences over a made-up vocabulary, each letter a peak over a few frames among blanks, other letters
confused with it now and then, 50 frames a second, graphemes. The network beside it is a Wav2Letter with random weights
on as many frames; attention decoders, with random weights too, write of noise. Everything on one thread; times are
seconds of the processor, so that other work does not show.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from otoscope.hear.text import GRAPHEMES
from otoscope.learn import flashlight
from otoscope.learn.arpa import read_arpa
from otoscope.learn.attention_search import attention_search
from otoscope.learn.beam import CtcBeam
from otoscope.learn.ctc_prefix import CtcPrefix
from otoscope.learn.decode import greedy
from otoscope.learn.decoder_memory import DecoderMemory
from otoscope.learn.networks import build, read_config
from otoscope.learn.score import score_texts
from otoscope.learn.seq2seq import AttentionRecogniser
from otoscope.study.recogniser import network_values

FRAMES_A_SECOND = 50
SENTENCE = 8
ROUNDS = 5


def made_up_words(count: int, rng: np.random.Generator) -> list[str]:
    """Words of two to nine letters; common letters are common."""
    chances = rng.dirichlet(np.full(26, 2.0))
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(rng.choice(list(GRAPHEMES[3:]), size=rng.integers(2, 10), p=chances))] = None
    return list(found)


def posteriors(text: str, rng: np.random.Generator) -> np.ndarray:
    """Log-probabilities `(frame, symbol)`: about 3.3 frames a letter, one or two of them the letter's."""
    rows: list[np.ndarray] = []
    for letter in text:
        peaks, blanks = rng.integers(1, 3), rng.integers(1, 4)
        likely = int(rng.integers(1, 29)) if rng.random() < 0.08 else GRAPHEMES.index(letter)
        for peak in range(peaks + blanks):
            logits = rng.normal(scale=1.5, size=len(GRAPHEMES))
            logits[likely if peak < peaks else 0] += rng.uniform(5, 12)
            logits[GRAPHEMES.index(letter)] += 3.0 * (peak < peaks)
            rows.append(logits)
    return torch.tensor(np.array(rows)).log_softmax(1).numpy()


def write_bigrams(path: Path, sentences: list[list[str]], words: list[str]) -> None:
    """A bigram model of the sentences: absolute discounting, back-off to add-one unigrams."""
    pairs = Counter(pair for one in sentences for pair in zip(["<s>", *one], [*one, "</s>"], strict=True))
    before = Counter(first for first, _ in pairs.elements())
    kinds = Counter(first for first, _ in pairs)
    singles = Counter(second for _, second in pairs.elements())
    names = [*words, "</s>", "<unk>"]
    total = singles.total() + len(names)
    unigram = {name: (singles[name] + 1) / total for name in names}
    mass = Counter[str]()
    for first, second in pairs:
        mass[first] += unigram[second]  # type: ignore[assignment]
    lines = ["\\data\\", f"ngram 1={len(names) + 1}", f"ngram 2={len(pairs)}", "", "\\1-grams:"]
    for name in ["<s>", *names]:
        value = np.log10(unigram[name]) if name in unigram else -99
        rest = 0.5 * kinds[name] / before[name] / (1 - mass[name]) if before[name] else 1.0
        lines.append(f"{value:.6f}\t{name}\t{np.log10(rest):.6f}")
    lines += ["", "\\2-grams:"]
    lines += [f"{np.log10((count - 0.5) / before[a]):.6f}\t{a} {b}" for (a, b), count in pairs.items()]
    path.write_text("\n".join([*lines, "", "\\end\\", ""]), encoding="utf-8")


class Timed:
    """A decoder of the project, and the seconds spent in its steps."""

    def __init__(self, network: AttentionRecogniser):
        assert network.decoder is not None
        self.decoder, self.end, self.seconds = network.decoder, network.end, 0.0

    def start(self, states: Tensor, lengths: Tensor) -> DecoderMemory:
        return self.decoder.start(states, lengths)

    def step(self, tokens: Tensor, memory: DecoderMemory) -> tuple[Tensor, DecoderMemory, Tensor]:
        before = time.process_time()
        found = self.decoder.step(tokens, memory)
        self.seconds += time.process_time() - before
        return found


@torch.no_grad()
def attend(name: str, utterances: int = 8, seconds: int = 8, limit: int = 40) -> None:
    """Random networks with both branches, `small`: they seldom end before the limit. Medians of several rounds."""
    torch.manual_seed(0)
    network = build(read_config(network_values({"network": name, "size": "small"}))).eval()
    assert isinstance(network, AttentionRecogniser)
    features = torch.randn(utterances, 100 * seconds, network.mels)
    states, lengths = network.encode(features, torch.full((utterances,), 100 * seconds))
    ctc = CtcPrefix(network.output(states).log_softmax(-1), lengths, network.blank, network.end)
    ways: dict[str, dict[str, Any]] = {"beam 1": {"beam": 1}, "beam 8": {"beam": 8}}
    ways["beam 8, joint with CTC"] = {"beam": 8, "ctc": ctc}
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, settings in ways.items():
            decoder = Timed(network)
            before = time.process_time()
            sentences = attention_search(decoder, states, lengths, end=network.end, limit=limit, **settings)
            spent = time.process_time() - before
            tokens = sum(len(each[0].tokens) + 1 for each in sentences)
            found[way].append((spent / tokens, decoder.seconds / spent))
    for way, rounds in found.items():
        spent, share = (statistics.median(values) for values in zip(*rounds, strict=True))
        speed = f"{1 / spent:8,.0f} tokens/s, {share:.0%} of the time in the decoder"
        print(f"{f'attention, {name}, {utterances} utterances, {way}':56}{speed}", flush=True)


def main() -> None:
    """Make the speech, time each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--words", type=int, default=2000)
    parser.add_argument("--attention", action="store_true", help="the decoders only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in ("conv-lstm", "transformer"):
        attend(name)
    if options.attention:
        return
    rng = np.random.default_rng(0)
    words = made_up_words(options.words, rng)
    chances = 1 / np.arange(1, len(words) + 1)
    training = [list(rng.choice(words, SENTENCE, p=chances / chances.sum())) for _ in range(20 * SENTENCE * 100)]
    wanted = int(options.minutes * 60 * FRAMES_A_SECOND)
    texts: list[str] = []
    frames: list[np.ndarray] = []
    while sum(map(len, frames)) < wanted:
        texts.append(" ".join(rng.choice(words, SENTENCE, p=chances / chances.sum())))
        frames.append(posteriors(texts[-1], rng))
    total = sum(map(len, frames))
    print(f"{len(texts)} sentences, {total} frames, {total / FRAMES_A_SECOND:.0f} s of speech, {len(words)} words")

    def line(name: str, run: Callable[[], Any]) -> None:
        before = time.process_time()
        found = run()
        spent = time.process_time() - before
        errors = ""
        if isinstance(found, list):
            counts = score_texts(zip(texts, found, strict=True))
            errors = f"   {counts.errors / counts.words:6.1%} of words wrong"
        speed = total / spent
        print(f"{name:44}{speed:12,.0f} frames/s {speed / FRAMES_A_SECOND:9,.0f} × real time{errors}", flush=True)

    network = build(read_config(network_values({"hidden": "small"}))).eval()
    stride = int(np.prod(network.strides))
    features = [torch.randn(1, stride * len(each), network.mels) for each in frames]

    @torch.no_grad()
    def forward() -> None:
        for each in features:
            network(each, torch.tensor([each.shape[1]]))

    line("the network's forward pass (wav2letter small)", forward)
    tensors = [torch.from_numpy(each)[None] for each in frames]
    line("greedy", lambda: [greedy(t, torch.tensor([t.shape[1]]), GRAPHEMES, 0)[0] for t in tensors])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bigrams.arpa"
        write_bigrams(path, training, words)
        before = time.process_time()
        model = read_arpa(path)
        spent = time.process_time() - before
        print(f"{'reading the language model':44}{sum(model.counts) / spent:12,.0f} n-grams/s")
        lexical = {"lexicon": words, "lm": model, "lm_units": "word", "bonus": 1.0}
        ways: dict[str, dict[str, Any]] = {f"beam {beam}": {"beam": beam} for beam in (4, 16, 64)}
        ways |= {
            "beam 16, model of words": {"lm": model, "lm_units": "word", "bonus": 1.0},
            "beam 16, lexicon": {"lexicon": words},
            "beam 16, lexicon and model of words": lexical,
            "the same, skip_blank 0.99": {**lexical, "skip_blank": 0.99},
            "the same, symbol_floor 0.001": {**lexical, "symbol_floor": 0.001},
        }
        for name, settings in ways.items():
            search = CtcBeam(GRAPHEMES, 0, nbest=1, **settings)
            line(name, lambda search=search: [search(each)[0].text for each in frames])  # type: ignore[misc]
        if flashlight.installed():
            ways = {
                "beam 16": {},
                "beam 16, lexicon": {"lexicon": words},
                "beam 16, lexicon and model of words": lexical,
            }
            ways["the same, symbol_beam 5"] = {**lexical, "symbol_beam": 5}
            for name, settings in ways.items():
                other = flashlight.FlashlightBeam(GRAPHEMES, 0, nbest=1, **settings)
                line(f"flashlight: {name}", lambda other=other: [other(each)[0].text for each in frames])  # type: ignore[misc]
        else:
            print("flashlight-text is not installed")


if __name__ == "__main__":
    main()
