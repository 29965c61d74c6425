"""What the page says of profiles: of each preset what it is, and of sorted profiles nothing about time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from otoscope.reduce.gradnap import ProfileSums
from otoscope.reduce.profiles import Profiles
from otoscope.show.report import Report
from otoscope.study.report_profiles import add_profiles

GROUPS = ("phone:AE", "phone:IY", "phone:S", "phone:T")
HERTZ = (100, 300, 1000, 3000)


def made_up(preset: str, **options: str) -> Profiles:
    """Forty instances of each of four phones in two layers."""
    sums = ProfileSums(GROUPS, preset=preset, **options)
    sums.settings["by"] = ["phone"]
    sums.facts |= {"utterances": 2, "blank_frames": 1234, "gradients": "by hand"}
    draw = torch.Generator().manual_seed(0)
    middle = torch.arange(10, 170)
    for layer, units in {"input": len(HERTZ), "conv": 6}.items():
        frames, gradient = torch.randn(180, units, generator=draw), torch.randn(160, 5, units, generator=draw)
        sums.update(layer, [frames], 0 * middle, gradient, middle - 2, middle, (middle % 4)[:, None])
    return sums.finalize(frame_s=0.01, frequency_hz=HERTZ)


def page(profiles: Profiles, folder: Path) -> str:
    report = Report("A page")
    add_profiles(report, profiles, folder)
    return " ".join(report.save(folder).read_text(encoding="utf-8").split())


@pytest.mark.parametrize(
    ("preset", "said", "unsaid"),
    [
        (
            "krug2020",
            [
                "Gradient-adjusted neuron activation profiles of 160 frames",
                "Input-layer GradNAPs",
                "of no matter to the",
            ],
            ["NAvAI", "sorted by size"],
        ),
        (
            "navai",
            ["(NAvAI) of 160 frames", "nothing is masked", "Input-layer NAvAIs", "white: as on average"],
            ["Gradient-adjusted", "of no matter to the", "sorted by size"],
        ),
        (
            "nap",
            ["(NAP) of 160 frames", "sorted by size", "There is no time in them", "over the ranks of their"],
            ["Gradient-adjusted", "Time 0 is the moment", "How far the network looks", "frequency against time"],
        ),
    ],
)
def test_each_preset_is_called_what_it_is(preset: str, said: list[str], unsaid: list[str], tmp_path: Path) -> None:
    found = page(made_up(preset), tmp_path)
    for words in [*said, "1,234 frames that predict the blank are left out"]:
        assert words in found, words
    for words in unsaid:
        assert words not in found, words
    assert "Chosen otherwise" not in found


def test_what_differs_from_the_preset_is_said(tmp_path: Path) -> None:
    found = page(made_up("krug2020", alignment="gradient", pad="zero"), tmp_path)
    assert "Chosen otherwise: alignment, pad." in found
    assert "Three lines over the layers, in milliseconds" in page(made_up("krug2020", alignment="none"), tmp_path)
