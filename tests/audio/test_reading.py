import json
import os
import resource
import subprocess
import sys
import tracemalloc
from contextlib import suppress
from pathlib import Path

import audio_files as odd
import numpy as np
import pytest
import soundfile as sf
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from wavegen.audio import reading, writing
from wavegen.data import decoding
from wavegen.errors import AudioFileError, ConfigError, OutputError
from wavegen.utils.text import display

SUFFIXES = ("wav", "flac", "ogg", "mp3")


def refused(path: Path) -> str:
    """The message with which decoding `path` is refused: one printable line that names it."""
    with pytest.raises(AudioFileError) as caught:
        list(reading.blocks(path))
    message = str(caught.value)
    assert message.startswith(display(path))
    assert message.isprintable()
    return message


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_accepted_format_is_read(tmp_path: Path, suffix: str) -> None:
    path = odd.save(tmp_path / f"a.{suffix}", odd.noise(2.0))
    assert reading.probe(path) == reading.AudioInfo(8000, 1, 16000)
    waveform = reading.read(path)
    assert waveform.dtype == np.float32
    assert waveform.shape == (16000,)
    assert 0.05 < waveform.std() < 0.15


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_blocks_are_what_is_decoded_at_once(tmp_path: Path, monkeypatch, suffix: str) -> None:
    path = odd.save(tmp_path / f"a.{suffix}", odd.noise(2.0))
    whole = reading.read(path)
    monkeypatch.setattr(reading, "_BLOCK_VALUES", 1000)
    np.testing.assert_array_equal(reading.read(path), whole)


def test_channels_are_mixed_by_mean(tmp_path: Path) -> None:
    stereo = np.stack([odd.noise(seed=1), odd.noise(seed=2)], axis=1)
    path = odd.save(tmp_path / "a.wav", stereo, subtype="FLOAT")
    np.testing.assert_allclose(reading.read(path), stereo.mean(axis=1), atol=1e-7)


def test_1024_channels_are_read(tmp_path: Path) -> None:
    path = odd.save(tmp_path / "a.wav", np.full((3000, 1024), 0.25, np.float32))
    assert reading.probe(path).channels == 1024
    np.testing.assert_allclose(reading.read(path), np.full(3000, 0.25))


def test_values_beyond_one_are_kept(tmp_path: Path) -> None:
    path = odd.save(tmp_path / "a.wav", np.array([0.5, -3, 2], np.float32), subtype="FLOAT")
    np.testing.assert_array_equal(reading.read(path), np.array([0.5, -3, 2], np.float32))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_cut_short_is_refused(tmp_path: Path, suffix: str) -> None:
    path = odd.cut(odd.save(tmp_path / f"a.{suffix}", odd.noise(4.0)))
    assert "cut short" in refused(path)


def test_a_wav_that_lacks_one_sample_is_refused_by_its_header(tmp_path: Path) -> None:
    path = odd.save(tmp_path / "a.wav")
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(AudioFileError, match=r"cut short \(7998 of 8000 bytes"):
        reading.probe(path)


@pytest.mark.parametrize("size", [0xFFFF_FFFF, 0x7FFF_F000])
def test_a_wav_written_to_a_pipe_is_read(tmp_path: Path, size: int) -> None:
    path = odd.claim_wav_bytes(odd.save(tmp_path / "a.wav"), size)
    assert len(reading.read(path)) == 4000


def test_rf64_is_read_and_its_cut_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    sf.write(path, odd.noise(), 8000, format="RF64")
    assert len(reading.read(path)) == 4000
    assert "cut short" in refused(odd.cut(path))


def test_an_mp3_without_length_tag_is_not_halved(tmp_path: Path) -> None:
    # Its length is guessed from its first frame: too short where what follows takes fewer
    # bytes, too long where it takes more.
    silence, sound = np.zeros(40_000, np.float32), odd.noise(5.0)
    falling = np.concatenate([sound, silence])
    path = odd.without_length_tag(odd.save(tmp_path / "a.mp3", falling))
    assert "is longer than its header says" in refused(path)
    path = odd.without_length_tag(odd.save(tmp_path / "b.mp3", falling[::-1].copy()))
    assert reading.probe(path).frames > 85_000
    assert 79_000 < len(reading.read(path)) < 82_000


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", [b"", b"hello, this is text\n" * 50])
def test_what_is_not_audio_is_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    assert "not audio" in refused(path)


def test_zero_frames_are_refused(tmp_path: Path) -> None:
    assert "0 frames" in refused(odd.save(tmp_path / "a.wav", np.zeros(0, np.float32)))


@pytest.mark.parametrize("rate", [0, 99, 768_001, 2**31 - 1])
def test_a_rate_that_cannot_be_is_refused(tmp_path: Path, rate: int) -> None:
    path = odd.patch(odd.save(tmp_path / "a.wav"), 24, rate.to_bytes(4, "little"))
    message = refused(path)
    assert "sample rate" in message or (rate == 0 and "not audio" in message)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_in_any_channel(tmp_path: Path, value: float) -> None:
    waveform = np.zeros((2000, 2), np.float32)
    waveform[800, 1] = value
    path = odd.save(tmp_path / "a.wav", waveform, subtype="FLOAT")
    assert "first at 0.100 s" in refused(path)


