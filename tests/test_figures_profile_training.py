"""Figures of profiles through training: every epoch in its place, and what never happened shown as such."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from otoscope.base import BadInput
from otoscope.show.figures_profile_training import profile_courses, profile_epochs

LAYERS, EPOCHS = ["input", "conv1", "conv2"], [0, 1, 3, 8]
GROUPS = ["symbol:a", "phone:AE", "phone:T", "phone:ZH"]
NAN = np.nan


def course() -> xr.Dataset:
    similarity = np.random.default_rng(0).uniform(-0.2, 1, (3, 4, 4))
    similarity[..., -1] = 1
    similarity[:, 3] = NAN
    by_group = ("layer", "group")
    return xr.Dataset(
        {
            "similarity": ((*by_group, "epoch"), similarity),
            "appeared": (by_group, [[0, 1, NAN, NAN], [1, 1, 8, NAN], [3, 1, 3, NAN]]),
            "settled": (by_group, [[3, NAN, NAN, NAN], [3, 1, NAN, NAN], [8, 3, 0, NAN]]),
            "instances": (("group", "epoch"), [[9, 9, 9, 1200], [5, 5, 5, 1], [5, 5, 5, 50], [0, 0, 0, 0]]),
        },
        coords={"layer": LAYERS, "group": GROUPS, "epoch": EPOCHS},
        attrs={"frames": 1300, "utterances": 40, "alike": 0.5, "tolerance": 0.1},
    )


def test_courses_mark_when_a_profile_appears_and_settles() -> None:
    table = course()
    panels = profile_courses(table, ["phone:T", "symbol:a"])
    assert [panel.layout.title.text for panel in panels] == ["/T/", "⟨a⟩"]
    assert [panel.layout.title.subtitle.text for panel in panels] == ["N = 50 instances", "N = 1,200 instances"]
    for panel, group in zip(panels, ["phone:T", "symbol:a"], strict=True):
        heat, _, ring, _, diamond = panel.data
        np.testing.assert_allclose(heat.z, table["similarity"].sel(group=group), rtol=1e-6)
        for marks, name in ((ring, "appeared"), (diamond, "settled")):
            when = table[name].sel(group=group).values
            # Epochs stand side by side, whatever was left out between them.
            found = {int(row): EPOCHS[int(place)] for place, row in zip(marks.x, marks.y, strict=True)}
            assert found == {row: epoch for row, epoch in enumerate(when) if np.isfinite(epoch)}
        assert (ring.name, diamond.name) == ("appears", "settles")
        assert ring.marker.symbol != diamond.marker.symbol
        assert list(panel.layout.yaxis.ticktext) == LAYERS
        assert panel.layout.xaxis.title.text == "epoch"
        ticks = zip(panel.layout.xaxis.tickvals, panel.layout.xaxis.ticktext, strict=True)
        assert all(str(EPOCHS[place]) == text for place, text in ticks)
    assert panels[0].layout.coloraxis == panels[1].layout.coloraxis


def test_groups_without_a_profile_are_left_out() -> None:
    assert [panel.layout.title.text for panel in profile_courses(course())] == ["⟨a⟩", "/AE/", "/T/"]


def test_epochs_of_all_groups_at_one_look() -> None:
    table = course()
    panels = profile_epochs(table)
    # Within a grouping those that settle early come first: /T/ never does in two layers.
    assert list(panels[0].layout.yaxis.ticktext) == ["⟨a⟩", "/AE/", "/T/"]
    assert panels[0].layout.yaxis.range[0] > panels[0].layout.yaxis.range[1]
    for panel, name in zip(panels, ("appeared", "settled"), strict=True):
        never, heat = panel.data
        wanted = table[name].sel(group=GROUPS[:3]).transpose("group", "layer").values
        np.testing.assert_array_equal(heat.z, wanted)
        np.testing.assert_array_equal(np.isfinite(np.asarray(never.z)), np.isnan(wanted))
        assert panel.layout.title.subtitle.text.startswith("N = 1,300 frames of 40 utterances")
        assert "never" in panel.layout.title.subtitle.text
        assert (panel.layout.coloraxis.cmin, panel.layout.coloraxis.cmax) == (0, 8)
        assert panel.layout.xaxis.title.text.startswith("layer")
    assert "0.5 or more" in panels[0].layout.title.subtitle.text.replace("<br>", " ")
    assert "above 0.9" in panels[1].layout.title.subtitle.text.replace("<br>", " ")
    assert "/T/ in conv1: epoch 8" in np.ravel(panels[0].data[1].text)
    assert "/T/ in conv1: never" in np.ravel(panels[1].data[1].text)
    alone = profile_epochs(table.assign_attrs(alike="strength alone"), ["phone:T", "symbol:a"])
    assert "or more" not in alone[0].layout.title.subtitle.text
    assert list(alone[0].layout.yaxis.ticktext) == ["/T/", "⟨a⟩"]


def test_forty_groups_have_room_for_their_names() -> None:
    table = xr.concat([course().isel(group=[0])] * 40, "group").assign_coords(group=[f"phone:P{n}" for n in range(40)])
    panel = profile_epochs(table)[0]
    assert panel.layout.meta["height_px"] >= 40 * 14
    assert len(profile_courses(table)) == 40


def test_what_cannot_be_drawn() -> None:
    table = course()
    for draw in (profile_courses, profile_epochs):
        with pytest.raises(BadInput, match="no profile of phone:XX"):
            draw(table, ["phone:XX"])
        with pytest.raises(BadInput, match="no groups were chosen"):
            draw(table, [])
        with pytest.raises(BadInput, match="lacks settled"):
            draw(table.drop_vars("settled"))
        with pytest.raises(BadInput, match="is empty"):
            draw(table.sel(group=["phone:ZH"]))
    with pytest.raises(BadInput, match="tolerance"):
        profile_epochs(table.assign_attrs(attrs={}).drop_attrs().assign_attrs(alike=0.5))
