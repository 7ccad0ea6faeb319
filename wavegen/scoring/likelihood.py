"""Exact likelihood by the chain rule: bits of recordings, the same in any chunking.

Bits of a recording are -log2 p summed over every sample, the first included. Bits per
sample of a corpus are total bits over total samples, never a mean of means.
"""

from collections.abc import Sequence

import numpy as np

from wavegen.codecs import windows
from wavegen.data.labels import Labels, label_ids
from wavegen.engines.base import Scorer
from wavegen.engines.choice import choose_scorer
from wavegen.errors import ModelError
from wavegen.models.base import Network
from wavegen.models.condition import Condition

# Samples of a long recording read at a time; a multiple of `windows.SUMMED`.
BLOCK = 1 << 18


def scorer(network: Network, kinds: Sequence[Labels]) -> Scorer:
    """What scores under K labels fastest where a network lies; its weights are read now.

    Args:
        network: in evaluation mode.
        kinds: K times attribute -> class; unspecified where left out.

    Raises:
        LabelError: an unknown attribute or class.
    """
    return choose_scorer(network, Condition(label_ids(kinds, network.config.labels)))


def total_bits(sums: np.ndarray, before: np.ndarray | float = 0.0) -> np.ndarray:
    """Sums of `Scorer.totals`, (K, blocks), added to (K,) `before`.

    Raises:
        ModelError: they are not finite, for weights that are finite can overflow in the network.
    """
    bits = windows.total(sums, before)
    if not np.isfinite(bits).all():
        raise ModelError(
            "the network's logits are not finite numbers: its weights are damaged; take an "
            "earlier model"
        )
    return bits


def recording_bits(
    network: Network, waveform: np.ndarray, labels: Labels | None = None, block: int = BLOCK
) -> float:
    """Total bits of one recording, in memory that does not grow with its length.

    Args:
        network: in evaluation mode.
        waveform: (time,) at the network's sample rate; it may be memory-mapped.
        labels: attribute -> class; unspecified where left out.
        block: samples read at a time; changes the memory and not the result.

    Raises:
        LabelError: an unknown attribute or class.
        ModelError: bits that are not finite.
    """
    # Sums are of whole blocks.
    block = -(-block // windows.SUMMED) * windows.SUMMED
    codes = (
        network.config.codec.encode(np.asarray(waveform[start : start + block]))
        for start in range(0, len(waveform), block)
    )
    bits = np.zeros(1)
    for sums, _ in scorer(network, [labels or {}]).blocks(codes):
        bits = total_bits(sums, bits)
    return float(bits[0])
