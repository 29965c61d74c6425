"""What the recipes' scripts do: series of networks and their tables, connected digits, files for scoring, costs."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from recipe_scripts import RECIPES, script, tiny
from recordings import write_audio
from test_docs import command_lines

import otoscope
from otoscope.base import BadInput, BadOption
from otoscope.hear.corpus import Utterance, load_audio, read_corpus
from otoscope.learn.networks import build, network_values, read_config
from otoscope.learn.score import Counts
from otoscope.learn.train import TrainConfig
from otoscope.learn.transcribe import Decoding
from otoscope.study import series
from otoscope.study.console import Terminal
from otoscope.study.insights_settings import NETWORKS, SMALL
from otoscope.study.series import chosen, part_of, run_series
from otoscope.study.series_tables import Job, Scored, rate, rows_of, score_file, write_tables
from otoscope.study.speech import Speech

RATE = 8000
YAMLS = sorted(
    path for name in ("insights-switchboard", "gradnap-librispeech", "digits-real")
    for path in (RECIPES / name).glob("*.yaml")
)  # fmt: skip


@pytest.fixture(scope="module")
def digits():
    return script("digits-real/corpus.py")


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_recipe_can_be_read(path: Path) -> None:
    network, options = otoscope.read_recipe(path)
    TrainConfig(**options)
    config = read_config({k: v for k, v in network_values(network).items() if k != "vocabulary"})
    assert path.stem.startswith(config.network)
    if config.network == "conv-lstm":
        assert path.stem == f"conv-lstm-{len(config.channels)}"


def test_the_papers_networks_have_the_papers_layers() -> None:
    assert (*(f"conv-lstm-{n}" for n in (6, 5, 4, 3, 2, 1)), "lstm", "transformer") == NETWORKS
    assert {path.stem for path in (RECIPES / "insights-switchboard").glob("*.yaml")} == set(NETWORKS)
    transformer = read_config(
        {k: v for k, v in network_values(otoscope.read_recipe(RECIPES / "insights-switchboard" / "transformer.yaml")[0])
         .items() if k != "vocabulary"}
    )  # fmt: skip
    assert transformer.blocks == 12
    wav2letter = read_config(network_values(otoscope.read_recipe(RECIPES / "gradnap-librispeech/wav2letter.yaml")[0]))
    assert [layer.kernel for layer in wav2letter.hidden] == [48, *[7] * 7, 32, 1]


def heard() -> Speech:
    """Noise for training, dev and both kinds of test."""
    rng = np.random.default_rng(0)
    rows = [("train", "clean")] * 6 + [("dev", "clean")] * 2 + [("test", "clean"), ("test", "noisy")] * 3
    return otoscope.listen(
        Utterance(
            f"u{number}", features=rng.normal(size=(60, 128)).astype(np.float32), text="tea for two"[: 5 + number % 5],
            speaker="ann", split=split, condition=condition,
        )
        for number, (split, condition) in enumerate(rows)
    )  # fmt: skip


def test_a_series_is_trained_scored_and_not_done_twice(tmp_path: Path) -> None:
    few = {"layers": 2, "units": 8, "decoder_units": 8, "decoder_layers": 1, "embedding": 4, "attention_units": 4}
    few_maps = {**few, "channels": (2, 2)}
    settings = dataclasses.replace(SMALL, of_network={"conv-lstm-2": few_maps, "lstm": few})
    jobs = settings.jobs(tmp_path / "runs", ["conv-lstm-2", "lstm"], [0, 1], epochs=2)
    assert [job.name for job in jobs] == ["conv-lstm-2-s0", "lstm-s0", "conv-lstm-2-s1", "lstm-s1"]
    out, speech, given = tmp_path / "runs", heard(), {"terminal": Terminal()}
    assert run_series(out, jobs, speech, estimate=True, **given) == []
    assert not list(out.glob("*/checkpoints"))
    # A series that ended early: one network of four.
    run_series(out, jobs[:1], speech, **given)
    first = jobs[0].folder / "checkpoints" / "epoch-002.safetensors"
    written = first.stat().st_mtime_ns
    # What is not done now stays in the table.
    assert {row.network for row in run_series(out, jobs[2:3], speech, series=jobs, **given)} == {"conv-lstm-2"}
    assert {row["seed"] for row in csv.DictReader((out / "wer.csv").open())} == {"0", "1", "all"}
    rows = run_series(out, jobs, speech, decodings=[Decoding(method="attention", beam=2)], **given)
    assert first.stat().st_mtime_ns == written
    assert {path.name for path in out.iterdir()} >= {"wer.csv", "table.md", "wer-attention-2.csv", "log.txt"}
    told = list(csv.DictReader((out / "wer.csv").open()))
    assert Counter(row["seed"] for row in told) == {"0": 4, "1": 4, "all": 4}
    # The same counts as scoring by the command's way.
    network = otoscope.load(jobs[1].folder)
    wanted = otoscope.score_recogniser(network, part_of(speech, "split=test; condition=noisy"))["total"]
    (row,) = [row for row in rows if (row.network, row.seed, row.condition) == ("lstm", 0, "noisy")]
    assert (row.words, row.sub, row.deletions, row.ins) == (wanted.words, wanted.sub, wanted.deletions, wanted.ins)
    assert row.parameters == sum(p.numel() for p in network.parameters())
    assert (out / "table.md").read_text().count("| conv-lstm-2 |") == 1
    log = (out / "log.txt").read_text()
    assert "4 networks, 0 of them begun or done: about" in log
    assert "4 networks, 2 of them begun or done: about" in log


def test_a_network_learns_from_nothing_but_its_part(tmp_path: Path, monkeypatch) -> None:
    """Neither the test utterances nor their features come near the training."""
    (job,) = SMALL.jobs(tmp_path, ["lstm"], [0])
    given = {}
    monkeypatch.setattr(series, "train_recogniser", lambda folder, corpus, **named: given.update(named, corpus=corpus))
    monkeypatch.setattr(series, "score", lambda *_: {})
    series.train_and_score(job, heard(), [Decoding()])
    learnt = {f"u{number}" for number in range(8)}
    assert {utterance.id for utterance in given["corpus"]} == learnt
    assert {utterance.id for utterance in given["speech"](None).utterances} == learnt
    assert given["held_out"] == "split=dev"


def test_the_time_of_a_training_is_that_of_its_own_frames(tmp_path: Path, monkeypatch) -> None:
    """Every batch takes a second by a clock that was put there: 6 utterances in batches of 4 are 1.5 s an epoch."""
    few = {"layers": 2, "units": 8, "decoder_units": 8, "decoder_layers": 1, "embedding": 4, "attention_units": 4}
    settings = dataclasses.replace(SMALL, of_network={"lstm": few}, training={"batch_size": 4, "precision": "float32"})
    jobs = settings.jobs(tmp_path, ["lstm"], [0, 1], epochs=10)
    seconds = iter(range(1000))
    with monkeypatch.context() as patched:
        patched.setattr(series.time, "perf_counter", lambda: next(seconds))
        assert series.foretell(jobs[0], heard(), "cpu") == pytest.approx(1.5)
    # One has nine of its ten epochs, the other none.
    jobs[0].folder.mkdir()
    (jobs[0].folder / "log.jsonl").write_text('{"epoch": 9, "seconds": 1.0}\n')
    monkeypatch.setattr(series, "foretell", lambda *_: 60.0)
    said: list[str] = []
    assert series.reckon(jobs, heard(), "cpu", said.append) == 60 * (1 + 10)
    assert said[-1].startswith("2 networks, 1 of them begun or done: about 11 min")


def test_scores_of_other_epochs_tests_or_texts_are_made_again(tmp_path: Path, monkeypatch) -> None:
    job = Job("a", {}, {"seed": 0}, tmp_path, "", "", {"clean": "condition=clean"})
    utterances = [
        Utterance(f"u{n}", text="tea for two", condition=name) for n, name in enumerate(("clean", "noisy", "clean"))
    ]
    asked: list[list[str]] = []

    def score_recogniser(network: object, part: list[Utterance], **_: object) -> dict[str, object]:
        asked.append([utterance.id for utterance in part])
        return {"utterances": [(u.id, "", "", Counts(words=3, sub=1, deletions=0, ins=2)) for u in part]}

    monkeypatch.setattr(series, "load", lambda folder: build(read_config({"network": "lstm", **tiny_lstm(4)})))
    monkeypatch.setattr(series, "part_of", lambda corpus, where, **_: otoscope.select(corpus, where))
    monkeypatch.setattr(series, "score_recogniser", score_recogniser)
    (tmp_path / "log.jsonl").write_text('{"epoch": 3, "seconds": 1.0}\n')
    found = series.score(job, utterances, Decoding())
    assert found == {"clean": [Scored("u0", 3, 1, 0, 2), Scored("u2", 3, 1, 0, 2)]}
    assert series.score(job, utterances, Decoding()) == found
    assert asked == [["u0", "u2"]]
    (tmp_path / "log.jsonl").write_text('{"epoch": 4, "seconds": 1.0}\n')
    series.score(job, utterances, Decoding())
    series.score(job, [u.replace(text="tea for two please") for u in utterances], Decoding())
    other = dataclasses.replace(job, tests={"clean": "condition=noisy"})
    assert list(series.score(other, utterances, Decoding())) == ["clean"]
    assert asked == [["u0", "u2"]] * 3 + [["u1"]]
    # A column that is no longer asked for is gone.
    both = dataclasses.replace(job, tests={"clean": "condition=clean", "noisy": "condition=noisy"})
    assert list(series.score(both, utterances, Decoding())) == ["clean", "noisy"]
    assert list(series.score(job, utterances, Decoding())) == ["clean"]


def scored(folder: Path, network: str, seed: int, columns: dict[str, list[list[object]]]):
    job = Job(network, {}, {"seed": seed}, folder, "", "", dict.fromkeys(columns, ""))
    folder.mkdir(parents=True)
    kept = {"epoch": 3, "parameters": 5, "tests": dict(job.tests), "columns": columns}
    (folder / "scores-greedy.json").write_text(json.dumps(kept))
    (folder / "log.jsonl").write_text('{"epoch": 0, "seconds": 0.0}\n{"epoch": 1, "seconds": 4.0}\n')
    return job


def test_intervals_are_those_of_the_textbook(tmp_path: Path) -> None:
    """Rates of 10, 20 and 30 %: mean 20, deviation 10, t(0.975, 2) = 4.3027, so 20 ± 4.3027 * 10 / sqrt(3) = 24.84."""
    jobs = [
        scored(tmp_path / str(seed), "a", seed, {"clean": [[f"u{n}", 10, 1 + seed, 0, 0] for n in range(4)]})
        for seed in range(3)
    ]
    rows = write_tables(tmp_path, jobs, "greedy")
    assert [row.wer for row in rows] == pytest.approx([10, 20, 30, 20])
    mean = rows[-1]
    assert (mean.seeds_low, mean.seeds_high) == pytest.approx((20 - 24.84, 20 + 24.84), abs=0.01)
    # All utterances are alike, so that drawing them changes nothing.
    assert (mean.low, mean.high) == pytest.approx((20, 20))
    assert math.isnan(rows[0].seeds_low)
    assert "| a | 20.0 (20.0 to 20.0) [-4.8 to 44.8] | 0.00 M | 3 | 4 |" in (tmp_path / "table.md").read_text()


def test_each_kind_of_error_condition_and_decoding_has_a_place_of_its_own(tmp_path: Path, monkeypatch) -> None:
    columns = {"clean": [["u0", 10, 1, 2, 3], ["u1", 10, 0, 0, 0]], "noisy": [["u0", 10, 5, 0, 0], ["u1", 10, 5, 0, 0]]}
    job = scored(tmp_path / "a-s0", "a", 0, columns)
    better = {"clean": [["u0", 10, 1, 0, 0], ["u1", 10, 0, 0, 0]], "noisy": [["u0", 10, 1, 0, 0], ["u1", 10, 3, 0, 0]]}
    kept = json.loads(score_file(job, "greedy").read_text()) | {"columns": better}
    score_file(job, "attention-2").write_text(json.dumps(kept))
    assert rate([Scored("u0", 10, 1, 2, 3)]) == 60
    monkeypatch.setattr(series, "reckon", lambda *_: 0.0)
    monkeypatch.setattr(series, "train_and_score", lambda *_args, **_named: {})
    run_series(
        tmp_path, [job], heard(), decodings=[Decoding(method="attention", beam=2)], terminal=Terminal()
    )  # fmt: skip
    names = ("wer", "words", "sub", "del", "ins")
    for ending, clean, noisy in (
        ("", ["30.00", "20", "1", "2", "3"], ["50.00", "20", "10", "0", "0"]),
        ("-attention-2", ["5.00", "20", "1", "0", "0"], ["20.00", "20", "4", "0", "0"]),
    ):
        with (tmp_path / f"wer{ending}.csv").open() as file:
            told = {row["condition"]: [row[name] for name in names] for row in csv.DictReader(file)}
        assert told == {"clean": clean, "noisy": noisy}
        (line,) = [x for x in (tmp_path / f"table{ending}.md").read_text().splitlines() if x.startswith("| a |")]
        cells = [cell.split()[0] for cell in line.strip("| ").split("|")]
        assert cells[1:3] == [f"{float(clean[0]):.1f}", f"{float(noisy[0]):.1f}"]


def test_speakers_held_out_in_turn_are_put_together(tmp_path: Path) -> None:
    jobs = [
        scored(tmp_path / name, "a", 0, {"new": [[f"{name}-1", 4, wrong, 0, 0], [f"{name}-2", 4, 0, 0, 0]]})
        for name, wrong in (("ann", 1), ("bob", 3))
    ]
    one, both = rows_of(jobs, "greedy")
    assert (one.words, one.sub, one.wer, one.seconds) == (16, 4, 25.0, 4.0)
    assert (both.wer, both.seed) == (25.0, None)
    with pytest.raises(BadOption, match="no network is scored yet"):
        write_tables(tmp_path, jobs, "attention-8")
    with pytest.raises(BadOption, match="did you mean 'lstm'"):
        chosen(["lstn"], ["lstm", "transformer"])


def takes(folder: Path, speakers: tuple[str, ...] = ("ann", "bob"), count: int = 7) -> list[Utterance]:
    """Each digit a tone of its own, each speaker with a loudness of theirs, as fsdd's manifest has them."""
    found = []
    for speaker in speakers:
        for digit in range(10):
            for take in range(count):
                times = np.arange(800 + 40 * take) / RATE
                tone = (0.5 if speaker == "ann" else 0.25) * np.sin(2 * np.pi * (500 + 250 * digit) * times)
                path = write_audio(folder / f"{digit}_{speaker}_{take}.wav", tone.astype(np.float32), RATE)
                found.append(Utterance(path.stem, path, text=str(digit), speaker=speaker, index=take))
    return found


