"""The report in headless Chromium: drawn whole, silent, asking for nothing, good at a desk and on a phone."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import playwright.sync_api
import pytest
import soundfile
import synthetic_results as made_up
from synthetic_report import deep_report, dynamics_report, full_report

from otoscope.show import style
from otoscope.show.report import Report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
DESKTOP = {"viewport": {"width": 1280, "height": 900}}
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
}
DEVICES = {"desktop": DESKTOP, "phone": PHONE, "dark": {**DESKTOP, "color_scheme": "dark"}}
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH to open the page with"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return full_report(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_api.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


class Opened(NamedTuple):
    """A tab with all plots drawn, what the browser complained about, and what it asked for."""

    tab: playwright.sync_api.Page
    complaints: list[str]
    requests: list[str]


def opened(browser, page: Path, device: dict) -> Opened:
    tab = browser.new_context(**device).new_page()
    complaints: list[str] = []
    requests: list[str] = []
    tab.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    # What a test saves passes through a blob: it never leaves the page.
    tab.on("request", lambda request: request.url.startswith("blob:") or requests.append(request.url))
    tab.goto(page.as_uri())
    tab.wait_for_selector("html[data-ready]", state="attached", timeout=120_000)
    # Jumps of the tests are jumps, not glides.
    tab.evaluate("document.documentElement.style.scrollBehavior = 'auto'")
    return Opened(tab, complaints, requests)


def until(tab: playwright.sync_api.Page, condition: str) -> None:
    """Wait for what a script says. Playwright's own way evaluates strings in the page, which the page forbids."""
    for _ in range(600):
        if tab.evaluate(condition):
            return
        tab.wait_for_timeout(50)
    pytest.fail(f"never came true: {condition}")


@pytest.fixture(scope="module")
def screens(browser, page):
    """The page on every kind of screen, opened once: each test leaves it as it was but for the place scrolled to."""
    return {name: opened(browser, page, device) for name, device in DEVICES.items()}


# Texts of one plot in pixels of the screen, those that are drawn and hold something.
TEXTS = """plot => [...plot.querySelectorAll("svg text")].filter(text => text.textContent.trim()).map(text => {
  const box = text.getBoundingClientRect();
  return {text: text.textContent, left: box.left, right: box.right, top: box.top, bottom: box.bottom,
          size: parseFloat(getComputedStyle(text).fontSize)};
}).filter(box => box.right > box.left)"""
BOX = "node => { const b = node.getBoundingClientRect(); return [b.left, b.right, b.top, b.bottom]; }"
SMALLEST_TEXT = """() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const parent = walker.currentNode.parentElement;
    const words = walker.currentNode.textContent.trim();
    if (!words || parent.closest("script, style, noscript") || !parent.getClientRects().length) continue;
    found.push([parseFloat(getComputedStyle(parent).fontSize), words.slice(0, 40)]);
  }
  return found.sort((a, b) => a[0] - b[0])[0];
}"""
OVERFLOWING = """() => [...document.querySelectorAll("body *")].filter(node => {
  if (node.closest(".scroll, .skip, svg") || !node.getClientRects().length) return false;
  const box = node.getBoundingClientRect();
  return box.right > innerWidth + 0.5 || box.left < -0.5;
}).map(node => node.outerHTML.slice(0, 120))"""


@pytest.mark.parametrize("device", DEVICES)
def test_the_page_draws_itself_and_asks_for_nothing(screens, page, device):
    tab, complaints, requests = screens[device]
    assert complaints == []
    assert requests == [page.as_uri()]
    plots = tab.query_selector_all(".plot")
    assert len(plots) == 21
    for plot in plots:
        assert plot.query_selector(".scatterlayer .trace path, .heatmaplayer image") is not None
    # As wide as the window, nothing sticks out sideways.
    width = DEVICES[device]["viewport"]["width"]
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert tab.evaluate(OVERFLOWING) == []
    size, text = tab.evaluate(SMALLEST_TEXT)
    assert size >= 11, text


@pytest.mark.parametrize("device", ["desktop", "phone"])
def test_texts_of_plots_are_whole_and_apart(screens, device):
    check_texts(screens[device].tab)


