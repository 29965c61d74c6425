"""Shapes of profiles whose mass, peaks and change were put where the test knows."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from otoscope.base import BadInput
from otoscope.reduce.profile_shape import shape_of_profiles
from otoscope.reduce.profiles import Profiles
from otoscope.study.gradnap_measures import jackknife, rank_trend

SPAN, FRAME_S = 81, 0.01


def planted(values: dict[str, np.ndarray], span: int = SPAN) -> Profiles:
    """Profiles `(group, unit, offset)` of the layer "input", in a window of twice the cone less one."""
    offsets = np.arange(-(span - 1), span)
    groups = [f"phone:{name}" for name in values]
    table = xr.Dataset(
        {
            "profile": (("group", "unit", "offset"), np.stack(list(values.values())).astype(np.float32)),
            "instances": ("group", [50] * len(groups)),
        },
        coords={"group": groups, "offset": offsets, "time": ("offset", offsets * FRAME_S)},
        attrs={"span": span, "frame_s": FRAME_S},
    )
    return Profiles({"input": table}, {"min_instances": 1, "order": "time"})


def at(time_s: float) -> int:
    return round(time_s / FRAME_S) + SPAN - 1


def empty(units: int = 2) -> np.ndarray:
    return np.zeros((units, 2 * SPAN - 1))


def test_mass_is_counted_by_distance_and_only_within_half_a_cone():
    values = empty()
    values[0, at(0.0)] = -6
    values[1, at(0.2)] = 3
    values[0, at(-0.4)] = 1
    # Beyond half of the cone, where NAvAI has no window: not counted.
    values[0, at(0.41)] = 100
    found = shape_of_profiles({"GradNAP": planted({"A": values})}).squeeze()
    np.testing.assert_allclose(found["outside"], [0.4, 0.1, 0.0], atol=1e-7)
    assert float(found["extent_s"]) == pytest.approx(0.4)
    assert float(found["field_s"]) == pytest.approx(0.4)


def test_each_layer_has_a_cone_of_its_own():
    """300 ms away: within half of the input's cone, 400 ms, and beyond that of a layer whose half is 100 ms."""
    values = empty()
    values[0, [at(0.0), at(0.3)]] = 1, 3
    wide, narrow = (planted({"A": values}, SPAN).layers["input"].copy() for _ in range(2))
    narrow.attrs["span"] = 21
    both = Profiles({"input": wide, "layer1": narrow}, {"min_instances": 1, "order": "time"})
    found = shape_of_profiles({"GradNAP": both}).squeeze()
    np.testing.assert_allclose(found["field_s"], [0.4, 0.1])
    np.testing.assert_allclose(found["outside"].sel(beyond=0.25), [0.75, 0])
    np.testing.assert_allclose(found["peak_s"], [0.3, 0])


def test_the_strongest_response_is_that_of_the_most_responsive_units():
    values = empty(3)
    values[0, at(0.1)], values[1, at(-0.3)], values[2, at(0.4)] = 5, -4, 0.1
    found = shape_of_profiles({"GradNAP": planted({"A": values})}, k=2).squeeze()
    assert float(found["peak_s"]) == pytest.approx(0.2)


def test_decay_is_the_mean_by_distance_as_a_share_of_the_largest():
    values = empty(1)
    values[0, [at(-0.01), at(0.0), at(0.01)]] = [4, 2, -6]
    values[0, at(-0.2) - 1 : at(-0.2) + 3] = 1
    found = shape_of_profiles({"GradNAP": planted({"A": values})}).squeeze()["decay"]
    # Within 20 ms lie five frames, of sizes 0, 4, 2, 6, 0; from 190 to 220 ms on both sides eight, three of them of 1.
    assert float(found.sel(distance=0)) == pytest.approx(1)
    assert float(found.sel(distance=0.2)) == pytest.approx((3 / 8) / (12 / 5))
    assert float(found.sel(distance=0.32)) == 0


def test_a_fall_is_before_less_after_the_alignment():
    falling, rising = empty(5), empty(5)
    falling[:4, at(-0.1) : at(0.0)] = 2
    falling[:3, at(0.01) : at(0.1) + 1] = -1
    falling[3, at(0.01) : at(0.1) + 1] = 5
    rising[:, at(0.01) : at(0.1) + 1] = 1
    found = shape_of_profiles({"GradNAP": planted({"T": falling, "AE": rising})}).squeeze()
    # Three fall by 3, one rises by 3, and one stays as it is, which is no fall.
    np.testing.assert_allclose(found["fall"], [(3 * 3 - 3) / 5, -1], rtol=1e-6)
    np.testing.assert_allclose(found["falling"], [0.6, 0])


def test_groups_without_a_profile_are_nan_and_do_not_spoil_the_mean():
    values = empty()
    values[0, at(0)] = 1
    found = shape_of_profiles({"GradNAP": planted({"A": values, "B": values * np.nan})}).squeeze()
    assert np.isfinite(found["extent_s"].sel(group="phone:A"))
    for name in ("outside", "extent_s", "peak_s", "fall", "falling"):
        assert np.isnan(found[name].sel(group="phone:B")).all(), name
    assert float(found["decay"].sel(distance=0)) == 1


def test_methods_must_be_of_one_pass():
    with pytest.raises(BadInput, match="other layers or groups"):
        shape_of_profiles({"one": planted({"A": empty()}), "two": planted({"B": empty()})})
    sorted_ones = Profiles(planted({"A": empty()}).layers, {"min_instances": 1, "order": "rank"})
    with pytest.raises(BadInput, match="no shape in time"):
        shape_of_profiles({"NAPs": sorted_ones})


def test_a_trend_is_the_rank_correlation_with_depth():
    assert rank_trend(np.array([0.1, 0.2, 0.2001, 0.9])) == pytest.approx(1)
    assert rank_trend(np.array([3.0, np.nan, 2.0, 1.0])) == pytest.approx(-1)
    # Ranks 1 2 3 4 against 2 1 4 3: 1 - 6 · 4 / (4 · 15).
    assert rank_trend(np.array([2.0, 1.0, 4.0, 3.0])) == pytest.approx(0.6)
    assert np.isnan(rank_trend(np.array([1.0, 2.0])))


def test_the_jackknife_of_a_mean_is_the_t_interval():
    values = np.array([1.0, 4.0, 2.0, 8.0, 5.0])
    without = xr.DataArray([values[np.arange(5) != place].mean() for place in range(5)], dims="condition")
    low, high = jackknife(xr.DataArray(values.mean()), without)
    wanted = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    np.testing.assert_allclose([float(low), float(high)], wanted)
    with pytest.raises(BadInput):
        jackknife(xr.DataArray(1.0), without[:1])
