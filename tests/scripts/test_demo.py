"""The main job, as a stranger would run it."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from small import FSDD

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))


def test_the_instruments_are_clearly_different(tmp_path: Path) -> None:
    """The demo's own judge tells real clips apart, or its verdict would mean nothing."""
    import demo
    from instruments import INSTRUMENTS, write_instruments

    from wavegen.data.clips import find_clips
    from wavegen.generation.generate import Stream

    write_instruments(tmp_path)
    assert len(INSTRUMENTS) >= 4
    held_out = find_clips(tmp_path).of("validation")
    assert {clip.labels["label"] for clip in held_out} == set(INSTRUMENTS)
    streams = [Stream(clip.labels) for clip in held_out]
    paths = [clip.path for clip in held_out]
    assert demo.recognised(tmp_path, streams, paths, 8000) == 1
    wrong = [*streams[1:], streams[0]]
    assert demo.recognised(tmp_path, wrong, paths, 8000) < 1
    noise = tmp_path / "noise.wav"
    soundfile.write(noise, 0.1 * np.random.default_rng(0).normal(size=4800), 8000)
    assert demo.recognised(tmp_path, streams, [noise] * len(streams), 8000) <= 0.5


def test_instruments_are_the_same_at_every_call(tmp_path: Path) -> None:
    from instruments import write_instruments

    for name in ("one", "two"):
        write_instruments(tmp_path / name)
    for path in sorted((tmp_path / "one").rglob("*.wav")):
        other = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert path.read_bytes() == other.read_bytes()


def test_music_is_long_and_the_same_at_every_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import instruments

    from wavegen.audio import reading

    monkeypatch.setattr(instruments, "PIECES", 2)
    for name in ("one", "other"):
        instruments.write_music(tmp_path / name, 16_000)
    one, other = ((tmp_path / name / "0.wav").read_bytes() for name in ("one", "other"))
    assert one == other
    waves = [reading.read(tmp_path / "one" / f"{piece}.wav", 16_000) for piece in (0, 1)]
    assert all(len(wave) > 60 * 16_000 and 0.7 < abs(wave).max() < 0.9 for wave in waves)
    assert (waves[0] != waves[1]).any()


def run_demo(home: Path) -> subprocess.CompletedProcess:
    """Only the first of its trainings: on a busy machine the others could take ten minutes."""
    shutil.copytree(ROOT / "scripts", home / "scripts")
    code = "import demo; demo.MINUTES = demo.MINUTES[:1]; raise SystemExit(demo.main(None))"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, 'scripts'); {code}"]
    return subprocess.run(command, cwd=home, capture_output=True, text=True)


@pytest.mark.parametrize(("shares", "trainings"), [([0.95], 1), ([0.5, 0.9], 2), ([0.1] * 3, 3)])
def test_the_demo_trains_until_its_promise_holds(
    shares: list[float], trainings: int, tmp_path: Path, monkeypatch, capsys
) -> None:
    import demo

    calls = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "write_instruments", lambda _: None)
    monkeypatch.setattr(demo, "wavegen", lambda words: calls.append(words) or 0)
    found = iter(shares)
    monkeypatch.setattr(demo, "generated", lambda *_: next(found))
    assert demo.main(None) == 0
    assert len(calls) == trainings
    assert all("--resume" in words for words in calls[1:])
    assert ("--resume" in capsys.readouterr().out) == (shares[-1] < 0.9)


@pytest.mark.slow
def test_the_demo_generates_what_it_was_asked_for(tmp_path: Path) -> None:
    done = run_demo(tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "bits per held-out sample (uniform 8.0, order-0" in done.stdout
    out = tmp_path / "runs" / "demo" / "1" / "out"
    assert len(list(out.glob("*.png"))) == 4
    assert len(list(out.glob("*.wav"))) == 40
    assert "of the generated clips are nearest to the requested class" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not FSDD.is_dir(), reason="the spoken digits are not here")
def test_real_voices_are_learned_a_little_in_half_a_minute(tmp_path: Path) -> None:
    from wavegen.commands.main import main

    run = tmp_path / "run"
    options = ["--config", str(ROOT / "configs" / "digits.yaml"), "--run", str(run)]
    limit = ["--trainer.max_time=00:00:00:30", "--trainer.val_check_interval=100000"]
    assert main(["train", str(FSDD), *options, *limit]) == 0
    header, *rows = (run / "metrics.csv").read_text().splitlines()
    last = dict(zip(header.split(","), rows[-1].split(","), strict=True))
    assert float(last["order0_bits"]) == pytest.approx(7.18, abs=0.02)
    assert float(last["val_bits"]) < 6
