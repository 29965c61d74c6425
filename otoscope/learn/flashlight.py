"""CTC beam search by flashlight-text, the fast way where the extra `decode` is installed (Python below 3.13).

The hypotheses and scores are those of `otoscope.learn.beam`, in single precision; KenLM reads the language models.
One thing differs where the beam is narrow: flashlight counts the paths of a prefix that end in a blank and the others
as two entries of the beam, so it gets a beam twice as wide here. In wide beams the answers are the same.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from otoscope.base import BadInput, BadOption
from otoscope.hear.text import decode
from otoscope.learn.arpa import LN_10, Arpa
from otoscope.learn.beam import BEAM, CtcBeam, Hypothesis, Text, check_beam, checked
from otoscope.learn.fusion import model_names, numbered, spelling, unigram, units_of

# flashlight wants a limit to how far below the best a hypothesis may be; this is none.
_NO_LIMIT = 1e30


def installed() -> bool:
    """Whether flashlight-text, with KenLM, can be imported."""
    try:
        importlib.import_module("flashlight.lib.text.decoder.kenlm")
    except ImportError:
        return False
    return True


class FlashlightBeam:
    """The search of `CtcBeam` with the same options, but for the approximations.

    A model of words wants a lexicon: flashlight cannot write words that it has not been given. A bonus for each symbol
    is not offered. Its own approximation is `symbol_beam`: only so many symbols, the likeliest of a frame, are tried.

    Raises:
        BadOption: flashlight-text is not installed, or one of the above.
    """

    def __init__(
        self,
        symbols: Sequence[str],
        blank: int | None,
        *,
        beam: int = BEAM,
        nbest: int | None = None,
        lm: Arpa | None = None,
        lm_units: str | None = None,
        lm_weight: float = 0.5,
        bonus: float = 0.0,
        lexicon: Iterable[str] | None = None,
        separator: str = " ",
        text: Text | None = None,
        symbol_beam: int | None = None,
    ):
        check_beam(beam, nbest)
        if symbol_beam is not None and symbol_beam < 1:
            raise BadOption(
                "at least one symbol of a frame must be tried", got=symbol_beam, wanted="1 or more, or None"
            )
        if not installed():
            raise BadOption(
                "flashlight-text is not installed",
                wanted="Python below 3.13 and the extra `decode`",
                remedy="pip install 'otoscope[decode]', or search with engine='own'",
            )
        self.symbols, self.blank, self._nbest = tuple(symbols), blank, nbest or beam
        self._text = text or (lambda ids: decode(ids, self.symbols))
        lexicon = None if lexicon is None else tuple(dict.fromkeys(lexicon))
        units = units_of(lm, symbols, lm_units)
        if units == "word" and lm is not None and lexicon is None:
            raise BadOption("flashlight wants a lexicon beside a model of words", got="none", wanted="lexicon=")
        if units == "symbol" and bonus:
            raise BadOption("flashlight knows no bonus for symbols", got=f"bonus={bonus}", wanted="0")
        options = {"lm": lm, "lm_units": lm_units, "lm_weight": lm_weight, "bonus": bonus, "separator": separator}
        # The same refusals as there; and it takes the utterances that end in no whole word.
        self._own = CtcBeam(symbols, blank, beam=beam, nbest=nbest, lexicon=lexicon, text=text, **options)  # type: ignore[arg-type]
        self._words: tuple[str, ...] | None = lexicon
        self._separator, self._numbers = separator, numbered(symbols)
        parts = importlib.import_module("flashlight.lib.text.decoder")
        dictionary = importlib.import_module("flashlight.lib.text.dictionary").Dictionary
        shared = {
            "beam_size": 2 * beam,
            "beam_size_token": min(symbol_beam or len(self.symbols), len(self.symbols)),
            "beam_threshold": _NO_LIMIT,
            "lm_weight": lm_weight * LN_10,
            "sil_score": 0.0,
            "log_add": True,
            "criterion_type": parts.CriterionType.CTC,
        }
        if lexicon is None:
            names = list(self.symbols) if lm is None else model_names(lm, symbols)
            model = parts.ZeroLM() if lm is None else _kenlm(lm, dictionary(names))
            self._decoder = parts.LexiconFreeDecoder(parts.LexiconFreeDecoderOptions(**shared), model, blank, blank, [])
            return
        model = parts.ZeroLM() if lm is None else _kenlm(lm, dictionary(list(lexicon)))
        space = self.symbols.index(separator)
        trie = parts.Trie(len(self.symbols), space)
        for number, word in enumerate(lexicon):
            likely = 0.0 if lm is None else unigram(lm, word) / LN_10
            trie.insert([*spelling(word, self._numbers), space], number, likely)
        # The look-ahead of `WordMachine`.
        trie.smear(parts.SmearingMode.MAX)
        bounds = {"word_score": bonus, "unk_score": -np.inf}
        self._decoder = parts.LexiconDecoder(
            parts.LexiconDecoderOptions(**shared, **bounds), trie, model, space, blank, -1, [], False
        )

    def __call__(self, log_probabilities: Tensor | np.ndarray) -> list[Hypothesis]:
        """The hypotheses of one utterance, `(frame, symbol)`, best first."""
        values = checked(log_probabilities, self.blank, self.symbols).copy()
        if not len(values):
            return self._own(values)
        values[:, self._own.never[1:]] = -np.inf
        if self._words is not None:
            # A last frame that is certainly a space ends the last word; after a space it changes nothing.
            last = np.where(np.array(self.symbols) == self._separator, 0.0, -np.inf)
            values = np.vstack([values, last])
        frames = np.ascontiguousarray(values, dtype=np.float32)
        results = self._decoder.decode(frames.ctypes.data, *frames.shape)
        if not results:
            return self._own(log_probabilities)
        found = [Hypothesis(tokens := self._tokens(each), each.score, self._text(tokens)) for each in results]
        return found[: self._nbest]

    def _tokens(self, result: Any) -> tuple[int, ...]:
        if self._words is None:
            # flashlight puts a blank before the first frame and after the last.
            path = np.array(result.tokens)
            path = path[np.insert(path[1:] != path[:-1], 0, True)]
            return tuple(path[path != self.blank].tolist())
        words = [self._words[number] for number in result.words if number >= 0]
        return tuple(spelling(self._separator.join(words), self._numbers))


def _kenlm(lm: Arpa, dictionary: Any) -> Any:
    """KenLM with the model's file.

    Raises:
        BadInput: the file is gone, or KenLM refuses it (an order of 1 or above 6, spaces for tabs).
    """
    reader = importlib.import_module("flashlight.lib.text.decoder.kenlm").KenLM
    try:
        return reader(str(lm.path), dictionary)
    except RuntimeError as error:
        raise BadInput(
            "KenLM cannot read this language model",
            got=f"{lm.path}: {str(error).splitlines()[-1]}",
            wanted="an ARPA file of order 2 to 6, with tabs between its columns",
            remedy="search with engine='own'",
        ) from error
