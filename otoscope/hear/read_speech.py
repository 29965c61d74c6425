"""Read speech as the Linguistic Data Consortium and OpenSLR hand it out: TIMIT and LibriSpeech."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from otoscope.hear.layouts import AUDIO_ENDINGS, Place, Rows, beside, lines, text_of
from otoscope.hear.manifest import Row

# Two men and one woman of each dialect (NIST's documentation of TIMIT, "core test set").
CORE_TEST_SPEAKERS = frozenset(
    "mdab0 mwbt0 felc0 mtas1 mwew0 fpas0 mjmp0 mlnt0 fpkt0 mlll0 mtls0 fjlm0 "
    "mbpm0 mklt0 fnlp0 mcmj0 mjdh0 fmgd0 mgrt0 mnjm0 fdhc0 mjln0 mpam0 fmld0".split()
)


def librispeech(transcript: Path, place: Place) -> Rows:
    """`subset/speaker/chapter/speaker-chapter.trans.txt`, an id and a text a line; the sex from SPEAKERS.TXT above."""
    subset, speaker, chapter = transcript.parent.parts[-3:]
    tables = [folder / "SPEAKERS.TXT" for folder in list(transcript.parents)[2:5]]
    gender = next((_librispeech_genders(table).get(speaker) for table in tables if table.is_file()), None)
    common: Row = {"speaker": speaker, "chapter": chapter}
    common |= {"gender": gender} if gender else {}
    common |= {"corpus_subset": subset} if re.match(r"(train|dev|test)-", subset) else {}
    for number, line in lines(transcript):
        id, _, text = line.partition(" ")
        audio = beside(transcript.with_name(id), AUDIO_ENDINGS) or transcript.with_name(f"{id}.flac")
        yield number, {"id": id, "audio": str(audio), "text": text} | common


@lru_cache(maxsize=2)
def _librispeech_genders(table: Path) -> dict[str, str]:
    fields = [[field.strip() for field in line.split("|")] for _, line in lines(table)]
    return {speaker: gender.lower() for speaker, gender, *_ in (row for row in fields if len(row) > 1)}


def timit(labels: Path, place: Place) -> Rows:
    """`train/dr1/fcjf0/sa1` with .wav, .phn, .wrd and .txt beside each other, in small letters or capitals.

    The recordings are NIST SPHERE whatever their name ends in. The sample that NLTK distributes has region and speaker
    in one folder, `dr1-fcjf0`.
    """
    stem = labels.with_suffix("")
    *_, usage, region, speaker = ("", "", "", *(part.lower() for part in labels.parent.parts))
    joined = re.fullmatch(r"(dr\d)-(\w+)", speaker)
    if joined:
        usage, region, speaker = region, joined[1], joined[2]
    dialect = re.fullmatch(r"dr(\d)", region)
    sentence = stem.name.lower()
    audio = beside(stem, AUDIO_ENDINGS) or stem.with_suffix(".wav")
    prompt, words = beside(stem, (".txt",)), beside(stem, (".wrd",))
    row: Row = {
        "id": f"{region}-{speaker}-{sentence}" if dialect else f"{speaker}-{sentence}",
        "audio": str(audio),
        # First and last sample, then the sentence.
        "text": re.sub(r"^\s*\d+\s+\d+\s+", "", text_of(prompt)).strip() if prompt else None,
        "speaker": speaker,
        "phones": str(labels),
        "words": str(words) if words else None,
        "sentence_type": sentence[:2],
    }
    row |= {"gender": speaker[0]} if speaker[:1] in ("f", "m") else {}
    row |= {"dialect": int(dialect[1])} if dialect else {}
    row |= {"split": usage} if usage in ("train", "test") else {}
    row |= {"core_test": speaker in CORE_TEST_SPEAKERS} if usage == "test" else {}
    yield 0, row
