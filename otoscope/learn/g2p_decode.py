"""Words become phones: beam search from both ends, and which letter makes which phone by the network's attention."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from otoscope.base import BadInput, BadOption, Progress, silent
from otoscope.hear.phones import PHONE_TABLE, PHONES
from otoscope.learn.g2p import END, LETTERS, PAD, START, Decoder, SpellingToSound, State, letter_numbers
from otoscope.learn.letters import Chunk, share_out

LONGEST_WORD = 64
"""Letters; the longest headword of the CMU dictionary has 34."""

BEAM = 8
GRAPHONE_WEIGHT = 1.4
"""Of the n-grams' ln P beside those of both decoders. Chosen on the development words, where 1 to 2 are as good."""

_BATCH = 64


class Reading(NamedTuple):
    """How a word is said: phones without stress, the stress of each (None for consonants), the phones that each letter
    makes, and the score: ln P of both decoders, and of the n-grams with their weight."""

    phones: tuple[str, ...]
    stress: tuple[int | None, ...]
    letters: list[Chunk]
    score: float

    @property
    def stressed(self) -> tuple[str, ...]:
        """The phones as a dictionary writes them: EY1."""
        return tuple(
            phone if mark is None else f"{phone}{mark}" for phone, mark in zip(self.phones, self.stress, strict=True)
        )


@torch.no_grad()
def read_words(
    network: SpellingToSound, words: Sequence[str], *, beam: int = BEAM, progress: Progress = silent
) -> list[Reading]:
    """Read words of small letters and apostrophes (`otoscope.learn.g2p.LETTERS`), each by itself.

    A letter makes at most two phones, and a word at least one.

    Args:
        network: in `eval()`.
        words: what to read.
        beam: how many readings each decoder keeps at every step; 1 is greedy.
        progress: called with words done, words in all.

    Raises:
        BadOption: a beam of less than one.
        BadInput: a word with other characters, without a letter, or of more than `LONGEST_WORD`.
    """
    if beam < 1:
        raise BadOption("a beam keeps at least one reading", got=beam, wanted="1 or more")
    by_length: dict[int, list[int]] = defaultdict(list)
    for index, word in enumerate(words):
        if not set(word) <= set(LETTERS) or not word.strip("'") or len(word) > LONGEST_WORD:
            raise BadInput(
                "the network cannot read this", got=repr(word), wanted=f"1 to {LONGEST_WORD} letters of {LETTERS}"
            )
        by_length[len(word)].append(index)
    network.eval()
    found: dict[int, Reading] = {}
    for _, indices in sorted(by_length.items()):
        for start in range(0, len(indices), _BATCH):
            batch = indices[start : start + _BATCH]
            found.update(zip(batch, _read_batch(network, [words[index] for index in batch], beam), strict=True))
            progress(len(found), len(words), "words read")
    return [found[index] for index in range(len(words))]


def _read_batch(network: SpellingToSound, words: Sequence[str], beam: int) -> list[Reading]:
    """Words of one length."""
    keys, _ = network.encode(torch.tensor([letter_numbers(word) for word in words]))
    limit = 2 * len(words[0])
    onward = _search(network.onward, keys, beam, limit)
    homeward = _search(network.homeward, keys, beam, limit)
    candidates = [
        (number, phones)
        for number in range(len(words))
        for phones in sorted({*onward[number], *(row[::-1] for row in homeward[number])})
    ]
    rows = torch.tensor([number for number, _ in candidates])
    spoken = [phones for _, phones in candidates]
    scores, stress, weights = _agree(network, keys[rows], spoken)
    named = [tuple(PHONES[phone - 3] for phone in phones) for phones in spoken]
    aligned = [
        list(zip(words[number], network.aligner.align(words[number], phones), strict=True))
        for (number, _), phones in zip(candidates, named, strict=True)
    ]
    scores += GRAPHONE_WEIGHT * torch.from_numpy(network.graphones.log_probabilities(aligned))
    best: dict[int, int] = {}
    for index, (number, _) in enumerate(candidates):
        if number not in best or scores[index] > scores[best[number]]:
            best[number] = index
    readings = []
    for number, word in enumerate(words):
        index = best[number]
        phones = named[index]
        marks = stress[index, : len(phones)].tolist()
        readings.append(
            Reading(
                phones,
                tuple(
                    int(mark) if PHONE_TABLE[phone].manner == "vowel" else None
                    for phone, mark in zip(phones, marks, strict=True)
                ),
                share_out(phones, len(word), _value(weights[index, : len(phones)])),
                float(scores[index]),
            )
        )
    return readings


