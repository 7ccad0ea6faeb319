"""The compiled scorer: bits of known codes, by the whole network over blocks of time.

torch would need some three hundred passes over memory. Here each block stays in the caches of a
core, and every core has its own recordings. The rounding of the bits of a sample does not depend
on where a recording is cut or what else is scored.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, pairwise
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np
import torch

from wavegen.codecs.windows import SUMMED, add_sums
from wavegen.engines.cpu import vectors
from wavegen.engines.cpu.cache import FAILURES, digest, kept, not_kept
from wavegen.engines.cpu.vectors import LANES, exp32, gated, helper, multiply_many, rectify
from wavegen.engines.cpu.wavenet_packing import Packed, array, pack, padded
from wavegen.engines.reference_scorer import with_context
from wavegen.models.condition import Condition
from wavegen.models.config import WaveNetConfig
from wavegen.models.wavenet import WaveNet
from wavegen.models.wavenet_state import fill_queues

# Samples between two passes over the weights: few enough that the gates of a block stay in the L2
# cache, and enough that reading the weights costs little.
_BLOCK = 256
# Samples of a piece of work. The history of each piece is computed again.
_PIECE = 1 << 15


class Scratch(NamedTuple):
    """The buffers of a thread."""

    inputs: np.ndarray  # float32 (slots, R): of each layer its past, then those of the block
    begins: np.ndarray  # int64 (L,): first slot of each layer
    total: np.ndarray  # float32 (block, 2 * gate)
    gates: np.ndarray  # float32 (block, gate)
    sums: np.ndarray  # float32 (block, S)
    hidden: np.ndarray  # float32 (block, S)
    out: np.ndarray  # float32 (block, Q), padded


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
        # One by one, since the rounding of torch depends on the batch.
        biases = [network.conditioning(condition[at : at + 1]) for at in range(len(condition))]
        self._biases = [padded(array(b)[0, 0].reshape(b.shape[2], 2, -1)) for b in biases]
        self._starts = [
            padded(np.concatenate([array(ring)[-1] for ring in fill_queues(network, bias, None)]))
            for bias in biases
        ]
        self._threads = torch.get_num_threads()
        self._free: SimpleQueue[Scratch] = SimpleQueue()
        for _ in range(self._threads):
            self._free.put(_scratch(self._packed))

    def surprisals(self, recordings: Sequence[np.ndarray], context: int = 0) -> list[np.ndarray]:
        """See `wavegen.engines.base.Scorer`; `IndexError` for a code that there is not."""
        self._check(recordings)
        bits = [np.empty((len(self._biases), len(each) - context)) for each in recordings]

        def work(job: _Job) -> None:
            number, kind, begin, end = job
            self._fill(bits[number][kind, begin:end], recordings[number], kind, context + end)

        self._by_all_threads(work, [each.shape[1] for each in bits], 1)
        return bits

    def totals(
        self, recordings: Sequence[np.ndarray], context: int = 0
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """See `wavegen.engines.base.Scorer`; `IndexError` for a code that there is not."""
        self._check(recordings)
        bits = [np.empty(len(each) - context) for each in recordings]
        sums = [np.zeros((len(self._biases), -(-len(each) // SUMMED))) for each in bits]

        def work(job: _Job) -> None:
            number, kind, begin, end = job
            part = np.empty(end - begin) if kind else bits[number][begin:end]
            self._fill(part, recordings[number], kind, context + end)
            add_sums(sums[number][kind], part, begin)

        self._by_all_threads(work, list(map(len, bits)), SUMMED)
        return list(zip(sums, bits, strict=True))

    def blocks(self, blocks: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """See `Scorer`."""
        return with_context(self.totals, self._history + 1, blocks)

    def _check(self, recordings: Sequence[np.ndarray]) -> None:
        for each in recordings:
            # The compiled code uses codes as indices without checks.
            if len(each) and not (each.min() >= 0 and each.max() < self._start_symbol):
                raise IndexError(f"codes must be from 0 to {self._start_symbol - 1}")

    def _fill(self, bits: np.ndarray, recording: np.ndarray, kind: int, end: int) -> None:
        """Fill `bits` with the bits of the codes of a recording before `end`."""
        first = max(0, end - len(bits) - self._history)
        codes = recording[max(0, first - 1) : end]
        if first == 0:
            codes = np.concatenate([[self._start_symbol], codes])
        scratch = self._free.get()
        try:
            surprise(
                self._packed,
                scratch,
                self._starts[kind],
                self._biases[kind].reshape(len(self._biases[kind]), -1),
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
                for kind in range(len(self._biases)):
                    yield _Job(number, kind, begin, end)


def compile_scorer() -> None:
    """Compile the scorer, or load it from disk."""
    global surprise
    small = WaveNetConfig(layers=1, stacks=1, residual_channels=1, gate_channels=2, skip_channels=1)
    network = WaveNet(small).requires_grad_(False)
    scorer = NumbaScorer(network, network.unspecified())
    try:
        scorer.surprisals([np.zeros(1, np.int64)])
    except FAILURES:
        surprise = not_kept(surprise)
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


@helper
def _surprise(packed, scratch, start, bias, codes, bits):
    """See `surprise`."""
    inputs, total, gates, sums, hidden, out = (
        scratch.inputs, scratch.total, scratch.gates, scratch.sums, scratch.hidden, scratch.out
    )  # fmt: skip
    layers, doubled = bias.shape
    residual, gate, skip, outputs = inputs.shape[1], gates.shape[1], sums.shape[1], out.shape[1]
    count = codes.size - 1
    unscored = count - bits.size
    cursor, past = np.empty(2, np.int64), np.empty(2, np.int64)
    for layer in range(layers):
        begin = scratch.begins[layer]
        inputs[begin : begin + packed.rings[layer + 1] - packed.rings[layer]] = start[layer]
    for first in range(0, count, total.shape[0]):
        rows = min(total.shape[0], count - first)
        scored = first + rows > unscored
        cursor[:] = packed.past[layers]
        back = packed.rings[1] - packed.rings[0]
        for row in range(rows):
            code = codes[first + row]
            for i in range(residual):
                inputs[back + row, i] = packed.embedding[code, i]
        _fill(sums, rows, packed.skip_bias)
        _fill(hidden, rows, packed.hidden_bias)
        _fill(out, rows, packed.output_bias)
        for layer in range(layers):
            begin, back = scratch.begins[layer], packed.rings[layer + 1] - packed.rings[layer]
            newest = begin + back
            _fill(total, rows, bias[layer])
            past[:] = packed.past[layer]
            for ago in range(0, back, packed.dilations[layer]):
                multiply_many(
                    packed, past, total, 0, doubled, doubled,
                    inputs, (begin + ago) * residual, residual, rows,
                )  # fmt: skip
            multiply_many(
                packed, cursor, total, 0, doubled, doubled,
                inputs, newest * residual, residual, rows,
            )  # fmt: skip
            for row in range(rows):
                gated(total[row], gate, packed.linear, gates[row])
            if layer < layers - 1:
                ahead = packed.rings[layer + 2] - packed.rings[layer + 1]
                following = scratch.begins[layer + 1] + ahead
                for row in range(rows):
                    for i in range(residual):
                        value = inputs[newest + row, i] + packed.residual_bias[layer, i]
                        inputs[following + row, i] = value
                multiply_many(
                    packed, cursor, inputs, following * residual, residual, residual,
                    gates, 0, gate, rows,
                )  # fmt: skip
            if scored:
                multiply_many(packed, cursor, sums, 0, skip, skip, gates, 0, gate, rows)
            else:
                cursor[0] += gate * skip
            for slot in range(begin, newest):
                for i in range(residual):
                    inputs[slot, i] = inputs[slot + rows, i]
        if scored:
            rectify(sums[:rows], 0, skip)
            multiply_many(packed, cursor, hidden, 0, skip, skip, sums, 0, skip, rows)
            rectify(hidden[:rows], 0, skip)
            multiply_many(packed, cursor, out, 0, outputs, outputs, hidden, 0, skip, rows)
            for row in range(max(0, unscored - first), rows):
                target = codes[first + row + 1]
                bits[first + row - unscored] = _bits(out[row], packed.codes, target)


@helper
def _fill(array, rows, values):
    for row in range(rows):
        for i in range(array.shape[1]):
            array[row, i] = values[i]


@helper
def _bits(logits, codes, target):
    """-log2 of the softmax of logits, padded to a multiple of LANES, at the target."""
    width = np.int64(LANES)
    # In parallel lanes, since a compiler may not reorder a plain sum of floats.
    lanes = np.empty(LANES, np.float32)
    lanes[:] = logits[0]
    chosen = logits[target]
    for first in range(0, codes - codes % width, width):
        for lane in range(LANES):
            lanes[lane] = max(lanes[lane], logits[first + lane])
    most = lanes[0]
    for lane in range(1, LANES):
        most = max(most, lanes[lane])
    for code in range(codes - codes % width, codes):
        most = max(most, logits[code])
    for code in range(codes):
        logits[code] = exp32(max(logits[code] - most, np.float32(-87)))
    lanes[:] = 0
    for first in range(0, codes - codes % width, width):
        for lane in range(LANES):
            lanes[lane] += logits[first + lane]
    total = 0.0
    for lane in range(LANES):
        total += np.float64(lanes[lane])
    for code in range(codes - codes % width, codes):
        total += np.float64(logits[code])
    return (math.log(total) + np.float64(most) - np.float64(chosen)) * (1 / math.log(2))


def _entry() -> Any:
    sources = digest(vectors)

    def surprise(packed, scratch, start, bias, codes, bits):
        """Bits of the last codes of a sequence.

        Args:
            packed: `Packed` in float32, for a team of one.
            scratch: `Scratch`.
            start: float32 (L, R), the input of every layer before the first code.
            bias: float32 (L, 2 * gate).
            codes: int64 (1 + N,).
            bits: float64 (T,), T <= N; filled for the last T codes.
        """
        if len(sources):
            _surprise(packed, scratch, start, bias, codes, bits)

    return kept(surprise)


surprise = _entry()
