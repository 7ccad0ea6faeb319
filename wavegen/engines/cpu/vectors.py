"""Vector instructions for the compiled engine, which Numba itself does not offer.

Nearly all of the time of a sample is spent in one operation, the product of rows of inputs and
weights. `multiply` and `multiply_many` are this operation in LLVM vectors: the sums stay in
registers, bfloat16 and int8 are converted on the way, and weights are read in the order of memory.

A sum is always rounded in the same order, however many rows share a pass over the weights.
"""

import os
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_FEATURES = llvm.get_host_cpu_features()
# float32 numbers in a vector register.
LANES = 16 if _FEATURES.get("avx512f") else 8 if _FEATURES.get("avx2") else 4
# Number of vectors of sums that fit into the registers together with weights and inputs.
_SUMS = 8 if LANES == 8 else 24
# Parts of a sum that are computed in parallel, to hide the latency of multiply-adds if there are
# few rows; all channels are a multiple of it.
CHAINS = 2
# Possible numbers of vectors of outputs that are summed together: the largest that the rest of a
# row fills is used.
TILES = (4, 2, 1)
# All channels are padded to multiples of this.
UNIT = LANES
# Inputs of a product between two loads of its sums: 64 times 128 weights stay in L1 while all rows
# use them.
_BLOCK = 64
# Sums may use fused multiply-adds; nothing else may change their rounding.
OPTIONS = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
helper = numba.njit(**OPTIONS)


@intrinsic(prefer_literal=True)
def _product(
    typing, out, out_at, out_stride, x, x_at, x_stride, rows, w, w_at, scales, scales_at, inputs,
    V, chains,
):  # fmt: skip
    """out[row, :] += x[row, :inputs] @ w for V vectors of outputs; all arrays flat.

    Args:
        out, out_at, out_stride: float32 sums, the begin of row 0, and the distance of rows.
        x, x_at, x_stride: float32 inputs, the begin of row 0, and the distance of rows.
        rows: number of rows.
        w, w_at: weights (inputs, V * LANES); uint16 are bfloat16, whose vectors are stored in
            pairs, one in the lower and one in the upper halves of 32-bit words.
        scales, scales_at: scale of each output, for int8.
        inputs: number of inputs, a multiple of CHAINS.
        V: a literal of TILES.
        chains: a literal, number of parts of a sum that are computed in parallel.
    """
    signature = types.none(
        out, types.intp, types.intp, x, types.intp, types.intp, types.intp, w, types.intp,
        scales, types.intp, types.intp, V, chains,
    )  # fmt: skip
    vectors, side, dtype = V.literal_value, chains.literal_value, w.dtype
    most_rows = _SUMS // (max(TILES) * side)

    def generate(context, builder, signature, arguments):
        def pointer(array: int, offset: Any) -> Any:
            made = context.make_array(signature.args[array])
            return builder.gep(made(context, builder, arguments[array]).data, [offset])

        out, x, w = pointer(0, arguments[1]), pointer(3, arguments[4]), pointer(7, arguments[8])
        scales = pointer(9, arguments[10])
        out_stride, x_stride, rows, inputs = (arguments[at] for at in (2, 5, 6, 11))
        index, word = ir.IntType(64), ir.IntType(32)
        vector = ir.VectorType(ir.FloatType(), LANES)
        words = ir.VectorType(word, LANES)
        multiply_add = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fmuladd.v{LANES}f32"
        )

        def at(pointer: Any, offset: Any, kind: Any) -> Any:
            return builder.bitcast(builder.gep(pointer, [offset]), kind.as_pointer())

        def load(pointer: Any, offset: Any, kind: Any) -> Any:
            return builder.load(at(pointer, offset, kind), align=1)

        def splat(value: int) -> Any:
            return ir.Constant(words, [value] * LANES)

        def weights(row: Any) -> list[Any]:
            begin = builder.mul(row, index(vectors * LANES))
            places = [builder.add(begin, index(vector * LANES)) for vector in range(vectors)]
            if dtype == types.float32:
                return [load(w, place, vector) for place in places]
            if dtype == types.int8:
                narrow = ir.VectorType(ir.IntType(8), LANES)
                return [
                    builder.sitofp(builder.sext(load(w, place, narrow), words), vector)
                    for place in places
                ]
            if vectors == 1:
                narrow = ir.VectorType(ir.IntType(16), LANES)
                pairs = [builder.zext(load(w, places[0], narrow), words)]
            else:
                pairs = [load(w, place, words) for place in places[::2]]
            # The bits of a bfloat16 are the upper half of a float32.
            halves = [
                half
                for pair in pairs
                for half in (builder.shl(pair, splat(16)), builder.and_(pair, splat(-(1 << 16))))
            ]
            return [builder.bitcast(half, vector) for half in halves[:vectors]]

        def broadcast(number: Any) -> Any:
            undefined = ir.Constant(vector, ir.Undefined)
            first = builder.insert_element(undefined, number, word(0))
            return builder.shuffle_vector(first, undefined, splat(0))

        def some_rows(first: Any, count: int) -> None:
            zero = ir.Constant(vector, None)
            sums = [
                [cgutils.alloca_once(builder, vector) for _ in range(side * vectors)]
                for _ in range(count)
            ]
            for total in (total for row in sums for total in row):
                builder.store(zero, total)
            places = [builder.add(first, index(row)) for row in range(count)]
            with cgutils.for_range_slice(builder, index(0), inputs, index(side)) as (begin, _):
                for step in range(side):
                    entry = builder.add(begin, index(step))
                    loaded = weights(entry)
                    for row, place in enumerate(places):
                        offset = builder.add(builder.mul(place, x_stride), entry)
                        number = broadcast(builder.load(builder.gep(x, [offset])))
                        for column, weight in enumerate(loaded):
                            total = sums[row][step * vectors + column]
                            added = [weight, number, builder.load(total)]
                            builder.store(builder.call(multiply_add, added), total)
            for row, place in enumerate(places):
                for column in range(vectors):
                    chains = [builder.load(total) for total in sums[row][column::vectors]]
                    while len(chains) > 1:
                        pairs = zip(chains[::2], chains[1::2], strict=True)
                        chains = [builder.fadd(one, other) for one, other in pairs]
                    offset = builder.add(builder.mul(place, out_stride), index(column * LANES))
                    old = load(out, offset, vector)
                    if dtype == types.int8:
                        scale = load(scales, index(column * LANES), vector)
                        new = builder.call(multiply_add, [chains[0], scale, old])
                    else:
                        new = builder.fadd(chains[0], old)
                    builder.store(new, at(out, offset, vector), align=1)

        rest = builder.srem(rows, index(most_rows))
        whole = builder.sub(rows, rest)
        groups = cgutils.for_range_slice(builder, index(0), whole, index(most_rows))
        with groups as (first, _):
            some_rows(first, most_rows)
        for count in range(1, most_rows):
            with builder.if_then(builder.icmp_signed("==", rest, index(count))):
                some_rows(whole, count)
        return context.get_dummy_value()

    return signature, generate


