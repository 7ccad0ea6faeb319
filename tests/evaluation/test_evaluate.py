"""Distances and intervals, and the report on a model: what it measures, and that it can fail."""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import write_tones

from wavegen.commands.main import main
from wavegen.evaluation import counterparts, distances, evaluate, label_classifier
from wavegen.evaluation.distances import (
    Figure,
    bootstrap,
    divergence,
    frechet,
    half_samples,
    kernel,
    nearest,
    share_of,
)
from wavegen.models.config import WaveNetConfig
from wavegen.models.serialization import save_model
from wavegen.models.wavenet import WaveNet
from wavegen.scoring.classify import classify

RNG = np.random.default_rng(0)


def test_frechet_is_that_of_the_normal_distributions() -> None:
    one = RNG.normal(size=(4000, 3)) * [1, 2, 3]
    other = RNG.normal(size=(4000, 3)) * [2, 2, 1] + [1, 0, -2]
    # Means 5 apart in square, deviations 1, 0 and 2 apart.
    assert frechet(one, other) == pytest.approx(5 + 1 + 0 + 4, rel=0.1)
    assert frechet(one, one) == pytest.approx(0, abs=1e-9)


def test_the_kernel_distance_is_unbiased() -> None:
    """About 0 between sets of one kind, on average, however small they are; else above."""
    alike = [kernel(RNG.normal(size=(8, 5)), RNG.normal(size=(9, 5))) for _ in range(400)]
    apart = [kernel(RNG.normal(size=(8, 5)), RNG.normal(size=(9, 5)) + 1) for _ in range(400)]
    error = np.std(alike) / 20
    assert abs(np.mean(alike)) < 4 * error
    assert np.mean(apart) > 20 * error


def test_nearest_is_that_of_a_loop() -> None:
    rows, among = RNG.normal(size=(6, 4)), RNG.normal(size=(9, 4))
    expected = [min(np.linalg.norm(row - each) for each in among) for row in rows]
    np.testing.assert_allclose(nearest(rows, among), expected)
    assert nearest(among[:3], among).max() < 1e-6


def test_divergence_goes_from_0_to_1() -> None:
    one = np.array([5, 3, 0, 0])
    assert divergence(one, 7 * one) == pytest.approx(0)
    assert divergence(one, one[::-1]) == pytest.approx(1)
    assert 0 < divergence(one, np.ones(4)) < 1


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    held = []
    for draw in range(120):
        values = np.random.default_rng(draw).normal(3.0, 1.0, size=80)
        figure = bootstrap(lambda n, v=values: float(v[n].mean()), 80)
        assert figure.low < figure.value < figure.high
        held.append(figure.low < 3.0 < figure.high)
    assert 0.87 <= np.mean(held) <= 1


@pytest.mark.parametrize("truth", [0.01, 0.5, 0.99])
@pytest.mark.parametrize("count", [8, 40])
def test_intervals_of_shares_hold_the_truth_where_all_clips_agree_too(truth, count) -> None:
    rng = np.random.default_rng(0)
    figures = [share_of(rng.random(count) < truth) for _ in range(400)]
    assert all(0 <= each.low <= each.value <= each.high <= 1 for each in figures)
    assert np.mean([each.low <= truth <= each.high for each in figures]) > 0.93
    assert share_of([False] * count).high > 3 / (count + 3)
    assert share_of([True] * count).low < count / (count + 3)


def test_half_samples_spread_as_the_whole_does() -> None:
    estimates = []
    for draw in range(60):
        values = np.random.default_rng(draw).normal(size=100)
        figure = half_samples(lambda n, v=values: float(v[n].mean()), 100)
        estimates.append((figure.high - figure.low) / 2 / 1.96)
    # The mean of 100 has a deviation of 0.1.
    assert np.mean(estimates) == pytest.approx(0.1, rel=0.1)


def test_spectra_have_a_form_of_their_own() -> None:
    tone = np.sin(0.3 * np.arange(4000)).astype(np.float32)
    for wave in (tone, tone[:50], np.zeros(3000, np.float32)):
        spectrum = distances.log_mel(wave, 8000)
        assert np.isfinite(spectrum).all()
        assert distances.statistics(spectrum).shape == (80,)
        assert distances.shape(spectrum).shape == (640,)
    louder = distances.log_mel(10 * tone, 8000) - distances.log_mel(tone, 8000)
    assert louder.max() == pytest.approx(np.log(100), rel=0.01)


