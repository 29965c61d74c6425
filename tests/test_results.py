"""Results as files, and the page made from them."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import synthetic_results as made_up
import torch
import xarray as xr

import otoscope
from otoscope.base import BadInput, OtoscopeError, write_json, write_text
from otoscope.hear.corpus import Utterance
from otoscope.learn.checkpoint import checkpoint_path, open_run, save_checkpoint
from otoscope.learn.networks import build, read_config
from otoscope.reduce.pathology import find_pathologies
from otoscope.reduce.profiles import Profiles
from otoscope.show.report import Report
from otoscope.study.report_similarity import add_similarity, order_words
from otoscope.study.results import load_table, save_profiles, save_table, training_history


def make_table() -> xr.Dataset:
    rng = np.random.default_rng(0)
    return xr.Dataset(
        {
            "to_last": (("measure", "layer", "epoch"), rng.random((2, 3, 4)), {"long_name": "similarity"}),
            "converged": (("measure", "layer"), [[1.0, np.nan, 3.0], [0.0, 1.0, 2.0]]),
            "kept": (("layer",), [5, 6, 7]),
        },
        coords={"measure": ["svcca", "cka"], "layer": ["l1", "l2", "l3"], "epoch": [0, 1, 2, 5]},
        attrs={"frames": 100, "notes": "few frames"},
    )


def test_table_and_back(tmp_path: Path) -> None:
    table = make_table()
    netcdf, csv = save_table(table, tmp_path / "new" / "folder", "similarity")
    assert (netcdf.name, csv.name) == ("similarity.nc", "similarity.csv")
    found = load_table(netcdf)
    xr.testing.assert_equal(found, table)
    assert found.attrs == {**table.attrs, "otoscope": otoscope.__version__}
    assert found["to_last"].attrs == {"long_name": "similarity"}
    # Another library reads it, too.
    with xr.open_dataset(netcdf) as opened:
        assert opened.sizes == table.sizes


def test_csv_has_a_row_per_number(tmp_path: Path) -> None:
    table = make_table()
    rows = pd.read_csv(save_table(table, tmp_path, "t")[1])
    assert len(rows) == 2 * 3 * 4 + 2 * 3 + 3
    assert list(rows.columns) == ["variable", "measure", "layer", "epoch", "value"]
    assert rows["variable"].value_counts().to_dict() == {"to_last": 24, "converged": 6, "kept": 3}
    row = rows.query("variable == 'to_last' and measure == 'cka' and layer == 'l3' and epoch == 5")
    assert row["value"].item() == pytest.approx(float(table["to_last"].sel(measure="cka", layer="l3", epoch=5)), 1e-5)
    assert rows.query("variable == 'converged' and measure == 'svcca' and layer == 'l2'")["value"].isna().all()
    assert rows.query("variable == 'kept'")["epoch"].isna().all()
    fewer = pd.read_csv(save_table(table, tmp_path, "t", blanks=False)[1])
    pd.testing.assert_frame_equal(fewer, rows.dropna(subset="value").reset_index(drop=True))
    assert len(fewer) == len(rows) - 1


def test_unreadable_tables(tmp_path: Path) -> None:
    (tmp_path / "cut.nc").write_bytes(b"\x89HDF\r\n\x1a\n and no more")
    (tmp_path / "empty.nc").write_bytes(b"")
    for name in ("cut.nc", "empty.nc", "missing.nc"):
        with pytest.raises(BadInput, match=rf"(?s)cannot be read.*got:.*{name}.*wanted:"):
            load_table(tmp_path / name)


def test_a_full_disk_leaves_the_old_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netcdf, csv = save_table(make_table(), tmp_path, "t")
    before = netcdf.read_bytes(), csv.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OtoscopeError, match="no space left on the disk"):
        save_table(make_table() * 2, tmp_path, "t")
    assert (netcdf.read_bytes(), csv.read_bytes()) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.csv", "t.nc"]


MELS = 6


def make_run(folder: Path, kernel: int = 3) -> Path:
    hidden = [{"units": 6, "kernel": 3}, {"units": 5, "kernel": kernel}]
    config = read_config({"mels": MELS, "symbols": ["_", "a", "b"], "hidden": hidden, "norm": "none"})
    for epoch in range(3):
        torch.manual_seed(epoch)
        save_checkpoint(checkpoint_path(folder, epoch), build(config), {"epoch": epoch})
    counts = {"sentences": 2, "words": 10, "correct": 6, "sub": 3, "del": 1, "ins": 2}
    log = [
        {"epoch": 0, "train_loss": None, "heldout_loss": 9.5, "wer": 100.0, "seconds": 0.0, **counts},
        {"epoch": 1, "train_loss": 8.0, "heldout_loss": 7.5, "wer": None, "seconds": 1.5, **counts},
        {"epoch": 2, "train_loss": 4.0, "heldout_loss": 5.5, "wer": 62.5, "seconds": 1.25, **counts},
    ]
    write_text(folder / "log.jsonl", "".join(json.dumps(entry) + "\n" for entry in log))
    facts = {"fingerprint": "0" * 16, "utterances": 12, "held_out": "split=test"}
    write_json(
        folder / "run.json", {"network": config.model_dump(mode="json"), "train": {"epochs": 2}, "corpus": facts}
    )
    return folder


def make_speech(count: int = 3) -> list[Utterance]:
    rng = np.random.default_rng(2)
    phones = [(0.1, 0.3, "AE"), (0.3, 0.5, "T"), (0.5, 0.7, "S"), (0.7, 0.9, "IY")]
    return [
        Utterance(
            f"u{i}",
            features=rng.standard_normal((100, MELS)).astype(np.float32),
            speaker=f"s{i % 2}",
            tiers={"phone": phones},
        )
        for i in range(count)
    ]


def words_of(page: Path) -> str:
    """What the page says, without its scripts and tags."""
    text = re.sub(r"(?s)<(script|style).*?</\1>|<[^>]*>", " ", page.read_text(encoding="utf-8"))
    return " ".join(html.unescape(text).split())


def test_training_history(tmp_path: Path) -> None:
    history = training_history(open_run(make_run(tmp_path)))
    np.testing.assert_array_equal(history["epoch"], [0, 1, 2])
    np.testing.assert_array_equal(history["train_loss"], [np.nan, 8, 4])
    np.testing.assert_array_equal(history["wer"], [100, np.nan, 62.5])
    assert (history.attrs["train_utterances"], history.attrs["heldout_utterances"]) == (10, 2)


def test_profiles_as_files(tmp_path: Path) -> None:
    network = otoscope.load(make_run(tmp_path / "run"))
    profiles = otoscope.gradnap(network, make_speech(), by=("symbol", "phone"), blank=None)
    paths = save_profiles(profiles, tmp_path / "out")
    names = [path.name for path in paths]
    assert names == ["gradnap.nc", "gradnap.csv", "silhouettes.nc", "silhouettes.csv"]
    found = Profiles.load(paths[0])
    assert (found.groups, list(found.layers)) == (profiles.groups, list(profiles.layers))
    assert found.settings == json.loads(json.dumps(profiles.settings))
    for layer in profiles.layers:
        xr.testing.assert_allclose(found.profile[layer], profiles.profile[layer])
        with xr.open_dataset(paths[0], group=layer) as opened:
            np.testing.assert_array_equal(opened["profile"], profiles.profile[layer])
    rows = pd.read_csv(paths[1])
    units = sum(table.sizes["unit"] for table in profiles.profile.values())
    assert len(rows) == units * len(profiles.groups)
    silhouettes = load_table(paths[2])
    # One grouping has four groups; the other fewer than three with instances, or three.
    assert "phone" in silhouettes["grouping"].values


def test_page_names_what_is_missing(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    page = otoscope.write_report(run)
    assert page == run / "report" / "index.html"
    text = page.read_text(encoding="utf-8")
    assert "Not computed yet" in text
    assert "otoscope compare" in text
    assert "otoscope profile" in text
    assert "62.5 %" in text
    assert "3/1/2 of 10 words" in text
    assert "Which layer converged when" not in text
    assert load_table(run / "report" / "training.nc").sizes == {"epoch": 3}


def test_page_with_results(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    out = tmp_path / "page"
    save_table(otoscope.through_training(run, make_speech()), out, "similarity")
    half = words_of(otoscope.write_report(run, out))
    for wanted in ("Which layer converged when", "Is any layer ill?", "Which layers represent the same"):
        assert wanted in half
    # Nothing but the mel input was asked for.
    assert "Layers are compared with the mel spectrogram that goes in." in half
    for unwanted in ("linear classifier", "A dot marks", "Bands say", "Several networks"):
        assert unwanted not in half
    assert "Not computed yet: profiles (" in half
    save_profiles(otoscope.gradnap(otoscope.load(run), make_speech(), by=("symbol", "phone"), blank=None), out)
    whole = words_of(otoscope.write_report(run, out, title="Ears", facts=[("7", "voices", "held out")]))
    assert "Not computed yet" not in whole
    for wanted in ("Ears", "voices", "What the sounds look like", "Which neurons fire", "Letters or phones?"):
        assert wanted in whole


def test_page_with_all_that_is_known_of_similarity(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    speech = make_speech(6)
    found = otoscope.through_training(
        run,
        speech,
        nodes=("mel", "phone", "speaker"),
        interval=0.9,
        baseline=("permutation", "random"),
    )
    save_table(found, run / "report", "similarity")
    page = words_of(otoscope.write_report(run))
    for wanted in (
        "Bands say how far another choice of utterances",
        "A dot marks a square that is not above its baseline: what two layers score when they hear different",
        "or what they score with random weights",
        "the mel spectrogram that goes in and with labels of each frame (phone, speaker).",
        "Epoch 0 is the untrained network",
        f"Off the mel input itself: phone {float(found['probe_input'].sel(node='phone')):.2f}.",
        order_words(found),
    ):
        assert wanted in page, wanted
    # The same measured at the last epoch only, and with what older files hold.
    bare = found.drop_vars([name for name in found if name not in ("to_last", "to_next", "matrix", "converged")])
    save_table(bare.drop_attrs().assign_attrs(frames=600, utterances=6), run / "report", "similarity")
    page = words_of(otoscope.write_report(run))
    assert "What each layer represents" not in page
    assert "bottom-up index" not in page


def test_order_of_convergence_in_words() -> None:
    data = made_up.through_training()
    assert order_words(data).endswith(
        "Over 12 layers: SVCCA 0.84 (0.71 to 0.93), from the bottom up; "
        "linear CKA −0.12 (−0.40 to 0.20), no clear order."
    )
    data["bottom_up"][:] = [-0.7, np.nan]
    data["bottom_up_interval"][:] = [[-0.9, -0.2], [np.nan, np.nan]]
    assert "SVCCA −0.70 (−0.90 to −0.20), from the top down; linear CKA shows no order, since all" in order_words(data)
    # An interval on both sides of 0 leaves it open, however large the index.
    data["bottom_up_interval"][0] = [-1.0, 0.1]
    assert "SVCCA −0.70 (−1.00 to 0.10), no clear order" in order_words(data)
    assert "SVCCA −0.70, from the top down" in order_words(data.drop_vars("bottom_up_interval"))


@pytest.mark.parametrize("findings", ["conv2 spikes.\nconv5 is frozen.", "", None])
def test_illnesses_stand_in_a_list(tmp_path: Path, findings: str | None) -> None:
    data = made_up.through_training()
    if findings is None:
        # Results that do not say it are looked through.
        wanted = len(find_pathologies(data))
        assert wanted
    else:
        wanted = len(findings.splitlines())
        data.attrs["pathologies"] = findings
    report = Report("Ills")
    add_similarity(report, load_table(save_table(data, tmp_path, "similarity")[0]))
    page = report.save(tmp_path)
    text = page.read_text(encoding="utf-8")
    section = text[text.index('id="is-any-layer-ill"') : text.index('id="which-layers-represent-the-same"')]
    assert section.count("<li>") == wanted
    assert ("Nothing found (layers: 12, epochs: 13)." in section) == (not wanted)
    # These data hold no weights: what could not be looked for is said.
    assert "Unsettled layers were not looked for" in section


def test_page_with_several_networks(tmp_path: Path) -> None:
    run, other = make_run(tmp_path / "run"), make_run(tmp_path / "other")
    compared = otoscope.compare([run, other], make_speech(), epochs=[0, 2])
    save_table(compared, run / "report", "networks")
    page = otoscope.write_report(run)
    words = words_of(page)
    assert "Several networks side by side" in words
    assert "All heard the same 3 utterances: run (2 epochs), other (2 epochs). SVCCA asks" in words
    assert "SVCCA of adjacent layers" in words
    for name in ("networks.nc", "networks.csv"):
        assert f'href="{name}"' in page.read_text(encoding="utf-8")
    # A layer each has no neighbour; the square is still there.
    save_table(otoscope.compare([run, other], make_speech(), layers="layer1"), run / "report", "networks")
    words = words_of(otoscope.write_report(run))
    assert "of adjacent layers" not in words
    assert "Every layer of every network with every other" in words
    save_table(make_table(), run / "report", "networks")
    with pytest.raises(BadInput, match="no comparison of layers"):
        otoscope.write_report(run)


def test_page_about_a_network_without_context(tmp_path: Path) -> None:
    # The output depends on one frame of every hidden layer: there is no action potential to draw.
    run = make_run(tmp_path / "run", kernel=1)
    save_profiles(otoscope.gradnap(otoscope.load(run), make_speech(), by="phone", blank=None), run / "report")
    page = otoscope.write_report(run).read_text(encoding="utf-8")
    assert "What the sounds look like" in page
    assert "Which neurons fire" not in page


def test_page_without_a_log(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "log.jsonl").unlink()
    assert "The run has no log." in otoscope.write_report(run).read_text(encoding="utf-8")


def test_results_that_cannot_be_read(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for name in ("gradnap", "networks", "similarity"):
        write_text(run / "report" / f"{name}.nc", "this is no NetCDF")
        with pytest.raises(BadInput, match=rf"{name}\.nc"):
            otoscope.write_report(run)
