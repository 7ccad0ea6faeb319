"""Features against the formulas of those who defined them, and in parts against the whole."""

import math
import sys
from typing import ClassVar

import librosa
import numpy as np
import pytest

from wavegen.audio import framing
from wavegen.audio.features import KINDS, FeatureSet, parse
from wavegen.audio.presets import PRESETS
from wavegen.errors import ConfigError

RNG = np.random.default_rng(0)


def sound(samples: int, rate: int = 22050) -> np.ndarray:
    """Tones that come and go in noise."""
    time = np.arange(samples) / rate
    tones = sum(np.sin(2 * np.pi * f * time * (1 + 0.1 * time)) / f**0.3 for f in (110, 440, 2500))
    wave = 0.1 * tones * np.abs(np.sin(7 * time)) + 0.01 * RNG.standard_normal(samples)
    return wave.astype(np.float32)


def magnitudes(padded: np.ndarray, n_fft: int, hop: int) -> np.ndarray:
    """|STFT| (bins, frames) of padded samples with a Hann window, written out."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    starts = range(0, len(padded) - n_fft + 1, hop)
    return np.stack([np.abs(np.fft.rfft(padded[at : at + n_fft] * window)) for at in starts], 1)


def mel(rate: int, n_fft: int, bands: int, low: float, high: float, **kind: object) -> np.ndarray:
    return librosa.filters.mel(
        sr=rate, n_fft=n_fft, n_mels=bands, fmin=low, fmax=high, dtype=np.float64, **kind
    )


def hifigan(wave: np.ndarray) -> np.ndarray:
    padded = np.pad(wave.astype(np.float64), (1024 - 256) // 2, mode="reflect")
    spectrum = np.sqrt(magnitudes(padded, 1024, 256) ** 2 + 1e-9)
    return np.log(np.maximum(mel(22050, 1024, 80, 0, 8000) @ spectrum, 1e-5))


def centred(wave: np.ndarray) -> np.ndarray:
    return magnitudes(np.pad(wave.astype(np.float64), 512, mode="reflect"), 1024, 256)


def tacotron2(wave: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(mel(22050, 1024, 80, 0, 8000) @ centred(wave), 1e-5))


def r9y9(wave: np.ndarray) -> np.ndarray:
    return np.log10(np.maximum(mel(22050, 1024, 80, 125, 7600) @ centred(wave), 1e-10))


def vocos(wave: np.ndarray) -> np.ndarray:
    bands = mel(24000, 1024, 100, 0, 12000, htk=True, norm=None)
    return np.log(np.maximum(bands @ centred(wave), 1e-7))


@pytest.mark.parametrize("original", [hifigan, tacotron2, r9y9, vocos])
@pytest.mark.parametrize("samples", [1024, 22050, 22050 + 255, 22050 + 200])
def test_presets_equal_their_originals(original, samples) -> None:
    rate = PRESETS[original.__name__]["sample_rate"]
    wave = sound(samples, rate)
    wave[300:600] = 0
    features = parse(f"log_mel:{original.__name__}", rate)
    expected = original(wave).T
    got = features.compute(wave)
    assert got.shape == expected.shape == (features.frames(samples), features.size)
    assert got.dtype == np.float32
    assert np.abs(got - expected).max() < 1e-4


@pytest.mark.parametrize("kind", framing.FRAMINGS)
def test_frames_of_every_remainder(kind) -> None:
    hop = 16
    for samples in range(1, 5 * hop + 1):
        count = framing.frames(samples, hop, kind)
        whole, rest = divmod(samples, hop)
        expected = {"whole": whole + (rest > 0), "same": whole, "centred": whole + 1}[kind]
        assert count == max(1, expected)
        # The windows of all of them, and no more, lie in the padded recording.
        wave = np.ones(samples, np.float32)
        padded = framing.excerpt(wave, 0, count, hop, 64, kind, "reflect")
        assert len(padded) == (count - 1) * hop + 64


@pytest.mark.parametrize("samples", [1, 2, 5, 63, 64, 65, 200])
@pytest.mark.parametrize("kind", framing.FRAMINGS)
def test_an_excerpt_is_what_numpy_pads(samples, kind) -> None:
    wave = RNG.standard_normal(samples).astype(np.float32)
    hop, window = 16, 64
    before = {"whole": 24, "same": 24, "centred": 32}[kind]
    count = framing.frames(samples, hop, kind)
    stop = (count - 1) * hop - before + window
    for pad in ("reflect", "constant"):
        padded = np.pad(wave, (before, max(0, stop - samples)), mode=pad)
        whole = padded[: (count - 1) * hop + window]
        for first in range(count):
            got = framing.excerpt(wave, first, count - first, hop, window, kind, pad)
            assert np.array_equal(got, whole[first * hop :])


@pytest.mark.parametrize("rate", [100, 1000, 8000, 16000, 22050, 44100, 48000, 96000])
def test_the_default_fits_any_rate(rate) -> None:
    features = parse("log_mel", rate)
    (definition,) = features.features
    assert 0.004 < features.hop_length / rate < 0.021
    bands = framing.mel_spectrogram(definition).mel_scale.fb
    assert (bands.sum(0) > 0).all()
    count = -(-rate // features.hop_length)
    assert features.compute(sound(rate, rate)).shape == (count, features.size)


@pytest.mark.parametrize("names", ["log_mel", "loudness", "position", "log_mel:tacotron2,position"])
def test_parts_equal_the_whole(names, monkeypatch) -> None:
    wave = sound(30_000)
    features = parse(names, 22050)
    whole = features.compute(wave)
    assert whole.shape == (features.frames(30_000), features.size)
    for first, count in ((0, 3), (5, 40), (len(whole) - 2, 2), (len(whole) - 4, 100)):
        part = features.compute(wave, first, count)
        np.testing.assert_allclose(part, whole[first : first + count], atol=1e-5)
    monkeypatch.setattr("wavegen.audio.features._FRAMES", 7)
    np.testing.assert_allclose(features.compute(wave), whole, atol=1e-5)


def test_only_the_part_that_is_needed_is_read() -> None:
    class Watched:
        read: ClassVar[list[tuple[int, int]]] = []

        def __len__(self) -> int:
            return 10**9

        def __getitem__(self, part: slice) -> np.ndarray:
            self.read.append((part.start, part.stop))
            return np.ones(part.stop - part.start, np.float32)

    parse("log_mel,loudness,position", 8000).compute(Watched(), 1_000_000, 10)
    assert all(start > 63e6 and stop < 65e6 for start, stop in Watched.read)


def test_the_pitch_of_a_gliding_voice_and_its_silence() -> None:
    rate = 16000
    time = np.arange(2 * rate) / rate
    hertz = 200 * 2 ** (0.5 * np.sin(2 * np.pi * time))
    phase = 2 * np.pi * np.cumsum(hertz) / rate
    wave = sum(np.sin(k * phase) / k for k in range(1, 6)) * 0.2
    wave[rate // 2 : rate] = 0.001 * RNG.standard_normal(rate // 2)
    features = parse("pitch", rate)
    found = features.compute(wave.astype(np.float32))
    middle = (
        ((np.arange(len(found)) + 0.5) * features.hop_length).astype(int).clip(max=2 * rate - 1)
    )
    voiced = (middle < rate // 2 - 800) | (middle > rate + 800)
    cents = 1200 * np.abs(found[:, 0] - np.log2(hertz[middle]))
    assert np.median(cents[voiced]) < 15
    assert found[voiced, 1].mean() > 0.95
    silent = (middle > rate // 2 + 1600) & (middle < rate - 1600)
    assert found[silent, 1].mean() < 0.1
    # Nothing jumps where there is no pitch.
    assert np.abs(np.diff(found[silent, 0])).max() < 0.05
    part = features.compute(wave.astype(np.float32), 60, 20)
    assert np.median(np.abs(part - found[60:80])) < 0.02


def test_silence_has_features() -> None:
    features = parse("log_mel,pitch,loudness,position", 8000)
    found = features.compute(np.zeros(8000, np.float32))
    assert np.isfinite(found).all()
    bands, (log_hertz, chance, level) = found[:, :-10], found[0, -10:-7]
    assert np.allclose(bands, math.log(1e-5))
    assert (log_hertz, chance, level) == pytest.approx((math.log2(65), 0, -80))


def test_loudness_is_the_level_of_the_sound_around() -> None:
    features = parse("loudness", 8000)
    tone = np.sin(np.arange(8000) * 0.3).astype(np.float32)
    levels = features.compute(0.5 * tone)[3:-3, 0]
    assert levels == pytest.approx(10 * math.log10(0.125), abs=0.1)


def test_position_tells_times_apart() -> None:
    found = parse("position", 8000).compute(np.zeros(80_000, np.float32))
    assert (np.diff(found, axis=0) > 0).all()
    assert found.min() == 0
    assert found.max() < 1


@pytest.mark.parametrize("names", ["log_mel", "pitch,loudness", "log_mel:hifigan,position"])
def test_a_definition_is_all_numbers_and_comes_back(names) -> None:
    features = parse(names, 22050)
    values = features.to_json()
    assert FeatureSet.from_json(values) == features
    assert all("preset" not in each for each in values)
    for change in ({"kind": "chroma"}, {"more": 1}, {"hop_length": 0}, {"sample_rate": "8000"}):
        with pytest.raises(ConfigError):
            FeatureSet.from_json([{**values[0], **change}, *values[1:]])
    for wrong in ({}, [], [values[0], values[0]], [1], "log_mel"):
        with pytest.raises(ConfigError):
            FeatureSet.from_json(wrong)


@pytest.mark.parametrize(
    ("names", "rate", "says"),
    [
        ("chroma", 8000, "'chroma' is not known; the kinds are log_mel, pitch"),
        ("log_mel:melgan", 22050, "log_mel:hifigan, log_mel:tacotron2"),
        ("log_mel:hifigan", 8000, "for 22050 Hz.*--data.sample_rate 22050"),
        ("pitch:hifigan", 22050, "not known"),
        ("pitch,pitch", 22050, "each kind once"),
        ("", 22050, "is not known"),
    ],
)
def test_what_is_not_known_says_what_is(names, rate, says) -> None:
    with pytest.raises(ConfigError, match=says):
        parse(names, rate)


@pytest.mark.parametrize("kind", KINDS)
def test_bad_recordings_are_refused(kind) -> None:
    features = parse(kind, 8000)
    if kind == "position":
        return
    with pytest.raises(ConfigError, match="empty"):
        features.compute(np.zeros(0, np.float32))
    with pytest.raises(ConfigError, match="NaN"):
        features.compute(np.full(500, np.nan, np.float32))


def test_without_torchaudio_it_is_said_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torchaudio.transforms", None)
    framing.mel_spectrogram.cache_clear()
    with pytest.raises(ConfigError, match=r"needs torchaudio.*install"):
        parse("log_mel", 8000).compute(np.zeros(500, np.float32))