@pytest.mark.parametrize("device", ["desktop", "phone"])
def test_a_deep_network_with_long_names_fits(browser, device, tmp_path):
    tab, complaints, _ = opened(browser, deep_report(tmp_path), DEVICES[device])
    check_texts(tab)
    assert tab.evaluate(OVERFLOWING) == []
    assert "never" in tab.evaluate("document.getElementById('plot-3-1').textContent")
    # The matrix is square, and not squeezed by its labels.
    left, right, top, bottom = tab.query_selector("#plot-2-1 .heatmaplayer image").evaluate(BOX)
    assert right - left == pytest.approx(bottom - top, abs=3)
    assert right - left > 0.5 * tab.evaluate("document.getElementById('plot-2-1').clientWidth")
    assert complaints == []
    tab.context.close()


@pytest.mark.parametrize("device", ["desktop", "phone"])
def test_intervals_baselines_and_names_of_networks_fit(browser, device, tmp_path):
    tab, complaints, _ = opened(browser, dynamics_report(tmp_path), DEVICES[device])
    check_texts(tab)
    assert tab.evaluate(OVERFLOWING) == []
    for plot in ("plot-3-1", "plot-8-1"):
        left, right, top, bottom = tab.query_selector(f"#{plot} .heatmaplayer image").evaluate(BOX)
        assert right - left == pytest.approx(bottom - top, abs=3)
        assert right - left > 0.5 * tab.evaluate(f"document.getElementById('{plot}').clientWidth")
    # Whoever hides a layer hides its band.
    shown = "() => document.getElementById('plot-1-1').data.filter(t => t.visible !== false).map(t => t.legendgroup)"
    tab.query_selector("#figure-1 .key[data-key=conv3]").click()
    assert sorted(tab.evaluate(shown)) == sorted(2 * [name for name in made_up.LAYERS if name != "conv3"])
    if device == "desktop":
        cells = tab.query_selector("#plot-3-1 .heatmaplayer")
        cells.scroll_into_view_if_needed()
        left, right, top, bottom = cells.evaluate(BOX)
        # The upper left corner: last layer with the first one, which is marked; the mark must not hide the words.
        tab.mouse.move(left + (right - left) / 24, top + (bottom - top) / 24)
        until(tab, "document.querySelector('#plot-3-1 .hoverlayer')?.textContent.includes('re-paired utterances')")
        said = tab.evaluate("document.querySelector('#plot-3-1 .hoverlayer').textContent")
        assert said.startswith("logits with conv1")
        assert "95\u00a0% interval" in said
    assert complaints == []
    tab.context.close()


def check_texts(tab: playwright.sync_api.Page) -> None:
    """Every text of every plot is large enough, not cut off and not over another one."""
    for plot in tab.query_selector_all(".plot"):
        name = plot.get_attribute("id")
        left, right, top, bottom = plot.evaluate(BOX)
        texts = plot.evaluate(TEXTS)
        assert len(texts) >= 5, name
        for box in texts:
            assert box["size"] >= 11, (name, box)
            cut = max(left - box["left"], box["right"] - right, top - box["top"], box["bottom"] - bottom)
            assert cut <= 1, (name, "cut", box)
        for one, other in itertools.combinations(texts, 2):
            across = min(one["right"], other["right"]) - max(one["left"], other["left"])
            along = min(one["bottom"], other["bottom"]) - max(one["top"], other["top"])
            # A line's box is higher than its letters: two pixels of leading may be shared.
            assert across <= 1 or along <= 2.5, (name, one["text"], other["text"])


def test_a_finger_on_a_plot_scrolls_the_page(screens):
    tab, _, _ = screens["phone"]
    tab.evaluate("document.getElementById('plot-2-1').scrollIntoView({behavior: 'instant', block: 'center'})")
    before = tab.evaluate("scrollY")
    ranges = "(p => [...p.layout.xaxis.range, ...p.layout.yaxis.range])(document.getElementById('plot-2-1'))"
    shown = tab.evaluate(ranges)
    touch = tab.context.new_cdp_session(tab)
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": 220, "y": 450}]})
    for step in range(1, 13):
        point = {"x": 220 - 5 * step, "y": 450 - 20 * step}
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
        tab.wait_for_timeout(16)
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    until(tab, f"scrollY > {before} + 150")
    tab.wait_for_timeout(200)
    assert tab.evaluate(ranges) == shown


