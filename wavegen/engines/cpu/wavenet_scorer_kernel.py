"""The compiled pass over known codes: the whole network, block by block.

torch would need some three hundred passes over memory. Here each block stays in the caches of a
core.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from wavegen.engines.cpu import vectors
from wavegen.engines.cpu.cache import digest, kept, not_kept
from wavegen.engines.cpu.vectors import LANES, exp32, gated, helper, multiply_many, rectify


class Scratch(NamedTuple):
    """The buffers of a thread."""

    inputs: np.ndarray  # float32 (slots, R): of each layer its past, then those of the block
    begins: np.ndarray  # int64 (L,): first slot of each layer
    total: np.ndarray  # float32 (block, 2 * gate)
    gates: np.ndarray  # float32 (block, gate)
    sums: np.ndarray  # float32 (block, S)
    hidden: np.ndarray  # float32 (block, S)
    out: np.ndarray  # float32 (block, Q), padded


@helper
def _surprise(packed, scratch, start, bias, hop, place, codes, bits):
    """See `surprise`."""
    inputs, total, gates, sums, hidden, out = (
        scratch.inputs, scratch.total, scratch.gates, scratch.sums, scratch.hidden, scratch.out
    )  # fmt: skip
    layers, doubled = bias.shape[1:]
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
            for row in range(rows):
                frame = min(max((place + first + row) // hop, 0), bias.shape[0] - 1)
                for i in range(doubled):
                    total[row, i] = bias[frame, layer, i]
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


def keep_nothing() -> None:
    """Compile for this process only."""
    global surprise
    surprise = not_kept(surprise)


def _entry() -> Any:
    sources = digest(vectors)

    def surprise(packed, scratch, start, bias, hop, place, codes, bits):
        """Bits of the last codes of a sequence.

        Args:
            packed: `Packed` in float32, for a team of one.
            scratch: `Scratch`.
            start: float32 (L, R), the input of every layer before the first code.
            bias: float32 (F, L, 2 * gate), bias of each frame.
            hop: samples of a frame.
            place: number of the sample codes[1], counted from the beginning of the first frame.
            codes: int64 (1 + N,).
            bits: float64 (T,), T <= N; filled for the last T codes.
        """
        if len(sources):
            _surprise(packed, scratch, start, bias, hop, place, codes, bits)

    return kept(surprise)


surprise = _entry()
