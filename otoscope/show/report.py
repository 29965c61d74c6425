"""The report: one HTML page that needs nothing but itself, its numbers in files beside it.

Plotly's library is written into the page once; the page forbids itself every request (Content-Security-Policy), so what
opens offline today opens offline in ten years.
"""

from __future__ import annotations

import base64
import importlib.metadata
import math
import os
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import plotly.graph_objects as go
import plotly.offline
from markupsafe import Markup

from otoscope.base import BadInput, write_text
from otoscope.show.page import Bar, Panel, Swatch, columns, prepare, script_json, shared
from otoscope.show.style import dark_twins, template

PAGE = "index.html"
# Names that the page itself gives: no heading may take them.
OWN_ANCHOR = re.compile(r"(top|main|data|provenance|theme|figure|table|plot)\b")
# A list that is longer shows so many of its items, and unfolds the rest.
UNFOLDED = 8


@dataclass(frozen=True)
class _Fact:
    value: str
    label: str
    detail: str


@dataclass(frozen=True)
class _Block:
    """A piece of a section; `kind` names the macro of the page that writes it."""

    kind: str
    number: int = 0
    paragraphs: tuple[str, ...] = ()
    caption: tuple[str, ...] = ()
    alt: str = ""
    panels: tuple[Panel, ...] = ()
    columns: int = 1
    legend: tuple[Swatch, ...] | None = None
    bar: Bar | None = None
    headers: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    numeric: tuple[bool, ...] = ()
    sounds: tuple[tuple[str, str], ...] = ()


@dataclass
class _Section:
    id: str
    heading: str
    paragraphs: tuple[str, ...]
    blocks: list[_Block] = field(default_factory=list)


class Report:
    """A page that grows by `add_…` and is written by `save`.

    Plain text is wanted everywhere and escaped; a blank line begins a new paragraph. What is added belongs to the last
    section added; what comes before the first section stands under the header.
    """

    def __init__(self, title: str, subtitle: str = ""):
        self.title, self.subtitle = title, subtitle
        self._facts: list[_Fact] = []
        self._sections: list[_Section] = [_Section("top", "", ())]
        self._data: list[tuple[Path, str]] = []
        self._provenance: list[tuple[str, str]] = []
        self._figures = 0
        self._tables = 0

    def add_fact(self, value: object, label: str, detail: str = "") -> None:
        """A key fact as a card of the header: `add_fact("9.8 %", "word error rate", "S/D/I 40/12/8 of 612 words")`."""
        self._facts.append(_Fact(_cell(value), label, detail))

    def add_section(self, heading: str, text: str = "") -> None:
        """Begin a section; it appears in the table of contents."""
        taken = {section.id for section in self._sections}
        stem = re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-") or "section"
        if OWN_ANCHOR.match(stem):
            stem = f"section-{stem}"
        id_ = next(name for name in (stem, *(f"{stem}-{n}" for n in range(2, 1000))) if name not in taken)
        self._sections.append(_Section(id_, heading, _paragraphs(text)))

    def add_text(self, text: str) -> None:
        """Paragraphs."""
        self._add(_Block("text", paragraphs=_paragraphs(text)))

    def add_list(self, items: Sequence[str]) -> None:
        """A bulleted list: the findings, for example. Of a long one the rest is unfolded by a click."""
        self._add(_Block("list", paragraphs=tuple(items)))

    def add_note(self, text: str) -> None:
        """A remark set apart: what to bear in mind while reading."""
        self._add(_Block("note", paragraphs=_paragraphs(text)))

    def add_warning(self, text: str) -> None:
        """Something that limits what can be concluded, set apart."""
        self._add(_Block("warning", paragraphs=_paragraphs(text)))

    def add_figure(self, figure: go.Figure | Sequence[go.Figure], caption: str, alt: str) -> int:
        """One plot, or several panels that belong together, laid in as many columns as fit.

        Titles, subtitles, legends and colour bars are taken from the figures and written around them in HTML; a legend
        or colour bar that all panels share is written once. A panel that may be narrower than usual says so in
        `layout.meta["narrowest_px"]`.

        Args:
            caption: how to read it, in words.
            alt: what it shows, for those who cannot see it.

        Returns:
            Its number, for references in the text.

        Raises:
            BadInput: no plotly figure, or an empty caption or alt text.
        """
        if not caption.strip() or not alt.strip():
            raise BadInput("a figure without words", got=f"caption {caption!r}, alt {alt!r}", wanted="both in words")
        panels = prepare([figure] if isinstance(figure, go.Figure) else list(figure), self._figures + 1)
        self._figures += 1
        self._add(
            _Block(
                "figure",
                number=self._figures,
                caption=_paragraphs(caption),
                alt=alt,
                panels=panels,
                columns=columns(panels),
                legend=shared(panels, "legend"),
                bar=shared(panels, "bar"),
            )
        )
        return self._figures

    def add_table(self, headers: Sequence[str], rows: Sequence[Sequence[object]], caption: str) -> int:
        """A table. Columns of numbers stand to the right; NaN and None are shown as a dash.

        Returns:
            Its number, for references in the text.

        Raises:
            BadInput: a row that is not as long as the headers.
        """
        for index, row in enumerate(rows):
            if len(row) != len(headers):
                raise BadInput(
                    f"row {index} of a table does not fit its headers",
                    got=f"{len(row)} cells: {list(row)}",
                    wanted=f"{len(headers)}: {', '.join(headers)}",
                )
        self._tables += 1
        self._add(
            _Block(
                "table",
                number=self._tables,
                caption=_paragraphs(caption),
                headers=tuple(headers),
                rows=tuple(tuple(_cell(cell) for cell in row) for row in rows),
                numeric=tuple(_numeric([row[place] for row in rows]) for place in range(len(headers))),
            )
        )
        return self._tables

    def add_sounds(self, sounds: Sequence[tuple[str, Path | str]]) -> None:
        """Players for WAV files `(label, path)`, which become part of the page; meant for seconds of sound.

        Raises:
            OtoscopeError: a file cannot be read.
        """
        self._add(_Block("sounds", sounds=tuple((label, _embedded(Path(path))) for label, path in sounds)))

    def add_data(self, path: Path | str, what: str) -> None:
        """A link to a file with the numbers (NetCDF, CSV). It must exist when the page is saved."""
        self._data.append((Path(path), what))

    def set_provenance(self, record: Mapping[str, Any]) -> None:
        """What the numbers came from: version, settings, hashes. Inner mappings become dotted names."""
        self._provenance = list(_flat(record))

    def save(self, directory: Path | str) -> Path:
        """Write `index.html` into `directory` in one step and return its path. Links to data are relative.

        Raises:
            BadInput: a data file that is not there.
            OtoscopeError: the page cannot be written (no room, no permission); what stood there still stands.
        """
        directory = Path(directory)
        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("otoscope.show"), autoescape=True, trim_blocks=True, lstrip_blocks=True
        )
        theme = {
            "light": template("light").to_plotly_json(),
            "dark": template("dark").to_plotly_json(),
            "twins": dark_twins(),
        }
        page = environment.get_template("report.html.j2").render(
            title=self.title,
            subtitle=self.subtitle,
            facts=self._facts,
            sections=[section for section in self._sections if section.heading or section.blocks],
            data=[_link(path, what, directory) for path, what in self._data],
            provenance=self._provenance,
            version=importlib.metadata.version("otoscope"),
            theme=Markup(script_json(theme)),
            plotly=Markup(plotly.offline.get_plotlyjs().replace("</script", "<\\/script")),
            figures=self._figures,
            unfolded=UNFOLDED,
        )
        write_text(directory / PAGE, page)
        return directory / PAGE

    def _add(self, block: _Block) -> None:
        self._sections[-1].blocks.append(block)


