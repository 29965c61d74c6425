"""What a person reads in the terminal is what was written."""

from __future__ import annotations

import pytest

from otoscope.study.console import Terminal, table

NAME = "symbol:a: take[2] [bold]x[/bold] :smile:"


def test_names_are_neither_emoji_nor_styles(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    terminal.say(NAME)
    with terminal.stage(NAME) as report:
        report(1, 1, NAME)
    met = capsys.readouterr().err
    assert met.splitlines()[0] == NAME
    assert f"{NAME}: 0.0 s" in met
    terminal.show({}, table(["name"], [[NAME]]))
    assert NAME in capsys.readouterr().out
    terminal.screen.print(table(["name"], [[NAME]]))
    assert NAME in capsys.readouterr().err


def test_the_bar_of_a_stage_bears_its_name(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Terminal().stage(NAME) as report:
        report(1, 1)
    assert NAME in capsys.readouterr().err
