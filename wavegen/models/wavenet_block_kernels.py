"""A residual block: one kernel forward, three backward; `wavenet_fused_block` launches them.

Values between the taps and the gate are not stored; the backward pass computes them again. No two
programs add to the same place, so equal inputs give equal gradients to the last bit.

Shapes: T steps of a stream, T' computed steps, N = T' * B rows of these, B batch, R residual, G
gate channels, H = G / 2, K taps. RP and HP are R and H padded to powers of two of at least 16, by
zeros that are never stored. LOST = T - T' steps are before the first computed one. Sums are
float32.
"""

import triton
import triton.language as tl

# Kernels are not compiled again for other values of these. They are for strides, since multiples of
# 16 are read faster.
_SIZES = ["TIME", "BATCH", "LOST", "DILATION"]


@triton.jit
def _matrix(start, row, there, stride, column, COLUMNS: tl.constexpr):
    """Rows of a matrix for which `there` is true; zeros elsewhere and beyond its columns."""
    place = start + row.to(tl.int64)[:, None] * stride + column[None, :]
    return tl.load(place, mask=there[:, None] & (column < COLUMNS)[None, :], other=0.0)


@triton.jit
def _steps(BATCH, TILE: tl.constexpr):
    """The element of the batch of a program, and its steps (TILE,)."""
    program = tl.program_id(0)
    return program % BATCH, program // BATCH * TILE + tl.arange(0, TILE)


