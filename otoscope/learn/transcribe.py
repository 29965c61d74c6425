"""A network's transcripts: how to decode, as a configuration, and a decoder made of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from otoscope.base import BadInput, BadOption
from otoscope.hear.text import decode
from otoscope.learn import attention_search, beam
from otoscope.learn.arpa import read_arpa
from otoscope.learn.beam import CtcBeam, Text
from otoscope.learn.ctc_prefix import CtcPrefix
from otoscope.learn.decode import greedy_ids
from otoscope.learn.flashlight import FlashlightBeam

# Which options say something to which method; `method` and `beam` aside.
_OPTIONS = {
    "greedy": frozenset[str](),
    "beam": frozenset(
        "lm lm_units lm_weight bonus lexicon separator engine symbol_floor skip_blank symbol_beam".split()
    ),
    "attention": frozenset("length_normalisation coverage limit ctc_weight".split()),
}


class Decoding(BaseModel):
    """How texts are made of a network's outputs. Unknown keys, and options of another method, are refused.

    `ctc_beam` and `attention_search` explain the options.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["greedy", "beam", "attention"] = Field(
        default="greedy",
        description="greedy: the network's quickest way; beam: over CTC's frames; attention: its decoder",
    )
    beam: int | None = Field(default=None, gt=0, description="width; 16 over CTC's frames, 8 for an attention decoder")
    lm: Path | None = Field(default=None, description="an ARPA file, plain or gzip")
    lm_units: Literal["word", "symbol"] | None = None
    lm_weight: float = Field(default=0.5, ge=0, allow_inf_nan=False)
    bonus: float = Field(default=0.0, allow_inf_nan=False)
    lexicon: Path | None = Field(default=None, description="the only words to be written, one a line")
    separator: str = " "
    engine: Literal["own", "flashlight"] = "own"
    symbol_floor: float = Field(default=0.0, ge=0, lt=1, description="an approximation of engine own")
    skip_blank: float | None = Field(default=None, gt=0.5, le=1, description="an approximation of engine own")
    symbol_beam: int | None = Field(default=None, gt=0, description="an approximation of engine flashlight")
    length_normalisation: float = Field(default=0.6, ge=0, le=1)
    coverage: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    limit: int | None = Field(default=None, ge=0)
    ctc_weight: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="share of CTC in the score of an attention decoder's sentences; left out, 0.2 where there is CTC",
    )

    @model_validator(mode="after")
    def _check(self) -> Decoding:
        idle = sorted(
            name
            for name in self.model_fields_set - {"method", "beam"} - _OPTIONS[self.method]
            if getattr(self, name) != type(self).model_fields[name].default
        )
        if self.method == "greedy" and self.beam is not None:
            idle.insert(0, "beam")
        if idle:
            raise ValueError(f"{', '.join(idle)}: no option of method {self.method}")
        own = {"symbol_floor": self.symbol_floor, "skip_blank": self.skip_blank}
        wrong = [name for name, value in own.items() if value] if self.engine == "flashlight" else []
        wrong += ["symbol_beam"] if self.engine == "own" and self.symbol_beam is not None else []
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: no option of engine {self.engine}")
        return self


