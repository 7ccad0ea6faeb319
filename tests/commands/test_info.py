"""`wavegen info` of an audio file; folders and models are in test_main.py."""

from pathlib import Path

import audio_files
import numpy as np

from wavegen.commands.main import main


def test_a_recording(tmp_path: Path, capsys) -> None:
    audio_files.save(tmp_path / "a.wav", np.zeros(4000))
    assert main(["info", str(tmp_path / "a.wav")]) == 0
    shown = capsys.readouterr().out
    assert "recording of 0.50 s (4,000 samples), 8000 Hz, 1 channel" in shown


def test_a_file_that_is_no_audio(tmp_path: Path, capsys) -> None:
    (tmp_path / "a.wav").write_text("no")
    assert main(["info", str(tmp_path / "a.wav")]) == 2
    assert "a.wav" in capsys.readouterr().err