def test_samples_that_are_infinite_once_resampled_are_refused(tmp_path: Path) -> None:
    loud = np.full(2000, np.finfo(np.float32).max)
    loud[1000:] *= -1
    path = odd.save(tmp_path / "a.wav", loud, subtype="FLOAT")
    assert len(reading.read(path)) == 2000
    with pytest.raises(AudioFileError, match="too large to resample"):
        reading.read(path, 11_025)


def test_a_flac_that_claims_2_to_36_frames_is_refused_by_its_header(tmp_path: Path) -> None:
    path = odd.claim_flac_frames(odd.save(tmp_path / "a.flac", odd.noise(0.001)), 2**36 - 1)
    assert path.stat().st_size < 200
    with pytest.raises(AudioFileError, match="claims more audio than it can hold"):
        reading.probe(path)


def test_a_flac_that_claims_somewhat_too_much_is_cut_short(tmp_path: Path) -> None:
    path = odd.claim_flac_frames(odd.save(tmp_path / "a.flac"), 5000)
    assert "cut short" in refused(path)


@pytest.mark.parametrize("rate", [None, 11_025])
def test_ten_minutes_in_a_small_flac_decode_in_little_memory(
    tmp_path: Path, rate: int | None
) -> None:
    path = odd.save(tmp_path / "a.flac", np.zeros(600 * 8000, np.float32))
    assert path.stat().st_size < 28_000
    tracemalloc.start()
    frames = sum(len(block) for block in reading.blocks(path, rate))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert frames == 600 * (rate or 8000)
    assert peak < 8e6  # as one array it would be 19 or 26 MB


def test_a_name_that_is_not_utf8_is_read_and_shown(tmp_path: Path) -> None:
    path = odd.rename_to_bytes(odd.save(tmp_path / "a.wav"), b"\xff\xfe.wav")
    assert len(reading.read(path)) == 4000
    assert display(path).isprintable()
    assert "cut short" in refused(odd.cut(path))


