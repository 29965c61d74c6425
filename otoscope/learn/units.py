"""What a network writes: graphemes, or pieces of words.

A vocabulary of pieces, unigram (Kudo 2018) or BPE (Sennrich et al. 2016), is sentencepiece's (extra `units`). A
network's configuration holds it as text, so that a checkpoint needs no file beside it; sentencepiece itself is needed
to train one and to encode, never to decode.
"""

from __future__ import annotations

import base64
import binascii
import functools
import importlib
import io
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from otoscope.base import BadInput, BadOption, OtoscopeError
from otoscope.hear.text import BLANK, GRAPHEMES, decode, encode, normalise_text

END = "</s>"
"""The name of the symbol that begins and ends a sentence, for networks with an attention decoder."""
WORD_START = "\u2581"
"""What pieces of words begin with where a word begins."""
KINDS = ("unigram", "bpe")


class Units(Protocol):
    """Transcripts to symbol numbers and back. `symbols` are their names, CTC's blank first."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """The names of the symbols."""

    def encode(self, text: str) -> list[int]:
        """The symbol numbers of a transcript; `BadInput` where it has characters that no symbol writes."""

    def decode(self, numbers: Iterable[int]) -> str:
        """The text of symbol numbers, single spaces between words; those that are no symbols are passed over."""


class Graphemes:
    """One symbol a character; see `otoscope.hear.text`."""

    def __init__(self, symbols: Sequence[str] = GRAPHEMES):
        self.symbols = tuple(symbols)

    def encode(self, text: str) -> list[int]:
        """As `Units`."""
        return encode(text, self.symbols)

    def decode(self, numbers: Iterable[int]) -> str:
        """As `Units`."""
        return decode((number for number in numbers if number < len(self.symbols)), self.symbols)


class Pieces:
    """Pieces of words, from a vocabulary as `train_vocabulary` gives it.

    Raises:
        BadOption: this is no vocabulary. OtoscopeError: `encode` without sentencepiece.
    """

    def __init__(self, vocabulary: str, symbols: Sequence[str]):
        self.vocabulary, self.symbols = vocabulary, tuple(symbols)

    def encode(self, text: str) -> list[int]:
        """As `Units`. The most probable division (unigram), or that of the merges (BPE)."""
        text = normalise_text(text)
        processor = _processor(self.vocabulary)
        numbers = processor.encode(text)
        if processor.unk_id() in numbers:
            known = set("".join(self.symbols[1:]))
            unknown = sorted(set(text) - known - {" "})
            raise BadInput(
                "the transcript has characters that are not in the vocabulary",
                got=f"{' '.join(map(repr, unknown))} in {text!r}",
                wanted=" ".join(sorted(known - {WORD_START})),
                remedy="write numbers and signs as words, or train the vocabulary on texts that have them",
            )
        return list(numbers)

    def decode(self, numbers: Iterable[int]) -> str:
        """As `Units`."""
        pieces = "".join(self.symbols[number] for number in numbers if 0 < number < len(self.symbols))
        return " ".join(pieces.replace(WORD_START, " ").split())


def make_units(symbols: Sequence[str], vocabulary: str) -> Units:
    """The units of a network's configuration: graphemes where it has no vocabulary."""
    return Pieces(vocabulary, symbols) if vocabulary else Graphemes(symbols)


def train_vocabulary(texts: Iterable[str], *, kind: str = "unigram", size: int = 500) -> dict[str, Any]:
    """A vocabulary of pieces learned from transcripts, as values for a network's configuration.

    The letters and the apostrophe are always in it, so that every word can be written. The same texts give the same.

    Args:
        texts: transcripts; they are normalised first.
        kind: "unigram" or "bpe".
        size: how many symbols, CTC's blank included; where the texts give no more there are fewer.

    Returns: `{"vocabulary": text, "symbols": names}`.

    Raises:
        BadOption: an unknown kind, or a size that the library refuses. BadInput: no text.
        OtoscopeError: sentencepiece is not installed.
    """
    if kind not in KINDS or size < len(GRAPHEMES):
        raise BadOption(
            "no such vocabulary",
            got=f"{size} of kind {kind!r}",
            wanted=f"{' or '.join(KINDS)}, {len(GRAPHEMES)} or more",
        )
    sentences = [text for text in map(normalise_text, texts) if text]
    if not sentences:
        raise BadInput("there is no text to learn a vocabulary from", got="no transcript", wanted="transcripts")
    model = io.BytesIO()
    try:
        _sentencepiece().SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            model_type=kind,
            vocab_size=size,
            hard_vocab_limit=False,
            character_coverage=1.0,
            required_chars="".join(symbol for symbol in GRAPHEMES[1:] if symbol != " "),
            normalization_rule_name="identity",
            # The unknown piece has the number of CTC's blank: neither is ever a target.
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise BadOption(
            "no vocabulary of this size comes from these texts",
            got=f"{size} pieces: {str(error).rpartition(']')[2].strip() or error}",
            wanted="another size, or more text",
        ) from error
    vocabulary = base64.b64encode(model.getvalue()).decode("ascii")
    processor = _processor(vocabulary)
    pieces = [processor.id_to_piece(number) for number in range(1, processor.get_piece_size())]
    return {"vocabulary": vocabulary, "symbols": (BLANK, *pieces)}


def _sentencepiece() -> Any:
    try:
        return importlib.import_module("sentencepiece")
    except ImportError as error:
        raise OtoscopeError(
            "vocabularies of word pieces need sentencepiece",
            got="it is not installed",
            remedy="pip install 'otoscope[units]'; graphemes need nothing",
        ) from error


@functools.lru_cache(maxsize=8)
def _processor(vocabulary: str) -> Any:
    library = _sentencepiece()
    try:
        return library.SentencePieceProcessor(model_proto=base64.b64decode(vocabulary, validate=True))
    except (RuntimeError, binascii.Error, ValueError) as error:
        raise BadOption(
            "this is no vocabulary", got=f"{vocabulary[:20]}…", wanted="text as train_vocabulary gives it"
        ) from error
