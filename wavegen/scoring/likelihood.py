"""Exact likelihood by the chain rule: bits of recordings, whatever the size of blocks.

The bits of a recording are the sum of -log2 p over every sample, including the first. The bits
per sample of a corpus are its total bits divided by its total samples, never a mean of means.
"""

from collections.abc import Sequence

import numpy as np

from wavegen.codecs import windows
from wavegen.data.clip_features import ComputedFrames
from wavegen.data.labels import Labels, label_ids
from wavegen.engines.base import Scorer
from wavegen.engines.choice import choose_scorer
from wavegen.errors import ModelError
from wavegen.models.base import Network
from wavegen.models.condition import Condition, FramesOf

# Samples of a long recording that are read at a time; a multiple of `windows.SUMMED`.
BLOCK = 1 << 18


def scorer(network: Network, kinds: Sequence[Labels]) -> Scorer:
    """Make the fastest scorer for a network on its device; it reads the weights now.

    Args:
        network: network in evaluation mode.
        kinds: K labels, each attribute -> class; an attribute that is left out is unspecified.

    Raises:
        LabelError: an attribute or class is unknown.
    """
    return choose_scorer(network, Condition(label_ids(kinds, network.config.labels)))


def total_bits(sums: np.ndarray, before: np.ndarray | float = 0.0) -> np.ndarray:
    """Add the sums of `Scorer.totals`, (K, groups), to `before`, (K,).

    Raises:
        ModelError: the sums are not finite; even finite weights can overflow in the network.
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
        network: network in evaluation mode.
        waveform: (time,) at the rate of the network; it may be memory-mapped.
        labels: attribute -> class; an attribute that is left out is unspecified.
        block: samples to read at a time; it changes the memory, not the result.

    Raises:
        LabelError: an attribute or class is unknown.
        ModelError: the bits are not finite.
    """
    # Blocks consist of whole groups of `SUMMED` samples.
    block = -(-block // windows.SUMMED) * windows.SUMMED
    codes = (
        network.config.codec.encode(np.asarray(waveform[start : start + block]))
        for start in range(0, len(waveform), block)
    )
    bits, features = np.zeros(1), network.config.feature_set
    frames = None if features is None else FramesOf(ComputedFrames(features, waveform))
    for sums, _ in scorer(network, [labels or {}]).blocks(codes, frames):
        bits = total_bits(sums, bits)
    return float(bits[0])
