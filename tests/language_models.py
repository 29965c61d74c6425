"""Small language models of words and of characters, and made-up posteriors, for all that searches with them."""

from __future__ import annotations

import numpy as np

LETTERS = ("-", "a", "b", " ")

WORDS = """\\data\\
ngram 1=6
ngram 2=4
ngram 3=2

\\1-grams:
-99\t<s>\t-0.4
-0.8\t</s>
-1.4\t<unk>\t-0.1
-0.5\ta\t-0.3
-0.9\tb
-0.7\tba\t-0.2

\\2-grams:
-0.2\t<s> ba\t-0.15
-0.3\ta ba
-0.6\tba a\t-0.25
-0.1\tba </s>

\\3-grams:
-0.05\t<s> ba a
-0.45\tba a ba

\\end\\
"""

CHARACTERS = """\\data\\
ngram 1=5
ngram 2=4

\\1-grams:
-99\t<s>\t-0.4
-0.8\t</s>
-0.5\ta\t-0.3
-0.9\tb\t-0.1
-1.1\t|\t-0.2

\\2-grams:
-0.2\t<s> b
-0.3\ta b
-0.6\tb |
-0.1\tb </s>

\\end\\
"""


def posteriors(frames: int, symbols: int, seed: int, spread: float = 1.5, blank: float = 0.0) -> np.ndarray:
    """Log-probabilities `(frame, symbol)`; `blank` is added to the logits of the first symbol."""
    logits = np.random.default_rng(seed).normal(size=(frames, symbols)) * spread
    logits[:, 0] += blank
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