def _value(weights: Tensor) -> Callable[[int, int, int], float]:
    """What it is worth that a letter makes phones, from the attention `(phone, letter)`."""
    logs = weights.clamp_min(1e-6).log().tolist()
    return lambda letter, start, size: sum(logs[phone][letter] for phone in range(start, start + size))


def _search(decoder: Decoder, keys: Tensor, beam: int, limit: int) -> list[list[tuple[int, ...]]]:
    """The most probable sequences of phones for each word, as this decoder writes them, the best first."""
    words, letters, width = keys.shape
    wide = keys[:, None].expand(words, beam, letters, width).reshape(words * beam, letters, width)
    previous = torch.full((words * beam, 1), START)
    scores = torch.full((words, beam), float("-inf"))
    # All rows of a word begin alike: one of them is enough.
    scores[:, 0] = 0
    ended = torch.zeros(words, beam, dtype=torch.bool)
    written = torch.zeros(words, beam, 0, dtype=torch.long)
    state: State | None = None
    for step in range(limit + 1):
        said = decoder(previous, wide, state)
        chances = said.phones[:, 0].log_softmax(-1).view(words, beam, -1)
        chances[..., [PAD, START]] = float("-inf")
        if step == 0:
            chances[..., END] = float("-inf")
        if step == limit:
            chances[..., END + 1 :] = float("-inf")
        # What has ended goes on as it is.
        chances = chances.masked_fill(ended[..., None], float("-inf"))
        chances[..., PAD] = torch.where(ended, 0.0, float("-inf"))
        symbols = chances.shape[-1]
        scores, chosen = (scores[..., None] + chances).flatten(1).topk(beam, dim=1)
        parent, symbol = chosen // symbols, chosen % symbols
        ended = ended.gather(1, parent) | (symbol == END)
        written = torch.cat([written.gather(1, parent[..., None].expand(-1, -1, step)), symbol[..., None]], -1)
        if ended.all():
            break
        rows = (parent + torch.arange(words)[:, None] * beam).flatten()
        h1, c1, h2, c2 = said.state
        state = (h1[:, rows], c1[:, rows], h2[:, rows], c2[:, rows])
        previous = symbol.view(-1, 1)
    return [
        [
            tuple(phone for phone in row if phone > END)
            for row, score in zip(sequences, values, strict=True)
            if score > float("-inf")
        ]
        for sequences, values in zip(written.tolist(), scores.tolist(), strict=True)
    ]


def _agree(network: SpellingToSound, keys: Tensor, spoken: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor, Tensor]:
    """Of given phones: both decoders' score together, the stress `(row, phone)`, the weights `(row, phone, letter)`."""
    longest = max(map(len, spoken))
    scores = torch.zeros(len(spoken))
    stress: Tensor = torch.zeros(())
    weights: Tensor = torch.zeros(())
    lengths = torch.tensor([len(row) for row in spoken])
    for decoder, turn in ((network.onward, 1), (network.homeward, -1)):
        rows = [row[::turn] for row in spoken]
        previous = torch.tensor([[START, *row, *[PAD] * (longest - len(row))] for row in rows])
        targets = torch.tensor([[*row, END, *[PAD] * (longest - len(row))] for row in rows])
        said = decoder(previous, keys)
        chances = said.phones.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
        scores += chances.masked_fill(targets == PAD, 0).sum(1)
        # In the order in which they are said.
        steps = torch.arange(longest)[None, :]
        order = steps if turn == 1 else (lengths[:, None] - 1 - steps).clamp_min(0)
        order = order.expand(len(spoken), -1)
        # The end mark of the letters makes no phone.
        look = said.attention[..., :-1]
        weights = weights + look.gather(1, order[..., None].expand(-1, -1, look.shape[-1])) / 2
        stress = stress + said.stress.log_softmax(-1).gather(1, order[..., None].expand(-1, -1, 3))
    return scores, stress.argmax(-1), weights
