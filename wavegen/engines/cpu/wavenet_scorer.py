"""The compiled scorer: bits of known codes, by the whole network over blocks of time.

Every core has its own recordings. The rounding of the bits of a sample does not depend on where a
recording is cut or what else is scored.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, pairwise
from queue import SimpleQueue
from typing import NamedTuple

import numpy as np
import torch

from wavegen.codecs.windows import SUMMED, add_sums
from wavegen.engines.cpu import wavenet_scorer_kernel
from wavegen.engines.cpu.cache import FAILURES
from wavegen.engines.cpu.wavenet_packing import Packed, array, pack, padded
from wavegen.engines.cpu.wavenet_scorer_kernel import Scratch
from wavegen.engines.reference_scorer import with_context
from wavegen.models.condition import Condition, FramesOf
from wavegen.models.config import WaveNetConfig
from wavegen.models.wavenet import WaveNet
from wavegen.models.wavenet_state import fill_queues

# Samples between two passes over the weights: few enough that the gates of a block stay in the L2
# cache, and enough that reading the weights costs little.
_BLOCK = 256
# More samples than any recording: how long the bias of labels holds.
NEVER = 1 << 62
# Samples of a piece of work. The history of each piece is computed again.
_PIECE = 1 << 15


class _Job(NamedTuple):
    """Samples of a recording to be scored under one of the labels."""

    number: int
    kind: int
    begin: int
    end: int


class NumbaScorer:
    """A `wavegen.engines.base.Scorer` on the CPU; its bits do not depend on batches and cuts.

    Args:
        network: network in evaluation mode on the CPU; its weights are read now.
        condition: K conditions.
        piece: samples that a thread scores at a time; the result does not depend on it.
    """

    @torch.inference_mode()
    def __init__(self, network: WaveNet, condition: Condition, piece: int = _PIECE) -> None:
        self._history, self._start_symbol = network.history, network.start_symbol
        self._piece = piece
        (self._packed,) = pack(network, "float32", 1)
        self._network, self._condition = network, condition
        self._known = [self._conditioned(kind, None) for kind in range(len(condition))]
        self._threads = torch.get_num_threads()
        self._free: SimpleQueue[Scratch] = SimpleQueue()
        for _ in range(self._threads):
            self._free.put(_scratch(self._packed))

    def surprisals(
        self,
        recordings: Sequence[np.ndarray],
        context: int = 0,
        frames: Sequence[FramesOf] | None = None,
    ) -> list[np.ndarray]:
        """See `wavegen.engines.base.Scorer`; `IndexError` for a code that there is not."""
        self._check(recordings)
        bits = [np.empty((len(self._known), len(each) - context)) for each in recordings]

        def work(job: _Job) -> None:
            number, kind, begin, end = job
            own = None if frames is None else frames[number]
            room = bits[number][kind, begin:end]
            self._fill(room, recordings[number], kind, context + end, own)

        self._by_all_threads(work, [each.shape[1] for each in bits], 1)
        return bits

    def totals(
        self,
        recordings: Sequence[np.ndarray],
        context: int = 0,
        frames: Sequence[FramesOf] | None = None,
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """See `wavegen.engines.base.Scorer`; `IndexError` for a code that there is not."""
        self._check(recordings)
        bits = [np.empty(len(each) - context) for each in recordings]
        sums = [np.zeros((len(self._known), -(-len(each) // SUMMED))) for each in bits]

        def work(job: _Job) -> None:
            number, kind, begin, end = job
            part = np.empty(end - begin) if kind else bits[number][begin:end]
            own = None if frames is None else frames[number]
            self._fill(part, recordings[number], kind, context + end, own)
            add_sums(sums[number][kind], part, begin)

        self._by_all_threads(work, list(map(len, bits)), SUMMED)
        return list(zip(sums, bits, strict=True))

    def blocks(
        self, blocks: Iterable[np.ndarray], frames: FramesOf | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """See `Scorer`."""
        return with_context(self.totals, self._history + 1, blocks, frames)

    @torch.inference_mode()
    def _conditioned(self, kind: int, frames: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """The bias (F, L, 2 * gate) of a condition, and the inputs of layers before a beginning."""
        given = None if frames is None else torch.from_numpy(frames)[None]
        # One by one, since the rounding of torch depends on the batch.
        labels = self._condition.labels[kind : kind + 1]
        bias = self._network.conditioning(Condition(labels, given))
        rings = [array(ring)[-1] for ring in fill_queues(self._network, bias[:, :1], None)]
        halves = padded(array(bias)[0].reshape(*bias.shape[1:3], 2, -1))
        return halves.reshape(*bias.shape[1:3], -1), padded(np.concatenate(rings))

    def _check(self, recordings: Sequence[np.ndarray]) -> None:
        for each in recordings:
            # The compiled code uses codes as indices without checks.
            if len(each) and not (each.min() >= 0 and each.max() < self._start_symbol):
                raise IndexError(f"codes must be from 0 to {self._start_symbol - 1}")

    def _fill(
        self, bits: np.ndarray, recording: np.ndarray, kind: int, end: int, frames: FramesOf | None
    ) -> None:
        """Fill `bits` with the bits of the codes of a recording before `end`."""
        first = max(0, end - len(bits) - self._history)
        codes = recording[max(0, first - 1) : end]
        if first == 0:
            codes = np.concatenate([[self._start_symbol], codes])
        if frames is None:
            (bias, start), hop, place = self._known[kind], NEVER, 0
        else:
            hop = self._network.hop or NEVER
            own = frames.between(first, end, hop, self._network.margin)
            bias, start = self._conditioned(kind, own.frames)
            place = own.first + first
        scratch = self._free.get()
        try:
            wavenet_scorer_kernel.surprise(
                self._packed,
                scratch,
                start,
                bias,
                hop,
                place,
                np.ascontiguousarray(codes, dtype=np.int64),
                bits,
            )
        finally:
            self._free.put(scratch)

    def _by_all_threads(
        self, work: Callable[[_Job], None], times: Sequence[int], grain: int
    ) -> None:
        """Work on every piece, cut at multiples of `grain` samples, under every condition."""
        # The longest first, so that no thread starts a long one at the end.
        ordered = sorted(self._jobs(times, grain), key=lambda job: job.begin - job.end)
        if len(ordered) == 1 or self._threads == 1:
            for job in ordered:
                work(job)
            return
        with ThreadPoolExecutor(self._threads) as pool:
            list(pool.map(work, ordered))

    def _jobs(self, times: Sequence[int], grain: int) -> Iterator[_Job]:
        for number, time in enumerate(times):
            grains = -(-time // grain)
            # Pieces of equal length, since a thread may have only one of them.
            cuts = np.linspace(0, grains, min(grains, -(-time // self._piece)) + 1).astype(int)
            for begin, end in pairwise(np.minimum(cuts * grain, time).tolist()):
                for kind in range(len(self._known)):
                    yield _Job(number, kind, begin, end)


def compile_scorer() -> None:
    """Compile the scorer, or load it from disk."""
    small = WaveNetConfig(layers=1, stacks=1, residual_channels=1, gate_channels=2, skip_channels=1)
    network = WaveNet(small).requires_grad_(False)
    scorer = NumbaScorer(network, network.unspecified())
    try:
        scorer.surprisals([np.zeros(1, np.int64)])
    except FAILURES:
        wavenet_scorer_kernel.keep_nothing()
        scorer.surprisals([np.zeros(1, np.int64)])


def _scratch(packed: Packed) -> Scratch:
    residual, outputs = packed.embedding.shape[1], len(packed.output_bias)
    gate, skip = packed.columns[1, 1], len(packed.skip_bias)
    ends = [*accumulate(int(back) + _BLOCK for back in np.diff(packed.rings))]
    return Scratch(
        np.empty((ends[-1], residual), np.float32),
        np.array([0, *ends[:-1]]),
        *(np.empty((_BLOCK, width), np.float32) for width in (2 * gate, gate, skip, skip, outputs)),
    )
