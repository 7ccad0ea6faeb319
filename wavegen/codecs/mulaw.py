"""Waveform <-> codes by mu-law companding (ITU-T G.711's curve, without its 8-bit tables).

The only quantiser of the project: training, priming, generating and scoring all use
it, so one recording has one sequence of codes. Encoding compares the waveform with a
fixed table of thresholds instead of computing logarithms, so numpy and torch, on any
device, give the same codes for the same samples.

Source: van den Oord et al. 2016, "WaveNet", section 2.2.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np

from wavegen.codecs.codec import Array
from wavegen.errors import DataError


class NotFiniteError(DataError, ValueError):
    """A waveform that has no codes: of a damaged store of decoded clips, or a caller's own."""

    def __init__(self, message: str = "") -> None:
        super().__init__(
            message
            or "a waveform with NaN or infinity has no codes; if it is from the store of decoded "
            "clips, remove their store, which is then made again"
        )


def encode(waveform: Array, quantization_channels: int = 256) -> Array:
    """Quantise a waveform; samples beyond [-1, 1] are clamped (see `count_clamped`).

    Args:
        waveform: floating point, any shape, numpy or torch.
        quantization_channels: number of codes Q; silence is code Q // 2.

    Returns:
        int64 codes in 0..Q-1 of the same shape and kind, on the same device.

    Raises:
        NotFiniteError: the waveform holds NaN or infinity.
    """
    thresholds, _ = _tables(quantization_channels)
    if isinstance(waveform, np.ndarray):
        if not np.isfinite(waveform).all():
            raise NotFiniteError
        return np.searchsorted(thresholds, waveform.astype(np.float32, copy=False), side="right")
    import torch

    if not torch.isfinite(waveform).all():
        raise NotFiniteError
    edges = torch.from_numpy(thresholds).to(waveform.device)
    return torch.bucketize(waveform.float().contiguous(), edges, right=True)


def decode(codes: Array, quantization_channels: int = 256) -> Array:
    """Expand codes to the centre of their bins.

    Args:
        codes: integers 0..Q-1, any shape, numpy or torch.
        quantization_channels: number of codes Q.

    Returns:
        float32 waveform in [-1, 1] of the same shape and kind; `encode` gives the
        codes back.
    """
    _, centres = _tables(quantization_channels)
    if isinstance(codes, np.ndarray):
        return centres[codes]
    import torch

    return torch.from_numpy(centres).to(codes.device)[codes.long()]


def count_clamped(waveform: Array) -> int:
    """Number of samples beyond [-1, 1], which `encode` clamps."""
    return int((abs(waveform) > 1).sum())


@dataclass(frozen=True)
class MuLaw:
    """`wavegen.codecs.codec.Codec` by the functions above.

    Args:
        codes: Q.
    """

    codes: int = 256

    def encode(self, waveform: Array) -> Array:
        """See `encode`."""
        return encode(waveform, self.codes)

    def decode(self, codes: Array) -> Array:
        """See `decode`."""
        return decode(codes, self.codes)


class Waveform(Protocol):
    """A recording (time,) that may lie elsewhere: slices of it are float32 arrays."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Any: ...


class CodeCounts:
    """How often each code comes in the recordings added: what a model without memory knows.

    Attributes:
        counts: int64 (Q,).
        clamped: samples beyond [-1, 1].
    """

    def __init__(self, quantization_channels: int) -> None:
        self.counts = np.zeros(quantization_channels, dtype=np.int64)
        self.clamped = 0

    def add(self, waveform: Waveform) -> None:
        """Count a waveform (time,), or a part of one."""
        channels = len(self.counts)
        # In pieces, for a memory-mapped recording may be larger than memory.
        for start in range(0, len(waveform), 2**20):
            part = np.asarray(waveform[start : start + 2**20])
            self.counts += np.bincount(encode(part, channels), minlength=channels)
            self.clamped += count_clamped(part)

    def figures(self) -> dict[str, float]:
        """order0_bits, the entropy of the histogram in bits a sample, and clamped."""
        return {"order0_bits": entropy(self.counts), "clamped": self.clamped}


def entropy(counts: np.ndarray) -> float:
    """Entropy in bits of a histogram, int64 (Q,); 0 of an empty one."""
    share = counts[counts > 0] / max(1, counts.sum())
    return float(-(share * np.log2(share)).sum())


@cache
def _tables(quantization_channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Thresholds (Q-1,) between neighbouring codes and centres (Q,), both float32."""
    mu = quantization_channels - 1

    def expand(position: np.ndarray) -> np.ndarray:
        companded = 2 * position / mu - 1
        return (np.sign(companded) * np.expm1(np.abs(companded) * np.log1p(mu)) / mu).astype(
            np.float32
        )

    codes = np.arange(quantization_channels, dtype=np.float64)
    return expand(codes[1:] - 0.5), expand(codes)
