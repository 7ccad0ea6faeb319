"""Figures of copies of clips: against values known in advance, and through the command."""

import json
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import small
from conftest import write_tones

from wavegen.audio.features import parse
from wavegen.audio.mel import log_mel
from wavegen.codecs.mulaw import MuLaw
from wavegen.commands.main import main
from wavegen.data.clips import find_clips
from wavegen.data.settings import DataSettings
from wavegen.evaluation import copies
from wavegen.models.config import WaveNetConfig
from wavegen.models.serialization import save_model
from wavegen.models.wavenet import WaveNet

RATE = 16000


def voice(hertz: float, seconds: float = 1.0) -> np.ndarray:
    """A harmonic sound whose level changes a few times a second, as that of speech does."""
    time = np.arange(int(RATE * seconds)) / RATE
    tone = sum(np.sin(2 * np.pi * hertz * k * time) / k for k in range(1, 20))
    return (0.1 * tone * (1.1 + np.sin(2 * np.pi * 4 * time))).astype(np.float32)


CLIPS = [voice(hertz) for hertz in (110, 140, 170, 200)]


def test_a_clip_itself_is_a_perfect_copy() -> None:
    figures = copies.compared_with_originals(CLIPS, {"same": CLIPS}, RATE)
    values = {name: columns["same"].value for name, columns in figures.items()}
    assert values["stoi"] == pytest.approx(1, abs=1e-6)
    for name in ("log_mel_distance", "mel_cepstral_distance", "pitch_error", "voicing_error"):
        assert values[name] == 0


def test_figures_show_what_differs() -> None:
    noise = np.random.default_rng(0)
    columns = {
        "louder": [2 * wave for wave in CLIPS],
        "higher": [voice(hertz * 2 ** (1 / 12)) for hertz in (110, 140, 170, 200)],
        "noisy": [wave + 0.05 * noise.standard_normal(len(wave)) for wave in CLIPS],
        "noise": [0.1 * noise.standard_normal(len(wave)) for wave in CLIPS],
    }
    found = copies.compared_with_originals(CLIPS, columns, RATE)
    figures = {
        name: {column: each.value for column, each in row.items()} for name, row in found.items()
    }
    # Twice the amplitude is 6 dB in every band; bands without sound stay at the floor.
    assert 4 < figures["log_mel_distance"]["louder"] < 6.03
    distances = figures["mel_cepstral_distance"]
    assert distances["louder"] < distances["noisy"] < distances["noise"]
    assert figures["pitch_error"]["higher"] == pytest.approx(100, abs=15)
    assert figures["voicing_error"]["noise"] > 0.7
    stoi = figures["stoi"]
    assert stoi["noise"] < stoi["noisy"] < stoi["louder"]
    # No frame of noise has a pitch.
    assert "noise" not in figures["pitch_error"]


def test_distances_are_the_formulas() -> None:
    one, other = log_mel(CLIPS[0], RATE), log_mel(CLIPS[1], RATE)
    squares = [(a - b) ** 2 for a, b in zip(one.ravel(), other.ravel(), strict=True)]
    expected = 10 / np.log(10) * np.sqrt(np.mean(squares))
    assert copies.log_mel_distance(one, other) == pytest.approx(expected)
    # Kubichek 1993: 10 / ln 10 * sqrt(2 * sum of squared differences of cepstral coefficients).
    bands = one.shape[1]
    places = np.pi * (np.arange(bands) + 0.5) / bands
    basis = np.cos(places[:, None] * np.arange(1, 14)) / bands
    difference = (one - other) @ basis
    expected = (10 / np.log(10) * np.sqrt(2 * (difference**2).sum(1))).mean()
    assert copies.mel_cepstral_distance(one, other) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("features", "rate"),
    [
        ("log_mel", 8000),
        ("log_mel:hifigan", 22050),
        ("log_mel:r9y9", 22050),
        ("log_mel:vocos", 24000),
    ],
)
def test_griffin_lim_gives_a_clip_with_the_same_features(features: str, rate: int) -> None:
    definition = parse(features, rate).features[0]
    time = np.arange(rate) / rate
    wave = (0.3 * np.sin(2 * np.pi * (300 + 200 * time) * time)).astype(np.float32)
    made = copies.griffin_lim(wave, definition)
    assert (made.shape, made.dtype) == (wave.shape, np.float32)
    first, second = (log_mel(each, rate) for each in (wave, made))
    distance = copies.log_mel_distance(first[10:-10], second[10:-10])
    shifted = copies.log_mel_distance(first[10:-10], second[15:-5])
    assert distance < 8
    # It is aligned: a shift in time makes it worse.
    assert distance < shifted


