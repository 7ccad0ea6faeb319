"""The number of frames of a recording, and the places of their windows.

Frame f is for the samples from f * hop on. Its window is centred on the first of them (`centred`)
or on the middle of the hop (`same`, `whole`). Beyond both ends a recording is extended by its
reflection or by silence.
"""

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from wavegen.codecs.codec import Waveform
from wavegen.errors import ConfigError

if TYPE_CHECKING:
    from wavegen.audio.feature_kinds import LogMel

FRAMINGS = ("whole", "same", "centred")
# Seconds of sound before and after the frames that `pyin` also gets.
_BESIDE = 0.5
# Steps of pitch in semitones. Steps of 0.1 take seven times as long, and the error falls only from
# 7 to 5 cents.
_RESOLUTION = 0.25


def frames(samples: int, hop: int, framing: str = "whole") -> int:
    """The number of frames of a recording, at least one.

    `whole`: ceil(samples / hop). `same`, as in HiFi-GAN: floor(samples / hop). `centred`, as in
    librosa and Tacotron 2: floor(samples / hop) + 1. The last frame is also for all later samples.
    """
    counts = {
        "whole": -(-samples // hop),
        "same": samples // hop,
        "centred": samples // hop + 1,
    }
    return max(1, counts[framing])


def excerpt(
    waveform: Waveform, first: int, count: int, hop: int, window: int, framing: str, pad: str
) -> np.ndarray:
    """The samples that the windows of some frames cover.

    Args:
        waveform: float32 (time,), of which only a part is read.
        first: number of the first frame.
        count: number of frames.
        hop: samples from one frame to the next.
        window: length of a window in samples.
        framing: one of FRAMINGS.
        pad: extension beyond both ends: `reflect`, or `constant` for silence.

    Returns:
        float32 ((count - 1) * hop + window,).

    Raises:
        ConfigError: the recording is empty, or holds NaN or infinity.
    """
    if len(waveform) == 0:
        raise ConfigError("an empty recording has no features")
    before = window // 2 if framing == "centred" else (window - hop) // 2
    start = first * hop - before
    stop, samples = start + (count - 1) * hop + window, len(waveform)
    outside = np.arange(start, min(stop, 0)), np.arange(max(start, samples), stop)
    inside = np.asarray(waveform[max(start, 0) : max(min(stop, samples), 0)], dtype=np.float32)
    beside = _reflected if pad == "reflect" else _silent
    early, late = (beside(waveform, each) for each in outside)
    padded = np.concatenate([early, inside, late])
    if not np.isfinite(padded).all():
        raise ConfigError("a recording with NaN or infinity has no features")
    return padded


def _silent(waveform: Waveform, places: np.ndarray) -> np.ndarray:  # noqa: ARG001
    return np.zeros(len(places), np.float32)


def _reflected(waveform: Waveform, places: np.ndarray) -> np.ndarray:
    """Samples at places outside of a recording, by reflection at its first and last sample."""
    if not len(places):
        return np.empty(0, np.float32)
    last = len(waveform) - 1
    places = np.abs(places - last) % max(1, 2 * last)
    # Counted backwards from the last sample; beyond the first sample the direction changes.
    places = np.where(places > last, 2 * last - places, places)
    begin, end = last - int(places.max()), last - int(places.min()) + 1
    return np.asarray(waveform[begin:end], dtype=np.float32)[last - places - begin]


@lru_cache(maxsize=8)
def mel_spectrogram(definition: "LogMel") -> Any:
    """torchaudio's transform from padded samples (time,) to magnitudes (bands, frames).

    Raises:
        ConfigError: torchaudio cannot be loaded.
    """
    try:
        from torchaudio.transforms import MelSpectrogram
    except (OSError, ImportError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ConfigError(
            f"log_mel needs torchaudio, which cannot be loaded ({reason}): install the torchaudio "
            "that belongs to this version of torch"
        ) from error
    return MelSpectrogram(
        definition.sample_rate,
        definition.n_fft,
        definition.win_length,
        definition.hop_length,
        definition.f_min,
        definition.f_max,
        n_mels=definition.n_mels,
        power=definition.power,
        norm=None if definition.norm == "none" else definition.norm,
        mel_scale=definition.mel_scale,
        center=False,
    )


def pitch(
    waveform: Waveform, first: int, count: int, rate: int, hop: int, f_min: float, f_max: float
) -> np.ndarray:
    """log2(Hz) and whether a frame is voiced, float32 (count, 2), see `feature_kinds.Pitch`."""
    import librosa

    beside = -(-int(_BESIDE * rate) // hop)
    early = min(first, beside)
    # Two periods of the lowest pitch, in whole pairs of samples.
    window = 2 * math.ceil(max(rate / f_min, hop))
    total = early + count + beside
    padded = excerpt(waveform, first - early, total, hop, window, "same", "constant")
    if not padded.any():
        found = np.full(total, np.nan), np.zeros(total)
    else:
        hertz, voiced, _ = librosa.pyin(
            padded,
            fmin=f_min,
            fmax=f_max,
            sr=rate,
            frame_length=window,
            hop_length=hop,
            center=False,
            resolution=_RESOLUTION,
        )
        found = np.where(voiced, hertz, np.nan), voiced.astype(float)
    logarithms = _between(np.log2(found[0]), math.log2(f_min))
    rows = np.stack([logarithms, found[1]], axis=1)
    return rows[early : early + count].astype(np.float32)


def _between(values: np.ndarray, otherwise: float) -> np.ndarray:
    """Replace NaN by linear interpolation, and at the ends by the nearest value."""
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return np.full(len(values), otherwise)
    return np.interp(np.arange(len(values)), known, values[known])