def _multiplier(chains: int) -> Any:
    """Make a function that multiplies rows by weights, with so many parallel parts of a sum.

    It adds x[row] @ (the next product of `packed`) to out[row], and moves `cursor` behind it.

    Its arguments:
        packed: has `weights` and `scales`.
        cursor: int64 (2,), the places to read next in both.
        out: contiguous float32; row 0 begins at `out_at`, each next row after `out_stride`.
        outputs: channels of a row of `out`, a multiple of UNIT.
        x: contiguous float32; row 0 begins at `x_at`, each next row after `inputs`.
        inputs: channels of a row of `x`, a multiple of UNIT.
        rows: number of rows.
    """

    @helper
    def multiply(packed, cursor, out, out_at, out_stride, outputs, x, x_at, inputs, rows):
        place, scale = cursor[0], cursor[1]
        w, scales = packed.weights, packed.scales
        end = out_at + outputs
        while out_at < end:
            left = (end - out_at) // LANES
            # One of `TILES`; the product needs it as a literal.
            tile = 4 if left >= 4 else 2 if left >= 2 else 1
            for first in range(0, inputs, _BLOCK):
                part = min(_BLOCK, inputs - first)
                at = x_at + first
                if tile == 4:
                    _product(
                        out, out_at, out_stride, x, at, inputs, rows, w, place, scales, scale, part,
                        4, chains,
                    )  # fmt: skip
                elif tile == 2:
                    _product(
                        out, out_at, out_stride, x, at, inputs, rows, w, place, scales, scale, part,
                        2, chains,
                    )  # fmt: skip
                else:
                    _product(
                        out, out_at, out_stride, x, at, inputs, rows, w, place, scales, scale, part,
                        1, chains,
                    )  # fmt: skip
                place += part * tile * LANES
            scale += tile * LANES
            out_at += tile * LANES
        cursor[0] = place
        cursor[1] = scale

    return multiply


