"""Clips that are arrays in memory, with the interface of a store on disk."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from wavegen.audio.reading import waveform_blocks
from wavegen.audio.waveforms import as_waveform


class ArrayStore:
    """Waveforms in memory, with the part of the interface of `AudioStore` that a `Corpus` needs.

    Args:
        clips: waveforms that `wavegen.audio.waveforms.as_waveform` accepts.
        sample_rate: rate of the clips in Hz.
        wanted_rate: rate in Hz to resample them to.

    Attributes:
        sample_rate: the wanted rate.
        lengths: int64 (clips,), in samples at the wanted rate.

    Raises:
        AudioFileError: a clip has no samples, or holds NaN or infinity.
        ConfigError: the shape or type of a clip is wrong, or a rate is outside 100 to 768,000 Hz.
    """

    def __init__(self, clips: Iterable[Any], sample_rate: int, wanted_rate: int) -> None:
        self._waveforms = []
        for number, clip in enumerate(clips):
            name = f"clip {number}"
            blocks = waveform_blocks(as_waveform(clip, name), sample_rate, wanted_rate, name)
            self._waveforms.append(np.concatenate(list(blocks)))
        self.sample_rate = wanted_rate
        self.lengths = np.array([len(each) for each in self._waveforms], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._waveforms)

    def waveform(self, clip: int) -> np.ndarray:
        """A clip, float32 (time,)."""
        return self._waveforms[clip]

    def windows(self, pieces: np.ndarray, chance: np.random.Generator) -> np.ndarray:
        """See `AudioStore.windows`."""
        return np.zeros(len(pieces), dtype=np.int64)

    def prefetch(self, pieces: np.ndarray) -> None:
        """See `AudioStore.prefetch`."""
