"""What the queues hold when generation begins."""

from collections.abc import Iterator

import torch
from torch import Tensor

from wavegen.sampling import Sampling
from wavegen.wavenet import WaveNet


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

    Args:
        network: whose blocks.
        bias: (B, 1, L, G) of `WaveNet.conditioning`.
        prompt: int64 codes (B, T) heard before, or None; its last code is not in the
            queues yet: it is the input of the first step.
    """
    back = network.config.kernel_size - 1
    if prompt is None or prompt.shape[1] == 0:
        # Start symbols for ever: every block's input is one vector that never changes.
        start = bias.new_full((1, bias.shape[0]), network.start_symbol, dtype=torch.int64)
        stream = network.embedding(start)
        for layer, block in enumerate(network.blocks):
            yield stream.expand(back * block.dilation, -1, -1)
            alike = stream.expand(back * block.dilation + 1, -1, -1)
            stream, _ = block(alike, bias[:, 0, layer])
        return
    history = network.history
    start = prompt.new_full((prompt.shape[0], history + 1), network.start_symbol)
    inputs = torch.cat([start, prompt], dim=1)[:, -history - 1 : -1]
    past = network.activations(inputs, bias)
    for block, (stream, _) in zip(network.blocks, past, strict=True):
        # A copy: a view would keep the whole of every block's input.
        yield stream[-back * block.dilation :].clone()