# For few rows and for many. The second is faster if other rows hide the latency of a sum.
multiply = _multiplier(CHAINS)
multiply_many = _multiplier(1)


@helper
def exp32(x):
    """exp in float32 for |x| < 87, to 2 units in the last place, in steps that vectorise."""
    power = np.int32(np.floor(x * np.float32(1.44269504) + np.float32(0.5)))
    n = np.float32(power)
    # ln 2 in two parts, so that the remainder is exact (Cody & Waite 1980).
    r = (x - n * np.float32(0.693359375)) + n * np.float32(2.12194440e-4)
    p = np.float32(1 / 5040)
    p = p * r + np.float32(1 / 720)
    p = p * r + np.float32(1 / 120)
    p = p * r + np.float32(1 / 24)
    p = p * r + np.float32(1 / 6)
    p = p * r + np.float32(0.5)
    p = p * r + np.float32(1.0)
    p = p * r + np.float32(1.0)
    return p * _as_float32(np.int32((power + np.int32(127)) << np.int32(23)))


@intrinsic
def _as_float32(typing, bits):
    """The float32 with the bits of an int32."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@helper
def gated(total, channels, linear, out):
    """out = signal * sigmoid of the two halves of `total`; the tanh of it if not linear."""
    bound = np.float32(40)
    signals, gates = total[:channels], total[channels:]
    if linear:
        for i in range(channels):
            v = exp32(-min(max(gates[i], -bound), bound))
            out[i] = signals[i] / (np.float32(1) + v)
        return
    for i in range(channels):
        # Written with exponentials, both share one division.
        signal = min(max(signals[i], -np.float32(10)), np.float32(10))
        gate = min(max(gates[i], -bound), bound)
        u = exp32(np.float32(-2) * signal)
        v = exp32(-gate)
        one = np.float32(1)
        out[i] = (one - u) / ((one + u) * (one + v))


@helper
def rectify(array, begin, end):
    """Replace negative numbers by 0 in columns of an array (rows, channels)."""
    for row in range(array.shape[0]):
        for i in range(begin, end):
            array[row, i] = max(array[row, i], np.float32(0))


@helper
def exp64(x):
    """exp in float64 for x <= 0, to 2 units in the last place; 0 below -708."""
    bounded = max(x, -708.0)
    power = np.int32(np.floor(bounded * 1.4426950408889634 + 0.5))
    n = np.float64(power)
    r = (bounded - n * 6.93145751953125e-1) - n * 1.42860682030941723212e-6
    p = 1 / 6227020800
    p = p * r + 1 / 479001600
    p = p * r + 1 / 39916800
    p = p * r + 1 / 3628800
    p = p * r + 1 / 362880
    p = p * r + 1 / 40320
    p = p * r + 1 / 5040
    p = p * r + 1 / 720
    p = p * r + 1 / 120
    p = p * r + 1 / 24
    p = p * r + 1 / 6
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    result = p * _as_float64((np.int64(power) + 1023) << 52)
    return result if x >= -708.0 else 0.0


@intrinsic
def _as_float64(typing, bits):
    """The float64 with the bits of an int64."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), generate


@intrinsic
def publish(typing, array, row, value):
    """array[row, 0] = value, after all earlier writes (release); contiguous int64."""

    def generate(context, builder, signature, arguments):
        place = _first_of_row(context, builder, signature, arguments)
        builder.store_atomic(arguments[2], place, "release", 8)
        return context.get_dummy_value()

    return types.none(array, types.intp, types.int64), generate


@intrinsic
def published(typing, array, row):
    """array[row, 0], before all later reads (acquire); contiguous int64."""

    def generate(context, builder, signature, arguments):
        place = _first_of_row(context, builder, signature, arguments)
        return builder.load_atomic(place, "acquire", 8)

    return types.int64(array, types.intp), generate


def _first_of_row(context, builder, signature, arguments):
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    stride = builder.extract_value(array.shape, 1)
    return builder.gep(array.data, [builder.mul(arguments[1], stride)])


if hasattr(os, "sched_yield"):
    yield_core = types.ExternalFunction("sched_yield", types.int32())
else:

    @helper
    def yield_core():
        """Do nothing: this system has no such call."""