def test_digits_are_joined_as_the_text_says(digits, tmp_path: Path) -> None:
    recordings = takes(tmp_path / "takes")
    manifests = [digits.make_corpus(recordings, tmp_path / str(n), seed=1, times=2) for n in range(2)]
    one, two = ({p.name: p.read_bytes() for p in m.parent.rglob("*.wav")} for m in manifests)
    assert one == two
    corpus = read_corpus(manifests[0], strict=True)
    used = Counter((u.split, take) for u in corpus for take in u.takes.split())
    for recording in recordings:
        early = recording.index < 5
        assert used["test", recording.id] == early
        assert used["train", recording.id] == 2 * (not early)
        assert used["once", recording.id] == (not early)
    for utterance in corpus:
        words = utterance.text.split()
        assert 3 <= len(words) <= 6
        assert all(take.split("_")[1] == utterance.speaker for take in utterance.takes.split())
        samples, rate = load_audio(utterance)
        assert rate == RATE
        end = 0.0
        for word, (start, stop, label) in zip(words, utterance.tiers["word"], strict=True):
            # The tone that is loudest there is the digit's.
            piece = samples[round(start * rate) : round(stop * rate)]
            spectrum = np.abs(np.fft.rfft(piece, 8000))
            assert digits.DIGITS[round((spectrum.argmax() - 500) / 250)] == word == label
            assert np.abs(piece).max() == pytest.approx(0.5 if utterance.speaker == "ann" else 0.25, rel=0.05)
            assert 0.024 <= start - end <= 0.351
            end = stop
    assert digits.make_corpus(recordings, tmp_path / "other", seed=2, times=2).read_text() != manifests[0].read_text()


