"""Clips that are arrays in memory, used as those of a store on disk are."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from wavegen.audio.reading import waveform_blocks
from wavegen.audio.waveforms import as_waveform


class ArrayStore:
    """Waveforms in memory: what a `Corpus` needs of an `AudioStore`.

    Args:
        clips: waveforms, as of `wavegen.audio.waveforms.as_waveform`.
        sample_rate: of them all, in Hz.
        wanted_rate: that they are resampled to, in Hz.

    Attributes:
        sample_rate: the wanted rate.
        lengths: int64 (clips,), in samples at the wanted rate.

    Raises:
        AudioFileError: a clip without samples, or with NaN or infinity.
        ConfigError: a clip of another shape or type; a rate outside 100 to 768,000 Hz.
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