def _paragraphs(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in re.split(r"\n\s*\n", text) if part.strip())


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        # numpy's numbers are not Python's; their own `item` makes them so.
        return _cell(value.item()) if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else str(value)
    return (f"{value:,}" if isinstance(value, int) else f"{value:.3g}").replace("-", "−")


def _numeric(cells: Sequence[object]) -> bool:
    """Whether a column reads as numbers, a unit or percent sign behind them allowed."""
    texts = [_cell(cell) for cell in cells]
    return any(text != "–" for text in texts) and all(
        re.fullmatch(r"–|[−+-]?[\d.,]+(e[−+-]?\d+)?\s?[%\w/]{0,4}", text) for text in texts
    )


def _flat(record: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in record.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{above}{name}.")
        elif isinstance(value, (list, tuple)):
            rows.append((f"{above}{name}", ", ".join(map(str, value)) or "–"))
        else:
            rows.append((f"{above}{name}", "–" if value is None else str(value)))
    return rows


def _embedded(path: Path) -> str:
    try:
        return "data:audio/wav;base64," + base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise BadInput("a sound of the report cannot be read", got=f"{path}: {error}", wanted="a WAV file") from error


def _link(path: Path, what: str, directory: Path) -> dict[str, str]:
    if not path.is_file():
        raise BadInput(
            "the report would link to a file that is not there",
            got=str(path),
            wanted="a file with the numbers",
            remedy="write the data first, then save the report",
        )
    size = path.stat().st_size
    unit, divisor = ("MB", 1e6) if size >= 1e6 else ("kB", 1e3)
    relative = Path(os.path.relpath(path.resolve(), directory.resolve())).as_posix()
    return {
        "href": urllib.parse.quote(relative),
        "name": path.name,
        "what": what,
        "size": f"{max(size / divisor, 0.1):.1f} {unit}",
    }
