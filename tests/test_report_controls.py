"""What the page says of controls: each result that lies in the folder, by its figure and its notes, and no other."""

from __future__ import annotations

from pathlib import Path

import test_figures_controls as made_up

from otoscope.show.report import Report
from otoscope.study.report_controls import add_controls
from otoscope.study.results import CASCADE, CHANCE, HALVES, SHUFFLED, save_table

RESULTS = {
    CASCADE: (made_up.made_up_cascade, "Profiles while weights become random"),
    SHUFFLED: (made_up.made_up_shuffled, "Responsiveness, groups by phone"),
    HALVES: (made_up.made_up_halves, "Reliability of profiles"),
    CHANCE: (made_up.made_up_silhouettes, "Silhouette by layer, groups by symbol"),
}


def page(folder: Path) -> str:
    report = Report("A page")
    add_controls(report, folder)
    return report.save(folder).read_text(encoding="utf-8")


def test_every_control_has_its_figure_and_its_notes(tmp_path: Path) -> None:
    for name, (make, _) in RESULTS.items():
        save_table(make().assign_attrs(notes=f"a note of {name}\nand another of {name}"), tmp_path, name)
    found = page(tmp_path)
    for name, (_, title) in RESULTS.items():
        assert title in found
        assert f"<li>a note of {name}</li>" in found.replace("\n", "").replace("> ", ">").replace(" <", "<"), name
        assert f"and another of {name}" in found
    # In the order of the section: what explains the network first.
    places = [found.index(title) for _, title in RESULTS.values()]
    assert len(set(places)) == len(places)


def test_only_what_is_there_is_shown(tmp_path: Path) -> None:
    assert "The network, or the data?" not in page(tmp_path)
    save_table(made_up.made_up_shuffled(), tmp_path, SHUFFLED)
    found = page(tmp_path)
    assert "Responsiveness, groups by symbol" in found
    for name, (_, title) in RESULTS.items():
        assert (title in found) == (name == SHUFFLED)
    # Without notes there is no empty list.
    assert "<ul></ul>" not in found.replace("\n", "").replace(" ", "")
