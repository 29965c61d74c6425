"""The report: what stands on the page, in order, whole, and never as markup of somebody else's making."""

from __future__ import annotations

import html.parser
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import plotly.graph_objects as go
import plotly.offline
import pytest
import synthetic_results as made_up
from synthetic_report import full_report

from otoscope.base import BadInput
from otoscope.show.figures_training import similarity_through_training, training_curves
from otoscope.show.report import Report


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return full_report(tmp_path_factory.mktemp("report"))


class _Reader(html.parser.HTMLParser):
    """HTML into an element tree; a tag closed out of turn fails."""

    EMPTY = frozenset({"meta", "link", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.tree = ElementTree.TreeBuilder()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tree.start(tag, {name: value or "" for name, value in attrs})
        if tag in self.EMPTY:
            self.tree.end(tag)
        else:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tree.start(tag, {name: value or "" for name, value in attrs})
        self.tree.end(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else at {self.getpos()}"
        self.tree.end(tag)

    def handle_data(self, data):
        self.tree.data(data)


def read(page: Path) -> ElementTree.Element:
    reader = _Reader()
    reader.feed(page.read_text(encoding="utf-8"))
    assert reader.open == []
    return reader.tree.close()


def of_class(node: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [each for each in node.iter() if name in each.get("class", "").split()]


def by_id(node: ElementTree.Element, name: str) -> ElementTree.Element:
    (found,) = (each for each in node.iter() if each.get("id") == name)
    return found


def words_of(node: ElementTree.Element) -> str:
    """What a reader reads: scripts are no text."""

    def texts(inner):
        if inner.tag not in ("script", "style"):
            yield inner.text or ""
            for child in inner:
                yield from texts(child)
                yield child.tail or ""

    return " ".join("".join(texts(node)).split())


def specs(page: Path) -> dict[str, dict]:
    """Every figure's JSON, by the id of its plot."""
    return {
        node.get("id").removesuffix("-spec"): json.loads(node.text)
        for node in read(page).iter("script")
        if node.get("id", "").endswith("-spec")
    }


def without_scripts(page: Path) -> str:
    return re.sub(r"<script.*?</script>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_page_holds_everything_in_order(page):
    tree = read(page)
    headings = [words_of(heading) for heading in tree.iter("h2")]
    assert headings[:3] == ["What was found", "Training", "Similarity through training"]
    assert headings[-1] == "Data"
    ids = [node.get("id") for node in tree.iter() if node.get("id")]
    assert len(set(ids)) == len(ids)
    links = [link.get("href") for nav in tree.iter("nav") for link in nav.iter("a")]
    assert len(links) == 2 * (len(headings) + 1)
    assert {link.removeprefix("#") for link in links} <= set(ids)
    figures = of_class(tree, "plots")
    assert [figure.get("id") for figure in figures] == [f"figure-{n}" for n in range(1, 10)]
    for figure in figures:
        assert len(words_of(figure.find("figcaption"))) > 60
        assert len(of_class(figure, "panels")[0].get("aria-label")) > 20
    assert len(of_class(tree, "plot")) == len(specs(page)) == 21
    words = words_of(tree.find("body"))
    for each in ("9.8 %", "S/D/I 40/12/8 of 612 words", "N = 412 instances", "N = 25,310 frames", "Table 1."):
        assert each in words
    # Files are linked relatively, so that the folder can be moved.
    (files,) = of_class(tree, "files")
    names = ["similarity.nc", "similarity.csv", "gradnap.nc", "history.csv"]
    assert [link.get("href") for link in files.iter("a")] == names
    assert "48.3 kB" in words_of(files)
    rows = {words_of(row.find("th")): words_of(row.find("td")) for row in by_id(tree, "provenance").iter("tr")}
    assert rows["corpus.sha256"] == "9f2c4e7ab01d33c8"
    assert rows["similarity.layers"].startswith("conv1, conv2")


def test_legends_and_colour_bars_are_written_once_where_they_are_shared(page):
    tree = read(page)

    def names(figure: int) -> list[list[str]]:
        legends = of_class(by_id(tree, f"figure-{figure}"), "legend")
        return [[words_of(key) for key in legend.iter("button")] for legend in legends]

    assert names(2) == [made_up.LAYERS]
    assert names(1) == [["training", "held out"], ["held out"]]
    assert len(names(7)) == 2
    assert names(7)[0][0] == "other units"
    (bar,) = of_class(by_id(tree, "figure-6"), "bar")
    assert words_of(bar) == "GradNAP (sd of the log-mel) ≤ −1.1 0 ≥ 1.1"
    # Keys of the legend match traces, or clicking them would do nothing.
    for plot, spec in specs(page).items():
        keys = {key.get("data-key") for key in of_class(by_id(tree, f"figure-{plot.split('-')[1]}"), "key")}
        assert {each.get("legendgroup") or each["name"] for each in spec["data"] if each.get("showlegend")} <= keys


def test_plotly_is_there_once_and_nothing_is_fetched(page):
    whole = page.read_text(encoding="utf-8")
    assert whole.count(plotly.offline.get_plotlyjs()[:200]) == 1
    outside = without_scripts(page)
    assert re.findall(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", outside) == []
    assert "url(" not in outside
    assert "@import" not in outside
    assert "default-src 'none'" in outside
    # The plots are small beside the library.
    assert len(whole.encode()) < 6e6


def test_the_page_is_the_same_for_the_same_results(page, tmp_path):
    assert full_report(tmp_path / "again").read_bytes() == page.read_bytes()


NASTY = '<script>alert("x")</script> & {{ 7 * 7 }} </script>'


def test_text_of_users_is_never_markup(tmp_path):
    data = made_up.similarity([NASTY, "conv2"])
    (tmp_path / "a<b>&'.csv").write_text("x")
    report = Report(NASTY, NASTY)
    report.add_fact(NASTY, NASTY, NASTY)
    report.add_section(NASTY, NASTY)
    report.add_text(NASTY)
    report.add_list([NASTY])
    report.add_note(NASTY)
    report.add_table([NASTY], [[NASTY]], NASTY)
    report.add_figure(similarity_through_training(data), NASTY, NASTY)
    report.add_data(tmp_path / "a<b>&'.csv", NASTY)
    report.set_provenance({NASTY: NASTY})
    page = report.save(tmp_path)
    tree = read(page)
    # Plotly, the page's own script, the theme and two plots: nothing else became a script.
    assert len(list(tree.iter("script"))) == 5
    readable = words_of(tree.find("body"))
    assert readable.count(NASTY) >= 13
    assert "conv2" in readable
    assert specs(page)["plot-1-1"]["data"][0]["name"].startswith("&lt;script&gt;")


def test_a_figure_of_somebody_else_cannot_break_out_of_its_script(tmp_path):
    figure = go.Figure(
        go.Scatter(y=[1, 2], name="line", showlegend=True), layout={"title": {"text": f"<b>A</b> {NASTY}"}}
    )
    report = Report("Theirs")
    report.add_figure(figure, "A caption.", "A line.")
    page = report.save(tmp_path)
    assert len(list(read(page).iter("script"))) == 4
    assert specs(page)["plot-1-1"]["layout"]["title"]["text"] == f"<b>A</b> {NASTY}"
    assert "template" not in specs(page)["plot-1-1"]["layout"]


def test_numbers_in_tables_read_well(tmp_path):
    report = Report("Numbers")
    report.add_section("Numbers")
    rows = [[1234567, 0.123456, None, np.float32(-2.5), "a"], [np.int64(5), float("nan"), 3, 1e-7, "12 %"]]
    assert report.add_table(["count", "value", "gap", "numpy", "text"], rows, "Numbers.") == 1
    tree = read(report.save(tmp_path))
    cells = [[words_of(cell) for cell in row.iter("td")] for row in tree.find(".//tbody").iter("tr")]
    assert cells == [["1,234,567", "0.123", "–", "−2.5", "a"], ["5", "–", "3", "1e−07", "12 %"]]
    assert [head.get("class") for head in tree.iter("th")] == ["number"] * 4 + [None]


def test_sections_with_one_name_have_two_anchors(tmp_path):
    report = Report("Twice")
    for heading in ("Layer 1", "Layer 1", "Data", "Figure 1", "Ελληνικά"):
        report.add_section(heading)
    ids = [section.get("id") for section in read(report.save(tmp_path)).iter("section")]
    assert ids == ["layer-1", "layer-1-2", "section-data", "section-figure-1", "section"]


def test_a_page_without_figures_needs_no_plotly(tmp_path):
    report = Report("Words only")
    report.add_section("Words", "One.\n\nTwo.")
    page = report.save(tmp_path)
    assert page.stat().st_size < 40_000
    assert [words_of(each) for each in next(read(page).iter("section")).findall("p")] == ["One.", "Two."]


def test_bad_input_is_told_in_words(tmp_path):
    report = Report("Bad")
    report.add_section("Bad")
    figure = training_curves(made_up.history())[0]
    with pytest.raises(BadInput, match="without words"):
        report.add_figure(figure, " ", "alt")
    with pytest.raises(BadInput, match="nothing to draw"):
        report.add_figure([], "caption", "alt")
    with pytest.raises(BadInput, match="row 1 of a table"):
        report.add_table(["a", "b"], [[1, 2], [3]], "caption")
    report.add_data(tmp_path / "missing.nc", "not there")
    with pytest.raises(BadInput, match="link to a file that is not there"):
        report.save(tmp_path)
    assert not (tmp_path / "index.html").exists()
