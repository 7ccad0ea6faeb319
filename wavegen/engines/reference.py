"""The reference engine: ring buffers ("queues") in plain torch.

Each layer keeps its last (kernel_size - 1) * dilation inputs in a ring, so a sample
costs one pass through the layers however long the receptive field is.

Source: Le Paine et al. 2016, "Fast Wavenet Generation Algorithm".
"""

import torch
from torch import Tensor

from wavegen.distributions.sampling import Sampling, draw, guide
from wavegen.engines.checks import check_codes, check_drawn, check_noise, check_start
from wavegen.engines.prefill import begin, fill_queues
from wavegen.models.wavenet import WaveNet


class TorchQueue:
    """`wavegen.engines.base.Engine` on the device and in the precision of the network.

    Args:
        network: its weights are read at every `start`.
    """

    name = "torch"

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
        self.sampling = sampling
        network, streams = self.network, len(bias)
        bias, self._codes, prompt = begin(network, bias, sampling, unspecified, prompt)
        self._rows = len(bias) // streams
        self._bias = bias[:, 0].unbind(dim=1)  # L times (rows * B, G)

        # Packed here and not earlier: weights loaded or swapped since are never missed.
        self._kernels = [block.kernel.transpose(1, 2).flatten(0, 1) for block in network.blocks]

        self._time = 0
        # A ring is a list, so that a step stores and fetches tensors without copying them.
        # The oldest input is at place 0, where step 0 will look for it.
        self._queues = [list(ring) for ring in fill_queues(network, bias, prompt)]

    @torch.inference_mode()
    def generate(self, noise: Tensor) -> Tensor:
        """See `Engine.generate`."""
        check_noise(noise, len(self._codes))
        codes = torch.empty(noise.shape, dtype=torch.int64, device=self._codes.device)
        columns = noise.to(codes.device).t().contiguous()
        for time, column in enumerate(columns):
            self._codes = draw(self._step(), column, self.sampling)
            codes[:, time] = self._codes
        return check_drawn(codes, self.network)

    @torch.inference_mode()
    def force(self, codes: Tensor) -> Tensor:
        """See `Engine.force`."""
        check_codes(codes, len(self._codes), self.network)
        shape = (*codes.shape, self.network.config.quantization_channels)
        logits = self.network.output.weight.new_empty(shape)
        for time, column in enumerate(codes.t()):
            logits[:, time] = self._step()
            self._codes = column
        return logits

    def _step(self) -> Tensor:
        """Logits (B, Q) of the next code; takes the newest code into the queues."""
        network = self.network
        stream = network.embedding(self._codes.repeat(self._rows))
        gates = []
        for block, kernel, queue, bias in zip(
            network.blocks, self._kernels, self._queues, self._bias, strict=True
        ):
            length = len(queue)
            place = self._time % length
            # Taps lie a dilation apart in the ring, the oldest at the place to be reused.
            taps = [queue[(place + ago) % length] for ago in range(0, length, block.dilation)]
            total = torch.addmm(bias, torch.cat([*taps, stream], dim=-1), kernel)
            queue[place] = stream
            gates.append(block.gated(total))
            stream = block.residual(stream, gates[-1])
        self._time += 1
        logits = network.head(torch.cat(gates, dim=-1))
        if self.sampling.guided:
            conditioned, unspecified = logits.chunk(2)
            logits = guide(conditioned, unspecified, self.sampling.guidance)
        return logits
