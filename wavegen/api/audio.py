"""Waveforms as arguments and as results of the Python interface."""

import base64
from collections.abc import Iterable
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wavegen.audio import reading, writing
from wavegen.audio.waveforms import as_waveform
from wavegen.errors import ConfigError


class Audio(np.ndarray):
    """A waveform with its sample rate: float32 (time,), or (count, time) for several.

    It is a NumPy array that can also be saved, and that a notebook shows as a player.
    """

    sample_rate: int

    def __new__(cls, samples: np.ndarray, sample_rate: int) -> "Audio":
        """An array of `samples` at `sample_rate` Hz, without a copy."""
        audio = np.asarray(samples, np.float32).view(cls)
        audio.sample_rate = sample_rate
        return audio

    def __array_finalize__(self, source: Any) -> None:
        """Keep the rate in slices and copies."""
        self.sample_rate = getattr(source, "sample_rate", 0)

    def __reduce__(self) -> Any:
        """Keep the rate when the array is pickled."""
        return Audio, (self.samples, self.sample_rate)

    @property
    def samples(self) -> np.ndarray:
        """The samples as a plain array."""
        return self.view(np.ndarray)

    @property
    def seconds(self) -> float:
        """The duration."""
        return self.shape[-1] / self.sample_rate

    def save(self, path: str | Path) -> Path:
        """Write a mono 16-bit WAV; no partial file is left if it fails.

        Raises:
            ConfigError: it holds several waveforms. Save each by itself.
            OutputError: it holds NaN or infinity, or the file cannot be written.
        """
        if self.ndim != 1:
            raise ConfigError(f"{path}: {len(self)} waveforms do not fit one file: save each")
        writing.write(path, self.samples, self.sample_rate)
        return Path(path)

    def _repr_html_(self) -> str:
        """One audio player for each waveform, for notebooks."""
        parts = []
        for row in np.atleast_2d(self.samples):
            held = base64.b64encode(writing.encoded(row, self.sample_rate, "WAV")).decode()
            parts.append(f'<audio controls src="data:audio/wav;base64,{held}"></audio>')
        return "<br>".join(parts)


def rate_of(recording: Any, sample_rate: int | None) -> int:
    """Rate of a waveform in Hz: `sample_rate`, else that of `Audio`; 0 if it is not known."""
    return sample_rate or (recording.sample_rate if isinstance(recording, Audio) else 0)


def read_waveform(recording: Any, sample_rate: int | None, wanted_rate: int) -> np.ndarray:
    """A file or a waveform as float32 (time,) at `wanted_rate` Hz.

    Args:
        recording: a path, or a waveform as `as_waveform` takes it.
        sample_rate: rate of the waveform in Hz; by default its own, else `wanted_rate`.
        wanted_rate: rate of the result in Hz.

    Raises:
        AudioFileError: the file cannot be read, or there are no samples, NaN or infinity.
        ConfigError: as for `as_waveform`, or the rate is outside 100 to 768,000 Hz.
    """
    if isinstance(recording, str | Path):
        return reading.read(recording, wanted_rate)
    rate = rate_of(recording, sample_rate) or wanted_rate
    blocks = reading.waveform_blocks(as_waveform(recording), rate, wanted_rate)
    return np.concatenate(list(blocks))


def is_several(recordings: Any) -> bool:
    """Whether these are several recordings: rows of `Audio`, or a list of paths or waveforms.

    Raises:
        ConfigError: the value is neither a recording nor a list of recordings.
    """
    if isinstance(recordings, Audio):
        return recordings.ndim > 1
    if isinstance(recordings, str | Path | np.ndarray | torch.Tensor):
        return False
    if not isinstance(recordings, Iterable):
        raise ConfigError(f"{recordings!r:.40} is no recording: give a path or a waveform")
    return not all(isinstance(each, Real) for each in recordings)
