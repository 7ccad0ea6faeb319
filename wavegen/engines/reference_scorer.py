"""The reference scorer: the parallel pass of any network, in plain torch."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from wavegen.codecs import windows
from wavegen.engines import memory
from wavegen.models.base import Network
from wavegen.models.condition import Condition, FramesOf, stack
from wavegen.models.frames import bias_between
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
    first: Tensor | None = None,
) -> Tensor:
    """Bits of every target, -log2 p.

    Args:
        network: network on the device of the tensors.
        inputs: int64 (B, H + T) from `windows.stack`; (B, T) from the beginning.
        targets: int64 (B, T) from `windows.stack`.
        condition: condition of the B recordings.
        beginning: as in `Network.predict`. A network without a limit to its receptive field
            processes all inputs from the beginning, part by part with its state.
        first: as in `Network.predict`, if the condition has frames.

    Returns:
        float64 (B, T); 0 where the target is `windows.IGNORED`.
    """
    bias = network.conditioning(condition)
    if network.receptive_field is not None:
        parameters = network.predict(inputs, bias, beginning, first)
        return network.distribution.bits(parameters, targets)
    return _advanced(network, inputs, targets, network.initial_state(bias, first))


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
    def surprisals(
        self,
        recordings: Sequence[np.ndarray],
        context: int = 0,
        frames: Sequence[FramesOf] | None = None,
    ) -> list[np.ndarray]:
        """See `Scorer`."""
        bits = [np.empty((len(self._condition), len(each) - context)) for each in recordings]
        for number, kind, begin, some in self._pieces(recordings, context, frames):
            bits[number][kind : kind + len(some), begin : begin + some.shape[1]] = some
        return bits

    @torch.inference_mode()
    def totals(
        self,
        recordings: Sequence[np.ndarray],
        context: int = 0,
        frames: Sequence[FramesOf] | None = None,
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """See `Scorer`."""
        bits = [np.empty(len(each) - context) for each in recordings]
        sums = [np.zeros((len(self._condition), -(-len(each) // windows.SUMMED))) for each in bits]
        for number, kind, begin, some in self._pieces(recordings, context, frames):
            windows.add_sums(sums[number][kind : kind + len(some)], some, begin)
            if kind == 0:
                bits[number][begin : begin + some.shape[1]] = some[0]
        return list(zip(sums, bits, strict=True))

    def blocks(
        self, blocks: Iterable[np.ndarray], frames: FramesOf | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """See `Scorer`."""
        field = self._network.receptive_field
        if field is None:
            return self._carried(blocks, frames)
        return with_context(self.totals, field, blocks, frames)

    def _carried(
        self, blocks: Iterable[np.ndarray], frames: FramesOf | None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The results of `blocks` by a state that is kept from block to block."""
        network = self._network
        state: Any = None
        newest, done = np.array([network.start_symbol]), 0
        for block in blocks:
            codes = np.concatenate([newest, block])
            with torch.inference_mode():
                state = self._continued(state, frames, done, done + len(block))
                done += len(block)
                rows = torch.from_numpy(codes).to(network.device).expand(len(self._condition), -1)
                bits = _advanced(network, rows[:, :-1], rows[:, 1:], state).cpu().numpy()
            sums = np.zeros((len(bits), -(-len(block) // windows.SUMMED)))
            windows.add_sums(sums, bits, 0)
            yield sums, bits[0]
            newest = codes[-1:]

    def _continued(self, state: Any, frames: FramesOf | None, start: int, stop: int) -> Any:
        """The state for the samples from `start` to `stop`, with the frames that they need."""
        network = self._network
        if frames is None:
            if state is not None:
                return state
            return network.initial_state(network.conditioning(self._condition))
        hop, first = network.hop or 1, frames.first
        begin = 0 if state is None else (first + start - 1) // hop + 1
        end = min((first + stop - 1) // hop + 1, len(frames.frames))
        if begin >= end and state is not None:
            return state
        bias = bias_between(network, self._condition.labels, [frames.frames], begin, end)
        if state is not None:
            network.extend(state, bias)
            return state
        return network.initial_state(bias, torch.full((len(bias),), first, device=bias.device))

    def _pieces(
        self, recordings: Sequence[np.ndarray], context: int, frames: Sequence[FramesOf] | None
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
            starts = [begin - warm_up - history for _, begin, _ in part]
            rows = [
                windows.from_place(
                    recordings[number][max(start - 1, 0) : end],
                    start - 1,
                    self._network.start_symbol,
                )
                for start, (number, _, end) in zip(starts, part, strict=True)
            ]
            stacked = windows.stack(rows, history)
            given = None
            if frames is not None:
                hop, margin = self._network.hop or 1, self._network.margin
                given = [
                    frames[number].between(start, end, hop, margin).moved(start)
                    for start, (number, _, end) in zip(starts, part, strict=True)
                ]
            kind = 0
            conditions = max(1, self._chunk // time)
            for first in range(0, len(self._condition), conditions):
                some = self._condition[first : first + conditions]
                taken = self._taken(stacked, some, not history, given).cpu().numpy()
                for row, (number, begin, end) in zip(taken, part, strict=True):
                    yield number, kind, begin - context, row[:, warm_up:][:, : end - begin]
                kind += len(some)

    def _taken(
        self,
        stacked: Sequence[np.ndarray],
        some: Condition,
        beginning: bool,
        frames: Sequence[FramesOf] | None,
    ) -> Tensor:
        """Bits (B, K, time) of stacked windows under each of K conditions."""
        inputs, targets = (
            torch.from_numpy(each).to(self._network.device).repeat_interleave(len(some), 0)
            for each in stacked
        )
        rows = len(stacked[0])
        each = some[torch.arange(len(some), device=inputs.device).repeat(rows)]
        first = None
        if frames is not None:
            moving, first = (
                given.to(inputs.device).repeat_interleave(len(some), 0) for given in stack(frames)
            )
            each = replace(each, frames=moving)
        bits = surprisal(self._network, inputs, targets, each, beginning, first)
        return bits.view(rows, len(some), -1)


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
    scored: Callable[[Sequence[np.ndarray], int, Sequence[FramesOf] | None], Sequence[T]],
    receptive_field: int,
    blocks: Iterable[np.ndarray],
    frames: FramesOf | None = None,
) -> Iterator[T]:
    """Call a method of `Scorer` for each block, with a receptive field of context."""
    context, done = np.empty(0, dtype=np.int64), 0
    for block in blocks:
        codes = np.concatenate([context, block])
        own = None if frames is None else [frames.moved(done - len(context))]
        yield from scored([codes], len(context), own)
        context, done = codes[-receptive_field:], done + len(block)