def test_reading_needs_nothing_that_windows_has_not(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delattr(os, "pread")
    for suffix in SUFFIXES:
        assert len(reading.read(odd.save(tmp_path / f"a.{suffix}"))) == 4000


def test_display_makes_control_characters_visible() -> None:
    assert display("a\nb\x7f.wav") == "a\\x0ab\\x7f.wav"


def test_what_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    assert "cannot be opened" in refused(tmp_path / "nothing.wav")
    assert "not a regular file" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe.wav")
    assert "not a regular file" in refused(tmp_path / "pipe.wav")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    path = odd.save(tmp_path / "a.wav")
    path.chmod(0)
    assert "Permission denied" in refused(path)


@settings(max_examples=40, deadline=None)
@given(
    frames=st.integers(1, 20_000),
    rates=st.tuples(st.integers(2000, 50_000), st.integers(2000, 50_000)),
    block=st.sampled_from([1, 700, 1 << 18]),
)
def test_resampling_in_blocks_equals_resampling_at_once(
    tmp_path_factory: pytest.TempPathFactory, frames: int, rates: tuple[int, int], block: int
) -> None:
    source, target = rates
    waveform = odd.noise(frames / source, source)
    path = odd.save(tmp_path_factory.mktemp("r") / "a.wav", waveform, source, "FLOAT")
    whole = soxr.resample(waveform, source, target, quality="HQ")
    if not len(whole):
        with pytest.raises(AudioFileError, match="shorter than one sample"):
            reading.read(path, target)
        return
    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(reading, "_BLOCK_VALUES", max(block, frames // 50))
        resampled = reading.read(path, target)
    assert abs(len(resampled) - len(waveform) * target / source) <= 1
    np.testing.assert_allclose(resampled, whole, atol=1e-5)


@pytest.mark.parametrize("rate", [0, -1, 99, 10**6])
def test_a_target_rate_out_of_range_is_refused(tmp_path: Path, rate: int) -> None:
    with pytest.raises(ConfigError, match="sample_rate"):
        reading.read(odd.save(tmp_path / "a.wav"), rate)


@pytest.mark.parametrize("rate", [8000, 22050, 44100])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_waveform_is_resampled_as_its_file(tmp_path: Path, monkeypatch, rate, dtype) -> None:
    wave = 0.1 * np.random.default_rng(0).standard_normal(20_000)
    sf.write(tmp_path / "a.wav", wave, 22050, subtype="FLOAT")
    expected = reading.read(tmp_path / "a.wav", rate)
    monkeypatch.setattr(reading, "_BLOCK_VALUES", 3000)
    found = list(reading.waveform_blocks(wave.astype(np.float32).astype(dtype), 22050, rate))
    assert np.concatenate(found) == pytest.approx(expected, abs=1e-6)
    assert max(map(len, found)) < 2 * 3000
    assert all(block.dtype == np.float32 for block in found)


@pytest.mark.parametrize(
    ("waveform", "rate", "error", "says"),
    [
        (np.zeros(0), 8000, AudioFileError, "holds no samples"),
        (np.array([0, np.nan]), 8000, AudioFileError, "holds NaN or infinity"),
        (np.zeros((2, 9)), 8000, ConfigError, r"must be float \(time,\)"),
        (np.zeros(9, np.int16), 8000, ConfigError, r"is int16 \(9,\)"),
        (np.zeros(9), 10, ConfigError, "sample_rate is 10 Hz"),
        (np.zeros(1), 700_000, AudioFileError, "shorter than one sample"),
    ],
)
def test_a_waveform_that_cannot_be_used_is_refused(waveform, rate, error, says) -> None:
    with pytest.raises(error, match=says):
        list(reading.waveform_blocks(waveform, rate, 8000))


def test_trim_cuts_both_ends_and_keeps_silence_whole() -> None:
    silence = np.zeros(8000, np.float32)
    trimmed = decoding.trim_ends(np.concatenate([silence, odd.noise(1.0), silence]), 30)
    assert 8000 <= len(trimmed) < 8000 + 2 * 2048 + 512
    assert decoding.trim_ends(silence, 30).shape == silence.shape
    quiet = np.concatenate([odd.noise(1.0) * 0.03, odd.noise(1.0)])
    assert len(decoding.trim_ends(quiet, 40)) == len(quiet)
    assert len(decoding.trim_ends(quiet, 20)) < 0.75 * len(quiet)


@pytest.mark.parametrize("decibels", [0, -3, float("nan")])
def test_trim_needs_decibels_above_zero(decibels: float) -> None:
    with pytest.raises(ConfigError, match="trim"):
        decoding.trim_ends(odd.noise(), decibels)


def test_writing_is_16_bit_mono_and_comes_back(tmp_path: Path) -> None:
    waveform = np.array([0, 0.1, -0.1, 1, -1, 1.5, -7], np.float32)
    writing.write(tmp_path / "a.wav", waveform, 22_050)
    info = sf.info(tmp_path / "a.wav")
    assert (info.samplerate, info.channels, info.subtype) == (22_050, 1, "PCM_16")
    back = reading.read(tmp_path / "a.wav")
    np.testing.assert_allclose(back, np.clip(waveform, -1, 1), atol=1 / 32768)
    writing.write(tmp_path / "b.wav", back, 22_050)
    assert (tmp_path / "b.wav").read_bytes() == (tmp_path / "a.wav").read_bytes()


def test_all_16_bit_values_survive_writing(tmp_path: Path) -> None:
    waveform = np.arange(-32768, 32768).astype(np.float32) / 32768
    writing.write(tmp_path / "a.wav", waveform, 8000)
    np.testing.assert_array_equal(reading.read(tmp_path / "a.wav"), waveform)


def test_a_wav_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with writing.WavWriter(path, 8000) as writer:
        writer.append(odd.noise(seed=1))
        assert not path.exists()
        writer.append(odd.noise(seed=2))
    both = np.concatenate([odd.noise(seed=1), odd.noise(seed=2)])
    np.testing.assert_allclose(reading.read(path), both, atol=1 / 65536)
    assert odd.contents(tmp_path) == ["a.wav"]


def test_an_interrupted_wav_leaves_what_was_there(tmp_path: Path) -> None:
    path = odd.save(tmp_path / "a.wav")
    before = path.read_bytes()
    with suppress(KeyboardInterrupt), writing.WavWriter(path, 8000) as writer:
        writer.append(odd.noise(seed=1))
        raise KeyboardInterrupt
    assert path.read_bytes() == before
    assert odd.contents(tmp_path) == ["a.wav"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_is_not_written(tmp_path: Path, value: float) -> None:
    with pytest.raises(OutputError, match=r"a\.wav: not written: NaN or infinity at 0\.500 s"):
        writing.write(tmp_path / "a.wav", np.append(odd.noise(), value), 8000)
    assert odd.contents(tmp_path) == []


def test_an_output_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        writing.write(tmp_path / "nowhere" / "a.wav", odd.noise(), 8000)


def test_a_full_disk_is_an_output_error_and_leaves_nothing(tmp_path: Path) -> None:
    script = (
        "import json, sys, numpy as np\n"
        "from wavegen import errors\nfrom wavegen.audio import writing\n"
        "try:\n"
        "    writing.write(sys.argv[1], np.zeros(80_000, np.float32), 8000)\n"
        "except errors.OutputError as error:\n"
        "    print(json.dumps(str(error)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a.wav")],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )
    assert "a.wav: cannot be written" in json.loads(done.stdout)
    assert odd.contents(tmp_path) == []


def test_importing_loads_nothing_slow() -> None:
    script = (
        "import sys, wavegen.data.store\n"
        "print([m for m in ('torch', 'librosa', 'numba', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
