"""The state of a WaveNet: the queues of its blocks, and how a prompt fills them.

Each block keeps its last (kernel_size - 1) * dilation inputs in a ring buffer ("queue"), so that a
step costs one pass through the blocks, however long the receptive field is.

Source: Le Paine et al. 2016, "Fast Wavenet Generation Algorithm".
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from wavegen.models.frames import Frames

if TYPE_CHECKING:
    from wavegen.models.wavenet import WaveNet

# Samples of prompts that are processed at a time.
PART = 1 << 17


class WaveNetState:
    """The state of B streams.

    Args:
        network: the network; its weights are packed now, so later changes have no effect.
        bias: (B, F, L, G), result of `WaveNet.conditioning`.
        prompt: as in `fill_queues`.
    """

    def __init__(self, network: "WaveNet", bias: Tensor, prompt: Tensor | None = None) -> None:
        self.frames = Frames(bias, network.hop, 0 if prompt is None else prompt.shape[1])
        self._of_frame: Tensor | None = None
        self._bias: Sequence[Tensor] = ()  # L times (B, G), of this frame
        self._kernels = [block.kernel.transpose(1, 2).flatten(0, 1) for block in network.blocks]
        self._time = 0
        # A ring is a list, so that a step stores and reads tensors without copying them.
        # The oldest input is at place 0, where step 0 reads it.
        self._queues = [list(ring) for ring in fill_queues(network, bias, prompt)]

    def step(self, network: "WaveNet", inputs: Tensor) -> Tensor:
        """Logits (B, Q) after one more input, int64 (B,), which is added to the queues."""
        (now, _), *_ = self.frames.spans(1)
        if now is not self._of_frame:
            self._of_frame, self._bias = now, now.unbind(dim=1)
        stream = network.embedding(inputs)
        gates = []
        for block, kernel, queue, bias in zip(
            network.blocks, self._kernels, self._queues, self._bias, strict=True
        ):
            length = len(queue)
            place = self._time % length
            # Taps are a dilation apart in the ring, the oldest at the place to be overwritten.
            taps = [queue[(place + ago) % length] for ago in range(0, length, block.dilation)]
            total = torch.addmm(bias, torch.cat([*taps, stream], dim=-1), kernel)
            queue[place] = stream
            gates.append(block.gated(total))
            stream = block.residual(stream, gates[-1])
        self._time += 1
        return network.head(torch.cat(gates, dim=-1))


def fill_queues(network: "WaveNet", bias: Tensor, prompt: Tensor | None) -> Iterator[Tensor]:
    """The last (kernel_size - 1) * dilation inputs (time, B, C) of every block, oldest first.

    One pass computes them for all streams with equal bias and prompt.

    Args:
        network: the network.
        bias: (B, F, L, G), result of `WaveNet.conditioning`; its frames start with the prompt.
        prompt: int64 codes (B, T) to continue, or None. The last code is not in the queues yet,
            since it is the input of the first step.
    """
    if prompt is not None and prompt.shape[1] == 0:
        prompt = None
    first, alike = _distinct(bias, prompt)
    if prompt is None:
        filled = _from_nothing(network, bias[first])
    else:
        # In parts, so that memory does not grow with the number of streams.
        parts = [
            list(_from_prompt(network, bias[rows], prompt[rows]))
            for rows in first.split(max(1, PART // network.history))
        ]
        filled = (torch.cat(rings, dim=1) for rings in zip(*parts, strict=True))
    for ring in filled:
        yield ring.index_select(1, alike)


def _distinct(bias: Tensor, prompt: Tensor | None) -> tuple[Tensor, Tensor]:
    """The first of each set of equal streams, int64 (N,), and the set of each stream, (B,)."""
    given = [bias] if prompt is None else [bias, prompt]
    kinds = [each.flatten(1).unique(dim=0, return_inverse=True)[1] for each in given]
    alike = torch.stack(kinds, dim=1).unique(dim=0, return_inverse=True)[1]
    streams = torch.arange(len(alike), device=alike.device)
    first = streams.new_full((int(alike.max()) + 1,), len(alike))
    return first.scatter_reduce(0, alike, streams, "amin"), alike


def _from_nothing(network: "WaveNet", bias: Tensor) -> Iterator[Tensor]:
    """See `fill_queues`; the queues at the beginning of a recording.

    All inputs are start symbols, so the input of every block is one constant vector.
    """
    back = network.config.kernel_size - 1
    start = bias.new_full((1, len(bias)), network.start_symbol, dtype=torch.int64)
    stream = network.embedding(start)
    for layer, block in enumerate(network.blocks):
        yield stream.expand(back * block.dilation, -1, -1)
        alike = stream.expand(back * block.dilation + 1, -1, -1)
        stream, _ = block(alike, bias[:, 0, layer])


def _from_prompt(network: "WaveNet", bias: Tensor, prompt: Tensor) -> Iterator[Tensor]:
    """See `fill_queues`; the queues after prompts, by one parallel pass."""
    back, history = network.config.kernel_size - 1, network.history
    start = prompt.new_full((len(prompt), history + 1), network.start_symbol)
    inputs = torch.cat([start, prompt], dim=1)[:, -history - 1 : -1]
    first = prompt.new_full((len(prompt),), prompt.shape[1] - history)
    past = network.activations(inputs, bias, first=first)
    for block, (stream, _) in zip(network.blocks, past, strict=True):
        # A copy, since a view would keep the whole input of every block in memory.
        yield stream[-back * block.dilation :].clone()
