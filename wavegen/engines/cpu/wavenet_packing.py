"""The weights of a network in the order in which the compiled code reads them."""

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

# Steps for which the earlier taps of a layer are computed together, if its dilation is a multiple.
AHEAD = 8
_HUGE_PAGE = 1 << 21
# Threads that share the work of one stream if there are more threads than streams. More than two
# have not been measured.
_MOST_MEMBERS = 2
# Least bytes of weights for sharing: more than the L2 cache of one core. With fewer, the forty
# synchronisations of a sample cost as much as is saved.
_WORTH_SHARING = 2 << 20


class Packed(NamedTuple):
    """The part of a network for a member of a team: its columns of every product.

    All channels are padded to multiples of UNIT. First come the earlier taps of all layers, which
    are read once in AHEAD samples if the dilation allows it. Then come the weights that are read
    in order for every sample.
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
    linear: bool  # whether the signal of a gate has no tanh


def members_of_a_team(network: WaveNet, precision: str, threads: int) -> int:
    """Number of threads that share the work of a stream, if it could have so many."""
    config = network.config
    channels = (config.residual_channels, config.gate_channels // 2, config.skip_channels)
    if max(channels) <= UNIT:
        return 1  # a single thread
    size = sum(weight.numel() for weight, _ in products(network)) * PRECISIONS[precision]
    return max(1, min(threads, _MOST_MEMBERS)) if size >= _WORTH_SHARING else 1


def pack(network: WaveNet, precision: str, members: int) -> list[Packed]:
    """The present weights of a network, packed for each member of a team."""
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
    # The last block has no bias; zeros for it, so that one block also has something to stack.
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
    """A matrix (inputs, outputs) as tiles, in the order in which the kernel reads them."""
    tiles, begin = [], 0
    while vectors := (matrix.shape[1] - begin) // LANES:
        vectors = next(each for each in TILES if each <= vectors)
        tile = matrix[:, begin : begin + vectors * LANES]
        if matrix.dtype == np.uint16 and vectors > 1:
            # One vector in the lower halves of 32-bit words, and the next in the upper halves.
            tile = tile.reshape(len(tile), vectors // 2, 2, LANES).swapaxes(2, 3)
        tiles.append(tile.ravel())
        begin += vectors * LANES
    return tiles


def in_huge_pages(parts: list[np.ndarray]) -> np.ndarray:
    """Concatenate the parts, in huge pages if the system has them.

    All weights are read for every sample. With ordinary pages most of the time of an L2 cache is
    spent on finding the pages (measured: 80 against 150 GB/s).
    """
    count, dtype = sum(part.size for part in parts), parts[0].dtype
    size = -(-count * dtype.itemsize // _HUGE_PAGE) * _HUGE_PAGE
    memory = mmap.mmap(-1, size + _HUGE_PAGE)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # this system has no huge pages
            memory.madvise(mmap.MADV_HUGEPAGE)
    whole = np.frombuffer(memory, np.uint8)
    begin = -whole.ctypes.data % _HUGE_PAGE
    return np.concatenate(parts, out=whole[begin : begin + size].view(dtype)[:count])


def array(tensor: Tensor) -> np.ndarray:
    """A tensor as a float32 array in memory."""
    return tensor.detach().to("cpu", torch.float32).numpy()


def whole(channels: int) -> int:
    """The next multiple of UNIT."""
    return -(-channels // UNIT) * UNIT


def padded(narrow: np.ndarray) -> np.ndarray:
    """A contiguous copy with its last dimension padded with zeros to a multiple of UNIT."""
    wide = np.zeros((*narrow.shape[:-1], whole(narrow.shape[-1])), narrow.dtype)
    wide[..., : narrow.shape[-1]] = narrow
    return wide