def test_digits_of_others_are_learned_from_and_never_held_out(digits, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "x.wav", 1600, RATE)
    more = [
        Utterance("x1", path, text="SEVEN two", speaker="cid", split="test"),
        Utterance("x2", path, text="seven cats", speaker="cid"),
        Utterance("x3", path, text="", speaker="cid"),
    ]
    corpus = read_corpus(
        digits.make_corpus(takes(tmp_path / "takes"), tmp_path / "out", times=1, more=more), strict=True
    )
    (added,) = [utterance for utterance in corpus if utterance.speaker == "cid"]
    assert (added.id, added.text, added.split) == ("x1", "seven two", "train")
    with pytest.raises(BadInput, match="speaker of both"):
        digits.make_corpus(takes(tmp_path / "takes"), tmp_path / "y", more=[more[0].replace(speaker="ann")])
    assert (RECIPES / "digits-real" / "digits.txt").read_text().split() == digits.DIGITS


def test_what_is_no_digit_is_refused(digits, tmp_path: Path) -> None:
    recordings = takes(tmp_path, ("ann",), 6)
    with pytest.raises(BadInput, match="no single digit"):
        digits.make_corpus([*recordings, recordings[0].replace(text="ten")], tmp_path / "x")
    with pytest.raises(BadInput, match="ann says too little"):
        digits.make_corpus(recordings[:6], tmp_path / "x")
    with pytest.raises(BadInput, match="which take this is"):
        digits.make_corpus([recordings[0].replace(index="first")], tmp_path / "x")
    other = write_audio(tmp_path / "9_ann_9.wav", 1600, 16_000)
    with pytest.raises(BadInput, match="different rates"):
        digits.joined([recordings[0], Utterance("9_ann_9", other, text="9")], digits.random.Random(0))


