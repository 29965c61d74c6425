"""What stands under docs/results: every figure is drawn again from the numbers beside it, and all of it is small."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import xarray as xr
from matplotlib.figure import Figure

from otoscope.show.print_gradnap import action_potentials, input_profiles, receptive_fields
from otoscope.show.print_gradnap_layers import dendrograms, silhouettes_by_threshold
from otoscope.show.print_insights import neighbouring_layers, through_training, wer_by_depth

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
PROFILES = sorted(RESULTS.glob("gradnap-*/tables/*-inputs.nc"))


@pytest.mark.parametrize("inputs", PROFILES, ids=lambda path: path.stem)
def test_figures_of_profiles_are_drawn_from_their_tables(inputs: Path) -> None:
    def table(name: str) -> xr.Dataset:
        return xr.load_dataset(inputs.with_name(inputs.name.replace("inputs", name)), engine="h5netcdf")

    silhouettes = table("silhouettes")
    bands = {str(n): silhouettes["bands"].sel(control=n).to_dataset("bound") for n in silhouettes["control"].values}
    for figure in (
        input_profiles(table("inputs")),
        action_potentials(table("neurons")),
        silhouettes_by_threshold(silhouettes, bands),
        receptive_fields(table("fields")),
        dendrograms([(table("phone-trees"), "layer9", "phones")]),
    ):
        assert isinstance(figure, Figure)
        assert any(ax.lines or ax.images or ax.collections for ax in figure.axes)


def test_figures_of_similarities_are_drawn_from_their_tables() -> None:
    def table(name: str) -> xr.Dataset:
        return xr.load_dataset(RESULTS / "insights-small" / f"{name}.nc", engine="h5netcdf")

    errors = table("wer")
    assert wer_by_depth(errors, [str(name) for name in errors["network"].values]).axes[0].lines
    at = {"reading": "recommended", "measure": "cka"}
    assert neighbouring_layers(table("figure1")["adjacent"].sel(at), None).axes[0].lines
    for name in ("figure2", "figure3", "figure4"):
        assert through_training(table(name)["to_last"].sel(at)).axes[0].lines


def test_the_pages_show_what_is_there_and_all_of_it_is_small() -> None:
    for page in RESULTS.glob("*.md"):
        for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / picture).is_file(), f"{page.name}: {picture}"
    assert PROFILES
    assert sum(path.stat().st_size for path in RESULTS.rglob("*") if path.is_file()) <= 10_000_000
