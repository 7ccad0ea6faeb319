"""The compiled loop over time: queues, matrix-vector products, gates, softmax and the draw.

One call generates a whole chunk, without Python or allocations for each sample.
"""

from typing import Any, NamedTuple

import numpy as np

from wavegen.engines.cpu import draw as drawing
from wavegen.engines.cpu import vectors
from wavegen.engines.cpu.cache import digest, kept, not_kept
from wavegen.engines.cpu.draw import draw
from wavegen.engines.cpu.vectors import (
    gated,
    helper,
    multiply,
    publish,
    published,
    rectify,
    yield_core,
)

# Number of times that a thread checks the arrival of the others before it yields its core: about
# the time of one sample, so that it yields only if there are fewer cores than threads.
_PATIENCE = 10_000


class Team(NamedTuple):
    """The state of some streams. With guidance a stream has two rows, else one."""

    newest: np.ndarray  # int64 (streams,): the last code
    queues: np.ndarray  # float32 (slots, rows, R)
    stream: np.ndarray  # float32 (rows, R)
    gates: np.ndarray  # float32 (2, rows, gate): of this layer and the one before
    sums: np.ndarray  # float32 (rows, S)
    hidden: np.ndarray  # float32 (rows, S)
    out: np.ndarray  # float32 (rows, Q), padded
    arrived: np.ndarray  # int64 (members, 8): meetings of each, each on a line of the cache


class Member(NamedTuple):
    """The state of a thread that works on the streams of a team."""

    number: int
    bias: np.ndarray  # float32 (L, rows, 2 * gate), its columns of both halves
    ahead: np.ndarray  # float32 (steps, rows, 2 * gate): sums without the newest tap
    time: np.ndarray  # int64 (1,): steps taken


@helper
def _arrive(team, member):
    """Tell the others that everything written so far can be read."""
    publish(team.arrived, member.number, team.arrived[member.number, 0] + 1)


@helper
def _wait(team, member):
    """Wait until all others have arrived as many times."""
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
                # The earlier inputs of the next steps are all known, so their products share one
                # pass over the weights.
                past[:] = packed.past[layer]
                for later in range(steps):
                    ahead[later] = member.bias[layer]
                # Taps are a dilation apart in the ring, the oldest at the place to be overwritten.
                for ago in range(0, length, packed.dilations[layer]):
                    slot = begin + (place + ago) % length
                    multiply(
                        packed, past, ahead, 0, doubled, doubled,
                        queues, slot * rows * residual, residual, steps * rows,
                    )  # fmt: skip
            total = ahead[time % steps]
            _wait(team, member)
            multiply(packed, cursor, total, 0, doubled, doubled, stream, 0, residual, rows)
            # Other members may still be adding the gates of the previous layer to their sums.
            gates = team.gates[layer % 2]
            for row in range(rows):
                gated(total[row], own_gates, packed.linear, gates[row, g0:g1])
            _arrive(team, member)
            _wait(team, member)
            queues[begin + place, :, r0:r1] = stream[:, r0:r1]
            if layer < last:
                for row in range(rows):
                    stream[row, r0:r1] += packed.residual_bias[layer, r0:r1]
                multiply(packed, cursor, stream, r0, residual, r1 - r0, gates, 0, gate, rows)
                _arrive(team, member)
            multiply(packed, cursor, sums, s0, skip, s1 - s0, gates, 0, gate, rows)
        rectify(sums, s0, s1)
        _arrive(team, member)
        _wait(team, member)
        multiply(packed, cursor, hidden, s0, skip, s1 - s0, sums, 0, skip, rows)
        rectify(hidden, s0, s1)
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


def keep_nothing() -> None:
    """Compile for this process only."""
    global run
    run = not_kept(run)


def _entry() -> Any:
    sources = digest(vectors, drawing)

    def run(packed, team, member, how, noise, codes, logits):
        """Continue the streams of a team, by drawing codes or with given codes.

        All members of the team must run this at the same time, each in its own thread.

        Args:
            packed: `Packed`.
            team: `Team`; changed.
            member: `Member`; changed.
            how: `wavegen.engines.cpu.draw.How`.
            noise: float64 (streams, T); with T = 0 if codes are given.
            codes: int64 (streams, T), drawn or given.
            logits: float32 (streams, T, Q), written if codes are given; otherwise with T = 0.
        """
        if len(sources):
            _run(packed, team, member, how, noise, codes, logits)

    return kept(run)


run = _entry()
