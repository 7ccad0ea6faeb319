"""Waveforms to codes and back by mu-law companding (ITU-T G.711's curve, not its 8-bit tables).

Encoding compares the waveform with a fixed table of thresholds instead of computing logarithms,
so numpy and torch, on any device, give the same codes for the same samples.

Source: van den Oord et al. 2016, "WaveNet", section 2.2.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from wavegen.codecs.codec import Array
from wavegen.errors import DataError


class NotFiniteError(DataError, ValueError):
    """A waveform with NaN or infinity, from a damaged store of decoded clips or from the caller."""

    def __init__(self, message: str = "") -> None:
        super().__init__(
            message
            or "a waveform with NaN or infinity has no codes; if it is from the store of decoded "
            "clips, remove the store, and it will be made again"
        )


def encode(waveform: Array, quantization_channels: int = 256) -> Array:
    """Quantise a waveform; samples beyond [-1, 1] are clamped (see `counts.count_clamped`).

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
        float32 waveform in [-1, 1] of the same shape and kind; encoding it gives the
        same codes.
    """
    _, centres = _tables(quantization_channels)
    if isinstance(codes, np.ndarray):
        return centres[codes]
    import torch

    return torch.from_numpy(centres).to(codes.device)[codes.long()]


@dataclass(frozen=True)
class MuLaw:
    """A `wavegen.codecs.codec.Codec` by the functions above.

    Args:
        codes: number of codes Q.
    """

    codes: int = 256

    @property
    def name(self) -> str:
        """See `Codec.name`."""
        return f"{self.codes} mu-law"

    def encode(self, waveform: Array) -> Array:
        """See `encode`."""
        return encode(waveform, self.codes)

    def decode(self, codes: Array) -> Array:
        """See `decode`."""
        return decode(codes, self.codes)


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
