"""Which recordings are meant by paths."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from wavegen.errors import ConfigError, DataError
from wavegen.scoring.sources import Source, find_sources, seconds_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two recordings, one of them deeper."""
    (tmp_path / "audio" / "deep").mkdir(parents=True)
    for name in ("0.wav", "deep/1.wav"):
        soundfile.write(tmp_path / "audio" / name, 0.1 * np.ones(400), 8000)
    return tmp_path / "audio"


def test_what_is_asked_for_must_be_there(folder, tone_folder) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        find_sources([folder / "none"])
    with pytest.raises(ConfigError, match="only folders have labels"):
        find_sources([folder / "0.wav"], labelled=True)
    with pytest.raises(DataError, match="test split"):
        find_sources([tone_folder], split="test")
    held_out = find_sources([tone_folder], split="validation")
    assert {source.labels["label"] for source in held_out} == {"low", "high"}
    assert len(held_out) < len(find_sources([tone_folder], labelled=True)) == 12


def test_what_is_left_out_is_no_file_that_cannot_be_read(folder, caplog) -> None:
    """With a split or labels; the exit status follows from the errors."""
    for name, damaged in (("cut.wav", True), ("old.wav", True), ("free.wav", False)):
        wave = (folder / "0.wav").read_bytes()
        (folder / name).write_bytes(b"RIFF" if damaged else wave)
    rows = ("0.wav,a,validation", "deep/1.wav,a,train", "cut.wav,a,train", "old.wav,a,test")
    table = "\n".join(("file_name,label,split", *rows, "gone.wav,a,train", "0.wav,b,train"))
    (folder / "metadata.csv").write_text(table)

    def found(**options) -> dict[str, bool]:
        sources = find_sources(folder, **options)
        return {str(each.path.relative_to(folder)): not each.error for each in sources}

    assert found(split="validation") == {"0.wav": True, "gone.wav": False}
    assert caplog.messages == [
        f"{folder}: 1 file left out: free.wav is not in metadata.csv",
    ]
    assert found(split="train") == {"deep/1.wav": True, "cut.wav": False, "gone.wav": False}
    good, bad = {"0.wav": True, "deep/1.wav": True}, {"cut.wav": False, "old.wav": False}
    assert found(labelled=True) == {**good, **bad, "gone.wav": False}
    caplog.clear()
    assert set(found()) == {*good, *bad, "free.wav"}
    assert not caplog.messages


def test_one_path_need_not_be_in_a_list(folder) -> None:
    assert find_sources(str(folder)) == find_sources(folder) == find_sources([folder])


def test_the_length_of_a_source_is_that_of_its_header(folder) -> None:
    assert seconds_of(Source(folder / "0.wav")) == 0.05
    assert seconds_of(Source(folder / "none.wav")) == 0
    assert seconds_of(Source(Path("x"), waveform=np.zeros(9))) == 0
