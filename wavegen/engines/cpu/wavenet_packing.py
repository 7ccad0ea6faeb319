"""A network as the compiled code reads it."""

import math
import mmap
from contextlib import suppress
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from wavegen.engines.cpu.vectors import LANES, TILES, UNIT
from wavegen.engines.precision import PRECISIONS, products, quantise
from wavegen.models.wavenet import WaveNet

# Steps for which the earlier taps of a layer are worked out at once, if its dilation is
# a multiple.
AHEAD = 8
_HUGE_PAGE = 1 << 21
# Threads that share the work of one stream, where there are more threads than streams:
# beyond two nothing has been measured.
_MOST_MEMBERS = 2
# Bytes of weights from which that pays: what no longer fits the L2 cache of one core.
# Below it the forty meetings of a sample cost as much as is saved.
_WORTH_SHARING = 2 << 20


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
    linear: bool  # whether the signal of a gate goes through no tanh


def members_of_a_team(network: WaveNet, precision: str, threads: int) -> int:
    """Threads that share the work of a stream, of so many that it could have."""
    config = network.config
    channels = (config.residual_channels, config.gate_channels // 2, config.skip_channels)
    if max(channels) <= UNIT:
        return 1  # there is nothing to share
    size = sum(weight.numel() for weight, _ in products(network)) * PRECISIONS[precision]
    return max(1, min(threads, _MOST_MEMBERS)) if size >= _WORTH_SHARING else 1


def pack(network: WaveNet, precision: str, members: int) -> list[Packed]:
    """The network as each member of a team reads it, from what its weights are now."""
    config = network.config
    widths = {
        "residual": whole(config.residual_channels),
        "gate": whole(config.gate_channels // 2),
        "skip": whole(config.skip_channels),
        "output": whole(config.quantization_channels),
    }
    columns = {
        kind: UNIT * (np.arange(members + 1) * (width // UNIT) // members)
        for kind, width in widths.items()
    }
    weights: list[list[np.ndarray]] = [[] for _ in range(members)]
    scales: list[list[np.ndarray]] = [[np.empty(0, np.float32)] for _ in range(members)]
    for weight, kind in products(network):
        stored, scale = quantise(weight, precision)
        halves = 2 if kind == "gate" else 1
        half, inputs = stored.shape[0] // halves, stored.shape[1]
        matrix = np.zeros((whole(inputs), halves, widths[kind]), stored.dtype)
        matrix[:inputs, :, :half] = stored.T.reshape(inputs, halves, half)
        scale = padded(scale.reshape(halves, half))
        for member, (begin, end) in enumerate(pairwise(columns[kind])):
            weights[member] += _tiles(matrix[:, :, begin:end].reshape(len(matrix), -1))
            if precision == "int8":
                scales[member].append(scale[:, begin:end].ravel())
    common = _common(network)
    packed = []
    for member in range(members):
        own = np.array([columns[kind][member : member + 2] for kind in widths])
        gates = 2 * (own[1, 1] - own[1, 0])
        past = (
            (config.kernel_size - 1) * gates * np.array([widths["residual"], precision == "int8"])
        )
        packed.append(
            Packed(
                weights=in_huge_pages(weights[member]),
                scales=np.concatenate(scales[member]),
                past=np.arange(config.layers + 1)[:, None] * past,
                columns=own,
                **common,
            )
        )
    return packed


def _common(network: WaveNet) -> dict[str, Any]:
    """The fields of `Packed` that are the same for every member of a team."""
    config = network.config
    # The last block has none; without it a single block would leave nothing to stack.
    none = torch.zeros(config.residual_channels)
    residual_biases = [
        array(none if block.projection is None else block.projection.bias)
        for block in network.blocks
    ]
    rings = [(config.kernel_size - 1) * dilation for dilation in config.dilations]
    return {
        "embedding": padded(array(network.embedding.weight)),
        "residual_bias": padded(np.stack(residual_biases)),
        "skip_bias": padded(array(network.skip.bias)),
        "hidden_bias": padded(array(network.hidden.bias)),
        "output_bias": padded(array(network.output.bias)),
        "dilations": np.array(config.dilations),
        "rings": np.array([0, *accumulate(rings)]),
        "aheads": np.array([0, *accumulate(math.gcd(AHEAD, each) for each in config.dilations)]),
        "codes": config.quantization_channels,
        "linear": config.gate == "linear",
    }


def _tiles(matrix: np.ndarray) -> list[np.ndarray]:
    """A matrix (inputs, outputs) as the tiles that `numba_kernel` reads one after another."""
    tiles, begin = [], 0
    while vectors := (matrix.shape[1] - begin) // LANES:
        vectors = next(each for each in TILES if each <= vectors)
        tile = matrix[:, begin : begin + vectors * LANES]
        if matrix.dtype == np.uint16 and vectors > 1:
            # One vector in the lower and the next in the upper halves of 32-bit words.
            tile = tile.reshape(len(tile), vectors // 2, 2, LANES).swapaxes(2, 3)
        tiles.append(tile.ravel())
        begin += vectors * LANES
    return tiles


def in_huge_pages(parts: list[np.ndarray]) -> np.ndarray:
    """The parts one after another, in huge pages where the system has them.

    All weights are read for every sample: in ordinary pages most of the time that an L2
    cache takes to deliver them is spent on finding the pages (measured: 80 against 150 GB/s).
    """
    count, dtype = sum(part.size for part in parts), parts[0].dtype
    size = -(-count * dtype.itemsize // _HUGE_PAGE) * _HUGE_PAGE
    memory = mmap.mmap(-1, size + _HUGE_PAGE)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    whole = np.frombuffer(memory, np.uint8)
    begin = -whole.ctypes.data % _HUGE_PAGE
    return np.concatenate(parts, out=whole[begin : begin + size].view(dtype)[:count])


def array(tensor: Tensor) -> np.ndarray:
    """A tensor as float32 in memory."""
    return tensor.detach().to("cpu", torch.float32).numpy()


def whole(channels: int) -> int:
    """The next multiple of UNIT."""
    return -(-channels // UNIT) * UNIT


def padded(narrow: np.ndarray) -> np.ndarray:
    """A contiguous copy with its last dimension padded with zeros to a multiple of UNIT."""
    wide = np.zeros((*narrow.shape[:-1], whole(narrow.shape[-1])), narrow.dtype)
    wide[..., : narrow.shape[-1]] = narrow
    return wide
