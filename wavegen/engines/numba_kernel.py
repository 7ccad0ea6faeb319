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
from wavegen.engines.numba_vectors import (
    OPTIONS,
    exp32,
    helper,
    multiply,
    publish,
    published,
    yield_core,
)

# Steps for which the earlier taps of a layer are worked out at once, if its dilation is
# a multiple.
AHEAD = 8
# Looks at the others' arrival before a core is offered to other threads: about the time
# of one sample, so that it happens only where there are fewer cores than threads.
_PATIENCE = 10_000


class Packed(NamedTuple):
    """A network as a member of a team reads it: its columns of every product.

    All channels are padded to multiples of UNIT. First come the earlier taps of all layers,
    read once in AHEAD samples where the dilation allows; then what is read from front to
    back for every sample.
    """

    weights: np.ndarray  # float32, uint16 (bfloat16) or int8, tile after tile
    scales: np.ndarray  # float32, one for each output of each product; for int8 only
    embedding: np.ndarray  # float32 (Q + 1, R)
    residual_bias: np.ndarray  # float32 (L, R)
    skip_bias: np.ndarray  # float32 (S,)
    hidden_bias: np.ndarray  # float32 (S,)
    output_bias: np.ndarray  # float32 (Q,), padded
    dilations: np.ndarray  # int64 (L,)
    rings: np.ndarray  # int64 (L + 1,): first slot of each layer's ring
    aheads: np.ndarray  # int64 (L + 1,): first slot of each layer's steps in `Member.ahead`
    past: np.ndarray  # int64 (L + 1, 2): where weights and scales of its earlier taps begin
    columns: np.ndarray  # int64 (4, 2), from and to: of residual, gate, skip, output channels
    codes: int  # Q, without padding


class Team(NamedTuple):
    """What some streams remember. With guidance a stream has two rows, else one."""

    newest: np.ndarray  # int64 (streams,): the last code
    queues: np.ndarray  # float32 (slots, rows, R)
    stream: np.ndarray  # float32 (rows, R)
    gates: np.ndarray  # float32 (2, rows, gate): of this layer and the one before
    sums: np.ndarray  # float32 (rows, S)
    hidden: np.ndarray  # float32 (rows, S)
    out: np.ndarray  # float32 (rows, Q), padded
    arrived: np.ndarray  # int64 (members, 8): meetings of each, each on a line of the cache


class Member(NamedTuple):
    """A thread that works on the streams of a team."""

    number: int
    bias: np.ndarray  # float32 (L, rows, 2 * gate), its columns of both halves
    ahead: np.ndarray  # float32 (steps, rows, 2 * gate): sums without the newest tap
    time: np.ndarray  # int64 (1,): steps taken


@helper
def _gated(total, channels, out):
    """out = tanh * sigmoid of the two halves of `total`."""
    bound = np.float32(40)
    signals, gates = total[:channels], total[channels:]
    for i in range(channels):
        # Both written with exponentials share one division.
        signal = min(max(signals[i], -np.float32(10)), np.float32(10))
        gate = min(max(gates[i], -bound), bound)
        u = exp32(np.float32(-2) * signal)
        v = exp32(-gate)
        one = np.float32(1)
        out[i] = (one - u) / ((one + u) * (one + v))


@helper
def _arrive(team, member):
    """Tell the others that all written so far is theirs to read."""
    publish(team.arrived, member.number, team.arrived[member.number, 0] + 1)


@helper
def _wait(team, member):
    """Wait until all others have arrived as often."""
    meeting = team.arrived[member.number, 0]
    for other in range(team.arrived.shape[0]):
        spins = 0
        while published(team.arrived, other) < meeting:
            spins += 1
            if spins > _PATIENCE:
                yield_core()


