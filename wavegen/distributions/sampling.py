"""From logits to codes: the noise of a stream, and temperature, top-k, top-p, guidance.

The noise of a stream is a function of (seed, stream, time), so a stream is the same alone or in
a batch, in one chunk or in many, on any engine.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np
import torch
from torch import Tensor

from wavegen.errors import ConfigError
from wavegen.utils.numbers import whole_number

# Noise is made in blocks of this many samples, each with its own counter.
_BLOCK = 4096
# With greater guidance logits overflow.
_MOST_GUIDANCE = 1e6


@dataclass(frozen=True)
class Sampling:
    """How codes are drawn from logits.

    Args:
        temperature: divides the logits; 0 always takes the likeliest code.
        top_k: draw only from the k likeliest codes.
        top_p: draw only from the fewest likeliest codes that together reach this probability.
        guidance: w in `unspecified + w * (conditioned - unspecified)` over logits. 1 is the
            conditioned model itself; above 1 the labels have more influence.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    guidance: float = 1.0

    def __post_init__(self) -> None:
        if not (_is_finite(self.temperature) and self.temperature >= 0):
            raise ConfigError(
                f"temperature is {self.temperature!r:.40}: it must be 0 (the likeliest code) "
                "or more"
            )
        if self.top_p is not None and not (_is_finite(self.top_p) and 0 < self.top_p <= 1):
            raise ConfigError(f"top-p is {self.top_p!r:.40}: it must be above 0 and at most 1")
        if not (_is_finite(self.guidance) and abs(self.guidance) <= _MOST_GUIDANCE):
            raise ConfigError(
                f"guidance is {self.guidance!r:.40}: it must be from {-_MOST_GUIDANCE:g} to "
                f"{_MOST_GUIDANCE:g}"
            )
        # Python's own numbers, since recipes are JSON.
        object.__setattr__(self, "temperature", float(self.temperature))
        object.__setattr__(self, "guidance", float(self.guidance))
        if self.top_p is not None:
            object.__setattr__(self, "top_p", float(self.top_p))
        if self.top_k is not None:
            object.__setattr__(self, "top_k", whole_number("top-k", self.top_k, 1, 2**31 - 1))

    @property
    def guided(self) -> bool:
        """Whether logits without labels are needed besides those with labels."""
        return self.guidance != 1


def _is_finite(value: object) -> bool:
    """Whether `value` is a finite number; True and False are not."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def stream_noise(seed: int, streams: Sequence[int], start: int, count: int) -> np.ndarray:
    """Uniform noise of several streams from sample `start` on.

    Args:
        seed: 0 to 2^64 - 1.
        streams: number of each stream, 0 to 2^64 - 1.
        start: first sample, counted from the beginning of the stream.
        count: samples.

    Returns:
        float64 (len(streams), count) in the open interval (0, 1), from Philox-4x64
        (Salmon et al. 2011) keyed by (seed, stream) and counted by time.
    """
    first, last = start // _BLOCK, -(-(start + count) // _BLOCK)
    noise = np.empty((len(streams), (last - first) * _BLOCK))
    for row, stream in enumerate(streams):
        key = np.array([seed, stream], dtype=np.uint64)
        for block in range(first, last):
            # The block number is a high word of the counter, so that blocks never overlap.
            bits = np.random.Philox(key=key, counter=[0, block, 0, 0]).random_raw(_BLOCK)
            column = (block - first) * _BLOCK
            # 52 bits and a half: exact in float64, and neither 0 nor 1.
            noise[row, column : column + _BLOCK] = ((bits >> np.uint64(12)) + 0.5) * 2.0**-52
    skip = start - first * _BLOCK
    return noise[:, skip : skip + count]


def guide(conditioned: Tensor, unspecified: Tensor, guidance: float) -> Tensor:
    """Logits for classifier-free guidance (Ho & Salimans 2021, applied to logits)."""
    return unspecified + guidance * (conditioned - unspecified)


def draw(logits: Tensor, noise: Tensor, sampling: Sampling) -> Tensor:
    """Draw a code from each row of logits by inverting its distribution function.

    Args:
        logits: (B, Q).
        noise: float64 (B,) in (0, 1).
        sampling: how to draw; its guidance must have been applied already.

    Returns:
        int64 (B,): the first code at which the cumulative probability reaches the noise; Q,
        which is no code, where logits are not finite.
    """
    if sampling.temperature == 0:
        # NaN is the largest of all.
        best = logits.argmax(dim=-1, keepdim=True)
        finite = logits.gather(-1, best).isfinite()
        return best.where(finite, logits.shape[-1]).squeeze(-1)
    probabilities = distribution(logits, sampling)
    cumulative = probabilities.cumsum(dim=-1)
    # The noise is scaled by the rounded sum, so that no code of probability 0 is drawn.
    reach = noise.unsqueeze(-1) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, reach).squeeze(-1)


def distribution(logits: Tensor, sampling: Sampling) -> Tensor:
    """Probabilities float64 (B, Q) after temperature, then top-k, then top-p; temperature > 0.

    Codes with the same probability as the last kept one are kept too, so ties have no order.
    """
    logits = logits.double()
    # The highest logit becomes 0, so that no temperature overflows, however low it is.
    scaled = (logits - logits.max(dim=-1, keepdim=True).values) / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < scaled.shape[-1]:
        least = scaled.topk(sampling.top_k, dim=-1).values[:, -1:]
        scaled = scaled.masked_fill(scaled < least, -math.inf)
    probabilities = scaled.softmax(dim=-1)
    if sampling.top_p is not None and sampling.top_p < 1:
        ordered = probabilities.sort(dim=-1, descending=True).values
        before = ordered.cumsum(dim=-1) - ordered
        kept = (before < sampling.top_p).sum(dim=-1, keepdim=True).clamp(min=1)
        least = ordered.gather(-1, kept - 1)
        probabilities = probabilities.masked_fill(probabilities < least, 0.0)
        probabilities = probabilities / probabilities.sum(dim=-1, keepdim=True)
    return probabilities
