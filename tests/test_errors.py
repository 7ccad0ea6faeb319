"""What errors carry, and that it survives the way from one process to another."""

import pickle
from pathlib import Path

import pytest

from wavegen.audio import reading
from wavegen.errors import AudioFileError, ConfigError
from wavegen.utils.text import display


def test_an_error_of_a_file_says_which_and_why_apart(tmp_path: Path) -> None:
    path = tmp_path / "a\n.wav"
    path.write_text("no audio")
    with pytest.raises(AudioFileError) as caught:
        reading.probe(path)
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert error.path == path
        assert str(error) == f"{display(path)}: {error.reason}"
        assert error.reason.startswith("is not audio")


def test_an_error_of_no_file_is_its_own_reason() -> None:
    error = ConfigError("count is 0: it must be 1 or more")
    assert error.path is None
    assert error.reason == str(error)