def tones(classes: int, count: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = np.arange(count) % classes
    lengths = rng.integers(1500, 3000, count)
    waves = [
        0.3 * np.sin(2 * np.pi * 300 * (1 + target) / 8000 * np.arange(length))
        + 0.02 * rng.standard_normal(length)
        for target, length in zip(targets, lengths, strict=True)
    ]
    return [wave.astype(np.float32) for wave in waves], targets


def test_the_judge_learns_classes_and_fails_on_wrong_ones() -> None:
    classifier = label_classifier.train(*tones(3, 60, 0), 8000, epochs=6)
    waves, targets = tones(3, 30, 1)
    assert (label_classifier.predict(classifier, waves) == targets).mean() > 0.9
    assert (label_classifier.predict(classifier, waves) == (targets + 1) % 3).mean() < 0.1
    assert label_classifier.predict(classifier, []).shape == (0,)


def test_the_judge_learns_from_any_number_of_clips_however_short() -> None:
    waves, targets = tones(3, 33, 0)
    short = [wave[:10] for wave in waves]
    for count in (2, 32, 33):
        classifier = label_classifier.train(short[:count], targets[:count], 8000, epochs=1)
        # A batch of one clip alone would make the statistics of normalisation infinite.
        assert all(torch.isfinite(each).all() for each in classifier.state_dict().values())
        assert set(label_classifier.predict(classifier, short)) <= {0, 1, 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of tones, in three splits by folders, with twelve clips in each."""
    root = tmp_path_factory.mktemp("evaluated")
    for seed, split in enumerate(("train", "validation", "test")):
        write_tones(root / "data" / split, seed)
    config = WaveNetConfig(
        layers=4, stacks=1, residual_channels=8, gate_channels=16, skip_channels=8,
        sample_rate=8000, labels={"label": ("high", "low")},
    )  # fmt: skip
    save_model(WaveNet(config), root / "model")
    return root


def test_the_report_has_every_figure(folder: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "report"
    arguments = ["evaluate", str(folder / "model"), str(folder / "data"), "--out", str(out)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert str(out / "report.html") in printed
    report = json.loads((out / "report.json").read_text())
    assert report["split"] == "test"
    assert report["clips"] == 12
    bits = report["likelihood"]["bits_per_sample"]
    # A network that has learned nothing yet predicts all codes alike.
    assert bits["value"] == pytest.approx(8, abs=1e-4)
    assert bits["low"] <= bits["value"] <= bits["high"]
    assert "8.000" in printed
    assert 2 < report["likelihood"]["flac_16_bit"]["value"] < 16
    samples = report["samples"]
    for name in ("frechet_log_mel", "kernel_log_mel", "code_divergence", "nearest_training_clip"):
        # White noise is nothing like tones, and held-out tones are.
        assert samples[name]["generated"]["value"] > 2 * samples[name]["real"]["value"], name
        assert samples[name]["generated"]["low"] > samples[name]["real"]["high"], name
    assert samples["nearest_generated_over_real"]["generated"]["value"] > 2
    judged = report["recognised_by_a_judge"]["label"]
    assert judged["real"]["value"] > 0.9
    assert judged["generated"]["value"] < 0.8
    # Untrained, it takes all for one class.
    assert report["classification_by_likelihood"]["label"]["value"] == pytest.approx(0.5)
    assert abs(report["drift"]["level_decibels"]["value"]) < 3
    page = (out / "report.html").read_text()
    assert page.count("<audio") == page.count("<img") == 4
    assert "http" not in page
    sounds = re.findall(r'data:audio/wav;base64,([^"]+)"', page)
    waves = []
    for sound in sounds:
        wave, rate = soundfile.read(io.BytesIO(base64.b64decode(sound)))
        assert rate == 8000
        assert len(wave) > 500
        waves.append(wave[:500])
    # To this network classes are alike: only noise of their own tells its recordings apart.
    _, high, _, low = waves
    assert np.mean(high == low) < 0.1


def test_with_many_classes_fewer_clips_are_classified_and_that_is_said(
    folder: Path, monkeypatch, tmp_path: Path, capsys
) -> None:
    def report(*more: str) -> dict:
        out = tmp_path / "report"
        command = ["evaluate", str(folder / "model"), str(folder / "data"), "--out", str(out)]
        assert main([*command, *more]) == 0
        return json.loads((out / "report.json").read_text())

    taken = []
    monkeypatch.setattr(
        counterparts, "classify", lambda *a, **k: taken.extend(a[1]) or classify(*a, **k)
    )
    # Clips of 0.18 seconds on average, under two labels each.
    monkeypatch.setattr(evaluate, "_MOST_CLASSIFIED", 3.4)
    figures = report()
    assert figures["clips"] == 12
    assert len(taken) == figures["clips_classified"] == 9
    line = "classifying 9 of 12 clips by likelihood, under 2 labels each; --classified says how"
    assert line in capsys.readouterr().err
    assert report("--classified", "0")["classification_by_likelihood"] == {}
    assert len(taken) == 9


def test_copies_of_training_clips_show(folder: Path, monkeypatch, tmp_path: Path) -> None:
    """A model that says its training data again is found out by the distances alone."""
    copies = [
        soundfile.read(path, dtype="float32")[0]
        for path in sorted((folder / "data" / "train").rglob("*.wav"))
    ]
    monkeypatch.setattr(
        counterparts,
        "generated",
        lambda engine, streams, lengths, *_: (copies[n % 12] for n in range(len(streams))),
    )
    out = tmp_path / "report"
    assert main(["evaluate", str(folder / "model"), str(folder / "data"), "--out", str(out)]) == 0
    samples = json.loads((out / "report.json").read_text())["samples"]
    assert samples["nearest_generated_over_real"]["generated"]["value"] < 0.1
    assert samples["frechet_log_mel"]["generated"]["value"] < 1e-6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--count", "0"], "--count is 0"),
        (["--seconds", "0"], "--seconds is 0"),
        (["--classified", "-1"], "--classified is -1"),
        (["--count", "3"], "3 clips are held out and 12 are for training; figures need 8 of each"),
        (["--temperature", "-1"], "temperature is -1"),
        (["--seed", "-1"], "seed is -1"),
        (["--engine", "fast"], "--engine fast"),
    ],
)
def test_what_cannot_be_is_one_line(folder: Path, tmp_path: Path, capsys, change, message) -> None:
    arguments = ["evaluate", str(folder / "model"), str(folder / "data")]
    assert main([*arguments, "--out", str(tmp_path / "report"), *change]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors
    assert not list((tmp_path / "report").glob("*.html"))
    assert main(["evaluate", str(folder / "model"), str(tmp_path / "nothing")]) == 2


def test_figures_are_shown_with_their_intervals() -> None:
    from wavegen.evaluation.report import _cell

    assert _cell(Figure(1, 0.5, 2)) == "1.000 <small>(0.500 to 2.000)</small>"
    assert _cell(None) == ""
