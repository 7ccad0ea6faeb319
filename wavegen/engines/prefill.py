"""What the queues hold when generation begins."""

from collections.abc import Iterator

import torch
from torch import Tensor

from wavegen.distributions.sampling import Sampling
from wavegen.models.wavenet import WaveNet

# Samples of prompts that are gone through at a time.
PART = 1 << 17


def begin(
    network: WaveNet,
    bias: Tensor,
    sampling: Sampling,
    unspecified: Tensor | None,
    prompt: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """What a torch engine starts its streams from, given what `Engine.start` is given.

    Returns:
        The bias of all rows: where it is guided every stream runs twice, with its labels and
        without, on the same codes. The newest code of each stream, int64 (B,). And the prompt
        of all rows, None if it is empty.
    """
    streams = len(bias)
    if sampling.guided:
        assert unspecified is not None
        bias = torch.cat([bias, unspecified])
    if prompt is None or prompt.shape[1] == 0:
        return bias, torch.full((streams,), network.start_symbol, device=bias.device), None
    return bias, prompt[:, -1].clone(), prompt.repeat(len(bias) // streams, 1)


def fill_queues(network: WaveNet, bias: Tensor, prompt: Tensor | None) -> Iterator[Tensor]:
    """The last (kernel_size - 1) * dilation inputs (time, B, C) of every block, oldest first.

    One pass serves all streams of equal bias and prompt.

    Args:
        network: whose blocks.
        bias: (B, 1, L, G) of `WaveNet.conditioning`.
        prompt: int64 codes (B, T) heard before, or None; its last code is not in the
            queues yet: it is the input of the first step.
    """
    if prompt is not None and prompt.shape[1] == 0:
        prompt = None
    first, alike = _distinct(bias, prompt)
    if prompt is None:
        filled = _from_nothing(network, bias[first])
    else:
        # In parts, whose memory does not grow with the streams.
        parts = [
            list(_from_prompt(network, bias[rows], prompt[rows]))
            for rows in first.split(max(1, PART // network.history))
        ]
        filled = (torch.cat(rings, dim=1) for rings in zip(*parts, strict=True))
    for ring in filled:
        yield ring.index_select(1, alike)


def _distinct(bias: Tensor, prompt: Tensor | None) -> tuple[Tensor, Tensor]:
    """Streams of which no two are alike, int64 (N,), and which of these each is like, (B,)."""
    given = [bias] if prompt is None else [bias, prompt]
    kinds = [each.flatten(1).unique(dim=0, return_inverse=True)[1] for each in given]
    alike = torch.stack(kinds, dim=1).unique(dim=0, return_inverse=True)[1]
    streams = torch.arange(len(alike), device=alike.device)
    first = streams.new_full((int(alike.max()) + 1,), len(alike))
    return first.scatter_reduce(0, alike, streams, "amin"), alike


def _from_nothing(network: WaveNet, bias: Tensor) -> Iterator[Tensor]:
    """See `fill_queues`: before a recording begins.

    Start symbols for ever: every block's input is one vector that never changes.
    """
    back = network.config.kernel_size - 1
    start = bias.new_full((1, len(bias)), network.start_symbol, dtype=torch.int64)
    stream = network.embedding(start)
    for layer, block in enumerate(network.blocks):
        yield stream.expand(back * block.dilation, -1, -1)
        alike = stream.expand(back * block.dilation + 1, -1, -1)
        stream, _ = block(alike, bias[:, 0, layer])


def _from_prompt(network: WaveNet, bias: Tensor, prompt: Tensor) -> Iterator[Tensor]:
    """See `fill_queues`: after prompts, which are taken in by one parallel pass."""
    back, history = network.config.kernel_size - 1, network.history
    start = prompt.new_full((len(prompt), history + 1), network.start_symbol)
    inputs = torch.cat([start, prompt], dim=1)[:, -history - 1 : -1]
    past = network.activations(inputs, bias)
    for block, (stream, _) in zip(network.blocks, past, strict=True):
        # A copy: a view would keep the whole of every block's input.
        yield stream[-back * block.dilation :].clone()
