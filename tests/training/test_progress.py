import pytest
from small import TINY, train

from wavegen.training import progress


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.2, "3 s"), (59, "59 s"), (90, "2 min"), (12_000, "3 h 20 min")]
)
def test_lengths_of_time(seconds: float, text: str) -> None:
    assert progress.duration(seconds) == text


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_says_share_bits_and_time_left(
    terminal: bool, tone_folder, tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.setenv("WAVEGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(progress, "on_terminal", lambda: terminal)
    monkeypatch.setattr(progress, "_BETWEEN_LINES", 0.0)
    options = ["--trainer.max_steps=41", "--trainer.val_check_interval=20"]
    sizes = [option for option in TINY if "progress_bar" not in option]
    assert train(tone_folder, "--run", tmp_path / "run", *options, sizes=sizes) == 0
    said = capsys.readouterr().err
    assert "bits, best held-out " in said
    assert " left" in said
    assert "step 40" in said
