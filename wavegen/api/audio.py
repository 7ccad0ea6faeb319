"""Waveforms that go in and come out."""

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
    """A waveform that knows its rate: float32 (time,), or (count, time) of several.

    It is an array in every way, can be saved, and is played in a notebook.
    """

    sample_rate: int

    def __new__(cls, samples: np.ndarray, sample_rate: int) -> "Audio":
        """An array of `samples` at `sample_rate` Hz, without a copy."""
        audio = np.asarray(samples, np.float32).view(cls)
        audio.sample_rate = sample_rate
        return audio

    def __array_finalize__(self, source: Any) -> None:
        """Parts of it keep the rate."""
        self.sample_rate = getattr(source, "sample_rate", 0)

    def __reduce__(self) -> Any:
        """Pickling keeps the rate."""
        return Audio, (self.samples, self.sample_rate)

    @property
    def samples(self) -> np.ndarray:
        """The same as a plain array."""
        return self.view(np.ndarray)

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.shape[-1] / self.sample_rate

    def save(self, path: str | Path) -> Path:
        """Write a mono WAV of 16 bits, whole or not at all.

        Raises:
            ConfigError: it holds several waveforms: save each by itself.
            OutputError: NaN, infinity, or a place that cannot be written.
        """
        if self.ndim != 1:
            raise ConfigError(f"{path}: {len(self)} waveforms do not fit one file: save each")
        writing.write(path, self.samples, self.sample_rate)
        return Path(path)

    def _repr_html_(self) -> str:
        """Players, for a notebook."""
        parts = []
        for row in np.atleast_2d(self.samples):
            held = base64.b64encode(writing.encoded(row, self.sample_rate, "WAV")).decode()
            parts.append(f'<audio controls src="data:audio/wav;base64,{held}"></audio>')
        return "<br>".join(parts)


def rate_of(recording: Any, sample_rate: int | None) -> int:
    """Rate of a waveform in Hz: as given, or its own if it is `Audio`; 0 if it is not known."""
    return sample_rate or (recording.sample_rate if isinstance(recording, Audio) else 0)


def read_waveform(recording: Any, sample_rate: int | None, wanted_rate: int) -> np.ndarray:
    """A file or a waveform as float32 (time,) at `wanted_rate` Hz.

    Args:
        recording: path, or as in `as_waveform`.
        sample_rate: of a waveform, in Hz; its own or `wanted_rate` if not given.
        wanted_rate: in Hz.

    Raises:
        AudioFileError: a file that cannot be read, no samples, NaN or infinity.
        ConfigError: as `as_waveform`; a rate outside 100 to 768,000 Hz.
    """
    if isinstance(recording, str | Path):
        return reading.read(recording, wanted_rate)
    rate = rate_of(recording, sample_rate) or wanted_rate
    blocks = reading.waveform_blocks(as_waveform(recording), rate, wanted_rate)
    return np.concatenate(list(blocks))


def is_several(recordings: Any) -> bool:
    """Whether these are several recordings: rows of `Audio`, or a list of more than numbers.

    Raises:
        ConfigError: they are no recordings at all.
    """
    if isinstance(recordings, Audio):
        return recordings.ndim > 1
    if isinstance(recordings, str | Path | np.ndarray | torch.Tensor):
        return False
    if not isinstance(recordings, Iterable):
        raise ConfigError(f"{recordings!r:.40} is no recording: give a path or a waveform")
    return not all(isinstance(each, Real) for each in recordings)
