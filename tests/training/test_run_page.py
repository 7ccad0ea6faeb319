from pathlib import Path

import numpy as np
from small import train

from wavegen.training.run_page import curve_png, learning_curve, page

HEADER = "epoch,minutes,order0_bits,step,train_bits,val_bits\n"


def test_minutes_of_resumed_runs_add_up(tmp_path: Path) -> None:
    (tmp_path / "metrics-1.csv").write_text(
        HEADER + "0,,,0,8.0,\n0,,,10,6.0,\n0,1.0,5.5,20,,5.0\n0,,,30,3.0,\n"
    )
    (tmp_path / "metrics.csv").write_text(HEADER + "0,,,20,5.0,\n0,2.0,5.5,60,,4.0\n")
    curve = learning_curve(tmp_path)
    assert curve is not None
    np.testing.assert_allclose(curve.minutes, [1, 3])
    np.testing.assert_allclose(curve.val_bits, [5, 4])
    # What came after the last validation was lost with the run that was killed.
    np.testing.assert_allclose(curve.train_minutes, [0, 0.5, 1])
    np.testing.assert_allclose(curve.train_bits, [8, 6, 5])
    assert curve.order0_bits == 5.5
    assert curve_png(curve, "a run of $1").startswith(b"\x89PNG")


def test_no_curve_before_the_first_validation(tmp_path: Path) -> None:
    assert learning_curve(tmp_path) is None
    (tmp_path / "metrics.csv").write_text(HEADER + "0,,,0,8.0,\n")
    assert learning_curve(tmp_path) is None


def test_the_page_quotes_names(tmp_path: Path) -> None:
    folder = tmp_path / "a <run>" / "samples" / "step_0000040"
    folder.mkdir(parents=True)
    (folder / "Ä <b>.wav").touch()
    text = page(tmp_path / "a <run>")
    assert "<h1>a &lt;run&gt;</h1>" in text
    assert 'src="samples/step_0000040/%C3%84%20%3Cb%3E.wav"' in text
    assert "Step 40" in text
    assert "<b>" not in text


def test_a_run_has_a_page_with_every_validation(tone_folder, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("WAVEGEN_CACHE", str(tmp_path / "cache"))
    run = tmp_path / "run"
    limits = ["--trainer.max_steps=40", "--trainer.val_check_interval=20"]
    assert train(tone_folder, "--run", run, *limits, "--trainer.log_every_n_steps=5") == 0
    assert (run / "curve.png").read_bytes().startswith(b"\x89PNG")
    text = (run / "index.html").read_text()
    assert text.index("Step 40") < text.index("Step 20")
    curve = learning_curve(run)
    assert curve is not None
    assert len(curve.val_bits) == 2
    assert len(curve.train_bits) >= 6
    assert curve.minutes[0] < curve.minutes[1]


def test_the_end_of_a_limited_time_is_validated_once(
    tone_folder, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("WAVEGEN_CACHE", str(tmp_path / "cache"))
    run = tmp_path / "run"
    limits = ["--trainer.max_time=00:00:00:04", "--trainer.val_check_interval=00:00:00:02"]
    assert train(tone_folder, "--run", run, *limits) == 0
    curve = learning_curve(run)
    assert curve is not None
    # The last one, which ends the training, is on the curve too.
    assert len(curve.minutes) == 2
    assert 60 * (curve.minutes[1] - curve.minutes[0]) > 1
