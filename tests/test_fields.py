"""Effective fields against profiles whose mass was put where the test knows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from otoscope.base import BadInput, BadOption
from otoscope.reduce.fields import describe_fields, effective_fields
from otoscope.reduce.gradnap import ProfileSums
from otoscope.reduce.profiles import Profiles

SPAN = 21


def planted(
    halves: dict[str, dict[str, int]], span: dict[str, int], instances: int = 40, frame_s: float = 0.02
) -> Profiles:
    """Profiles of equal mass on the 2 h + 1 frames around the alignment and none beyond, by layer and group.

    Each group has its own unit, active throughout its utterance; the gradient is 1 on these frames only.
    """
    groups = list(next(iter(halves.values())))
    sums = ProfileSums(groups, alignment="none")
    for layer, by_group in halves.items():
        frames, middle = 4 * SPAN, 2 * SPAN
        for number, half in enumerate(by_group.values()):
            active = torch.zeros(frames, len(groups))
            active[:, number] = 1
            width = span[layer]
            at = torch.arange(width) - width // 2
            gradient = (at.abs() <= half).float()[None, :, None].expand(instances, width, len(groups))
            every = torch.full((instances,), 0)
            sums.update(
                layer,
                [active],
                every,
                gradient.contiguous(),
                every + middle - width // 2,
                every + middle,
                torch.full((instances, 1), number),
            )
    return sums.finalize(frame_s=frame_s)


def test_the_widest_group_decides() -> None:
    profiles = planted({"conv1": {"phone:A": 1, "phone:B": 4}, "conv2": {"phone:A": 0, "phone:B": 2}},
                       {"conv1": SPAN, "conv2": 5})  # fmt: skip
    found = effective_fields(profiles, 1.0)
    np.testing.assert_array_equal(found["nominal_frames"], [21, 5])
    np.testing.assert_allclose(found["nominal_s"], [0.42, 0.1])
    np.testing.assert_array_equal(found["group_frames"], [[3, 9], [1, 5]])
    np.testing.assert_array_equal(found["effective_frames"], [9, 5])
    np.testing.assert_allclose(found["effective_s"], [0.18, 0.1])
    np.testing.assert_array_equal(found["median_frames"], [3, 1])
    assert list(found["widest"].values) == ["phone:B", "phone:B"]
    # Half of the groups do with what the smaller one needs.
    np.testing.assert_array_equal(effective_fields(profiles, 1.0, share=0.5)["effective_frames"], [3, 1])
    # 7 of the 9 frames hold 0.7 of the mass.
    np.testing.assert_array_equal(effective_fields(profiles, 0.7)["group_frames"][0], [3, 7])


def test_words() -> None:
    narrow = effective_fields(planted({"conv1": {"phone:A": 1, "phone:B": 4}}, {"conv1": SPAN}), 1.0)
    first, last = narrow.attrs["notes"].split("\n")
    assert first == (
        "conv1: of the 21 frames (420 ms) that an output frame depends on, 9 frames (180 ms) around the alignment hold "
        "100 % of the profile in all 2 groups; phone:B needs most, the median group 3 frames"
    )
    assert last.startswith(
        "where the network could be smaller: what lies above conv1 sees 21 frames (420 ms) of it and could be tried "
        "with kernels or context narrower by 12 frames (240 ms) in all."
    )
    assert "train the smaller network and compare its errors" in last


def test_what_is_used_is_not_suggested_away() -> None:
    found = effective_fields(planted({"conv1": {"phone:A": 10, "phone:B": 9}}, {"conv1": SPAN}), 1.0)
    assert describe_fields(found)[-1].endswith("nothing could be smaller")
    single = effective_fields(planted({"conv3": {"phone:A": 0, "phone:B": 0}}, {"conv3": 1}))
    assert "depends on one frame of it" in single.attrs["notes"]
    assert single.attrs["notes"].endswith("nothing could be smaller")


def test_never_wider_than_the_nominal_field() -> None:
    # An alignment at the cone's edge leaves all of the cone on one side, so that both sides together would be too many.
    sums = ProfileSums(["phone:A", "phone:B"])
    gradient = torch.full((40, 5, 1), 0.5)
    gradient[:, 0] = 1
    middle = torch.full((40,), 20)
    for number in range(2):
        frames = [torch.full((40, 1), 1.0 + number)]
        sums.update("conv", frames, 0 * middle, gradient, middle - 2, middle, torch.full((40, 1), number))
    profiles = sums.finalize(frame_s=0.01)
    assert (profiles.extent(1.0)["frames"] == 4).all()
    assert (effective_fields(profiles, 1.0)["group_frames"] == 5).all()


def test_rare_and_empty_groups_are_left_out() -> None:
    sums = ProfileSums(["phone:A", "phone:rare", "phone:never"], alignment="none")
    ones, many = [torch.arange(60.0)[:, None]], torch.full((40,), 30)
    sums.update("conv", ones, 0 * many, torch.ones(40, 3, 1), many - 1, many, 0 * many[:, None])
    few = many[:5] - 9
    sums.update("conv", ones, 0 * few, torch.ones(5, 3, 1), few - 1, few, 1 + 0 * few[:, None])
    profiles = sums.finalize(frame_s=0.01)
    found = effective_fields(profiles)
    assert list(found["group"].values) == ["phone:A"]
    assert found.attrs["left_out"] == "phone:rare, phone:never"
    assert list(effective_fields(profiles, min_instances=5)["group"].values) == ["phone:A", "phone:rare"]
    with pytest.raises(BadInput, match=r"(?s)at most 40 instances.*41 or more"):
        effective_fields(profiles, min_instances=41)
    with pytest.raises(BadOption, match="share of the groups"):
        effective_fields(profiles, share=0)
    with pytest.raises(BadOption, match="share of the mass"):
        effective_fields(profiles, 1.5)