def test_short_clips_are_joined_and_what_is_not_defined_is_left_out() -> None:
    short = [wave[:1000] for wave in CLIPS]
    assert "stoi" not in copies.compared_with_originals(short, {"same": short}, RATE)
    many = [voice(120)[begin : begin + 2000] for begin in range(0, 14000, 2000)]
    found = copies.compared_with_originals(many, {"same": many}, RATE)
    assert found["stoi"]["same"].value == pytest.approx(1, abs=1e-6)
    silent = [np.zeros(4000, np.float32)] * 3
    found = copies.compared_with_originals(silent, {"same": silent}, RATE)
    assert found.keys() == {"log_mel_distance", "mel_cepstral_distance", "voicing_error"}


def test_further_measures_are_taken_where_they_are_installed(monkeypatch) -> None:
    asked = []

    def pesq(rate: int, one: np.ndarray, other: np.ndarray, mode: str) -> float:
        asked.append((rate, len(one), len(other), mode))
        return 3.5

    module = types.ModuleType("pesq")
    module.pesq, module.PesqError = pesq, RuntimeError
    monkeypatch.setitem(sys.modules, "pesq", module)
    found = copies.find_spec
    monkeypatch.setattr(copies, "find_spec", lambda name: module if name == "pesq" else found(name))
    figures = copies.compared_with_originals(CLIPS, {"same": CLIPS}, RATE)
    assert figures["pesq"]["same"].value == 3.5
    assert asked[0] == (RATE, 3 * RATE, 3 * RATE, "wb")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[dict, str]]:
    """Returns the report on a model with certain features, and its page."""
    root = tmp_path_factory.mktemp("copies")
    for seed, split in enumerate(("train", "validation")):
        write_tones(root / "data" / split, seed)

    def report(features: str) -> tuple[dict, str]:
        config = WaveNetConfig(
            layers=4, stacks=1, residual_channels=8, gate_channels=16, skip_channels=8,
            sample_rate=8000, labels={"label": ("high", "low")},
            features=parse(features, 8000).to_json(),
        )  # fmt: skip
        save_model(WaveNet(config), root / features)
        out = root / f"report-{features}"
        command = ["evaluate", str(root / features), str(root / "data"), "--out", str(out)]
        assert main(command) == 0
        return json.loads((out / "report.json").read_text()), (out / "report.html").read_text()

    return report


def test_the_report_on_a_vocoder_compares_copies(evaluated, capsys) -> None:
    report, page = evaluated("log_mel")
    distances = report["copy_synthesis"]["log_mel_distance"]
    assert distances.keys() == {"generated", "codec", "griffin_lim"}
    values = {name: each["value"] for name, each in distances.items()}
    # The model has learned nothing yet.
    assert values["codec"] < values["griffin_lim"] < values["generated"]
    assert report["recognised_by_a_judge"]["label"].keys() == {"real", *distances}
    assert report["drift"] == {}
    assert page.count("<audio") == 8
    assert "log-mel distance, dB, griffin_lim" in capsys.readouterr().out


def test_copies_are_recognised_by_labels_that_the_model_does_not_know(
    tmp_path: Path,
) -> None:
    """The clips that are held out are those of training, which saw no labels."""
    run, out = tmp_path / "run", tmp_path / "report"
    folder = tmp_path / "data"
    for seed in range(3):
        write_tones(tmp_path / str(seed), seed)
        for path in (tmp_path / str(seed)).rglob("*.wav"):
            target = folder / path.parent.name / f"{seed}-{path.name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
    options = ("--data.features=log_mel", "--data.labels=[]", "--data.validation_fraction=0.4")
    assert small.train(folder, "--run", run, *options, "--trainer.max_steps=2") == 0
    assert main(["evaluate", str(run), str(folder), "--out", str(out)]) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["recognised_by_a_judge"]["label"]["real"]["value"] > 0.9
    assert (out / "report.html").read_text().count("<audio") == 8
    settings = json.loads((run / "model" / "training.json").read_text())["reading"]
    found = find_clips(folder, DataSettings.from_json(settings))
    labelled = found.with_labels_of(find_clips(folder))
    assert [clip.split for clip in labelled.clips] == [clip.split for clip in found.clips]
    assert all(clip.labels for clip in labelled.clips)


def test_a_model_of_pitch_has_no_griffin_lim_and_one_of_position_no_copies(evaluated) -> None:
    report, _ = evaluated("loudness")
    assert report["copy_synthesis"]["log_mel_distance"].keys() == {"generated", "codec"}
    report, _ = evaluated("position")
    assert report["copy_synthesis"] == {}
    assert report["drift"]


def test_the_codec_is_the_best_copy() -> None:
    rivals = copies.rivals(CLIPS, parse("loudness", RATE), MuLaw(256))
    assert rivals.keys() == {"codec"}
    assert max(np.abs(a - b).max() for a, b in zip(CLIPS, rivals["codec"], strict=True)) < 0.02
