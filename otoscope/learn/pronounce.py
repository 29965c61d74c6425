"""How words are said, and which of their letters makes which phone: the dictionary first, then the network.

What each character of a word is taken for:

- letters, large or small, with or without accents: é is read as e, æ as ae, ø as o, ß as ss, a ligature as its letters;
- apostrophes inside a word are part of its spelling (*isn't*), outside they are quotation marks; they mostly make none;
- hyphens, spaces and punctuation make none, and part what is read by itself: *mother-in-law* is three words;
- digits, other signs and letters of other scripts make none, and are named: numbers must be written as words.

A word that stands in the dictionary as it is written is said as the dictionary has it, whatever its characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from otoscope.base import BadInput, Progress, silent
from otoscope.hear.lexicon import APOSTROPHES, without_stress
from otoscope.learn.g2p import SpellingToSound, load_g2p
from otoscope.learn.g2p_decode import BEAM, LONGEST_WORD, Reading, read_words
from otoscope.learn.letters import Chunk, LetterAligner

SHIPPED = Path(__file__).parent / "data" / "g2p.safetensors"
"""The network that comes with the package; `g2p.json` beside it says how it was made and how well it reads."""

# Letters that are not a letter of a to z with an accent, as English writes them where it cannot write them.
_SPELT = {"æ": "ae", "œ": "oe", "ø": "o", "ß": "ss", "ł": "l", "đ": "d", "ð": "th", "þ": "th", "ħ": "h", "ı": "i"}


@dataclass(frozen=True)
class Pronunciation:
    """A word as it was given, the phones that each of its characters makes, and where they come from.

    `source` is "lexicon", "network", or "both" for words of which some parts stand in the dictionary. `unread` are
    characters that nobody knows how to say: digits, signs, other scripts.
    """

    word: str
    letters: tuple[tuple[str, Chunk], ...]
    source: str
    unread: tuple[str, ...] = ()

    @property
    def phones(self) -> Chunk:
        """All phones in order."""
        return tuple(phone for _, chunk in self.letters for phone in chunk)


@dataclass(frozen=True)
class Pronunciations:
    """Words and how they are said, in the order given; `problems` name what was left out."""

    words: dict[str, Pronunciation]
    problems: list[str]


@lru_cache(maxsize=1)
def shipped_network() -> SpellingToSound:
    """The network that comes with the package.

    Raises:
        BadCheckpoint: it is not there, or cannot be read.
    """
    return load_g2p(SHIPPED)


def spelling(character: str) -> str:
    """The letters of a to z, or the apostrophe, that a character is read as; nothing for all others."""
    if APOSTROPHES.fullmatch(character) or character == "'":
        return "'"
    if not unicodedata.category(character).startswith("L"):
        return ""
    small = character.lower()
    plain = _SPELT.get(small) or unicodedata.normalize("NFKD", small)
    plain = "".join(sign for sign in plain if not unicodedata.combining(sign))
    return plain if plain and all("a" <= letter <= "z" for letter in plain) else ""


class Pronouncer:
    """Says words; what it has read once it remembers.

    Args:
        lexicon: word in small letters → pronunciations, as `otoscope.read_lexicon` gives them; the first is taken.
        network: for words that are not in the lexicon; the one that comes with the package if None.
        stress: whether vowels carry their mark of stress (EY1).
        beam: see `otoscope.learn.g2p_decode.read_words`.
    """

    def __init__(
        self,
        lexicon: Mapping[str, Sequence[tuple[str, ...]]] | None = None,
        network: SpellingToSound | None = None,
        *,
        stress: bool = False,
        beam: int = BEAM,
    ):
        self.lexicon = lexicon or {}
        self.stress, self.beam = stress, beam
        self._network = network
        self._read: dict[str, Reading] = {}

    @property
    def network(self) -> SpellingToSound:
        """The network, loaded when it is first needed."""
        if self._network is None:
            self._network = shipped_network()
        return self._network

    @property
    def aligner(self) -> LetterAligner:
        """Which letter makes which phone, for words of the lexicon."""
        return self.network.aligner

    def word(self, word: str) -> Pronunciation:
        """How one word is said.

        Raises:
            BadInput: it has no letter that can be read, or more than anybody can read.
        """
        self._prepare([word])
        return self._say(word)

    def words(self, words: Iterable[str], *, progress: Progress = silent) -> Pronunciations:
        """How words are said; what cannot be is left out, and named with the reason."""
        said: dict[str, Pronunciation] = {}
        problems = []
        known = list(dict.fromkeys(words))
        self._prepare(known, progress)
        for word in known:
            try:
                said[word] = self._say(word)
            except BadInput as error:
                problems.append(f"{error.problem} (got {error.got})")
        return Pronunciations(said, problems)

    def transcript(self, text: str) -> list[tuple[str, Chunk]]:
        """The phones that each character of a text makes, spaces and unreadable words included: those make none.

        The characters are those of the text in Unicode's composed form (NFC).
        """
        text = unicodedata.normalize("NFC", text)
        said = self.words(text.split()).words
        found: list[tuple[str, Chunk]] = []
        for token in re.findall(r"\s+|\S+", text):
            known = said.get(token)
            found += known.letters if known else [(character, ()) for character in token]
        return found

    def _prepare(self, words: Sequence[str], progress: Progress = silent) -> None:
        """Have the network read all at once what it will be asked for."""
        needed = {
            part
            for word in words
            if _key(word) not in self.lexicon
            for part, _ in _parts(_characters(word))
            if part not in self._read and self._listed(part) is None and len(part) <= LONGEST_WORD
        }
        if needed:
            ordered = sorted(needed)
            readings = read_words(self.network, ordered, beam=self.beam, progress=progress)
            self._read.update(zip(ordered, readings, strict=True))

    def _listed(self, part: str) -> tuple[str, ...] | None:
        listed = self.lexicon.get(part)
        return tuple(listed[0]) if listed else None

    def _say(self, word: str) -> Pronunciation:
        characters = _characters(word)
        made: list[Chunk] = [()] * len(characters)
        listed = self._listed(_key(word))
        if listed is not None:
            # Digits are said in words that the dictionary has, and signs where there is nothing else: the row for "&".
            places = [index for index, (sign, letters) in enumerate(characters) if letters or sign.isnumeric()]
            places = places or list(range(len(characters)))
            for index, chunk in self._shared(characters, places, listed):
                made[index] += chunk
            return Pronunciation(word, _pairs(characters, made), "lexicon")
        parts = _parts(characters)
        if not parts:
            raise BadInput("a word has no letter that can be read", got=repr(word), wanted="letters of a to z")
        sources = set()
        for part, places in parts:
            if len(part) > LONGEST_WORD:
                raise BadInput(
                    f"a word has more than {LONGEST_WORD} letters", got=repr(word[:20] + "…"), wanted="words of English"
                )
            listed = self._listed(part)
            sources.add("network" if listed is None else "lexicon")
            if listed is None:
                reading = self._read[part]
                spoken = iter(reading.stressed if self.stress else reading.phones)
                shared = [
                    (place, tuple(next(spoken) for _ in chunk))
                    for place, chunk in zip(places, reading.letters, strict=True)
                ]
            else:
                shared = self._shared(characters, sorted(set(places)), listed)
            for index, chunk in shared:
                made[index] += chunk
        unread = tuple(character for character, letters in characters if not letters and _is_sound(character))
        return Pronunciation(
            word, _pairs(characters, made), "both" if len(sources) == 2 else sources.pop(), tuple(dict.fromkeys(unread))
        )

    def _shared(
        self, characters: Sequence[tuple[str, str]], places: Sequence[int], listed: tuple[str, ...]
    ) -> list[tuple[int, Chunk]]:
        """The phones of a pronunciation from the lexicon, given to the characters at these places."""
        letters = [(place, letter) for place in places for letter in characters[place][1] or characters[place][0]]
        plain = without_stress(listed)
        spoken = iter(listed if self.stress else plain)
        chunks = self.aligner.align([letter for _, letter in letters], plain)
        return [(place, tuple(next(spoken) for _ in chunk)) for (place, _), chunk in zip(letters, chunks, strict=True)]


def _key(word: str) -> str:
    return APOSTROPHES.sub("'", unicodedata.normalize("NFC", word).lower())


def _characters(word: str) -> list[tuple[str, str]]:
    """Each character of a word and the letters it is read as."""
    return [(character, spelling(character)) for character in unicodedata.normalize("NFC", word)]


def _parts(characters: Sequence[tuple[str, str]]) -> list[tuple[str, list[int]]]:
    """What is read by itself: runs of letters, without the apostrophes around them, and the place of each letter."""
    runs: list[tuple[str, list[int]]] = [("", [])]
    for index, (character, letters) in enumerate(characters):
        if letters:
            spelt, places = runs[-1]
            runs[-1] = (spelt + letters, [*places, *[index] * len(letters)])
        elif not unicodedata.combining(character):
            runs.append(("", []))
    found = []
    for spelt, places in runs:
        bare = spelt.strip("'")
        if bare:
            start = len(spelt) - len(spelt.lstrip("'"))
            found.append((bare, places[start : start + len(bare)]))
    return found


def _is_sound(character: str) -> bool:
    """Whether a character without letters would be said by a person: digits, signs, letters of other scripts."""
    return unicodedata.category(character)[0] in "NSLC"


def _pairs(characters: Sequence[tuple[str, str]], made: Sequence[Chunk]) -> tuple[tuple[str, Chunk], ...]:
    return tuple((character, chunk) for (character, _), chunk in zip(characters, made, strict=True))
