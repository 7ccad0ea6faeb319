"""The engine of the CPU: one compiled loop over time, for each core its share of the streams."""

import math
import mmap
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from wavegen.config import WaveNetConfig
from wavegen.engines.numba_draw import How
from wavegen.engines.numba_kernel import AHEAD, Packed, Streams, run
from wavegen.engines.numba_vectors import CHAINS, LANES, UNIT
from wavegen.engines.precision import products, quantise, rounded
from wavegen.engines.prefill import fill_queues
from wavegen.sampling import Sampling
from wavegen.wavenet import WaveNet

_HUGE_PAGE = 1 << 21


class NumbaCPU:
    """`wavegen.engines.Engine` on the CPU; its codes depend on neither batch nor threads.

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
        # Packed here and not earlier: weights loaded or swapped since are never missed.
        self._packed = _pack(self.network, self._precision)
        network = rounded(self.network, self._precision)
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
            sets.append(unspecified)
        newest = np.full(count, network.start_symbol)
        if prompt is not None and prompt.shape[1]:
            newest = _checked(prompt, network)[:, -1].copy()
        filled = [list(fill_queues(network, each, prompt)) for each in sets]
        threads = min(self._threads or torch.get_num_threads(), count)
        self._parts = [slice(p[0], p[-1] + 1) for p in np.array_split(np.arange(count), threads)]
        biases = [
            _bias_of([each[part] for each in sets], self._packed.gate) for part in self._parts
        ]
        self._streams = [
            Streams(
                bias=bias,
                queues=_queues_of([[ring[:, part] for ring in rings] for rings in filled]),
                ahead=np.empty((self._packed.aheads[-1], *bias.shape[1:]), np.float32),
                newest=newest[part].copy(),
                time=np.zeros(1, np.int64),
            )
            for part, bias in zip(self._parts, biases, strict=True)
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
        logits = np.empty((*given.shape, self._packed.codes), np.float32)
        self._run(np.empty((len(given), 0)), given, logits)
        return torch.from_numpy(logits)

    def _run(self, noise: np.ndarray, codes: np.ndarray, logits: np.ndarray) -> None:
        def share(streams: Streams, part: slice) -> None:
            run(self._packed, streams, self._how, noise[part], codes[part], logits[part])

        if len(self._parts) == 1:
            share(self._streams[0], self._parts[0])
            return
        with ThreadPoolExecutor(len(self._parts)) as pool:
            list(pool.map(share, self._streams, self._parts))


def compile_kernel(precision: str) -> None:
    """Compile the kernel for weights of a precision, or load what was compiled before."""
    small = WaveNetConfig(layers=1, stacks=1, residual_channels=1, gate_channels=2, skip_channels=1)
    network = WaveNet(small).requires_grad_(False)
    engine = NumbaCPU(network, precision)
    engine.start(network.conditioning(None), Sampling())
    engine.generate(torch.full((1, 1), 0.5, dtype=torch.float64))


def _checked(codes: Tensor, network: WaveNet) -> np.ndarray:
    """Codes as contiguous int64; the kernel trusts them as indices."""
    array = np.ascontiguousarray(codes.cpu().numpy(), dtype=np.int64)
    if array.size and not (array.min() >= 0 and array.max() < network.start_symbol):
        raise IndexError(f"codes must be from 0 to {network.start_symbol - 1}")
    return array


def _pack(network: WaveNet, precision: str) -> Packed:
    """The network as the kernel reads it, from what its weights are now."""
    config = network.config
    residual, skip = _whole(config.residual_channels), _whole(config.skip_channels)
    weights, scales = [], []
    # The last block has none; without it a single block would leave nothing to stack.
    none = torch.zeros(config.residual_channels)
    residual_biases = [
        _array(none if block.projection is None else block.projection.bias)
        for block in network.blocks
    ]
    for weight, halves in products(network):
        stored, scale = quantise(weight, precision)
        outputs, inputs = stored.shape
        half = outputs // halves
        matrix = np.zeros((_whole(inputs), halves, _whole(half)), stored.dtype)
        matrix[:inputs, :, :half] = stored.T.reshape(inputs, halves, half)
        weights += _tiles(matrix.reshape(len(matrix), -1))
        if precision == "int8":
            scales.append(_padded(scale.reshape(halves, half)).ravel())
    gate = _whole(config.gate_channels // 2)
    past = (config.kernel_size - 1) * 2 * gate * np.array([residual, precision == "int8"])
    rings = [(config.kernel_size - 1) * dilation for dilation in config.dilations]
    return Packed(
        weights=in_huge_pages(weights),
        scales=np.concatenate(scales or [np.empty(0, np.float32)]),
        embedding=_padded(_array(network.embedding.weight)),
        residual_bias=_padded(np.stack(residual_biases)),
        head_bias=np.concatenate(
            [
                _padded(_array(layer.bias))
                for layer in (network.skip, network.hidden, network.output)
            ]
        ),
        dilations=np.array(config.dilations),
        rings=np.array([0, *accumulate(rings)]),
        aheads=np.array([0, *accumulate(math.gcd(AHEAD, each) for each in config.dilations)]),
        past=np.arange(config.layers + 1)[:, None] * past,
        gate=gate,
        skip=skip,
        codes=config.quantization_channels,
    )


def _tiles(matrix: np.ndarray) -> list[np.ndarray]:
    """A matrix (inputs, outputs) as the tiles that `numba_kernel` reads one after another."""
    tiles, begin = [], 0
    while vectors := (matrix.shape[1] - begin) // LANES:
        # The most that fit, a power of two.
        vectors = min(4, 1 << (vectors.bit_length() - 1))
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
        memory.madvise(mmap.MADV_HUGEPAGE)
    whole = np.frombuffer(memory, np.uint8)
    begin = -whole.ctypes.data % _HUGE_PAGE
    return np.concatenate(parts, out=whole[begin : begin + size].view(dtype)[:count])


def _queues_of(filled: list[list[Tensor]]) -> np.ndarray:
    """Rings (time, B, R) of each set of rows and layer as one (slots, rows, R)."""
    sets = [torch.cat(rings) for rings in filled]
    return _padded(_array(torch.cat(sets, dim=1)))


def _bias_of(sets: list[Tensor], gate: int) -> np.ndarray:
    """Biases (B, 1, L, G) of each set of rows as one (L, rows, 2 * gate)."""
    bias = _array(torch.cat(sets)[:, 0].transpose(0, 1))
    return _padded(bias.reshape(*bias.shape[:2], 2, -1)).reshape(*bias.shape[:2], 2 * gate)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().to("cpu", torch.float32).numpy()


def _whole(channels: int) -> int:
    return -(-channels // UNIT) * UNIT


def _padded(array: np.ndarray) -> np.ndarray:
    """A contiguous copy with its last dimension padded with zeros to a multiple of UNIT."""
    padded = np.zeros((*array.shape[:-1], _whole(array.shape[-1])), array.dtype)
    padded[..., : array.shape[-1]] = array
    return padded
