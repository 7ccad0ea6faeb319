"""What the DataModule trains and validates on."""

from pathlib import Path

import numpy as np
import soundfile
from small import network

from wavegen.codecs import mulaw
from wavegen.codecs.counts import CodeCounts
from wavegen.codecs.mulaw import MuLaw
from wavegen.data.splits import hold_out_ends
from wavegen.training.data_module import AudioDataModule


def write_noise(path: Path, seconds: float) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Louder towards its end, so that order-0 bits tell which part was counted.
    time = np.arange(round(seconds * 8000))
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, len(time)) * (time + 1) / len(time)
    soundfile.write(path, wave, 8000)
    return soundfile.read(path, dtype="float32")[0]


def matched(folder: Path) -> AudioDataModule:
    data = AudioDataModule(str(folder))
    data.match(network())
    return data


def test_the_end_of_one_long_file_is_held_out(tmp_path: Path) -> None:
    wave = write_noise(tmp_path / "one" / "a.wav", 20)
    data = matched(tmp_path / "one")
    assert data.training.tolist() == [[0, 0, 144_000]]
    assert data.validation.tolist() == [[0, 144_000, 160_000]]
    counts = CodeCounts(MuLaw())
    counts.add(wave[:144_000])
    assert data.order0_bits == counts.figures()["order0_bits"]
    assert "the ends of 1 clip are, 2.0 s together" in data.remarks()[0]
    # The first sample that validates is predicted from the samples before it.
    pieces = data.corpus.pieces(data.validation, 8192)
    batch = data.corpus.batch(pieces[:1], 8192)
    before = data.corpus.receptive_field
    codes = mulaw.encode(wave[144_000 - before : 144_000], 256)
    np.testing.assert_array_equal(batch["inputs"][0, :before].numpy(), codes)


def test_short_files_are_not_cut(tmp_path: Path) -> None:
    write_noise(tmp_path / "one" / "a.wav", 2)
    data = matched(tmp_path / "one")
    assert data.training.tolist() == data.validation.tolist() == [[0, 0, 16_000]]
    assert "validation repeats the training clips" in data.remarks()[0]


def test_held_out_clips_leave_the_others_whole(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_noise(tmp_path / "some" / f"{name}.wav", 11)
    data = matched(tmp_path / "some")
    assert len(data.validation) == 1
    assert len(data.training) == 2
    assert {*data.training[:, 2], *data.validation[:, 2]} == {88_000}
    assert not data.training[:, 1].any()
    assert not data.validation[:, 1].any()


def test_of_very_long_clips_a_minute_is_held_out() -> None:
    hour, short = 3600 * 100, 999
    parts = np.array([[4, 0, hour], [7, 0, short], [9, 0, 1000]])
    training, validation = hold_out_ends(parts, 0.1, 100)
    assert validation.tolist() == [[4, hour - 6000, hour], [9, 900, 1000]]
    assert training.tolist() == [[4, 0, hour - 6000], [7, 0, short], [9, 0, 900]]
