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
from wavegen import mulaw
from wavegen.engines.prefill import fill_queues
from wavegen.labels import Labels
from wavegen.wavenet import WaveNet

# Samples predicted at a time: their gates are a hundred megabytes.
_CHUNK = 16384


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


class Scorer:
    """Goes through recordings side by side and says how many bits each sample takes.

    Every block keeps the last of its inputs, as in generating: nothing is computed twice
    however a recording is cut into chunks, and memory does not grow with its length.

    Args:
        network: in evaluation mode.
        labels: int64 (B, A) of the B recordings.
    """

    @torch.inference_mode()
    def __init__(self, network: WaveNet, labels: Tensor) -> None:
        self._network = network
        self._bias = network.conditioning(labels.to(network.output.weight.device))
        self._past = [ring.clone() for ring in fill_queues(network, self._bias, None)]
        self._newest = torch.full((labels.shape[0], 1), network.start_symbol)

    @torch.inference_mode()
    def surprisal(self, codes: np.ndarray) -> np.ndarray:
        """Bits of the next codes, int64 (B', T): float64 (B', T).

        B' may be less than B: the recordings beyond have ended.
        """
        rows, count = codes.shape
        if rows < self._bias.shape[0]:
            self._bias, self._newest = self._bias[:rows], self._newest[:rows]
            self._past = [ring[:, :rows] for ring in self._past]
        targets = torch.from_numpy(codes)
        inputs = torch.cat([self._newest, targets[:, :-1]], dim=1)
        self._newest = targets[:, -1:]
        device = self._bias.device
        past = self._network.activations(inputs.to(device), self._bias, self._past)
        logits = self._network.head(torch.cat([gate for _, gate in past], dim=-1))
        nats = F.cross_entropy(
            logits.flatten(0, 1).float(), targets.t().flatten().to(device), reduction="none"
        )
        return (nats.double() / math.log(2)).view(count, rows).t().cpu().numpy()


def surprisals(
    network: WaveNet,
    recordings: Sequence[np.ndarray],
    kinds: Sequence[Labels],
    chunk: int = _CHUNK,
) -> list[np.ndarray]:
    """Bits of every sample of some recordings, each under several labels, in one batch.

    Args:
        network: in evaluation mode.
        recordings: int64 codes (time,) each, best of about one length.
        kinds: K times attribute -> class; unspecified where left out.
        chunk: samples predicted at a time, of all recordings together; changes the memory
            and not the result (up to float32 rounding of logits, 1e-6 relative).

    Returns:
        float64 (K, time) for each recording.

    Raises:
        LabelError: an unknown attribute or class.
    """
    ids = label_ids(network, kinds)
    # The longest first, so that those still going on are the first rows.
    order = sorted(range(len(recordings)), key=lambda number: -len(recordings[number]))
    scorer = Scorer(network, ids.repeat(len(order), 1))
    bits = [np.empty((len(ids), len(recording))) for recording in recordings]
    start, longest = 0, len(recordings[order[0]])
    while start < longest:
        going = [number for number in order if len(recordings[number]) > start]
        stop = min(longest, start + max(1, chunk // (len(going) * len(ids))))
        codes = np.zeros((len(going), len(ids), stop - start), dtype=np.int64)
        for row, number in enumerate(going):
            part = recordings[number][start:stop]
            codes[row, :, : len(part)] = part
        taken = scorer.surprisal(codes.reshape(-1, stop - start)).reshape(codes.shape)
        for row, number in enumerate(going):
            part = bits[number][:, start:stop]
            part[:] = taken[row, :, : part.shape[1]]
        start = stop
    return bits


def label_ids(network: WaveNet, kinds: Sequence[Labels]) -> Tensor:
    """Ids int64 (K, A) of K times attribute -> class; `LabelError` for an unknown one."""
    rows = [labelling.encode(kind, network.config.labels) for kind in kinds]
    return torch.tensor(rows, dtype=torch.int64)


def recording_bits(
    network: WaveNet, waveform: np.ndarray, labels: Labels | None = None, chunk: int = _CHUNK
) -> float:
    """Total bits of one recording, in memory that does not grow with its length.

    Args:
        network: in evaluation mode.
        waveform: (time,) at the network's sample rate.
        labels: attribute -> class; unspecified where left out.
        chunk: as in `surprisals`.

    Raises:
        LabelError: an unknown attribute or class.
    """
    config = network.config
    scorer = Scorer(network, label_ids(network, [labels or {}]))
    total = 0.0
    for start in range(0, len(waveform), chunk):
        part = np.asarray(waveform[start : start + chunk])
        codes = mulaw.encode(part, config.quantization_channels)
        total += float(scorer.surprisal(codes[None]).sum())
    return total


def order0_entropy(waveforms: Sequence[np.ndarray], quantization_channels: int) -> float:
    """Entropy in bits of the histogram of codes: what a model without memory would reach."""
    counts = np.zeros(quantization_channels, dtype=np.int64)
    for waveform in waveforms:
        # In pieces, for a memory-mapped recording may be larger than memory.
        for start in range(0, len(waveform), 2**20):
            codes = mulaw.encode(np.asarray(waveform[start : start + 2**20]), quantization_channels)
            counts += np.bincount(codes, minlength=quantization_channels)
    return entropy(counts)


def entropy(counts: np.ndarray) -> float:
    """Entropy in bits of a histogram, int64 (Q,); 0 of an empty one."""
    share = counts[counts > 0] / max(1, counts.sum())
    return float(-(share * np.log2(share)).sum())
