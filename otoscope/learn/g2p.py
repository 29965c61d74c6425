"""From spelling to sound: an attention encoder-decoder from letters to ARPAbet phones.

A bidirectional LSTM reads the letters. Two decoders of the same make write the phones, one from the first phone to
the last, one from the last to the first, and readings on which both agree win: Liu, Finch, Utiyama and Sumita (2016),
"Agreement on target-bidirectional LSTMs for sequence-to-sequence learning" (AAAI). In each, a first LSTM over the
phones written so far looks at the letters, and a second one, which sees where the first has looked, looks again; this
second look is dot-product attention as in Luong, Pham and Manning (2015), and says which letter makes the phone. While
the network is trained, its attention is drawn to the letter that the alignment of `otoscope.learn.letters` names.

What a word with its phones is worth to an n-gram model of letters and the phones they make
(`otoscope.learn.graphones`) is added to what both decoders say. Networks and n-grams make different errors: Rao, Peng,
Sak and Beaufays (2015), "Grapheme-to-phoneme conversion using long short-term memory recurrent neural networks".

Stress is a second answer for each vowel; it is there for those who want it, and takes no part in the phones.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from otoscope.base import BadCheckpoint, BadInput
from otoscope.hear.phones import PHONES
from otoscope.learn.checkpoint import load_tensors, save_tensors
from otoscope.learn.graphones import Graphones
from otoscope.learn.letters import LetterAligner

LETTERS = "'abcdefghijklmnopqrstuvwxyz"
"""What the network can read."""

FORMAT = "otoscope-g2p-1"

# Numbers of symbols. A word's letters are followed by one end mark; phones begin with START and end with END.
_LETTER_NUMBERS = {letter: number for number, letter in enumerate(LETTERS)}
LETTER_END = len(LETTERS)
PAD, START, END = 0, 1, 2
PHONE_NUMBERS = {phone: number for number, phone in enumerate(PHONES, start=3)}
STRESSES = 3

State: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]


class G2PConfig(BaseModel):
    """Sizes of the network; saved in its checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    embedding: int = Field(default=64, gt=0, description="width of letters and of phones at the entrance")
    encoder: int = Field(default=256, gt=0, description="units of the encoder's LSTMs in each direction")
    encoder_layers: int = Field(default=2, gt=0)
    decoder: int = Field(default=240, gt=0, description="units of each of a decoder's two LSTMs")
    attention: int = Field(default=256, gt=0, description="width of the encoded letters, of keys and queries")
    dropout: float = Field(default=0.25, ge=0, lt=1)


class Written(NamedTuple):
    """What a decoder says at every step: logits of phones `(batch, step, phone)`, of stress `(batch, step, 3)`, and
    the weights of its two looks at the letters `(batch, step, letter)`, the second being the alignment."""

    phones: Tensor
    stress: Tensor
    first_look: Tensor
    attention: Tensor
    state: State


class LockedDropout(nn.Module):
    """Dropout with one mask for all steps of a word: Gal and Ghahramani (2016), "A theoretically grounded application
    of dropout in recurrent neural networks". A mask for each step took a fifth of the training's time."""

    def __init__(self, share: float):
        super().__init__()
        self.share = share

    def forward(self, values: Tensor) -> Tensor:
        """Values `(word, step, unit)` with a share of the units at zero in training, and as they are elsewhere."""
        if not self.training or not self.share:
            return values
        mask = torch.rand(values.shape[0], 1, values.shape[2]) >= self.share
        return values * (mask.to(values.dtype) / (1 - self.share))


class Decoder(nn.Module):
    """Writes phones one after the other, looking at the encoded letters."""

    def __init__(self, config: G2PConfig):
        super().__init__()
        units, width = config.decoder, config.attention
        self.embed = nn.Embedding(len(PHONES) + 3, config.embedding)
        self.first = nn.LSTM(config.embedding, units, batch_first=True)
        self.first_query = nn.Linear(units, width)
        self.second = nn.LSTM(units + width, units, batch_first=True)
        self.second_query = nn.Linear(units, width)
        self.mix = nn.Linear(units + width, units)
        self.phones = nn.Linear(units, len(PHONES) + 3)
        self.stress = nn.Linear(units, STRESSES)
        self.drop = LockedDropout(config.dropout)

    def forward(self, previous: Tensor, keys: Tensor, state: State | None = None) -> Written:
        """Every step's answer, given the phone before it.

        Args:
            previous: numbers of the phones before each step, `(batch, step)`.
            keys: the encoded letters, `(batch, letter, width)`, all of them valid.
            state: that of the step before, to go on from.
        """
        heard, (h1, c1) = self.first(self.drop(self.embed(previous)), state and state[:2])
        first_look, seen = _look(self.first_query(heard), keys)
        heard, (h2, c2) = self.second(self.drop(torch.cat([heard, seen], -1)), state and state[2:])
        second_look, seen = _look(self.second_query(heard), keys)
        mixed = self.drop(torch.tanh(self.mix(self.drop(torch.cat([heard, seen], -1)))))
        return Written(self.phones(mixed), self.stress(mixed), first_look, second_look, (h1, c1, h2, c2))


