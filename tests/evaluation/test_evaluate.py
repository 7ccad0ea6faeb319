"""The report on a model: what it measures, and that it can fail."""

import base64
import io
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import write_tones

from wavegen.audio import reading
from wavegen.commands.main import main
from wavegen.evaluation import counterparts, evaluate
from wavegen.evaluation.intervals import Figure
from wavegen.models.config import WaveNetConfig
from wavegen.models.serialization import save_model
from wavegen.models.wavenet import WaveNet
from wavegen.scoring.classify import classify


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
    matrices = report["confusion"]["label"]
    assert {by: np.sum(each["counts"]) for by, each in matrices.items()} == {
        "generated": 12, "real": 12, "by_likelihood": 12,
    }  # fmt: skip
    for by, share in (
        ("real", judged["real"]),
        ("generated", judged["generated"]),
        ("by_likelihood", report["classification_by_likelihood"]["label"]),
    ):
        assert matrices[by]["classes"] == ["high", "low"]
        assert np.trace(matrices[by]["counts"]) / 12 == pytest.approx(share["value"])
    assert report["verdict"] in printed
    assert report["verdict"].startswith("The model does not predict held-out clips better than")
    page = (out / "report.html").read_text()
    assert page.count("<audio") == page.count("<img") == 4
    assert "http" not in page
    assert report["verdict"] in page
    assert page.count("taken for") == 3
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


def test_every_clip_is_decoded_once(folder: Path, monkeypatch, tmp_path: Path) -> None:
    opened = Counter()
    read = reading.blocks
    monkeypatch.setattr(reading, "blocks", lambda path, *a: opened.update([path]) or read(path, *a))
    command = ["evaluate", str(folder / "model"), str(folder / "data"), "--seconds", "0.1"]
    assert main([*command, "--out", str(tmp_path), "--data.store", str(tmp_path / "store")]) == 0
    assert len(opened) == 36
    assert set(opened.values()) == {1}


@pytest.mark.parametrize(("device", "streams"), [([], 12), (["--device", "cpu"], None)])
def test_the_engine_is_chosen_for_the_number_of_clips(
    folder: Path, monkeypatch, tmp_path: Path, device, streams
) -> None:
    chosen = []
    choose = evaluate.choose
    monkeypatch.setattr(evaluate, "choose", lambda *a: chosen.append(a[3]) or choose(*a))
    command = ["evaluate", str(folder / "model"), str(folder / "data"), "--seconds", "0.02"]
    assert main([*command, "--out", str(tmp_path), *device]) == 0
    assert chosen == [streams]


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
