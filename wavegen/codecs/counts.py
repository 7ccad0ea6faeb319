"""Histograms of codes and their entropy, which is the best a model without memory can reach."""

import numpy as np

from wavegen.codecs.codec import Array, Codec, Waveform

# Samples encoded at a time, since a memory-mapped recording may be larger than memory.
_PART = 1 << 20


class CodeCounts:
    """Histogram of the codes of recordings.

    Args:
        codec: codec of the codes.

    Attributes:
        counts: number of occurrences of each code, int64 (Q,).
        clamped: number of samples beyond [-1, 1].
    """

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self.counts = np.zeros(codec.codes, dtype=np.int64)
        self.clamped = 0

    def add(self, waveform: Waveform) -> None:
        """Count a waveform (time,), or a part of one."""
        for start in range(0, len(waveform), _PART):
            part = np.asarray(waveform[start : start + _PART])
            self.counts += histogram(self._codec.encode(part), self._codec)
            self.clamped += count_clamped(part)

    def figures(self) -> dict[str, float]:
        """`order0_bits`, the entropy of the histogram in bits per sample, and `clamped`."""
        return {"order0_bits": entropy(self.counts), "clamped": self.clamped}


def histogram(codes: np.ndarray, codec: Codec) -> np.ndarray:
    """Number of occurrences of each code of a codec in codes (time,): int64 (Q,)."""
    return np.bincount(codes, minlength=codec.codes)


def entropy(counts: np.ndarray) -> float:
    """Entropy in bits of a histogram, int64 (Q,); 0 if it is empty."""
    share = counts[counts > 0] / max(1, counts.sum())
    return float(-(share * np.log2(share)).sum())


def count_clamped(waveform: Array) -> int:
    """Number of samples beyond [-1, 1], which a codec clamps."""
    return int((abs(waveform) > 1).sum())
