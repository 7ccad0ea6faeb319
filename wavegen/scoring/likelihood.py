"""Exact likelihood by the chain rule: bits of recordings, the same in any chunking.

Bits of a recording are -log2 p summed over every sample, the first included. Bits per
sample of a corpus are total bits over total samples, never a mean of means.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from wavegen.codecs import windows
from wavegen.data import labels as labelling
from wavegen.data.labels import Labels
from wavegen.engines import memory
from wavegen.engines.choice import compiled_scorer_runs
from wavegen.errors import ModelError
from wavegen.models.base import Network
from wavegen.models.wavenet import WaveNet

T = TypeVar("T")

# Samples predicted at a time by torch: their gates are a hundred megabytes. A GPU is kept busy by
# more of them, where they fit.
_CHUNK = 1 << 14
_GPU_CHUNK = 1 << 18
# Samples of a long recording read at a time; a multiple of `windows.SUMMED`.
BLOCK = 1 << 18


def surprisal(
    network: Network,
    inputs: Tensor,
    targets: Tensor,
    labels: Tensor | None,
    beginning: bool = False,
) -> Tensor:
    """Bits of every target, -log2 p.

    Args:
        network: on the device of the tensors.
        inputs: int64 (B, H + T) of `windows.stack`; (B, T) from the beginning.
        targets: int64 (B, T) of `windows.stack`.
        labels: int64 (B, A), or None for unspecified.
        beginning: as of `Network.predict`. A network whose receptive field has no limit takes
            all inputs from the beginning, in parts that carry its state on.

    Returns:
        float64 (B, T); 0 where the target is `windows.IGNORED`.
    """
    bias, of = network.conditioning(labels, inputs.shape[0]), network.distribution.bits
    if network.receptive_field is not None:
        return of(network.predict(inputs, bias, beginning), targets)
    if not targets.numel():
        return targets.double()
    state, time = network.initial_state(bias), max(1, _CHUNK // len(inputs))
    parts = zip(inputs.split(time, dim=1), targets.split(time, dim=1), strict=True)
    return torch.cat([of(network.advance(part, state), some) for part, some in parts], dim=1)


class Scorer(Protocol):
    """Bits of recordings under each of K labels."""

    def surprisals(self, recordings: Sequence[np.ndarray], context: int = 0) -> list[np.ndarray]:
        """Bits of every code of some recordings, int64 (time,): float64 (K, time) for each.

        The first `context` codes of each are given, but not scored: they are all that came
        before, or at least a receptive field.
        """
        ...

    def totals(
        self, recordings: Sequence[np.ndarray], context: int = 0
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """The same summed, for each: memory does not grow with K times the time.

        Sums of `windows.SUMMED` codes each, from the first that is scored on, float64
        (K, blocks); bits of every code under the first of the labels, float64 (time,).
        """
        ...


def scorer(network: Network, kinds: Sequence[Labels]) -> Scorer:
    """What scores under K labels fastest where a network lies; its weights are read now.

    Args:
        network: in evaluation mode.
        kinds: K times attribute -> class; unspecified where left out.

    Raises:
        LabelError: an unknown attribute or class.
    """
    ids = label_ids(network, kinds)
    if isinstance(network, WaveNet) and network.device.type == "cpu" and compiled_scorer_runs():
        from wavegen.engines.cpu.wavenet_scorer import NumbaScorer

        return NumbaScorer(network, ids)
    return TorchScorer(network, ids)


class TorchScorer:
    """`Scorer` on any device; the batch changes its rounding (float32) and nothing else.

    Args:
        network: in evaluation mode.
        labels: int64 (K, A).
        chunk: samples predicted at a time, of all recordings and labels together; by the
            device, if not given.
    """

    def __init__(self, network: Network, labels: Tensor, chunk: int | None = None) -> None:
        self._network = network
        self._labels = labels.to(network.device)
        self._chunk = chunk or chunk_for(network)

    @torch.inference_mode()
    def surprisals(self, recordings: Sequence[np.ndarray], context: int = 0) -> list[np.ndarray]:
        """See `Scorer`."""
        bits = [np.empty((len(self._labels), len(each) - context)) for each in recordings]
        for number, kind, begin, some in self._pieces(recordings, context):
            bits[number][kind : kind + len(some), begin : begin + some.shape[1]] = some
        return bits

    @torch.inference_mode()
    def totals(
        self, recordings: Sequence[np.ndarray], context: int = 0
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """See `Scorer`."""
        bits = [np.empty(len(each) - context) for each in recordings]
        sums = [np.zeros((len(self._labels), -(-len(each) // windows.SUMMED))) for each in bits]
        for number, kind, begin, some in self._pieces(recordings, context):
            windows.add_sums(sums[number][kind : kind + len(some)], some, begin)
            if kind == 0:
                bits[number][begin : begin + some.shape[1]] = some[0]
        return list(zip(sums, bits, strict=True))

    def _pieces(
        self, recordings: Sequence[np.ndarray], context: int
    ) -> Iterator[tuple[int, int, int, np.ndarray]]:
        """Bits (labels, time), and of which recording, from which label and sample on."""
        field = self._network.receptive_field
        # Without a limit a recording is one piece, for a state is carried on through it.
        size = self._chunk if field is not None else max(map(len, recordings), default=1)
        pieces = [
            (number, begin, min(begin + size, len(recording)))
            for number, recording in enumerate(recordings)
            for begin in range(context, len(recording), size)
        ]
        pieces.sort(key=lambda piece: piece[1] - piece[2])
        while pieces:
            time = pieces[0][2] - pieces[0][1]
            together = max(1, self._chunk // (time * len(self._labels)))
            part, pieces = pieces[:together], pieces[together:]
            # Before a beginning there is nothing.
            history = field - 1 if field and any(begin for _, begin, _ in part) else 0
            # What is gone through from the beginning of each besides.
            warm_up = context if field is None else 0
            rows = [
                windows.from_place(
                    recordings[number][max(begin - warm_up - history - 1, 0) : end],
                    begin - warm_up - history - 1,
                    self._network.start_symbol,
                )
                for number, begin, end in part
            ]
            stacked = windows.stack(rows, history)
            kind = 0
            for some in self._labels.split(max(1, self._chunk // time)):
                taken = self._taken(stacked, some, not history).cpu().numpy()
                for row, (number, begin, end) in zip(taken, part, strict=True):
                    yield number, kind, begin - context, row[:, warm_up:][:, : end - begin]
                kind += len(some)

    def _taken(self, stacked: Sequence[np.ndarray], labels: Tensor, beginning: bool) -> Tensor:
        """Bits (B, K, time) of `windows.stack` under each of some labels (K, A)."""
        inputs, targets = (
            torch.from_numpy(each).to(labels.device).repeat_interleave(len(labels), 0)
            for each in stacked
        )
        rows = len(stacked[0])
        taken = surprisal(self._network, inputs, targets, labels.repeat(rows, 1), beginning)
        return taken.view(rows, len(labels), -1)


def chunk_for(network: Network) -> int:
    """Samples that torch predicts at a time where a network lies."""
    device = network.device
    if device.type != "cuda":
        return _CHUNK
    chunk, room = _GPU_CHUNK, memory.free(device) // 2
    while chunk > _CHUNK and chunk * memory.of_prediction(network) > room:
        chunk //= 2
    return chunk


def in_blocks(
    scored: Callable[[Sequence[np.ndarray], int], Sequence[T]],
    network: Network,
    blocks: Iterable[np.ndarray],
) -> Iterator[T]:
    """What a method of `Scorer` makes of each block of codes, int64 (time,), of one recording."""
    heard = np.empty(0, dtype=np.int64)
    for block in blocks:
        codes = np.concatenate([heard, block])
        (result,) = scored([codes], len(heard))
        yield result
        heard = codes if network.receptive_field is None else codes[-network.receptive_field :]


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


def label_ids(network: Network, kinds: Sequence[Labels]) -> Tensor:
    """Ids int64 (K, A) of K times attribute -> class; `LabelError` for an unknown one."""
    rows = [labelling.encode(kind, network.config.labels) for kind in kinds]
    return torch.tensor(rows, dtype=torch.int64)


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
    for sums, _ in in_blocks(scorer(network, [labels or {}]).totals, network, codes):
        bits = total_bits(sums, bits)
    return float(bits[0])
