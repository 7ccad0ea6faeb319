"""The whole loop over time in one kernel, for a tile of streams in each program.

A program computes its streams from the first sample of a launch to the last. The activations of a
layer stay on chip, the weights of the next layer are fetched while one is computed, and the inputs
that dilated taps need later are in ring buffers in memory. Programs never wait for one another.

Shapes, padded to powers of two of at least 16: R residual, H half of the gate, S skip channels,
Q codes; K taps, L layers. Padding is zeros, and padded codes are never drawn.
"""

import triton
import triton.language as tl


@triton.jit
def _forward(
    code,
    row,
    time,
    weights,
    bias,
    rings,
    offsets,
    dilations,
    gates,
    sums,
    hidden,
    out,
    ROWS,
    LAYERS: tl.constexpr,
    K: tl.constexpr,
    R: tl.constexpr,
    H: tl.constexpr,
    S: tl.constexpr,
    Q: tl.constexpr,
    TILE: tl.constexpr,
    PART: tl.constexpr,
    COLUMNS: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
    TANH: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Write logits (TILE, Q) of the code after `code` (TILE,), and store inputs in the rings."""
    embedding, taps, projection, projection_bias, skip, skip_bias = weights[:6]
    hidden_weight, hidden_bias, output_weight, output_bias = weights[6:]
    r, h, part = tl.arange(0, R), tl.arange(0, H), tl.arange(0, PART)
    dtype = taps.dtype.element_ty
    stream = tl.load(embedding + code[:, None] * R + r[None, :])
    # Loads may be moved before the stores of earlier layers, since no load reads a value that the
    # same step stores: a ring has one place more than its taps reach back, for the newest input.
    for layer in tl.range(0, LAYERS, num_stages=STAGES):
        dilation, first = tl.load(dilations + layer), tl.load(offsets + layer)
        length = (K - 1) * dilation + 1
        place = time % length
        own = bias + ((row * LAYERS + layer) * 2 * H)[:, None] + h[None, :]
        signal, opening = tl.load(own), tl.load(own + H)
        weight = taps + layer * K * 2 * R * H + r[:, None] * H + h[None, :]
        # Taps are a dilation apart in the ring, the oldest after the place of the newest.
        for tap in tl.static_range(K - 1):
            slot = first + (place + 1 + tap * dilation) % length
            earlier = tl.load(rings + (slot * ROWS + row)[:, None] * R + r[None, :])
            signal = tl.dot(earlier, tl.load(weight), signal, input_precision=PRECISION)
            opening = tl.dot(earlier, tl.load(weight + R * H), opening, input_precision=PRECISION)
            weight += 2 * R * H
        newest = stream.to(dtype)
        signal = tl.dot(newest, tl.load(weight), signal, input_precision=PRECISION)
        opening = tl.dot(newest, tl.load(weight + R * H), opening, input_precision=PRECISION)
        tl.store(rings + ((first + place) * ROWS + row)[:, None] * R + r[None, :], newest)
        if TANH:
            # With an instruction of GPUs.
            signal = 1 - 2 / (1 + tl.exp(2 * signal))
        gate = (signal / (1 + tl.exp(-opening))).to(dtype)
        tl.store(gates + (row * LAYERS + layer)[:, None] * H + h[None, :], gate)
        weight = projection + layer * H * R + h[:, None] * R + r[None, :]
        stream += tl.load(projection_bias + layer * R + r)[None, :]
        stream = tl.dot(gate, tl.load(weight), stream, input_precision=PRECISION)
    # Through memory, part by part, since the factors of a product must fit on the chip.
    tl.debug_barrier()
    for begin in tl.range(0, S, COLUMNS, num_stages=1):
        s = begin + tl.arange(0, COLUMNS)
        total = tl.zeros((TILE, COLUMNS), tl.float32) + tl.load(skip_bias + s)[None, :]
        for layer in tl.range(0, LAYERS, num_stages=STAGES):
            factor = tl.load(gates + (row * LAYERS + layer)[:, None] * H + h[None, :])
            weight = tl.load(skip + layer * H * S + h[:, None] * S + s[None, :])
            total = tl.dot(factor, weight, total, input_precision=PRECISION)
        tl.store(sums + row[:, None] * S + s[None, :], tl.maximum(total, 0.0).to(dtype))
    tl.debug_barrier()
    for begin in tl.range(0, S, COLUMNS, num_stages=1):
        s = begin + tl.arange(0, COLUMNS)
        total = tl.zeros((TILE, COLUMNS), tl.float32) + tl.load(hidden_bias + s)[None, :]
        for start in tl.range(0, S, PART, num_stages=STAGES):
            factor = tl.load(sums + row[:, None] * S + start + part[None, :])
            weight = tl.load(hidden_weight + (start + part)[:, None] * S + s[None, :])
            total = tl.dot(factor, weight, total, input_precision=PRECISION)
        tl.store(hidden + row[:, None] * S + s[None, :], tl.maximum(total, 0.0).to(dtype))
    tl.debug_barrier()
    for begin in tl.range(0, Q, WIDE, num_stages=1):
        q = begin + tl.arange(0, WIDE)
        logits = tl.zeros((TILE, WIDE), tl.float32) + tl.load(output_bias + q)[None, :]
        for start in tl.range(0, S, PART, num_stages=STAGES):
            factor = tl.load(hidden + row[:, None] * S + start + part[None, :])
            weight = tl.load(output_weight + (start + part)[:, None] * Q + q[None, :])
            logits = tl.dot(factor, weight, logits, input_precision=PRECISION)
        tl.store(out + row[:, None] * Q + q[None, :], logits)


@triton.jit
def _kept(values, weights, budget, TILE: tl.constexpr):
    """Whether top-k or top-p keeps each of non-negative values (TILE, Q).

    A value is kept if the total weight of all values above it is less than `budget` (TILE,). The
    bits of such numbers have the same order as the numbers, so the lowest kept value is found by
    bisection of bits.
    """
    bits = values.to(tl.int32, bitcast=True)
    low = tl.full((TILE,), -1, tl.int32)
    high = tl.full((TILE,), 0x7F800000, tl.int32)
    for _ in tl.range(0, 32, num_stages=1):
        middle = low + (high - low) // 2
        above = tl.sum(tl.where(bits > middle[:, None], weights, 0.0), axis=1)
        enough = (above < budget) & (middle > low)
        high = tl.where(enough, middle, high)
        low = tl.where(enough, low, middle)
    return bits >= high[:, None]


@triton.jit
def _draw(
    logits,
    noise,
    temperature,
    top_k,
    top_p,
    CODES: tl.constexpr,
    Q: tl.constexpr,
    TILE: tl.constexpr,
    GREEDY: tl.constexpr,
    TOP_K: tl.constexpr,
    TOP_P: tl.constexpr,
):
    """`wavegen.distributions.sampling.draw`: codes int32 (TILE,)."""
    there = (tl.arange(0, Q) < CODES)[None, :]
    logits = tl.where(there, logits, float("-inf"))
    below = logits - tl.max(logits, axis=1)[:, None]
    # NaN, which is not above 0, if logits are not finite; otherwise at least 1.
    total = tl.sum(tl.exp(below), axis=1)
    if GREEDY:
        code = tl.argmax(logits, axis=1)
    else:
        values = tl.exp(below / temperature)
        if TOP_K:
            ones = tl.full((TILE, Q), 1.0, tl.float64)
            budget = tl.zeros((TILE,), tl.float64) + top_k
            values = tl.where(_kept(values, ones, budget, TILE), values, 0.0)
        if TOP_P:
            exact = values.to(tl.float64)
            budget = top_p * tl.sum(exact, axis=1)
            values = tl.where(_kept(values, exact, budget, TILE), values, 0.0)
        cumulative = tl.cumsum(values.to(tl.float64), axis=1)
        reach = noise * tl.max(cumulative, axis=1)
        code = tl.sum((cumulative < reach[:, None]).to(tl.int32), axis=1)
        code = tl.minimum(code, CODES - 1)
    return tl.where(total > 0, code, CODES).to(tl.int32)


# The kernel is not compiled again for other values of these.
@triton.jit(do_not_specialize=["time", "STEPS", "STREAMS"])
def run(
    newest,
    noise,
    codes,
    logits_out,
    weights,
    bias,
    rings,
    offsets,
    dilations,
    gates,
    sums,
    hidden,
    out,
    time,
    STEPS,
    STREAMS,
    ROWS,
    temperature,
    top_k,
    top_p,
    guidance,
    LAYERS: tl.constexpr,
    K: tl.constexpr,
    R: tl.constexpr,
    H: tl.constexpr,
    S: tl.constexpr,
    Q: tl.constexpr,
    CODES: tl.constexpr,
    TILE: tl.constexpr,
    PART: tl.constexpr,
    COLUMNS: tl.constexpr,
    WIDE: tl.constexpr,
    DRAWN: tl.constexpr,
    PRECISION: tl.constexpr,
    TANH: tl.constexpr,
    STAGES: tl.constexpr,
    GUIDED: tl.constexpr,
    FORCED: tl.constexpr,
    GREEDY: tl.constexpr,
    TOP_K: tl.constexpr,
    TOP_P: tl.constexpr,
):
    """Generate `STEPS` samples of every stream.

    Args:
        newest: int32 (ROWS / sets,), the newest code of each stream, read and written.
        noise: float64 (STREAMS, STEPS); not read if FORCED.
        codes: int64 (STREAMS, STEPS), written; or read if FORCED.
        logits_out: float32 (STREAMS, STEPS, CODES), written if FORCED.
        weights: result of `wavegen.engines.gpu.wavenet_triton.packed`.
        bias: float32 (ROWS, LAYERS, 2, H).
        rings: (slots, ROWS, R), those of all layers one after another.
        offsets, dilations: int64 and int32 (LAYERS,), the first slot of each layer.
        gates, sums, hidden, out: (ROWS, LAYERS, H), (ROWS, S) twice and (ROWS, Q), scratch.
        time: samples since the start.
        ROWS: streams, padded to tiles; twice as many if GUIDED, those without labels last.
        temperature, top_k, top_p, guidance: as in `wavegen.distributions.sampling.Sampling`.
    """
    first = tl.program_id(0) * TILE
    stream, q = first + tl.arange(0, TILE), tl.arange(0, Q)
    step = time * 0
    while step < STEPS:
        now, code = time + step, tl.load(newest + stream)
        # Streams with labels, then without, by the same code, since two copies need more registers.
        for number in tl.range(0, 2 if GUIDED else 1, num_stages=1):
            _forward(
                code, stream + number * (ROWS // 2), now, weights, bias, rings, offsets, dilations,
                gates, sums, hidden, out,
                ROWS, LAYERS, K, R, H, S, Q, TILE, PART, COLUMNS, WIDE, PRECISION, TANH, STAGES,
            )  # fmt: skip
        tl.debug_barrier()
        # A few streams at a time, to use fewer registers.
        for begin in tl.range(0, TILE, DRAWN, num_stages=1):
            some = first + begin + tl.arange(0, DRAWN)
            real = some < STREAMS
            place = some.to(tl.int64) * STEPS + step
            logits = tl.load(out + some[:, None] * Q + q[None, :])
            if GUIDED:
                plain = tl.load(out + (some + ROWS // 2)[:, None] * Q + q[None, :])
                logits = plain + guidance * (logits - plain)
            if FORCED:
                there = real[:, None] & (q < CODES)[None, :]
                tl.store(logits_out + place[:, None] * CODES + q[None, :], logits, mask=there)
                newer = tl.load(codes + place, mask=real, other=0).to(tl.int32)
            else:
                chance = tl.load(noise + place, mask=real, other=0.5)
                newer = _draw(
                    logits, chance, temperature, top_k, top_p, CODES, Q, DRAWN, GREEDY, TOP_K, TOP_P
                )
                tl.store(codes + place, newer.to(tl.int64), mask=real)
            tl.store(newest + some, newer)
        # All threads can read the stores of this step in the next one.
        tl.debug_barrier()
        step += 1
