"""The reference scorer: the parallel pass of any network, in plain torch."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from wavegen.codecs import windows
from wavegen.engines import memory
from wavegen.models.base import Network
from wavegen.models.condition import Condition
from wavegen.utils.device import free_memory

T = TypeVar("T")

# Samples predicted at a time: their gates take a hundred megabytes. A GPU needs more samples to be
# busy, if they fit.
_CHUNK = 1 << 14
_GPU_CHUNK = 1 << 18


def surprisal(
    network: Network,
    inputs: Tensor,
    targets: Tensor,
    condition: Condition,
    beginning: bool = False,
) -> Tensor:
    """Bits of every target, -log2 p.

    Args:
        network: network on the device of the tensors.
        inputs: int64 (B, H + T) from `windows.stack`; (B, T) from the beginning.
        targets: int64 (B, T) from `windows.stack`.
        condition: condition of the B recordings.
        beginning: as in `Network.predict`. A network without a limit to its receptive field
            processes all inputs from the beginning, part by part with its state.

    Returns:
        float64 (B, T); 0 where the target is `windows.IGNORED`.
    """
    bias = network.conditioning(condition)
    if network.receptive_field is not None:
        parameters = network.predict(inputs, bias, beginning)
        return network.distribution.bits(parameters, targets)
    return _advanced(network, inputs, targets, network.initial_state(bias))


def _advanced(network: Network, inputs: Tensor, targets: Tensor, state: Any) -> Tensor:
    """Bits of targets (B, T) after inputs (B, T), which are processed in parts with a state."""
    if not targets.numel():
        return targets.double()
    time = max(1, _CHUNK // len(inputs))
    parts = zip(inputs.split(time, dim=1), targets.split(time, dim=1), strict=True)
    bits = network.distribution.bits
    return torch.cat([bits(network.advance(part, state), some) for part, some in parts], dim=1)


class TorchScorer:
    """A `Scorer` on any device; only its rounding (float32) depends on the batch.

    Args:
        network: network in evaluation mode.
        condition: K conditions.
        chunk: samples predicted at a time, of all recordings and conditions together; the default
            depends on the device.
    """

    def __init__(self, network: Network, condition: Condition, chunk: int | None = None) -> None:
        self._network = network
        self._condition = condition.to(network.device)
        self._chunk = chunk or chunk_for(network)

    @torch.inference_mode()
    def surprisals(self, recordings: Sequence[np.ndarray], context: int = 0) -> list[np.ndarray]:
        """See `Scorer`."""
        bits = [np.empty((len(self._condition), len(each) - context)) for each in recordings]
        for number, kind, begin, some in self._pieces(recordings, context):
            bits[number][kind : kind + len(some), begin : begin + some.shape[1]] = some
        return bits

    @torch.inference_mode()
    def totals(
        self, recordings: Sequence[np.ndarray], context: int = 0
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """See `Scorer`."""
        bits = [np.empty(len(each) - context) for each in recordings]
        sums = [np.zeros((len(self._condition), -(-len(each) // windows.SUMMED))) for each in bits]
        for number, kind, begin, some in self._pieces(recordings, context):
            windows.add_sums(sums[number][kind : kind + len(some)], some, begin)
            if kind == 0:
                bits[number][begin : begin + some.shape[1]] = some[0]
        return list(zip(sums, bits, strict=True))

    def blocks(self, blocks: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """See `Scorer`."""
        field = self._network.receptive_field
        return self._carried(blocks) if field is None else with_context(self.totals, field, blocks)

    def _carried(self, blocks: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The results of `blocks` by a state that is kept from block to block."""
        network = self._network
        with torch.inference_mode():
            state = network.initial_state(network.conditioning(self._condition))
        newest = np.array([network.start_symbol])
        for block in blocks:
            codes = np.concatenate([newest, block])
            with torch.inference_mode():
                rows = torch.from_numpy(codes).to(network.device).expand(len(self._condition), -1)
                bits = _advanced(network, rows[:, :-1], rows[:, 1:], state).cpu().numpy()
            sums = np.zeros((len(bits), -(-len(block) // windows.SUMMED)))
            windows.add_sums(sums, bits, 0)
            yield sums, bits[0]
            newest = codes[-1:]

    def _pieces(
        self, recordings: Sequence[np.ndarray], context: int
    ) -> Iterator[tuple[int, int, int, np.ndarray]]:
        """Yield bits (labels, time), with their recording, first label and first sample."""
        field = self._network.receptive_field
        # Without a limit to the receptive field a recording is one piece with one state.
        size = self._chunk if field is not None else max(map(len, recordings), default=1)
        pieces = [
            (number, begin, min(begin + size, len(recording)))
            for number, recording in enumerate(recordings)
            for begin in range(context, len(recording), size)
        ]
        pieces.sort(key=lambda piece: piece[1] - piece[2])
        while pieces:
            time = pieces[0][2] - pieces[0][1]
            together = max(1, self._chunk // (time * len(self._condition)))
            part, pieces = pieces[:together], pieces[together:]
            # A beginning has no history.
            history = field - 1 if field and any(begin for _, begin, _ in part) else 0
            # The context of each piece is processed too.
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
            conditions = max(1, self._chunk // time)
            for first in range(0, len(self._condition), conditions):
                some = self._condition[first : first + conditions]
                taken = self._taken(stacked, some, not history).cpu().numpy()
                for row, (number, begin, end) in zip(taken, part, strict=True):
                    yield number, kind, begin - context, row[:, warm_up:][:, : end - begin]
                kind += len(some)

    def _taken(self, stacked: Sequence[np.ndarray], some: Condition, beginning: bool) -> Tensor:
        """Bits (B, K, time) of stacked windows under each of K conditions."""
        inputs, targets = (
            torch.from_numpy(each).to(self._network.device).repeat_interleave(len(some), 0)
            for each in stacked
        )
        rows = len(stacked[0])
        each = some[torch.arange(len(some), device=inputs.device).repeat(rows)]
        return surprisal(self._network, inputs, targets, each, beginning).view(rows, len(some), -1)


def chunk_for(network: Network) -> int:
    """Samples that torch predicts at a time on the device of a network."""
    device = network.device
    if device.type != "cuda":
        return _CHUNK
    chunk, room = _GPU_CHUNK, free_memory(device) // 2
    while chunk > _CHUNK and chunk * memory.of_prediction(network) > room:
        chunk //= 2
    return chunk


def with_context(
    scored: Callable[[Sequence[np.ndarray], int], Sequence[T]],
    receptive_field: int,
    blocks: Iterable[np.ndarray],
) -> Iterator[T]:
    """Call a method of `Scorer` for each block, with a receptive field of context."""
    context = np.empty(0, dtype=np.int64)
    for block in blocks:
        codes = np.concatenate([context, block])
        yield from scored([codes], len(context))
        context = codes[-receptive_field:]