def test_digits_are_trained_with_each_speaker_held_out(digits, tmp_path: Path) -> None:
    driver = script("digits-real/run.py")
    manifest = digits.make_corpus(takes(tmp_path / "takes"), tmp_path / "digits", times=1)
    tiny(RECIPES / "digits-real" / "wav2letter.yaml", tmp_path / "recipes")
    recipe = tmp_path / "recipes" / "wav2letter.yaml"
    # Without the perturbation, which is another module's, and takes processes of its own.
    values = yaml.safe_load(recipe.read_text())
    del values["train"]["perturb"]
    recipe.write_text(yaml.safe_dump(values))
    speech = otoscope.listen(read_corpus(manifest))
    jobs = driver.jobs(tmp_path / "runs", ["wav2letter"], [0], ["ann", "bob"], recipes=tmp_path / "recipes")
    ways = [
        Decoding(method="beam", beam=4, lexicon=RECIPES / "digits-real" / "digits.txt"),
        Decoding(method="attention", beam=2),
    ]
    rows = run_series(tmp_path / "runs", jobs, speech, decodings=ways, terminal=Terminal())
    words = {row.condition: row.words for row in rows if row.seed == 0}
    # Both speakers' seventy recordings, each once; both speakers' fifty of the takes that nobody learns from.
    assert words == {"new speaker": 140, "known speakers": 100}
    # Spelled freely, and of the ten words alone; a search with a decoder has nothing to search.
    kept = {path.name for path in (tmp_path / "runs").glob("*.csv")}
    assert kept == {"wer.csv", "wer-beam-4-lexicon.csv"}
    settings = json.loads((tmp_path / "runs" / "wav2letter-s0-without-ann" / "run.json").read_text())
    assert settings["corpus"]["held_out"] == "speaker=ann"