def read_lexicon(path: Path | str) -> list[str]:
    """The words of a file, one a line; what follows a word after white space (its spelling, say) is passed over.

    Raises:
        BadInput: no such file, not UTF-8, no words.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("this lexicon cannot be read", got=f"{path}: {error}", wanted="a word on each line") from error
    words = list(dict.fromkeys(line.split()[0] for line in lines if line.strip()))
    if not words:
        raise BadInput("this lexicon has no words", got=path, wanted="a word on each line")
    return words


class Transcriber:
    """Features to texts, by one network in one way.

    Raises:
        BadOption: the network cannot be decoded so: no CTC, no blank, or no attention decoder.
        BadInput: a language model or a lexicon that cannot be read or does not fit.
    """

    def __init__(self, network: Any, decoding: Decoding | None = None):
        self.network, self.decoding = network, decoding or Decoding()
        units = getattr(network, "units", None)
        symbols = network.symbols
        self._text: Text = units.decode if units is not None else lambda ids: decode(ids, symbols)
        self._lm = None if self.decoding.lm is None else read_arpa(self.decoding.lm)
        self._lexicon = None if self.decoding.lexicon is None else read_lexicon(self.decoding.lexicon)
        self._search: Callable[[Tensor], list[beam.Hypothesis]] | None = None
        if self.decoding.method == "beam" and (network.blank is None or not getattr(network, "has_ctc", True)):
            raise BadOption(
                "a beam over frames wants a network trained with CTC",
                got=f"{type(network).__name__}, without",
                wanted="CTC",
                remedy="method=attention for one with an attention decoder, or greedy",
            )
        if self.decoding.method == "attention" and getattr(network, "decoder", None) is None:
            raise BadOption(
                "this network has no attention decoder",
                got=type(network).__name__,
                wanted="one that has",
                remedy="method=beam, or greedy",
            )
        has_ctc = getattr(network, "has_ctc", False)
        weight = self.decoding.ctc_weight
        self._ctc_weight = (attention_search.CTC_WEIGHT if has_ctc else 0.0) if weight is None else weight
        if self._ctc_weight and not has_ctc:
            raise BadOption(
                "a joint search wants a network with CTC beside its decoder",
                got=f"ctc_weight={self._ctc_weight}, and {type(network).__name__} without CTC",
                wanted="ctc_weight=0",
            )

    @torch.no_grad()
    def __call__(self, features: Tensor, lengths: Tensor) -> list[str]:
        """The texts of a batch: features `(batch, frame, mel)`, valid for `lengths` frames each."""
        if self.decoding.method == "attention":
            return self._attend(*self.network.encode(features, lengths))
        if self.decoding.method == "beam":
            return self._beam(*self.network(features, lengths))
        if hasattr(self.network, "recognise"):
            found: Sequence[Sequence[int]] = self.network.recognise(features, lengths)
        else:
            logits, frames = self.network(features, lengths)
            found = greedy_ids(logits, frames, self.network.blank)
        return [self._text(ids) for ids in found]

    def _attend(self, states: Tensor, lengths: Tensor) -> list[str]:
        ctc = None
        if self._ctc_weight:
            values = self.network.output(states).float().log_softmax(-1)
            ctc = CtcPrefix(values, lengths, self.network.blank, self.network.end)
        found = attention_search.attention_search(
            self.network.decoder,
            states,
            lengths,
            end=self.network.end,
            beam=self.decoding.beam or attention_search.BEAM,
            length_normalisation=self.decoding.length_normalisation,
            coverage=self.decoding.coverage,
            limit=self.decoding.limit,
            text=self._text,
            ctc=ctc,
            ctc_weight=self._ctc_weight,
        )
        return [hypotheses[0].text if hypotheses else "" for hypotheses in found]

    def _beam(self, logits: Tensor, lengths: Tensor) -> list[str]:
        if self._search is None:
            self._search = self._make(logits.shape[2])
        values = logits.float().log_softmax(-1).cpu()
        rows = zip(values, lengths.tolist(), strict=True)
        return [self._search(utterance[:length])[0].text for utterance, length in rows]

    def _make(self, width: int) -> CtcBeam | FlashlightBeam:
        """The search, once it is known how many of the symbols the frames choose from: not always the end."""
        options = self.decoding
        given: dict[str, Any] = {
            "beam": options.beam or beam.BEAM,
            "nbest": 1,
            "lm": self._lm,
            "lexicon": self._lexicon,
            **{name: getattr(options, name) for name in ("lm_units", "lm_weight", "bonus", "separator")},
        }
        symbols, blank, text = self.network.symbols[:width], self.network.blank, self._text
        if options.engine == "flashlight":
            return FlashlightBeam(symbols, blank, text=text, symbol_beam=options.symbol_beam, **given)
        floor, skip = options.symbol_floor, options.skip_blank
        return CtcBeam(symbols, blank, text=text, symbol_floor=floor, skip_blank=skip, **given)
