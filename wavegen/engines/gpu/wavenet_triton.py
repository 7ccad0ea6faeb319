"""The engine for GPUs: one launch of `wavenet_triton_kernel` generates a chunk of all streams."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
import triton
from torch import Tensor
from triton.runtime.errors import OutOfResources

from wavegen.distributions.sampling import Sampling
from wavegen.engines.checks import check_codes, check_drawn, check_noise, check_start
from wavegen.engines.gpu import wavenet_triton_kernel
from wavegen.engines.prefill import all_rows
from wavegen.errors import ConfigError
from wavegen.models.config import WaveNetConfig
from wavegen.models.frames import Frames
from wavegen.models.wavenet import WaveNet
from wavegen.models.wavenet_state import fill_queues

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Layout(NamedTuple):
    """The sizes of a program for networks up to some size, so that all values fit in registers.

    Args:
        channels: most residual channels, and most channels of half a gate, padded.
        tiles: possible numbers of streams of a program. The least is the fewest that tensor cores
            multiply. With many streams, more per program share each reading of the weights.
        part: inputs that are multiplied at once, of a product after the layers.
        columns: outputs that are summed at once, of such a product.
        drawn: streams whose codes are drawn at once.
        stages: 2 if the weights of two layers fit, so that those of the next one are prefetched.
    """

    channels: int
    tiles: tuple[int, ...]
    part: int
    columns: int
    drawn: int
    stages: int


_HALF = (Layout(64, (16, 32), 32, 256, 4, 2), Layout(128, (16,), 64, 128, 4, 1))
LAYOUTS = {
    torch.float32: (Layout(64, (16,), 32, 256, 8, 2),),
    torch.bfloat16: _HALF,
    torch.float16: _HALF,
}
MOST_SKIP, MOST_CODES = 1024, 512
# Most bytes of the taps of a layer that fit twice into the shared memory of a program.
_STAGED = 96 << 10


class TritonGPU:
    """A `wavegen.engines.base.Engine` on a GPU, or on a CPU by Triton's interpreter.

    Args:
        network: the network; its weights are read at every `start`.
        precision: precision of weights, rings and the factors of products, one of DTYPES; sums
            are float32. Triton's interpreter cannot multiply bfloat16.
        tile: streams of a program, one of its layout; by default by the number of streams.
    """

    name = "triton"

    def __init__(
        self, network: WaveNet, precision: str = "float32", tile: int | None = None
    ) -> None:
        self.network = network
        self._dtype = DTYPES[precision]
        self._tile = tile

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
        check_start(self.network, bias, sampling, unspecified, prompt)
        self._streams = len(bias)
        network, config = self.network, self.network.config
        device = bias.device
        self._sampling = sampling
        every = all_rows(bias, sampling, unspecified)
        sets = every.split(len(bias))
        half = config.gate_channels // 2
        widths = (config.residual_channels, half, config.skip_channels)
        R, H, S, Q = map(_padded, (*widths, config.quantization_channels))
        layout = layout_for(self._dtype, config.kernel_size, R, H, S, Q)
        tile = self._tile or _tile_for(layout.tiles, self._streams, device)
        self._grid = (triton.cdiv(self._streams, tile),)
        rows = self._grid[0] * tile
        self._newest = torch.full((rows,), network.start_symbol, dtype=torch.int32, device=device)
        if prompt is not None and prompt.shape[1]:
            self._newest[: self._streams] = prompt[:, -1]

        weights = packed(network, self._dtype, R, H, S, Q)
        self._frames = Frames(every, network.hop, 0 if prompt is None else prompt.shape[1])
        self._of_frame: Tensor | None = None
        self._gates = torch.zeros((len(sets), rows, config.layers, 2, H), device=device)
        # A ring has one place more than its taps reach back, for the newest input.
        slots = [(config.kernel_size - 1) * dilation + 1 for dilation in config.dilations]
        firsts = np.cumsum(slots) - slots
        rings = torch.zeros((sum(slots), len(sets), rows, R), dtype=self._dtype, device=device)
        for number, each in enumerate(sets):
            _fill(rings[:, number], firsts, network, each, prompt)
        rows *= len(sets)
        scratch = [
            torch.empty((rows, width), dtype=self._dtype, device=device)
            for width in (config.layers * H, S, S)
        ]
        scratch.append(torch.empty((rows, Q), device=device))
        self._state = (
            weights,
            self._gates,
            rings,
            torch.tensor(firsts, dtype=torch.int64, device=device),
            torch.tensor(config.dilations, dtype=torch.int32, device=device),
            *scratch,
        )
        self._sizes = {
            **_constants(config, layout, R, H, S, Q),
            "ROWS": rows,
            "TILE": tile,
            # Tensor cores would round the factors of float32 products to 10 bits.
            "PRECISION": "ieee" if self._dtype == torch.float32 else None,
            "num_warps": 8,
        }
        self._time = 0

    @torch.inference_mode()
    def extend(self, bias: Tensor, unspecified: Tensor | None = None) -> None:
        """See `Engine.extend`."""
        self._frames.extend(all_rows(bias, self._sampling, unspecified))

    @torch.inference_mode()
    def generate(self, noise: Tensor) -> Tensor:
        """See `Engine.generate`."""
        check_noise(noise, self._streams)
        codes = torch.empty(noise.shape, dtype=torch.int64, device=self._newest.device)
        numbers, logits = noise.to(codes.device).contiguous(), noise.new_empty((len(noise), 0))
        self._run(numbers, codes, logits, forced=False)
        return check_drawn(codes, self.network)

    @torch.inference_mode()
    def force(self, codes: Tensor) -> Tensor:
        """See `Engine.force`."""
        check_codes(codes, self._streams, self.network)
        given = codes.to(self._newest.device).contiguous()
        logits = torch.empty((*given.shape, self.network.start_symbol), device=given.device)
        noise = logits.new_empty((self._streams, 0), dtype=torch.float64)
        self._run(noise, given, logits, forced=True)
        return logits

    def _run(self, noise: Tensor, codes: Tensor, logits: Tensor, forced: bool) -> None:
        """Run the kernel once for each frame of the bias; what is not forced is drawn."""
        begin = 0
        for now, count in self._frames.spans(codes.shape[1]):
            self._use(now)
            part = slice(begin, begin + count)
            if count == codes.shape[1]:
                self._launch(noise, codes, logits, forced)
            else:
                drawn, found = codes[:, part].contiguous(), logits[:, part].contiguous()
                self._launch(noise[:, part].contiguous(), drawn, found, forced)
                codes[:, part], logits[:, part] = drawn, found
            begin += count

    def _use(self, now: Tensor) -> None:
        """Step with a frame (rows, L, G) of the bias from now on."""
        if now is not self._of_frame:
            self._of_frame = now
            sets, half = len(self._gates), now.shape[2] // 2
            frame = now.reshape(sets, self._streams, now.shape[1], 2, half)
            self._gates[:, : self._streams, ..., :half] = frame

    def _launch(self, noise: Tensor, codes: Tensor, logits: Tensor, forced: bool) -> None:
        how, steps = self._sampling, codes.shape[1]
        # Triton launches on the current device, which may not be that of the network.
        with torch.cuda.device_of(self._newest), _within_resources():
            wavenet_triton_kernel.run[self._grid](
                self._newest,
                noise,
                codes,
                logits.to(codes.device),
                *self._state,
                self._time,
                steps,
                self._streams,
                temperature=float(how.temperature or 1.0),
                top_k=float(how.top_k or 0.0),
                top_p=float(how.top_p or 1.0),
                guidance=float(how.guidance),
                GUIDED=how.guided,
                FORCED=forced,
                GREEDY=how.temperature == 0,
                TOP_K=how.top_k is not None and how.top_k < self._sizes["CODES"],
                TOP_P=how.top_p is not None and how.top_p < 1,
                **self._sizes,
            )
        self._time += steps


def _constants(
    config: WaveNetConfig, layout: Layout, R: int, H: int, S: int, Q: int
) -> dict[str, int | bool]:
    """Constants of the kernel for a network, with sizes padded as in `packed`."""
    return {
        "LAYERS": config.layers,
        "K": config.kernel_size,
        "R": R,
        "H": H,
        "S": S,
        "Q": Q,
        "CODES": config.quantization_channels,
        "TANH": config.gate == "tanh",
        "PART": min(S, layout.part),
        "COLUMNS": min(S, layout.columns),
        "WIDE": min(Q, layout.columns),
        "DRAWN": layout.drawn,
        "STAGES": layout.stages,
    }


def _fill(
    rings: Tensor,
    firsts: np.ndarray,
    network: WaveNet,
    bias: Tensor,
    prompt: Tensor | None,
) -> None:
    """Write the initial inputs of layers into rings of zeros.

    Args:
        rings: (slots, rows, R), ring after ring; the first rows are for the streams.
        firsts: int64 (L,), the first slot of the ring of each layer.
        network, bias, prompt: as in `fill_queues`.
    """
    streams, channels = len(bias), network.config.residual_channels
    for first, ring in zip(firsts, fill_queues(network, bias, prompt), strict=True):
        # Step 0 stores its newest at place 0, and reads from place 1 on.
        own = rings[first + 1 : first + 1 + len(ring), :streams]
        own[..., :channels] = ring


@contextmanager
def _within_resources() -> Iterator[None]:
    """Turn Triton's error for a kernel that does not fit on the chip into `ConfigError`.

    Each combination of guidance, limits of sampling and tiles is a kernel with its own needs.
    """
    try:
        yield
    except OutOfResources as error:
        raise ConfigError(f"{error}: take --engine graph, in float32") from error


def packed(
    network: WaveNet, dtype: torch.dtype, R: int, H: int, S: int, Q: int
) -> tuple[Tensor, ...]:
    """The weights for the kernel, padded with zeros.

    They are packed at every start, so that changes of the weights are always used.

    Args:
        network: the network.
        dtype: dtype of the factors of products; biases and the embedding are float32.
        R, H, S, Q: padded residual channels, half of the gate channels, skip channels and codes.

    Returns:
        embedding (codes + 1, R), taps (L, K, 2, R, H), projections (L, H, R) and their biases
        (L, R), skip (L, H, S) and its bias (S,), hidden (S, S) and (S,), output (S, Q) and (Q,).
    """
    config = network.config
    layers, half, device = config.layers, config.gate_channels // 2, network.device

    def pad(weight: Tensor, *shape: int, exact: bool = False) -> Tensor:
        result = torch.zeros(shape, dtype=torch.float32 if exact else dtype, device=device)
        result[tuple(slice(0, size) for size in weight.shape)] = weight
        return result

    kernels = torch.stack([block.kernel for block in network.blocks])
    taps = kernels.unflatten(2, (2, half)).transpose(3, 4)
    projections = [block.projection for block in network.blocks if block.projection is not None]
    matrices = torch.zeros((layers, half, config.residual_channels), device=device)
    biases = torch.zeros((layers, config.residual_channels), device=device)
    for layer, projection in enumerate(projections):
        matrices[layer], biases[layer] = projection.weight.t(), projection.bias
    skip = network.skip.weight.t().unflatten(0, (layers, half))
    return (
        pad(network.embedding.weight, config.quantization_channels + 1, R, exact=True),
        pad(taps, layers, config.kernel_size, 2, R, H),
        pad(matrices, layers, H, R),
        pad(biases, layers, R, exact=True),
        pad(skip, layers, H, S),
        pad(network.skip.bias, S, exact=True),
        pad(network.hidden.weight.t(), S, S),
        pad(network.hidden.bias, S, exact=True),
        pad(network.output.weight.t(), S, Q),
        pad(network.output.bias, Q, exact=True),
    )


def _padded(channels: int) -> int:
    return max(16, triton.next_power_of_2(channels))


def layout_for(dtype: torch.dtype, K: int, R: int, H: int, S: int, Q: int) -> Layout:
    """The layout for padded sizes; `ConfigError` if there is none."""
    layouts, size = LAYOUTS[dtype], K * 2 * R * H * dtype.itemsize
    for layout in layouts if S <= MOST_SKIP and Q <= MOST_CODES else ():
        if max(R, H) <= layout.channels and (layout.stages == 1 or size <= _STAGED):
            return layout
    most = layouts[-1].channels
    raise ConfigError(
        f"a network of this size does not fit on the chip, in {str(dtype).removeprefix('torch.')} "
        f"{most} residual, {2 * most} gate and {MOST_SKIP} skip channels, {MOST_CODES} codes and "
        "few taps at most"
    )


def _tile_for(tiles: tuple[int, ...], streams: int, device: torch.device) -> int:
    if device.type != "cuda":
        return tiles[0]
    count = torch.cuda.get_device_properties(device).multi_processor_count
    return next((tile for tile in tiles[:-1] if streams <= tile * count), tiles[-1])
