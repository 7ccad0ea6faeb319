"""The compiled loop over time: queues, matrix-vector products, gates, softmax and the draw.

One call generates a whole chunk with no Python and no allocation per sample.
"""

import hashlib
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np

from wavegen.engines import numba_draw, numba_vectors
from wavegen.engines.numba_draw import draw
from wavegen.engines.numba_vectors import OPTIONS, exp32, helper, multiply

# Steps for which the earlier taps of a layer are worked out at once, if its dilation is
# a multiple.
AHEAD = 8


class Packed(NamedTuple):
    """A network as the kernel reads it; all channels padded to multiples of UNIT.

    First come the earlier taps of all layers, read once in AHEAD samples where the
    dilation allows; then what is read from front to back for every sample.
    """

    weights: np.ndarray  # float32, uint16 (bfloat16) or int8, tile after tile
    scales: np.ndarray  # float32, one for each output of each product; for int8 only
    embedding: np.ndarray  # float32 (Q + 1, R)
    residual_bias: np.ndarray  # float32 (L, R)
    head_bias: np.ndarray  # float32 (S + S + Q,): skip, hidden, output
    dilations: np.ndarray  # int64 (L,)
    rings: np.ndarray  # int64 (L + 1,): first slot of each layer's ring
    aheads: np.ndarray  # int64 (L + 1,): first slot of each layer's steps in `Streams.ahead`
    past: np.ndarray  # int64 (L + 1, 2): where weights and scales of its earlier taps begin
    gate: int  # channels of one half
    skip: int
    codes: int  # Q, without padding


class Streams(NamedTuple):
    """What some streams remember. With guidance a stream has two rows, else one."""

    bias: np.ndarray  # float32 (L, rows, 2 * gate)
    queues: np.ndarray  # float32 (slots, rows, R)
    ahead: np.ndarray  # float32 (steps, rows, 2 * gate): sums without the newest tap
    newest: np.ndarray  # int64 (streams,): the last code
    time: np.ndarray  # int64 (1,): steps taken


@helper
def _gated(total, at, channels, out, out_at):
    """out = tanh * sigmoid of the two halves of `total` from `at` on."""
    bound = np.float32(40)
    signals, gates = total[at : at + channels], total[at + channels : at + 2 * channels]
    results = out[out_at : out_at + channels]
    for i in range(channels):
        # Both written with exponentials share one division.
        signal = min(max(signals[i], -np.float32(10)), np.float32(10))
        gate = min(max(gates[i], -bound), bound)
        u = exp32(np.float32(-2) * signal)
        v = exp32(-gate)
        one = np.float32(1)
        results[i] = (one - u) / ((one + u) * (one + v))