@helper
def _run(packed, team, member, how, noise, codes, logits):
    """See `run`."""
    newest, queues, stream, sums, hidden, out = (
        team.newest, team.queues, team.stream, team.sums, team.hidden, team.out
    )  # fmt: skip
    layers, rows, doubled = member.bias.shape
    residual, skip, outputs = stream.shape[1], sums.shape[1], out.shape[1]
    gate, own_gates, last = team.gates.shape[2], doubled // 2, layers - 1
    (r0, r1), (g0, g1), (s0, s1), (q0, q1) = packed.columns
    forced = noise.shape[1] == 0
    probabilities, scratch = np.empty(packed.codes), np.empty(packed.codes)
    cursor, past = np.empty(2, np.int64), np.empty(2, np.int64)
    for t in range(codes.shape[1]):
        time = member.time[0]
        member.time[0] += 1
        cursor[:] = packed.past[layers]
        for row in range(rows):
            stream[row, r0:r1] = packed.embedding[newest[row % newest.size], r0:r1]
            sums[row, s0:s1] = packed.skip_bias[s0:s1]
            hidden[row, s0:s1] = packed.hidden_bias[s0:s1]
            out[row, q0:q1] = packed.output_bias[q0:q1]
        _arrive(team, member)
        for layer in range(layers):
            begin = packed.rings[layer]
            length = packed.rings[layer + 1] - begin
            place = time % length
            ahead = member.ahead[packed.aheads[layer] : packed.aheads[layer + 1]]
            steps = ahead.shape[0]
            if time % steps == 0:
                # Earlier inputs of the next steps are all known: their products share one
                # pass over the weights.
                past[:] = packed.past[layer]
                for later in range(steps):
                    ahead[later] = member.bias[layer]
                # Taps lie a dilation apart in the ring, the oldest at the place to be reused.
                for ago in range(0, length, packed.dilations[layer]):
                    slot = begin + (place + ago) % length
                    multiply(
                        packed, past, ahead, 0, doubled, doubled,
                        queues, slot * rows * residual, residual, steps * rows,
                    )  # fmt: skip
            total = ahead[time % steps]
            _wait(team, member)
            multiply(packed, cursor, total, 0, doubled, doubled, stream, 0, residual, rows)
            # The others may still add the gates of the layer before to their sums.
            gates = team.gates[layer % 2]
            for row in range(rows):
                _gated(total[row], own_gates, gates[row, g0:g1])
            _arrive(team, member)
            _wait(team, member)
            queues[begin + place, :, r0:r1] = stream[:, r0:r1]
            if layer < last:
                for row in range(rows):
                    stream[row, r0:r1] += packed.residual_bias[layer, r0:r1]
                multiply(packed, cursor, stream, r0, residual, r1 - r0, gates, 0, gate, rows)
                _arrive(team, member)
            multiply(packed, cursor, sums, s0, skip, s1 - s0, gates, 0, gate, rows)
        _rectify(sums, s0, s1)
        _arrive(team, member)
        _wait(team, member)
        multiply(packed, cursor, hidden, s0, skip, s1 - s0, sums, 0, skip, rows)
        _rectify(hidden, s0, s1)
        _arrive(team, member)
        _wait(team, member)
        multiply(packed, cursor, out, q0, outputs, q1 - q0, hidden, 0, skip, rows)
        _arrive(team, member)
        _wait(team, member)
        if member.number == 0:
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
        _arrive(team, member)
        _wait(team, member)


@helper
def _rectify(array, begin, end):
    for row in range(array.shape[0]):
        for i in range(begin, end):
            array[row, i] = max(array[row, i], np.float32(0))


def _kept(function: Callable[..., Any]) -> Any:
    """`function` compiled at its first call, and kept on disk for the next process."""
    try:
        return numba.njit(function, cache=True, **OPTIONS)
    except RuntimeError:  # neither beside the code nor in the home can anything be written
        before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, _temporary_folder()
        try:
            return numba.njit(function, cache=bool(numba.config.CACHE_DIR), **OPTIONS)
        finally:
            numba.config.CACHE_DIR = before


def _temporary_folder() -> str:
    """A folder that is ours alone, for what lies in it is run; "" if there is none."""
    try:
        folder = Path(tempfile.gettempdir()) / f"wavegen-numba-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except (OSError, AttributeError):  # no such folder, or a system without user numbers
        return ""
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return str(folder) if ours and not found.st_mode & 0o077 else ""


def keep_nothing() -> None:
    """Compile for this process only."""
    global run
    run = numba.njit(run.py_func, **OPTIONS)


def _entry() -> Any:
    # Numba keeps compiled code by the contents of this file and by what a function closes
    # over: so that it is renewed when the other files change.
    sources = "".join(
        hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest()
        for module in (numba_vectors, numba_draw)
    )

    def run(packed, team, member, how, noise, codes, logits):
        """Take the streams of a team on, by drawing or by force.

        All members of the team must run this at once, each on a thread of its own.

        Args:
            packed: `Packed`.
            team: `Team`; changed.
            member: `Member`; changed.
            how: `numba_draw.How`.
            noise: float64 (streams, T); of no length where codes are given.
            codes: int64 (streams, T): drawn, or given.
            logits: float32 (streams, T, Q), filled where codes are given, else of no length.
        """
        if len(sources):
            _run(packed, team, member, how, noise, codes, logits)

    return _kept(run)


run = _entry()
