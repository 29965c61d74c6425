"""The page about similarity against word errors, with its numbers beside it."""

from __future__ import annotations

import json
from pathlib import Path

import xarray as xr

from otoscope.show.figures_depth import similarity_and_errors
from otoscope.show.reading import amount, measure_name
from otoscope.show.report import Report
from otoscope.study.performance import KINDS
from otoscope.study.performance_words import FEWEST, performance_summary, performance_words
from otoscope.study.results import save_table

PERFORMANCE = "performance"


def write_performance(found: xr.Dataset, folder: Path | str) -> list[Path]:
    """Write similarity against word errors: `performance.nc`, `performance.csv`, and a page with figure and findings.

    Args:
        found: what `otoscope.study.performance.similarity_and_performance` gives.
        folder: where they go; made when it is not there.

    Returns:
        The paths: page, NetCDF, CSV.
    """
    folder = Path(folder)
    settings = json.loads(found.attrs["settings"])
    found = found.copy()
    paths = save_table(found, folder, PERFORMANCE)
    called = f"{measure_name(settings['measure'])}, {KINDS[settings['similarity']]}"
    found["similarity"].attrs["long_name"] = called
    report = Report(
        "Do networks with similar layers recognise better?",
        f"{amount(found.sizes['network'], 'network')}: {called}, against word error rate.",
    )
    for condition, utterances, frames in zip(
        found["condition"].values, found.attrs["utterances"], found.attrs["frames"], strict=True
    ):
        rank = f"{float(found['rank_correlation'].sel(condition=condition)):.2f}".replace("-", "\N{MINUS SIGN}")
        detail = f"rank correlation; {amount(utterances, 'utterance')}, {amount(frames, 'frame')}"
        report.add_fact(rank, str(condition), detail)
    report.add_section(
        "Similarity and word errors",
        "Spearman's rank correlation over networks, its interval by bootstrap over networks, and p: the share of all "
        "orders of the networks whose correlation lies as far from 0.",
    )
    report.add_list(performance_words(found))
    if found.sizes["network"] < FEWEST:
        report.add_warning(f"A rank correlation shows little with fewer than {FEWEST} networks.")
    report.add_figure(
        similarity_and_errors(found),
        "A point per network. Points that fall from the upper left to the lower right: the more similar, the fewer "
        "word errors.",
        "A scatter of networks for each kind of speech, similarity across and word error rate up.",
    )
    report.add_table(*performance_summary(found), "What the figure shows, in numbers.")
    report.add_note(
        "A correlation over networks is no cause. Networks that differ in depth, data or training differ in similarity "
        "and in word errors for these reasons, and the correlation may be that of the reason. The bootstrap takes the "
        "networks for a random sample; networks that differ by their seed alone are less than that."
    )
    report.add_data(paths[0], "similarities, word error rates and rank correlations")
    report.add_data(paths[1], "the same as a table")
    networks = [str(network) for network in found["network"].values]
    report.set_provenance({"networks": networks, **settings, "otoscope": found.attrs["otoscope_version"]})
    return [report.save(folder), *paths]