@helper
def _run(packed, streams, how, noise, codes, logits):
    """See `run`."""
    bias, queues, newest = streams.bias, streams.queues, streams.newest
    layers, rows, total_channels = bias.shape
    residual, gate, skip = queues.shape[2], packed.gate, packed.skip
    outputs = packed.head_bias.size - 2 * skip
    forced = noise.shape[1] == 0
    flat = queues.reshape(-1)
    stream = np.empty((rows, residual), np.float32)
    gates = np.empty(rows * gate, np.float32)
    sums = np.empty((rows, skip), np.float32)
    hidden = np.empty((rows, skip), np.float32)
    out = np.empty((rows, outputs), np.float32)
    probabilities = np.empty(packed.codes)
    scratch = np.empty(packed.codes)
    cursor, past = np.empty(2, np.int64), np.empty(2, np.int64)
    last = packed.dilations.size - 1
    for t in range(codes.shape[1]):
        cursor[:] = packed.past[layers]
        for row in range(rows):
            stream[row] = packed.embedding[newest[row % newest.size]]
            sums[row] = packed.head_bias[:skip]
            hidden[row] = packed.head_bias[skip : 2 * skip]
            out[row] = packed.head_bias[2 * skip :]
        for layer in range(layers):
            begin = packed.rings[layer]
            length = packed.rings[layer + 1] - begin
            place = streams.time[0] % length
            ahead = streams.ahead[packed.aheads[layer] : packed.aheads[layer + 1]]
            steps = ahead.shape[0]
            step = streams.time[0] % steps
            if step == 0:
                # Earlier inputs of the next steps are all known: their products share one
                # pass over the weights.
                past[:] = packed.past[layer]
                for later in range(steps):
                    ahead[later] = bias[layer]
                # Taps lie a dilation apart in the ring, the oldest at the place to be reused.
                for ago in range(0, length, packed.dilations[layer]):
                    slot = begin + (place + ago) % length
                    multiply(
                        packed, past, ahead.reshape(-1), total_channels,
                        flat, slot * rows * residual, residual, steps * rows, residual,
                        total_channels,
                    )  # fmt: skip
            total = ahead[step].reshape(-1)
            queues[begin + place] = stream
            now = stream.reshape(-1)
            multiply(
                packed, cursor, total, total_channels,
                now, 0, residual, rows, residual, total_channels,
            )  # fmt: skip
            for row in range(rows):
                _gated(total, row * total_channels, gate, gates, row * gate)
            if layer < last:
                for row in range(rows):
                    stream[row] += packed.residual_bias[layer]
                multiply(packed, cursor, now, residual, gates, 0, gate, rows, gate, residual)
            multiply(packed, cursor, sums.reshape(-1), skip, gates, 0, gate, rows, gate, skip)
        streams.time[0] += 1
        np.maximum(sums, np.float32(0), sums)
        multiply(
            packed, cursor, hidden.reshape(-1), skip, sums.reshape(-1), 0, skip, rows, skip, skip
        )
        np.maximum(hidden, np.float32(0), hidden)
        multiply(
            packed, cursor, out.reshape(-1), outputs,
            hidden.reshape(-1), 0, skip, rows, skip, outputs,
        )  # fmt: skip
        for row in range(newest.size):
            seen = out[row, : packed.codes]
            if rows > newest.size:
                for code in range(packed.codes):
                    unspecified = out[row + newest.size, code]
                    seen[code] = unspecified + how.guidance * (seen[code] - unspecified)
            if forced:
                logits[row, t] = seen
            else:
                codes[row, t] = draw(seen, noise[row, t], how, probabilities, scratch)
            newest[row] = codes[row, t]


def _kept(function: Callable[..., Any]) -> Any:
    """`function` compiled at its first call, and kept on disk for the next process."""
    try:
        return numba.njit(function, cache=True, **OPTIONS)
    except RuntimeError:  # neither beside the code nor in the home can anything be written
        return numba.njit(function, cache=_keep_in_temporary_folder(), **OPTIONS)


def _keep_in_temporary_folder() -> bool:
    """Point Numba to a folder that is ours alone, for what lies in it is run; False if none."""
    folder = Path(tempfile.gettempdir()) / f"wavegen-numba-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return False
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    if not ours or found.st_mode & 0o077:
        return False
    numba.config.CACHE_DIR = str(folder)
    return True


def _entry() -> Any:
    # Numba keeps compiled code by the contents of this file and by what a function closes
    # over: so that it is renewed when the other files change.
    sources = "".join(
        hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest()
        for module in (numba_vectors, numba_draw)
    )

    def run(packed, streams, how, noise, codes, logits):
        """Take some streams on, by drawing or by force.

        Args:
            packed: `Packed`.
            streams: `Streams`; changed.
            how: `numba_draw.How`.
            noise: float64 (streams, T); of no length where codes are given.
            codes: int64 (streams, T): drawn, or given.
            logits: float32 (streams, T, Q), filled where codes are given, else of no length.
        """
        if len(sources):
            _run(packed, streams, how, noise, codes, logits)

    return _kept(run)


run = _entry()