def test_hypotheses_are_scored_where_they_were_said(tmp_path: Path) -> None:
    hypotheses = script("hypotheses.py")
    path = write_audio(tmp_path / "en_1.wav", 32_000)
    place = {"conversation": "en_1", "offset": 0.5, "duration": 1.0}
    first = Utterance("en_1-B_1", path, channel=1, **place)
    second = Utterance("en_1-A_1", path, channel=0, **place)
    lines = [*hypotheses.ctm(first, "he is an officer"), *hypotheses.ctm(second, "uhhuh")]
    assert lines[:2] == ["en_1 B 0.500 0.250 he", "en_1 B 0.750 0.250 is"]
    (tmp_path / "x.ctm").write_text("\n".join(lines) + "\n")
    (tmp_path / "x.stm").write_text("en_1 A a 0.5 1.5 UH-HUH\nen_1 B b 0.5 1.5 HE IS A OFFICER\n")
    (tmp_path / "x.glm").write_text(';; rules\n* name = "x"\n[UHHUH] => [UH-HUH] / [ ] __ [ ]\n')
    scores = otoscope.score_files(
        tmp_path / "x.stm", tmp_path / "x.ctm", format="stm-ctm", glm=tmp_path / "x.glm", split_hyphens=False
    )
    assert (scores.total.words, scores.total.correct, scores.total.sub) == (5, 4, 1)
    assert list(hypotheses.trn(first, "")) == ["(en_1-B_1)"]
    with pytest.raises(BadInput, match="cannot be placed"):
        list(hypotheses.ctm(Utterance("x", path), "so"))


