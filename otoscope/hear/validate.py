"""Is a corpus what its manifest says? Every bad row with its reason, and the totals of the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from otoscope.base import OtoscopeError, Progress, Seconds, silent
from otoscope.hear.corpus import Corpus, Problem, add_ctm
from otoscope.hear.manifest import find_manifest, read_rows, rows_to_utterances
from otoscope.hear.tiers import overlaps
from otoscope.hear.utterance import AudioInfo, Utterance, audio_info, load_audio

TOLERANCE_S = 0.05


@dataclass
class ValidationReport:
    """What `validate` found. `problems` are rows not to be used; `warnings` are odd, and may be meant."""

    manifest: Path
    rows: int = 0
    utterances: int = 0
    hours: float = 0.0
    speakers: list[str] = field(default_factory=list)
    words: int = 0
    distinct_words: int = 0
    sample_rates: dict[int, int] = field(default_factory=dict)
    tiers: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every row can be used."""
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        plain = {name: value for name, value in vars(self).items() if name not in ("problems", "warnings")}
        listed = {name: [vars(item) for item in getattr(self, name)] for name in ("problems", "warnings")}
        return plain | {"manifest": str(self.manifest), "ok": self.ok} | listed

    def __str__(self) -> str:
        rates = ", ".join(f"{rate} Hz" for rate in self.sample_rates)
        tiers = ", ".join(f"{name} ({count} utterances)" for name, count in self.tiers.items())
        bad_rows = self.rows - self.utterances
        lines = [
            f"{self.manifest}: {self.utterances} of {self.rows} rows can be used",
            f"  {self.hours:.3f} hours, {len(self.speakers)} speakers",
            f"  {self.words} words, {self.distinct_words} different",
            f"  recordings at {rates or 'no rate'}; tiers: {tiers or 'none'}",
            *(f"  bad: {problem}" for problem in self.problems),
            *(f"  odd: {warning}" for warning in self.warnings),
            f"  {bad_rows} bad rows, {len(self.warnings)} oddities"
            if bad_rows or self.warnings
            else "  nothing is wrong",
        ]
        return "\n".join(lines)


def validate(
    manifest: Path | str,
    *,
    need_text: bool = True,
    decode: bool = False,
    ctm: Mapping[str, Path | str] | None = None,
    progress: Progress = silent,
) -> ValidationReport:
    """Check every row of a manifest, and open the header of every recording.

    Bad is what `read_corpus` leaves out, and: a recording that cannot be opened or has another rate or length than its
    row says, a tier that reaches more than 50 ms beyond the audio. Odd is: segments of a tier that overlap by more than
    that, a tier without segments, several sample rates. `decode` reads every sample too (slow), which shows recordings
    that break off or hold NaN. `ctm` is that of `read_corpus`.

    Raises:
        BadInput: the manifest or a CTM file is missing or cannot be read.
    """
    path = find_manifest(manifest)
    report = ValidationReport(path)
    found = list(rows_to_utterances(read_rows(path), path.parent, need_text=need_text))
    corpus = Corpus(item for _, _, item in found if isinstance(item, Utterance))
    for tier, file in (ctm or {}).items() if corpus else ():
        add_ctm(corpus, tier, Path(file) if Path(file).exists() else path.parent / file)
    report.rows = len(found)
    rates: Counter[int] = Counter()
    tiers: Counter[str] = Counter()
    speakers: set[str] = set()
    words: Counter[str] = Counter()
    for done, (line, id, item) in enumerate(found, 1):
        progress(done, len(found), str(id))
        if isinstance(item, OtoscopeError):
            report.problems.append(Problem.of(line, id, item))
            continue
        try:
            info = audio_info(item)
            if decode:
                load_audio(item)
        except OtoscopeError as error:
            report.problems.append(Problem.of(line, id, error))
            continue
        length_s = info.num_samples / info.sample_rate
        report.warnings += [Problem(line, id, what) for what in _oddities(item)]
        contradictions = [Problem(line, id, what) for what in _contradictions(item, info, length_s)]
        report.problems += contradictions
        if contradictions:
            continue
        report.utterances += 1
        report.hours += length_s / 3600
        rates[info.sample_rate] += 1
        tiers.update(list(item.tiers))
        words.update(item.text.split())
        if item.speaker is not None:
            speakers.add(item.speaker)
    if len(rates) > 1:
        what = f"several sample rates: {', '.join(f'{n} at {rate} Hz' for rate, n in rates.most_common())}"
        report.warnings.append(Problem(0, None, what))
    report.speakers = sorted(speakers)
    report.words, report.distinct_words = words.total(), len(words)
    report.sample_rates, report.tiers = dict(sorted(rates.items())), dict(tiers)
    return report


def _contradictions(utterance: Utterance, info: AudioInfo, length_s: Seconds) -> list[str]:
    """Where the row says something else than the recording."""
    found = []
    attributes = utterance.attributes
    said: dict[str, Seconds] = {}
    if attributes.get("num_samples") is not None:
        said["num_samples"] = attributes["num_samples"] / info.sample_rate
    if attributes.get("duration") is not None:
        said["duration"] = float(attributes["duration"])
    for name, said_s in said.items():
        if abs(said_s - length_s) > TOLERANCE_S:
            found.append(f"{name} says {said_s:.3f} s; got {length_s:.3f} s of audio")
    for name, tier in utterance.tiers.items():
        end_s = max((segment.end_s for segment in tier), default=0.0)
        if end_s > length_s + TOLERANCE_S:
            found.append(f"the tier {name!r} ends at {end_s:.3f} s; got {length_s:.3f} s of audio")
    return found


def _oddities(utterance: Utterance) -> list[str]:
    found = []
    for name, tier in utterance.tiers.items():
        pairs = overlaps(tier, TOLERANCE_S)
        if pairs:
            first, second = pairs[0]
            found.append(
                f"segments of the tier {name!r} overlap ({len(pairs)}): {first.label!r} until {first.end_s:.3f} s, "
                f"{second.label!r} from {second.start_s:.3f} s"
            )
        if not tier:
            found.append(f"the tier {name!r} has no segments")
    return found