def _look(query: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Weights over the letters, and what is seen with them."""
    weights = (query @ keys.transpose(1, 2) / math.sqrt(keys.shape[-1])).softmax(-1)
    return weights, weights.to(keys.dtype) @ keys


class SpellingToSound(nn.Module):
    """The network: `encode` letters once, then `onward` and `homeward` write phones from either end.

    `aligner` is the table of letters and phones that its training made, `graphones` the n-grams of the words aligned by
    it, which have a say in what is read, and `facts` say how it was made.
    """

    def __init__(self, config: G2PConfig):
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(len(LETTERS) + 1, config.embedding)
        widths = [config.embedding, *[2 * config.encoder] * (config.encoder_layers - 1)]
        self.encoder = nn.ModuleList(
            nn.LSTM(width, config.encoder, batch_first=True, bidirectional=True) for width in widths
        )
        self.keys = nn.Linear(2 * config.encoder, config.attention)
        self.drop = LockedDropout(config.dropout)
        self.onward = Decoder(config)
        self.homeward = Decoder(config)
        self.aligner = LetterAligner({})
        self.graphones = Graphones.fit([])
        self.facts: dict[str, Any] = {}

    def encode(self, letters: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers of letters `(word, letter)`, words of one length with their end mark → what the decoders look at,
        `(word, letter, width)`, and the encoder's own output, `(word, letter, 2 × units)`."""
        heard = self.drop(self.embed(letters))
        for layer in self.encoder:
            heard = self.drop(layer(heard)[0])
        return self.keys(heard), heard


def letter_numbers(word: str) -> list[int]:
    """The numbers of a word's letters, and the end mark; letters are those of `LETTERS`."""
    return [*(_LETTER_NUMBERS[letter] for letter in word), LETTER_END]


def save_g2p(path: Path, network: SpellingToSound, *, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write the network, its configuration, its aligner and its facts as one safetensors file."""
    tensors = {name: tensor.detach().to(dtype) for name, tensor in network.state_dict().items()}
    graphones = network.graphones
    tensors["graphones.ngrams"] = torch.from_numpy(graphones.ngrams.astype(np.int64))
    tensors["graphones.counts"] = torch.from_numpy(graphones.counts.astype(np.int32))
    facts = {
        "format": FORMAT,
        "config": network.config.model_dump(mode="json"),
        "letters": LETTERS,
        "phones": list(PHONES),
        "aligner": network.aligner.as_json(),
        "graphones": graphones.facts(),
        "facts": network.facts,
    }
    save_tensors(path, tensors, facts)


def load_g2p(path: Path) -> SpellingToSound:
    """The network of a file that `save_g2p` wrote, in float32 and in `eval()`.

    Raises:
        BadCheckpoint: the file is missing, cut short, or not of this kind.
    """
    tensors, facts = load_tensors(path)
    if facts.get("format") != FORMAT:
        raise BadCheckpoint("this file is no speller's network", got=f"{path}: {facts.get('format')}", wanted=FORMAT)
    try:
        if facts["letters"] != LETTERS or facts["phones"] != list(PHONES):
            raise ValueError("its letters or phones are others")
        network = SpellingToSound(G2PConfig.model_validate(facts["config"]))
        ngrams, counts = tensors.pop("graphones.ngrams"), tensors.pop("graphones.counts")
        network.graphones = Graphones.from_facts(facts["graphones"], ngrams.numpy(), counts.numpy().astype(np.int64))
        network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        network.aligner = LetterAligner.from_json(facts["aligner"])
        network.facts = dict(facts["facts"])
    except (BadInput, ValidationError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise BadCheckpoint(
            "this is a network of another kind",
            got=f"{path}: {str(error).splitlines()[0]}",
            wanted="weights that fit the configuration beside them",
        ) from error
    return network.eval()