def test_operations_are_counted_as_on_paper() -> None:
    """One layer of 8 units over 128 bands, then 29 outputs: products forward; backward for weights, and once back."""
    cost = script("cost.py")
    network = {"network": "wav2letter", "hidden": [{"units": 8, "kernel": 1}]}
    found = cost.cost(network, 3, hours=2.0, seconds=4.0, letters_s=10, rate=0.001)
    assert found.per_second == 100 * (2 * (2 * 128 * 8) + 3 * (2 * 8 * 29))
    assert found.per_epoch == found.per_second * 7200
    assert found.hours == pytest.approx(3 * found.per_epoch / 1e9 / 3600)
    recurrent = {"network": "lstm", **tiny_lstm(8)}
    per_frame = 2 * 2 * 4 * 8 * (2 * 128 + 8) / 2
    wide = cost.cost(recurrent, 1, hours=1, seconds=2.0, letters_s=10, rate=1)
    # The first LSTM layer alone, both ways, on half the frames: forward, and backward for its weights.
    assert wide.per_second > 2 * 100 * per_frame


def tiny_lstm(units: int) -> dict[str, object]:
    return {"layers": 1, "strides": [2], "units": units, "decoder_units": 4, "embedding": 4, "attention_units": 4}


def test_switchboard_is_split_by_speakers() -> None:
    prepare = script("insights-switchboard/prepare.py").prepare
    made = [
        Utterance(
            f"c{talk}-{side}-{number}", np.zeros(1200, np.float32), RATE, speaker=f"s{(talk + side) % 7}",
            text="Uh-huh." if number % 2 else f"so {number}", conversation=f"c{talk}",
        )
        for talk in range(7) for side in range(2) for number in range(200)
    ]  # fmt: skip
    kept = prepare(made, 1)
    parts = {split: [u for u in kept if u.split == split] for split in ("train", "dev")}
    assert len({u.conversation for u in parts["dev"]}) == 1
    assert len(parts["dev"]) == 400
    assert not {u.speaker for u in parts["train"]} & {u.speaker for u in parts["dev"]}
    assert Counter(u.text for u in parts["train"])["Uh-huh."] == 300
    short = made[0].replace(id="short", audio=np.zeros(100, np.float32))
    assert "short" not in {u.id for u in prepare([*made, short], 1)}
    with pytest.raises(BadInput, match="cannot be held out"):
        prepare(made, 7)


def script_breaches(page: str) -> list[str]:
    """What a page's `python recipes/…` commands name that is not there: a script, or one of its options."""
    breaches = []
    for words in command_lines(page):
        if words[0] != "python" or not words[1].startswith("recipes/"):
            continue
        path = RECIPES.parent / words[1]
        if not path.is_file():
            breaches.append(f"there is no {words[1]}")
            continue
        source = path.read_text(encoding="utf-8")
        shared = (RECIPES / "drivers.py").read_text(encoding="utf-8") if "from drivers import" in source else ""
        options = set(re.findall(r'add_argument\(\s*"(--[a-z-]+)"', source + shared))
        breaches += [f"{words[1]} has no {word}" for word in words[2:] if word[:2] == "--" and word not in options]
    return breaches


@pytest.mark.parametrize("page", sorted(RECIPES.glob("*/README.md")), ids=lambda path: path.parent.name)
def test_scripts_and_their_options_exist(page: Path) -> None:
    assert script_breaches(page.read_text(encoding="utf-8")) == []


def test_a_script_or_an_option_that_is_not_there_is_found() -> None:
    page = "```sh\npython recipes/none.py\npython recipes/insights-small/run.py x --corpus y --epochz 3 --beam 4\n```\n"
    assert script_breaches(page) == ["there is no recipes/none.py", "recipes/insights-small/run.py has no --epochz"]