@triton.jit
def _sums(
    stream,
    bias,
    kernel,
    own,
    step,
    TIME,
    BATCH,
    LOST,
    DILATION,
    BIAS_STRIDE,
    K: tl.constexpr,
    R: tl.constexpr,
    H: tl.constexpr,
    RP: tl.constexpr,
    HP: tl.constexpr,
    TILE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Sums of the taps and the bias: the signal and the gate, each (TILE, HP)."""
    r, h = tl.arange(0, RP), tl.arange(0, HP)
    own_bias = bias + own * BIAS_STRIDE + h
    signal = tl.load(own_bias, mask=h < H, other=0.0).to(tl.float32)
    signal = tl.zeros((TILE, HP), tl.float32) + signal[None, :]
    opening = tl.load(own_bias + H, mask=h < H, other=0.0).to(tl.float32)
    opening = tl.zeros((TILE, HP), tl.float32) + opening[None, :]
    for tap in tl.static_range(K):
        # The first step of a stream represents all steps before it.
        delayed = tl.maximum(step + LOST - (K - 1 - tap) * DILATION, 0)
        delayed = _matrix(stream, delayed * BATCH + own, step < TIME, R, r, R)
        weight = kernel + tap * 2 * H * R
        part = tl.trans(_matrix(weight, h, h < H, R, r, R))
        signal = tl.dot(delayed, part, signal, input_precision=PRECISION)
        part = tl.trans(_matrix(weight + H * R, h, h < H, R, r, R))
        opening = tl.dot(delayed, part, opening, input_precision=PRECISION)
    return signal, opening


@triton.jit(do_not_specialize=_SIZES)
def forward(
    stream,
    bias,
    kernel,
    weight,
    projection_bias,
    gate,
    following,
    BIAS_STRIDE,
    TIME,
    BATCH,
    LOST,
    DILATION,
    K: tl.constexpr,
    R: tl.constexpr,
    H: tl.constexpr,
    RP: tl.constexpr,
    HP: tl.constexpr,
    TILE: tl.constexpr,
    TANH: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The gate (T', B, H) and the next input (T', B, R), for TILE steps of one recording.

    Args:
        stream: (T, B, R).
        bias: rows (B, G) with the stride BIAS_STRIDE.
        kernel: (K, G, R), the oldest tap first.
        weight, projection_bias, following: (R, H), (R,) and the output; None in the last block.
    """
    own, step = _steps(BATCH, TILE)
    there, row = step < TIME, step * BATCH + own
    r, h = tl.arange(0, RP), tl.arange(0, HP)
    signal, opening = _sums(
        stream, bias, kernel, own, step, TIME, BATCH, LOST, DILATION, BIAS_STRIDE,
        K, R, H, RP, HP, TILE, PRECISION,
    )  # fmt: skip
    if TANH:
        signal = 2 * tl.sigmoid(2 * signal) - 1
    gated = (signal * tl.sigmoid(opening)).to(gate.dtype.element_ty)
    place = row.to(tl.int64)[:, None]
    tl.store(gate + place * H + h[None, :], gated, mask=there[:, None] & (h < H)[None, :])
    if weight is not None:
        newest = _matrix(stream, row + LOST * BATCH, there, R, r, R).to(tl.float32)
        total = newest + tl.load(projection_bias + r, mask=r < R, other=0.0)[None, :]
        part = tl.trans(_matrix(weight, r, r < R, H, h, H))
        total = tl.dot(gated, part, total, input_precision=PRECISION)
        total = total.to(following.dtype.element_ty)
        tl.store(following + place * R + r[None, :], total, mask=there[:, None] & (r < R)[None, :])


@triton.jit(do_not_specialize=_SIZES)
def of_sums(
    stream,
    bias,
    kernel,
    weight,
    of_following,
    of_gate,
    of_total,
    of_bias,
    BIAS_STRIDE,
    STRIDE,
    TIME,
    BATCH,
    LOST,
    DILATION,
    K: tl.constexpr,
    R: tl.constexpr,
    H: tl.constexpr,
    RP: tl.constexpr,
    HP: tl.constexpr,
    TILE: tl.constexpr,
    TANH: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The gradient of the sums of the taps, from those of the outputs of the block.

    Args:
        stream, bias, kernel, weight: as in `forward`.
        of_following: (T', B, R); not read without a `weight`.
        of_gate: rows (N, H) with the stride STRIDE.
        of_total: (T', B, G), written.
        of_bias: float32 (tiles, B, G), written: the share of each program in the gradient of the
            bias.
    """
    own, step = _steps(BATCH, TILE)
    there, row = step < TIME, step * BATCH + own
    r, h = tl.arange(0, RP), tl.arange(0, HP)
    signal, opening = _sums(
        stream, bias, kernel, own, step, TIME, BATCH, LOST, DILATION, BIAS_STRIDE,
        K, R, H, RP, HP, TILE, PRECISION,
    )  # fmt: skip
    gradient = _matrix(of_gate, row, there, STRIDE, h, H).to(tl.float32)
    if weight is not None:
        after = _matrix(of_following, row, there, R, r, R)
        part = _matrix(weight, r, r < R, H, h, H)
        gradient = tl.dot(after, part, gradient, input_precision=PRECISION)
    opening = tl.sigmoid(opening)
    if TANH:
        signal = 2 * tl.sigmoid(2 * signal) - 1
    of_opening = gradient * signal * opening * (1 - opening)
    of_signal = gradient * opening
    if TANH:
        of_signal *= 1 - signal * signal
    kept = there[:, None] & (h < H)[None, :]
    place = of_total + row.to(tl.int64)[:, None] * (2 * H) + h[None, :]
    tl.store(place, of_signal.to(of_total.dtype.element_ty), mask=kept)
    tl.store(place + H, of_opening.to(of_total.dtype.element_ty), mask=kept)
    place = of_bias + tl.program_id(0).to(tl.int64) * (2 * H) + h
    tl.store(place, tl.sum(of_signal, axis=0), mask=h < H)
    tl.store(place + H, tl.sum(of_opening, axis=0), mask=h < H)


@triton.jit(do_not_specialize=_SIZES)
def of_stream(
    of_total,
    of_following,
    kernel,
    result,
    TIME,
    BATCH,
    LOST,
    DILATION,
    K: tl.constexpr,
    R: tl.constexpr,
    H: tl.constexpr,
    RP: tl.constexpr,
    HP: tl.constexpr,
    TILE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The gradient (T, B, R) of the stream: each step gathers from the steps that used it.

    Args:
        of_total: (T', B, G).
        of_following: (T', B, R).
        kernel: (K, G, R).
        result: (T, B, R), written.
    """
    G: tl.constexpr = 2 * H
    own, place = _steps(BATCH, TILE)
    r, h = tl.arange(0, RP), tl.arange(0, HP)
    step = place - LOST
    total = _matrix(of_following, step * BATCH + own, (step >= 0) & (step < TIME), R, r, R)
    total = total.to(tl.float32)
    for tap in tl.static_range(K):
        delay = (K - 1 - tap) * DILATION
        later = step + delay
        used = (later >= 0) & (later < TIME)
        # From the beginning of a recording, steps before the delay of a tap use the first step.
        first = (tl.program_id(0) < BATCH) & (LOST == 0)
        count = tl.where(first, tl.minimum(delay, TIME), 0)
        for half in tl.static_range(2):
            of_half = of_total + half * H
            late = _matrix(of_half, later * BATCH + own, used, G, h, H)
            early = tl.zeros((HP,), tl.float32)
            start = count * 0
            while start < count:
                users = start + tl.arange(0, TILE)
                rows = _matrix(of_half, users * BATCH + own, users < count, G, h, H)
                early += tl.sum(rows.to(tl.float32), axis=0)
                start += TILE
            late += tl.where((place == 0)[:, None], early[None, :], 0.0).to(late.dtype)
            part = _matrix(kernel + (tap * G + half * H) * R, h, h < H, R, r, R)
            total = tl.dot(late, part, total, input_precision=PRECISION)
    there = (place < TIME + LOST)[:, None] & (r < R)[None, :]
    place = (place * BATCH + own).to(tl.int64)[:, None] * R + r[None, :]
    tl.store(result + place, total.to(result.dtype.element_ty), mask=there)


@triton.jit
def _over_rows(
    one,
    other,
    result,
    sums,
    begin,
    ROWS,
    shift,
    BATCH,
    PER: tl.constexpr,
    C: tl.constexpr,
    D: tl.constexpr,
    CP: tl.constexpr,
    DP: tl.constexpr,
    TILE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The transpose of PER rows of one (N, C) times rows of the other (., D): float32 (C, D).

    Rows of the other are `shift` rows later; instead of rows before its first step, that step is
    used. Sums of the rows of the first are stored in `sums` (C,) unless it is None.
    """
    c, d = tl.arange(0, CP), tl.arange(0, DP)
    total = tl.zeros((CP, DP), tl.float32)
    sum_of_one = tl.zeros((CP,), tl.float32)
    for start in range(0, PER, TILE):
        row = begin + start + tl.arange(0, TILE)
        there = row < ROWS
        left = _matrix(one, row, there, C, c, C)
        delayed = tl.where(row + shift < 0, row % BATCH, row + shift)
        right = _matrix(other, delayed, there, D, d, D)
        total = tl.dot(tl.trans(left), right, total, input_precision=PRECISION)
        if sums is not None:
            sum_of_one += tl.sum(left.to(tl.float32), axis=0)
    kept = (c < C)[:, None] & (d < D)[None, :]
    tl.store(result + c[:, None] * D + d[None, :], total, mask=kept)
    if sums is not None:
        tl.store(sums + c, sum_of_one, mask=c < C)


@triton.jit(do_not_specialize=_SIZES)
def of_weights(
    stream,
    gate,
    of_total,
    of_following,
    result,
    PER: tl.constexpr,
    TIME,
    BATCH,
    LOST,
    DILATION,
    K: tl.constexpr,
    R: tl.constexpr,
    H: tl.constexpr,
    RP: tl.constexpr,
    HP: tl.constexpr,
    TILE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The share of PER rows in the gradient of one of the weights.

    Args:
        stream: (T, B, R).
        gate: (T', B, H); None in the last block.
        of_total: (T', B, G).
        of_following: (T', B, R); not read in the last block.
        result: float32 (parts, W), written. Each row holds the gradients of the kernel (K, G, R)
            and, if there is a projection, of its weight (R, H) and bias (R,).
    """
    JOBS: tl.constexpr = K if gate is None else K + 1
    WIDTH: tl.constexpr = K * 2 * H * R + (0 if gate is None else R * H + R)
    part, job = tl.program_id(0) // JOBS, tl.program_id(0) % JOBS
    begin, rows = part * PER, TIME * BATCH
    own = result + part.to(tl.int64) * WIDTH
    if job < K:
        shift = (LOST - (K - 1 - job) * DILATION) * BATCH
        _over_rows(
            of_total, stream, own + job * 2 * H * R, None, begin, rows, shift, BATCH, PER,
            2 * H, R, 2 * HP, RP, TILE, PRECISION,
        )  # fmt: skip
    elif gate is not None:
        own += K * 2 * H * R
        _over_rows(
            of_following, gate, own, own + R * H, begin, rows, 0, BATCH, PER,
            R, H, RP, HP, TILE, PRECISION,
        )  # fmt: skip
