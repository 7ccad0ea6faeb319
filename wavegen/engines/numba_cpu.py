"""The engine of the CPU: one compiled loop over time, for each core its share of the streams."""

import math
import mmap
import pickle
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import accumulate, pairwise
from threading import Barrier
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavegen.config import WaveNetConfig
from wavegen.engines import numba_kernel
from wavegen.engines.numba_draw import How
from wavegen.engines.numba_kernel import AHEAD, Member, Packed, Team
from wavegen.engines.numba_vectors import LANES, TILES, UNIT
from wavegen.engines.precision import PRECISIONS, products, quantise, rounded
from wavegen.engines.prefill import fill_queues
from wavegen.sampling import Sampling
from wavegen.wavenet import WaveNet

_HUGE_PAGE = 1 << 21
# Threads that share the work of one stream, where there are more threads than streams:
# beyond two nothing has been measured.
_MOST_MEMBERS = 2
# Bytes of weights from which that pays: what no longer fits the L2 cache of one core.
# Below it the forty meetings of a sample cost as much as is saved.
_WORTH_SHARING = 2 << 20


class NumbaCPU:
    """`wavegen.engines.Engine` on the CPU; its codes depend on neither chunks nor threads.

    Nor do they on the batch, but for what torch rounds by it before the first sample: the
    conditioning and what a prompt leaves in the queues.

    Args:
        network: its weights are read at every `start`.
        precision: of the weights, one of `wavegen.engines.precision.PRECISIONS`.
        threads: the streams are shared among at most; as many as torch uses, if not given.
    """

    name = "numba"

    def __init__(
        self, network: WaveNet, precision: str = "float32", threads: int | None = None
    ) -> None:
        self.network = network
        self._precision = precision
        if threads is not None and threads < 1:
            raise ValueError(f"threads is {threads}: it must be 1 or more")
        self._threads = threads

    @torch.inference_mode()
    def start(
        self,
        bias: Tensor,
        sampling: Sampling,
        *,
        unspecified: Tensor | None = None,
        prompt: Tensor | None = None,
    ) -> None:
        """See `Engine.start`."""
        count, frames = bias.shape[:2]
        assert frames == 1, "labels are one frame that lasts for ever"
        self._how = How(
            float(sampling.temperature),
            float(np.inf if sampling.top_k is None else sampling.top_k),
            float(1 if sampling.top_p is None else sampling.top_p),
            float(sampling.guidance),
        )
        sets = [bias]
        if sampling.guided:
            assert unspecified is not None, "guidance needs the gates without labels"
            # Every stream runs twice, with its labels and without, on the same codes.
            if unspecified.shape != bias.shape:
                raise ValueError(f"unspecified is {unspecified.shape}, but bias is {bias.shape}")
            sets.append(unspecified)
        network = rounded(self.network, self._precision)
        newest = np.full(count, network.start_symbol)
        if prompt is not None and prompt.shape[1]:
            newest = _checked(prompt, network)[:, -1].copy()
        filled = [list(fill_queues(network, each, prompt)) for each in sets]

        self._count = count
        threads = self._threads or torch.get_num_threads()
        members = members_of_a_team(network, self._precision, threads // count)
        # Packed here and not earlier: weights loaded or swapped since are never missed.
        shares = _pack(self.network, self._precision, members)
        teams = min(threads // members, count)
        self._work = []
        for streams in np.array_split(np.arange(count), teams):
            part = slice(streams[0], streams[-1] + 1)
            queues = _queues_of([[ring[:, part] for ring in rings] for rings in filled])
            team = _team(shares, newest[part], queues)
            biases = _bias_of([each[part] for each in sets])
            self._work += [
                (packed, team, _member(packed, biases, number), part)
                for number, packed in enumerate(shares)
            ]

    def generate(self, noise: Tensor) -> Tensor:
        """See `Engine.generate`."""
        codes = np.empty(noise.shape, np.int64)
        # Contiguous: other strides would be another type, and compiled anew.
        numbers = np.ascontiguousarray(noise.cpu().numpy())
        self._run(numbers, codes, np.empty((len(codes), 0, 0), np.float32))
        return torch.from_numpy(codes)

    def force(self, codes: Tensor) -> Tensor:
        """See `Engine.force`."""
        given = _checked(codes, self.network)
        logits = np.empty((*given.shape, self.network.start_symbol), np.float32)
        self._run(np.empty((len(given), 0)), given, logits)
        return torch.from_numpy(logits)

    def _run(self, noise: np.ndarray, codes: np.ndarray, logits: np.ndarray) -> None:
        if len(codes) != self._count:
            raise ValueError(f"{len(codes)} rows for {self._count} streams")
        # The members of a team wait for one another: none begins before all have a thread.
        ready = Barrier(len(self._work))

        def work(packed: Packed, team: Team, member: Member, part: slice) -> None:
            ready.wait()
            numba_kernel.run(
                packed, team, member, self._how, noise[part], codes[part], logits[part]
            )

        if len(self._work) == 1:
            work(*self._work[0])
            return
        with ThreadPoolExecutor(len(self._work)) as pool:
            try:
                done = [pool.submit(work, *each) for each in self._work]
            except BaseException:
                ready.abort()
                raise
            for each in done:
                each.result()


def compile_kernel(precision: str) -> None:
    """Compile the kernel for weights of a precision, or load what was compiled before."""
    small = WaveNetConfig(layers=1, stacks=1, residual_channels=1, gate_channels=2, skip_channels=1)
    network = WaveNet(small).requires_grad_(False)
    engine = NumbaCPU(network, precision)
    engine.start(network.conditioning(None), Sampling())
    noise = torch.full((1, 1), 0.5, dtype=torch.float64)
    try:
        engine.generate(noise)
    except (OSError, EOFError, pickle.UnpicklingError):
        # The disk is full, or what was kept is damaged.
        numba_kernel.keep_nothing()
        engine.generate(noise)


def _checked(codes: Tensor, network: WaveNet) -> np.ndarray:
    """Codes as contiguous int64; the kernel trusts them as indices."""
    array = np.ascontiguousarray(codes.cpu().numpy(), dtype=np.int64)
    if array.size and not (array.min() >= 0 and array.max() < network.start_symbol):
        raise IndexError(f"codes must be from 0 to {network.start_symbol - 1}")
    return array


def members_of_a_team(network: WaveNet, precision: str, threads: int) -> int:
    """Threads that share the work of a stream, of so many that it could have."""
    config = network.config
    channels = (config.residual_channels, config.gate_channels // 2, config.skip_channels)
    if max(channels) <= UNIT:
        return 1  # there is nothing to share
    size = sum(weight.numel() for weight, _ in products(network)) * PRECISIONS[precision]
    return max(1, min(threads, _MOST_MEMBERS)) if size >= _WORTH_SHARING else 1


def _pack(network: WaveNet, precision: str, members: int) -> list[Packed]:
    """The network as each member of a team reads it, from what its weights are now."""
    config = network.config
    widths = {
        "residual": _whole(config.residual_channels),
        "gate": _whole(config.gate_channels // 2),
        "skip": _whole(config.skip_channels),
        "output": _whole(config.quantization_channels),
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
        matrix = np.zeros((_whole(inputs), halves, widths[kind]), stored.dtype)
        matrix[:inputs, :, :half] = stored.T.reshape(inputs, halves, half)
        scale = _padded(scale.reshape(halves, half))
        for member, (begin, end) in enumerate(pairwise(columns[kind])):
            weights[member] += _tiles(matrix[:, :, begin:end].reshape(len(matrix), -1))
            if precision == "int8":
                scales[member].append(scale[:, begin:end].ravel())
    # The last block has none; without it a single block would leave nothing to stack.
    none = torch.zeros(config.residual_channels)
    residual_biases = [
        _array(none if block.projection is None else block.projection.bias)
        for block in network.blocks
    ]
    rings = [(config.kernel_size - 1) * dilation for dilation in config.dilations]
    common: dict[str, Any] = {
        "embedding": _padded(_array(network.embedding.weight)),
        "residual_bias": _padded(np.stack(residual_biases)),
        "skip_bias": _padded(_array(network.skip.bias)),
        "hidden_bias": _padded(_array(network.hidden.bias)),
        "output_bias": _padded(_array(network.output.bias)),
        "dilations": np.array(config.dilations),
        "rings": np.array([0, *accumulate(rings)]),
        "aheads": np.array([0, *accumulate(math.gcd(AHEAD, each) for each in config.dilations)]),
        "codes": config.quantization_channels,
    }
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


def _team(shares: list[Packed], newest: np.ndarray, queues: np.ndarray) -> Team:
    packed, gate = shares[-1], shares[-1].columns[1, 1]
    rows, residual = queues.shape[1:]
    skip, output = len(packed.skip_bias), len(packed.output_bias)
    return Team(
        newest=newest.copy(),
        queues=queues,
        stream=np.empty((rows, residual), np.float32),
        gates=np.empty((2, rows, gate), np.float32),
        sums=np.empty((rows, skip), np.float32),
        hidden=np.empty((rows, skip), np.float32),
        out=np.empty((rows, output), np.float32),
        arrived=np.zeros((len(shares), 8), np.int64),
    )


def _member(packed: Packed, bias: np.ndarray, number: int) -> Member:
    """Its part of biases (L, rows, 2, gate)."""
    begin, end = packed.columns[1]
    own = bias[..., begin:end].reshape(*bias.shape[:2], -1)
    ahead = np.empty((packed.aheads[-1], *own.shape[1:]), np.float32)
    return Member(number, np.ascontiguousarray(own), ahead, np.zeros(1, np.int64))


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


def _queues_of(filled: list[list[Tensor]]) -> np.ndarray:
    """Rings (time, B, R) of each set of rows and layer as one (slots, rows, R)."""
    sets = [torch.cat(rings) for rings in filled]
    return _padded(_array(torch.cat(sets, dim=1)))


def _bias_of(sets: list[Tensor]) -> np.ndarray:
    """Biases (B, 1, L, G) of each set of rows as one (L, rows, 2, gate)."""
    bias = _array(torch.cat(sets)[:, 0].transpose(0, 1))
    return _padded(bias.reshape(*bias.shape[:2], 2, -1))


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().to("cpu", torch.float32).numpy()


def _whole(channels: int) -> int:
    return -(-channels // UNIT) * UNIT


def _padded(array: np.ndarray) -> np.ndarray:
    """A contiguous copy with its last dimension padded with zeros to a multiple of UNIT."""
    padded = np.zeros((*array.shape[:-1], _whole(array.shape[-1])), array.dtype)
    padded[..., : array.shape[-1]] = array
    return padded
