"""Exact likelihood by the chain rule: bits of recordings, the same in any chunking.

Bits of a recording are -log2 p summed over every sample, the first included. Bits per
sample of a corpus are total bits over total samples, never a mean of means.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wavegen import labels as labelling
from wavegen import mulaw, windows
from wavegen.labels import Labels
from wavegen.wavenet import WaveNet


def surprisal(network: WaveNet, inputs: Tensor, targets: Tensor, labels: Tensor | None) -> Tensor:
    """Bits of every target, -log2 p.

    Args:
        network: on the device of the tensors.
        inputs: int64 (B, H + T) of `windows.stack`.
        targets: int64 (B, T) of `windows.stack`.
        labels: int64 (B, A), or None for unspecified.

    Returns:
        float64 (B, T); 0 where the target is `windows.IGNORED`.
    """
    logits = network.predict(inputs, network.conditioning(labels, inputs.shape[0]))
    nats = F.cross_entropy(logits.transpose(1, 2).float(), targets, reduction="none")
    return nats.double() / math.log(2)


@torch.inference_mode()
def recording_bits(
    network: WaveNet, waveform: np.ndarray, labels: Labels | None = None, chunk: int = 16384
) -> float:
    """Total bits of one recording, in constant memory.

    Args:
        network: in evaluation mode.
        waveform: (time,) at the network's sample rate.
        labels: attribute -> class; unspecified where left out.
        chunk: samples predicted at a time; changes the memory and not the result
            (up to float32 rounding of logits, 1e-6 relative).

    Raises:
        LabelError: an unknown attribute or class.
    """
    config = network.config
    device = network.output.weight.device
    ids = torch.tensor([labelling.encode(labels or {}, config.labels)], device=device)
    total = 0.0
    for start in range(0, len(waveform), chunk):
        stop = min(start + chunk, len(waveform))
        codes = windows.window(waveform, start, stop, network.history, config.quantization_channels)
        inputs, targets = windows.stack([codes], network.history)
        bits = surprisal(
            network, torch.from_numpy(inputs).to(device), torch.from_numpy(targets).to(device), ids
        )
        total += float(bits.sum())
    return total


def order0_entropy(waveforms: Sequence[np.ndarray], quantization_channels: int) -> float:
    """Entropy in bits of the histogram of codes: what a model without memory would reach."""
    counts = np.zeros(quantization_channels, dtype=np.int64)
    for waveform in waveforms:
        # In pieces, for a memory-mapped recording may be larger than memory.
        for start in range(0, len(waveform), 2**20):
            codes = mulaw.encode(np.asarray(waveform[start : start + 2**20]), quantization_channels)
            counts += np.bincount(codes, minlength=quantization_channels)
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())
