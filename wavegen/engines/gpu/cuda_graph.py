"""The queue as a CUDA graph: a step is captured once and replayed for every sample.

Without a graph the launches of some hundred small kernels limit the speed of a step. With it
nothing returns to Python or the CPU: rings, positions, noise and codes stay on the device, and a
block of samples is a number of replays. On a CPU the same step is called without a graph.
"""

from functools import cache

import torch
from torch import Tensor

from wavegen.distributions.sampling import Sampling, draw, guide
from wavegen.engines.checks import check_codes, check_drawn, check_noise, check_start
from wavegen.engines.prefill import all_rows, begin
from wavegen.models.frames import Frames
from wavegen.models.wavenet import WaveNet
from wavegen.models.wavenet_state import fill_queues

# Samples whose noise is on the device at a time.
_BLOCK = 1024


class GraphQueue:
    """A `wavegen.engines.base.Engine` for every configuration, on the device of the network.

    Args:
        network: the network; its weights are read at every `start`.
    """

    name = "graph"

    def __init__(self, network: WaveNet) -> None:
        self.network = network

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
        self._sampling = sampling
        network, streams, device = self.network, len(bias), bias.device
        bias, self._codes, prompt = begin(network, bias, sampling, unspecified, prompt)
        self._rows = len(bias) // streams
        self._pack(bias, prompt)
        # All tensors that a step reads and writes, at fixed places for replays.
        self._time = torch.zeros(1, dtype=torch.int64, device=device)
        self._place = torch.zeros(1, dtype=torch.int64, device=device)
        self._noise = torch.zeros((_BLOCK, streams), dtype=torch.float64, device=device)
        self._drawn = torch.zeros((_BLOCK, streams), dtype=torch.int64, device=device)
        codes = network.config.quantization_channels
        self._logits = torch.zeros((streams, codes), dtype=bias.dtype, device=device)
        self._graphs: dict[bool, torch.cuda.CUDAGraph] = {}

    def _pack(self, bias: Tensor, prompt: Tensor | None) -> None:
        """Pack the weights for steps; here, so that changes of the weights are always used.

        Some work is done for all layers together: the products of earlier taps, which are known
        when a step begins, and storing the inputs of layers when it ends. A layer itself is only
        products and a gate.

        Biases of projections are not added to the stream, but included in the biases of its
        readers. This saves a kernel for each layer in a step.
        """
        network, config, device = self.network, self.network.config, bias.device
        rows, layers, channels = len(bias), config.layers, config.residual_channels
        dilations = torch.tensor(config.dilations, device=device)
        self._lengths = (config.kernel_size - 1) * dilations[:, None]
        self._firsts = self._lengths.cumsum(0) - self._lengths
        # Taps are a dilation apart in the ring, the oldest at the place to be overwritten.
        self._ago = torch.arange(config.kernel_size - 1, device=device) * dilations[:, None]
        # The rings of all layers one after another. Streams are the first dimension, so that the
        # taps of one are contiguous for the product.
        self._rings = bias.new_empty((rows, network.history, channels))
        kernels = torch.stack([block.kernel.transpose(1, 2) for block in network.blocks])
        missing = bias.new_zeros(channels)
        offsets, first = [], 0
        filled = fill_queues(network, bias, prompt)
        for layer, (block, ring) in enumerate(zip(network.blocks, filled, strict=True)):
            self._rings[:, first : first + len(ring)] = (ring - missing).transpose(0, 1)
            first += len(ring)
            offsets.append(missing @ kernels[layer].sum(0))
            if block.projection is not None:
                missing = missing + block.projection.bias
        self._frames = Frames(bias, network.hop, 0 if prompt is None else prompt.shape[1])
        # What the bias of every frame lacks, (L, 1, G).
        self._offsets = torch.stack(offsets)[:, None]
        self._bias = bias.new_empty((layers, rows, config.gate_channels))
        self._of_frame: Tensor | None = None
        self._past = kernels[:, :-1].flatten(1, 2)
        self._newest = kernels[:, -1].contiguous()
        self._streams = bias.new_empty((rows, layers, channels))
        self._gates = bias.new_empty((rows, layers, config.gate_channels // 2))

    @torch.inference_mode()
    def extend(self, bias: Tensor, unspecified: Tensor | None = None) -> None:
        """See `Engine.extend`."""
        self._frames.extend(all_rows(bias, self._sampling, unspecified))

    @torch.inference_mode()
    def generate(self, noise: Tensor) -> Tensor:
        """See `Engine.generate`."""
        check_noise(noise, len(self._codes))
        codes = torch.empty(noise.shape, dtype=torch.int64, device=self._codes.device)
        parts = zip(noise.split(_BLOCK, dim=1), codes.split(_BLOCK, dim=1), strict=True)
        for block, drawn in parts:
            time = block.shape[1]
            self._noise[:time].copy_(block.t())
            self._place.zero_()
            for now, count in self._frames.spans(time):
                self._use(now)
                for _ in range(count):
                    self._step(drawing=True)
            drawn.copy_(self._drawn[:time].t())
        return check_drawn(codes, self.network)

    @torch.inference_mode()
    def force(self, codes: Tensor) -> Tensor:
        """See `Engine.force`."""
        check_codes(codes, len(self._codes), self.network)
        shape = (*codes.shape, self.network.config.quantization_channels)
        logits = self._logits.new_empty(shape)
        for time, column in enumerate(codes.to(logits.device).t()):
            for now, _ in self._frames.spans(1):
                self._use(now)
            self._step(drawing=False)
            logits[:, time] = self._logits
            self._codes.copy_(column)
        return logits

    def _use(self, now: Tensor) -> None:
        """Step with a frame (rows, L, G) of the bias from now on."""
        if now is not self._of_frame:
            self._of_frame = now
            torch.add(now.transpose(0, 1), self._offsets, out=self._bias)

    def _step(self, drawing: bool) -> None:
        """One sample: logits, and a code if they are drawn."""
        if self._codes.device.type != "cuda":
            self._advance(drawing)
            return
        if drawing not in self._graphs:
            self._graphs[drawing] = self._captured(drawing)
        self._graphs[drawing].replay()

    def _captured(self, drawing: bool) -> torch.cuda.CUDAGraph:
        """Capture the step as a graph, and restore what the steps for warming up have changed."""
        state = [self._time, self._place, self._codes, self._drawn, self._rings]
        before = [each.clone() for each in state]
        side = _side_stream(self._codes.device)
        graph = torch.cuda.CUDAGraph()
        # CUDA streams belong to the current device, which may not be that of the network.
        with torch.cuda.device(self._codes.device):
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):
                    self._advance(drawing)
            torch.cuda.current_stream().wait_stream(side)
            # Work of other threads, such as pinning memory for training, is not captured and must
            # not make the capture fail.
            with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
                self._advance(drawing)
        for each, value in zip(state, before, strict=True):
            each.copy_(value)
        return graph

    def _advance(self, drawing: bool) -> None:
        network, streams = self.network, self._streams
        places = (self._time + self._ago) % self._lengths + self._firsts
        earlier = self._rings.index_select(1, places.flatten()).view(len(streams), len(places), -1)
        totals = torch.baddbmm(self._bias, earlier.transpose(0, 1), self._past)
        streams[:, 0] = network.embedding(self._codes.repeat(self._rows))
        for layer, block in enumerate(network.blocks):
            stream, gate = streams[:, layer], self._gates[:, layer]
            total = totals[layer].addmm_(stream, self._newest[layer])
            if block.gate == "tanh":
                total[:, : gate.shape[1]].tanh_()
            torch.ops.aten.glu.out(total, 1, out=gate)
            if block.projection is not None:
                weight = block.projection.weight.t()
                torch.addmm(stream, gate, weight, out=streams[:, layer + 1])
        self._rings.index_copy_(1, places[:, 0], streams)
        logits = network.head(self._gates.flatten(1))
        if self._sampling.guided:
            conditioned, unspecified = logits.chunk(2)
            logits = guide(conditioned, unspecified, self._sampling.guidance)
        self._logits.copy_(logits)
        self._time += 1
        if drawing:
            column = self._noise.index_select(0, self._place)[0]
            self._codes.copy_(draw(logits, column, self._sampling))
            self._drawn.index_copy_(0, self._place, self._codes.unsqueeze(0))
            self._place += 1


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """The stream for captures; only one, since cuBLAS keeps a workspace for each stream."""
    return torch.cuda.Stream(device)
