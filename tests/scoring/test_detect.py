"""Anomaly detection: promised false alarms, scores that see what they should, the command."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from mutations import survives
from small import network as small_network

from wavegen.codecs import mulaw
from wavegen.codecs.windows import SUMMED
from wavegen.commands.main import main
from wavegen.errors import AudioFileError, ConfigError, ModelError
from wavegen.models.serialization import load_model, save_model
from wavegen.scoring import score
from wavegen.scoring.anomaly import SCORES, Detector, bits_by_others, features, order0_bits
from wavegen.scoring.calibration import calibrate, class_gain, explanations, load_detector
from wavegen.scoring.detect import AnomalyDetector, detect

RATE = 1000
LABELS = {"label": ("a", "b")}


def recording(rng: np.random.Generator, loudness: float | None = None) -> np.ndarray:
    """Surprisal that rises and falls, about a level that differs between recordings."""
    level = rng.uniform(3, 5) if loudness is None else loudness
    swell = 1 + 0.5 * np.sin(np.linspace(0, rng.uniform(9, 20), 800))
    return np.abs(level * swell + rng.standard_normal(800))


def detector(rng: np.random.Generator, count: int = 200) -> Detector:
    rows = [features(recording(rng), 5.0, 0.1, RATE) for _ in range(count)]
    return Detector(np.array(rows), RATE, "model")


def test_the_scores_of_a_recording() -> None:
    surprisal = np.ones(1000)
    surprisal[500:520] = 9
    surprisal[100:110] = 0.5
    surprisal[700:705] = 20
    scores = dict(zip(SCORES, features(surprisal, 3.0, 0.2, RATE), strict=True))
    mean = surprisal.mean()
    assert scores == pytest.approx(
        {"mean": mean, "window": 9, "rest": 0.5, "peak": 20, "ratio": mean - 3, "gain": 0.2}
    )
    short = features(np.array([2.0]), 1.0, 0.0, RATE)
    assert short.tolist() == [2, 2, 2, 2, 1, 0]


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
def test_false_alarms_are_as_many_as_promised(rate) -> None:
    """Of 4,000 fresh normal recordings, over 20 calibrations: within 4 standard errors."""
    rng = np.random.default_rng(1)
    alarms = []
    for _ in range(20):
        calibrated = detector(rng)
        fresh = [calibrated.judge(recording(rng), 5.0, 0.1, rate).p <= rate for _ in range(200)]
        alarms.append(np.mean(fresh))
    # The rate varies from one calibration to the next, too: Beta(k, n + 1 - k).
    error = np.sqrt(rate * (1 - rate) * (1 / 200 + 1 / 200) / 20)
    assert abs(np.mean(alarms) - rate) < 4 * error


def test_what_is_unusual_is_found_and_where() -> None:
    rng = np.random.default_rng(2)
    calibrated = detector(rng)
    dull, loud = recording(rng), recording(rng)
    dull[300:330] = 0.01
    loud[300:330] = 30
    for odd in (dull, loud):
        verdict = calibrated.judge(odd, 5.0, 0.1, 0.01)
        assert verdict.p == pytest.approx(1 / 201)
        (span,) = verdict.spans
        assert span == pytest.approx((0.3, 0.33), abs=0.02)
    assert calibrated.judge(loud, 5.0, 0.1, 0.01).raised_by in ("window", "peak")
    # Each score by itself is normal; never at rest at this level is not.
    flat = 4 + 0.01 * rng.standard_normal(800)
    assert calibrated.judge(flat, 5.0, 0.1, 0.01).p <= 0.01
    assert calibrated.judge(recording(rng), 9.0, 0.1, 0.01).raised_by == "ratio"


def test_the_distance_ranks_recordings_that_p_values_do_not_tell_apart() -> None:
    rng = np.random.default_rng(2)
    calibrated = detector(rng)
    verdicts = [calibrated.judge(recording(rng, level), 5.0, 0.1, 0.01) for level in (12, 20, 40)]
    assert {verdict.p for verdict in verdicts} == {1 / 201}
    distances = [verdict.distance for verdict in verdicts]
    assert distances == sorted(set(distances))
    # Of normal recordings it is about the root of the number of scores that vary.
    normal = [calibrated.judge(recording(rng), 5.0, 0.1, 0.01) for _ in range(50)]
    assert max(verdict.distance for verdict in normal) < distances[0]
    assert 1 < np.median([verdict.distance for verdict in normal]) < 3


def test_only_what_is_not_normal_is_raised_by_a_score() -> None:
    rng = np.random.default_rng(3)
    calibrated = detector(rng)
    verdicts = [calibrated.judge(recording(rng), 5.0, 0.1, 0.2) for _ in range(100)]
    assert any(verdict.p <= 0.2 for verdict in verdicts)
    for verdict in verdicts:
        assert (verdict.raised_by in SCORES) == (verdict.p <= 0.2)


def test_what_cannot_be_promised_is_refused() -> None:
    rng = np.random.default_rng(0)
    calibrated = detector(rng, 99)
    calibrated.check(0.01)
    with pytest.raises(ConfigError, match=r"0\.01 or more; calibrate with more"):
        calibrated.check(0.009)
    for rate in (0, 1, -1, float("nan")):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            calibrated.check(rate)
    with pytest.raises(ConfigError, match="39 normal recordings: calibrate with 40"):
        detector(rng, 39)


def test_scores_that_follow_from_one_another_do_no_harm() -> None:
    """Recordings all alike, or of one sample: nothing is divided by zero."""
    calibrated = Detector(np.ones((50, len(SCORES))), RATE, "model")
    assert calibrated.judge(np.ones(10), 0.0, 1.0, 0.1).p == 1
    assert calibrated.judge(np.full(10, 2.0), 0.0, 1.0, 0.1).p < 0.1


def test_json_gives_the_detector_back() -> None:
    rng = np.random.default_rng(0)
    calibrated = detector(rng)
    again = Detector.from_json(calibrated.to_json())
    odd = recording(rng, 20)
    assert again.judge(odd, 5.0, 0.1, 0.01) == calibrated.judge(odd, 5.0, 0.1, 0.01)
    values = json.loads(calibrated.to_json())
    for broken in (
        "",
        "[]",
        "{}",
        json.dumps({**values, "scores": ["mean"]}),
        json.dumps({**values, "normal": [[1, 2]]}),
        json.dumps({**values, "normal": [[float("nan")] * 6] * 50}),
        json.dumps({**values, "normal": [[1.0] * 6] * 3}),
        json.dumps({**values, "more": 1}),
    ):
        with pytest.raises(ModelError, match="calibrate again"):
            Detector.from_json(broken)


def test_order0_bits_are_those_of_the_shares() -> None:
    bits = order0_bits(np.array([5, 1, 0]))
    assert np.exp2(-bits) == pytest.approx(np.array([5.5, 1.5, 0.5]) / 7.5)


def test_recordings_to_calibrate_on_are_no_nearer_to_their_codes_than_new_ones() -> None:
    """Forty recordings of few codes each, which only the background tells apart."""
    rng = np.random.default_rng(0)
    ratio = SCORES.index("ratio")

    def histogram() -> np.ndarray:
        return np.bincount(rng.choice(rng.choice(64, 5), 60), minlength=64)

    chances = []
    for _ in range(100):
        normal, fresh = (np.array([histogram() for _ in range(count)]) for count in (40, 20))
        rows = 0.1 * rng.standard_normal((60, len(SCORES)))
        rows[:40, ratio] -= bits_by_others(normal)
        rows[40:, ratio] -= fresh @ order0_bits(normal.sum(axis=0)) / fresh.sum(axis=1)
        calibrated = Detector(rows[:40], RATE, "model")
        chances.append(calibrated.p_values(calibrated.distance(rows[40:])))
    for rate in (0.03, 0.05, 0.1, 0.2):
        assert np.mean(np.concatenate(chances) <= rate) <= rate


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_model(small_network(labels=LABELS), tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def normal(tmp_path: Path) -> Path:
    """Fifty quiet recordings."""
    rng = np.random.default_rng(0)
    (tmp_path / "normal").mkdir()
    for number in range(50):
        wave = 0.02 * rng.standard_normal(rng.integers(400, 600))
        soundfile.write(tmp_path / "normal" / f"{number:02}.wav", wave, 8000, subtype="FLOAT")
    return tmp_path / "normal"


def test_scores_that_no_detector_file_may_hold_make_no_detector() -> None:
    normal = np.random.default_rng(0).standard_normal((40, len(SCORES)))
    assert np.array_equal(Detector.from_json(Detector(normal, RATE, "").to_json()).normal, normal)
    for damage in (4e38, np.nan):
        normal[3, 0] = damage
        with pytest.raises(ModelError, match="weights of the model are damaged"):
            Detector(normal, RATE, "")


def test_a_gain_is_what_the_best_class_of_each_attribute_saves() -> None:
    attributes = {"digit": ("0", "1"), "speaker": ("a", "b", "c")}
    kinds = explanations(attributes, {})
    assert kinds == [{}, *({"digit": d} for d in "01"), *({"speaker": s} for s in "abc")]
    bits = np.array([100.0, 90, 95, 120, 101, 130])
    assert class_gain(bits, kinds) == 10 - 1
    kinds = explanations(attributes, {"digit": "1"})
    assert kinds == [{"digit": "1"}, *({"digit": "1", "speaker": s} for s in "abc")]
    assert class_gain(bits[:4], kinds) == 10
    assert explanations(attributes, {}, classes=False) == [{}]
    assert class_gain(bits[:1], [{}]) == 0


def test_calibrating_compares_each_recording_with_the_others(model, normal) -> None:
    detector = calibrate(model, normal)
    waves = [soundfile.read(path, dtype="float32")[0] for path in sorted(normal.iterdir())]
    histograms = np.array([np.bincount(mulaw.encode(wave), minlength=256) for wave in waves])
    mean, ratio = (detector.normal[:, SCORES.index(name)] for name in ("mean", "ratio"))
    assert mean - ratio == pytest.approx(bits_by_others(histograms))
    # A new recording is compared with all of them.
    assert np.array_equal(detector.histogram, histograms.sum(axis=0))


def test_a_recording_read_in_blocks_is_judged_as_one_read_whole(model, normal, monkeypatch) -> None:
    calibrate(model, normal)
    whole = [each.verdict for each in detect(model, normal, false_alarms=0.2)]
    assert any(each.spans for each in whole)
    monkeypatch.setattr(score, "_LONG", 100)
    monkeypatch.setattr(score, "BLOCK", SUMMED)
    blocks = [each.verdict for each in detect(model, normal, false_alarms=0.2)]
    # Sums of other parts are rounded otherwise.
    assert [each.distance for each in blocks] == pytest.approx([each.distance for each in whole])
    assert [replace(each, distance=0.0) for each in blocks] == [
        replace(each, distance=0.0) for each in whole
    ]


def test_a_waveform_is_judged_as_its_file(model, normal) -> None:
    calibrate(model, normal)
    judge = AnomalyDetector(load_model(model), load_detector(model), 0.2)
    files = sorted(normal.iterdir())[:10]
    for path, expected in zip(files, detect(model, files, false_alarms=0.2), strict=True):
        waveform, _ = soundfile.read(path, dtype="float32")
        found = judge.judge(waveform)
        assert found.verdict == expected.verdict
        assert found.normal == expected.normal
    twice = judge.judge(np.repeat(waveform, 2), 16000)
    assert twice.score.samples == pytest.approx(len(waveform), abs=1)
    assert twice.score.file_rate == 16000
    with pytest.raises(AudioFileError, match="waveform: holds NaN"):
        judge.judge(np.array([0.0, np.nan]))
    with pytest.raises(AudioFileError, match="waveform: holds no samples"):
        judge.judge(np.zeros(0))
    with pytest.raises(ConfigError, match=r"must be float \(time,\)"):
        judge.judge(np.zeros((2, 800)))


@pytest.mark.parametrize("cut", [1, 333, 400, 5000])
def test_live_sound_is_judged_part_by_part_however_it_comes(model, normal, cut) -> None:
    calibrate(model, normal)
    judge = AnomalyDetector(load_model(model), load_detector(model), 0.2)
    sound = (0.02 * np.random.default_rng(5).standard_normal(1500)).astype(np.float32)
    sound[900:950] = 0.9
    chunks = (sound[first : first + cut] for first in range(0, len(sound), cut))
    found = list(judge.stream(chunks, 0.05))
    # 400 samples a part; the last 300 are not judged.
    assert [begin for begin, _ in found] == pytest.approx([0, 0.05, 0.1])
    assert not found[2][1].normal
    for number, (_, each) in enumerate(found):
        alone = judge.judge(sound[400 * number : 400 * (number + 1)])
        assert each.verdict == alone.verdict
    with pytest.raises(ConfigError, match="seconds is 0"):
        next(judge.stream([sound], 0))


def test_a_part_of_live_sound_is_judged_as_soon_as_it_has_come(model, normal) -> None:
    calibrate(model, normal)
    judge = AnomalyDetector(load_model(model), load_detector(model), 0.2)
    come = []

    def chunks():
        for number in range(10):
            come.append(number)
            yield np.zeros(100, np.float32)

    next(judge.stream(chunks(), 0.05))
    assert come == [0, 1, 2, 3]


@pytest.mark.parametrize("background", [False, True])
def test_the_command(model, normal, tmp_path, capsys, background) -> None:
    save_model(small_network(seed=1), tmp_path / "other")
    extra = ["--background", str(tmp_path / "other"), "--without-classes"] if background else []
    given = ["--label", "a"] if background else []
    calibrate = ["detect", "--calibrate", str(model), str(normal), *given, *extra]
    assert main(calibrate) == 0
    assert "calibrated on 50 recordings; false alarms down to 0.02" in capsys.readouterr().out
    rng = np.random.default_rng(1)
    test = tmp_path / "test"
    test.mkdir()
    soundfile.write(test / "a.wav", 0.02 * rng.standard_normal(500), 8000, subtype="FLOAT")
    detect = ["detect", str(model), str(test), "--false-alarms", "0.02", "--format", "jsonl"]
    assert main(detect) == 0
    (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    fields = ["path", "samples", "seconds", "normal", "p_value", "distance", "raised_by", "spans"]
    assert list(row) == [*fields, "error"]
    assert row["normal"]
    assert row["raised_by"] is None
    soundfile.write(test / "b.wav", 0.9 * rng.standard_normal(500), 8000, subtype="FLOAT")
    (test / "c.wav").write_text("")
    assert main(detect) == 1
    captured = capsys.readouterr()
    _, odd, bad = map(json.loads, captured.out.splitlines())
    assert not odd["normal"]
    assert odd["p_value"] == pytest.approx(1 / 51)
    assert odd["raised_by"] in SCORES
    assert bad["error"]
    assert odd["distance"] > row["distance"]
    assert f"raised by {odd['raised_by']}: bits per sample" in captured.err
    assert "1 of 2 are not normal" in captured.err
    assert "1 of 3 files could not be scored" in captured.err
    assert main([*detect[:-2], "--plot", str(tmp_path / "plots")]) == 1
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"a.wav.png", "b.wav.png"}


def test_a_monitor_notices_a_file_that_cannot_be_read(model, normal, capsys) -> None:
    assert main(["detect", "--calibrate", str(model), str(normal)]) == 0
    files = [str(path) for path in sorted(normal.iterdir())[:3]]
    command = ["detect", str(model), "--false-alarms", "0.02", "--format", "csv"]
    assert main([*command, *files]) == 0
    Path(files[1]).write_bytes(b"")
    assert main([*command, *files]) == 1
    captured = capsys.readouterr()
    assert "0 of 2 are not normal" in captured.err
    assert "1 of 3 files could not be scored" in captured.err
    assert main(["detect", "--calibrate", str(model), str(normal), "--plot", "x"]) == 2


def test_mistakes_are_one_line(model, normal, capsys) -> None:
    def refused(*arguments: object) -> str:
        assert main(["detect", *map(str, arguments)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "--calibrate" in refused(model, normal)
    few = sorted(normal.iterdir())[:5]
    assert "5 normal recordings: calibrate with 40" in refused("--calibrate", model, *few)
    assert not (model / "detector.json").exists()
    assert main(["detect", "--calibrate", str(model), str(normal)]) == 0
    capsys.readouterr()
    assert "must be 0.02 or more" in refused(model, normal)
    assert "need --calibrate" in refused(model, normal, "--label", "a")
    assert "need --calibrate" in refused(model, normal, "--without-classes")
    save_model(small_network(seed=3, labels={"label": ("a", "b")}), model)
    assert "made for another model" in refused(model, normal)
    (model / "detector.json").write_text("{}")
    assert "calibrate again" in refused(model, normal)
    other = small_network(sample_rate=16000)
    save_model(other, model.parent / "other")
    background = ("--background", model.parent / "other")
    assert "of the same rate" in refused("--calibrate", model, normal, *background)


def test_a_calibration_from_elsewhere_gets_one_clear_line(model, normal) -> None:
    calibrate(model, normal)
    file, rng = model / "detector.json", np.random.default_rng(0)
    good = json.loads(file.read_text())

    def judge() -> None:
        detector = load_detector(model)
        detector.check(0.5)
        order0_bits(np.array(detector.histogram))
        explanations(LABELS, detector.labels, detector.classes)
        detector.judge(recording(rng), 5.0, 0.1, 0.5)

    refused = survives(judge, ModelError, file, good, 150)
    assert 75 < refused < 150
