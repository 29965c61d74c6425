"""Decoding: frames per second of each way to make texts, beside the network's forward pass.

    python benchmarks/bench_decoding.py                            # small
    python benchmarks/bench_decoding.py --minutes 10 --words 5000

Made-up speech: sentences over a made-up vocabulary, each letter a peak over a few frames among blanks, other letters
confused with it now and then, 50 frames a second, graphemes. The network beside it is a Wav2Letter with random weights
on as many frames. Everything on one thread; times are seconds of the processor, so that other work does not show.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from otoscope.hear.text import GRAPHEMES
from otoscope.learn import flashlight
from otoscope.learn.arpa import read_arpa
from otoscope.learn.attention_search import attention_search
from otoscope.learn.beam import CtcBeam
from otoscope.learn.decode import greedy
from otoscope.learn.networks import build, read_config
from otoscope.learn.score import score_texts
from otoscope.study.recogniser import network_values

FRAMES_A_SECOND = 50
SENTENCE = 8


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


class Decoder(nn.Module):
    """An LSTM of one layer that attends by scalar products; random weights that seldom end before the limit."""

    def __init__(self, units: int, symbols: int):
        super().__init__()
        self.embedding, self.cell = nn.Embedding(symbols, units), nn.LSTMCell(2 * units, units)
        self.choice = nn.Linear(2 * units, symbols)
        self.seconds = 0.0

    def start(self, states: Tensor, lengths: Tensor) -> Memory:
        zeros = states.new_zeros(len(states), states.shape[2])
        valid = torch.arange(states.shape[1]) < lengths[:, None]
        return Memory(states=states, valid=valid, hidden=zeros, cell=zeros, owner=torch.arange(len(states)))

    def step(self, tokens: Tensor, memory: Memory) -> tuple[Tensor, Memory, Tensor]:
        before = time.process_time()
        scores = torch.bmm(memory["states"], memory["hidden"][:, :, None]).squeeze(2)
        attention = scores.masked_fill(~memory["valid"], -torch.inf).softmax(1)
        context = torch.bmm(attention[:, None], memory["states"]).squeeze(1)
        given = torch.cat([self.embedding(tokens), context], 1)
        hidden, cell = self.cell(given, (memory["hidden"], memory["cell"]))
        found = self.choice(torch.cat([hidden, context], 1)).log_softmax(1)
        self.seconds += time.process_time() - before
        return found, Memory(memory, hidden=hidden, cell=cell), attention


class Memory(dict[str, Tensor]):
    """What does not change from step to step is copied only where hypotheses come to stand for another utterance."""

    def select(self, index: Tensor) -> Memory:
        owner = self["owner"][index]
        kept = {"states", "valid"} if torch.equal(owner, self["owner"]) else set()
        return Memory({name: value if name in kept else value[index] for name, value in self.items()}, owner=owner)


def main() -> None:
    """Make the speech, time each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--words", type=int, default=2000)
    options = parser.parse_args()
    torch.set_num_threads(1)
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
    torch.manual_seed(0)
    decoder = Decoder(256, 500).eval()
    states, lengths = torch.randn(8, 200, 256), torch.full((8,), 200)
    for beam in (1, 8):
        decoder.seconds = 0.0
        before = time.process_time()
        found = attention_search(decoder, states, lengths, end=0, beam=beam, limit=40, coverage=0.1)
        spent = time.process_time() - before
        tokens = sum(len(each[0].tokens) + 1 for each in found)
        share = decoder.seconds / spent
        speed = f"{tokens / spent:,.0f} tokens/s, {share:.0%} of the time in the decoder"
        print(f"attention, 8 utterances, beam {beam}: {speed}")


if __name__ == "__main__":
    main()