def test_a_click_in_the_legend_hides_a_layer_in_every_panel(screens):
    tab, complaints, _ = screens["desktop"]
    key = tab.query_selector("#figure-2 .key[data-key=conv3]")
    shown = "n => document.getElementById(n).data.filter(t => t.visible !== false).map(t => t.name)"
    key.click()
    assert key.get_attribute("aria-pressed") == "false"
    for plot in ("plot-2-1", "plot-2-2"):
        assert tab.evaluate(shown, plot) == [name for name in made_up.LAYERS if name != "conv3"]
    # Another figure is left alone.
    assert "conv3" in tab.evaluate(shown, "plot-3-1")
    key.click()
    assert "conv3" in tab.evaluate(shown, "plot-2-1")
    assert complaints == []


def test_a_saved_figure_is_whole(screens, tmp_path):
    tab, complaints, _ = screens["dark"]
    for plot, words in {
        "plot-2-1": ["SVCCA with the last checkpoint", "N = 25,310 frames", "conv11"],
        "plot-6-1": ["/AE/", "N = 412 instances", "GradNAP (sd of the log-mel)", "8k"],
    }.items():
        with tab.expect_download() as download:
            tab.click(f"[data-plot={plot}]")
        download.value.save_as(tmp_path / "figure.svg")
        svg = (tmp_path / "figure.svg").read_text(encoding="utf-8")
        assert download.value.suggested_filename == f"{plot}.svg"
        for each in words:
            assert each in svg
    assert complaints == []


def test_dark_page_and_paper(screens):
    colours = "document.getElementById('plot-2-1').data.map(trace => trace.line.color)"
    tab, complaints, _ = screens["dark"]
    light = style.depth_colours(len(made_up.LAYERS))
    assert tab.evaluate(colours) == [style.dark_twins()[colour] for colour in light]
    # Paper is light whatever the screen is, and plots take its width.
    tab.emulate_media(media="print")
    tab.set_viewport_size({"width": 680, "height": 900})
    until(tab, f"{colours}[0] === '{light[0]}'")
    assert tab.evaluate(colours) == light
    until(tab, "document.documentElement.scrollWidth === 680")
    assert tab.evaluate(OVERFLOWING) == []
    # The screen follows the reader's change of mind.
    tab.set_viewport_size(DEVICES["dark"]["viewport"])
    tab.emulate_media(media="screen", color_scheme="light")
    until(tab, f"{colours}[0] === '{light[0]}'")
    tab.emulate_media(color_scheme="dark")
    until(tab, f"{colours}[0] === '{style.dark_twins()[light[0]]}'")
    assert complaints == []


def test_contents_follow_the_reader(screens):
    tab, _, _ = screens["desktop"]
    tab.click(".contents-side a[href='#clusters']")
    until(tab, "document.querySelector('.contents-side a.now')?.textContent === 'Clusters'")
    left, _, top, bottom = tab.query_selector(".contents-side").evaluate(BOX)
    assert left >= 0
    assert 0 <= top < bottom <= 900
    tab, _, _ = screens["phone"]
    tab.click(".contents-bar summary")
    tab.click(".contents-bar a[href='#clusters']")
    assert tab.query_selector(".contents-bar").get_attribute("open") is None
    until(tab, "document.querySelector('.contents-bar .here').textContent === 'Clusters'")
    # The heading is not hidden behind the bar.
    bar = tab.query_selector(".contents-bar").evaluate(BOX)
    heading = tab.query_selector("#clusters h2").evaluate(BOX)
    assert bar[2] == 0
    assert heading[2] >= bar[3]


def test_sounds_play_and_long_lists_unfold(browser, tmp_path):
    soundfile.write(tmp_path / "tone.wav", np.sin(np.arange(4000) / 5) / 2, 16000)
    report = Report("Sounds")
    report.add_section("What neurons would like to hear")
    report.add_sounds([("layer1-phone-AE", tmp_path / "tone.wav")])
    report.add_list([f"finding {number}" for number in range(14)])
    page = report.save(tmp_path / "page")
    # The page goes where it likes, and its sounds with it.
    (tmp_path / "tone.wav").unlink()
    tab, complaints, requests = opened(browser, page, DESKTOP)
    tab.evaluate("document.querySelector('audio').preload = 'auto'")
    until(tab, "document.querySelector('audio').duration == 0.25")
    assert not tab.locator("text=finding 13").is_visible()
    assert tab.locator("text=finding 7").is_visible()
    tab.locator("summary", has_text="6 more").click()
    assert tab.locator("text=finding 13").is_visible()
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [page.as_uri()]
