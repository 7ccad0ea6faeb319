"""Weights with fewer bits: bfloat16, or int8 with a scale for every output of a product."""

import copy
from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from wavegen.errors import ConfigError
from wavegen.models.base import Network
from wavegen.models.wavenet import WaveNet

AnyNetwork = TypeVar("AnyNetwork", bound=Network)

# Bytes of a weight.
PRECISIONS = {"float32": 4, "bfloat16": 2, "int8": 1}


def products(network: WaveNet) -> Iterator[tuple[Tensor, str]]:
    """The weights of every product of a step, as views in the order of their use.

    First come the taps of all blocks except the newest tap, the oldest first. Then come, block by
    block, the newest tap, the projection (not in the last block) and the part of the block in the
    skip layer; then the hidden and the output layer.

    Yields:
        Weights (outputs, inputs), and the kind of outputs: "gate" (both halves), "residual",
        "skip" or "output" channels.
    """
    gate = network.config.gate_channels // 2
    for block in network.blocks:
        yield from ((tap, "gate") for tap in block.kernel[:-1])
    for layer, block in enumerate(network.blocks):
        yield block.kernel[-1], "gate"
        if block.projection is not None:
            yield block.projection.weight, "residual"
        yield network.skip.weight[:, layer * gate : (layer + 1) * gate], "skip"
    yield network.hidden.weight, "skip"
    yield network.output.weight, "output"


def quantise(weight: Tensor, precision: str) -> tuple[np.ndarray, np.ndarray]:
    """Round weights to a precision; return them and the scale of each output.

    Args:
        weight: float (outputs, inputs).
        precision: one of PRECISIONS.

    Returns:
        float32, uint16 (the upper halves of float32) or int8 (outputs, inputs); and float32
        (outputs,), which is 1 except for int8. Rounding is to nearest, ties to even.
    """
    weight = weight.detach().to("cpu", torch.float32)
    scale = torch.ones(weight.shape[0])
    if precision == "bfloat16":
        return weight.bfloat16().view(torch.int16).numpy().view(np.uint16), scale.numpy()
    if precision == "int8":
        peak = weight.abs().amax(dim=1)
        scale = torch.where(peak > 0, peak / 127, scale)
        return (weight / scale[:, None]).round().to(torch.int8).numpy(), scale.numpy()
    return weight.numpy(), scale.numpy()


@torch.no_grad()
def rounded(network: AnyNetwork, precision: str) -> AnyNetwork:
    """A network with the weights that an engine of this precision uses.

    Its bits per sample are those of the engine. Embeddings and biases are not rounded.

    Raises:
        ConfigError: the network has no engine of this precision.
    """
    if precision == "float32":
        return network
    if not isinstance(network, WaveNet):
        raise ConfigError(
            f"--precision {precision}: the network '{network.config.network}' has only "
            "--precision float32"
        )
    network = copy.deepcopy(network)
    for weight, _ in products(network):
        stored, scale = quantise(weight, precision)
        if precision == "bfloat16":
            stored = (stored.astype(np.uint32) << 16).view(np.float32)
        weight.copy_(torch.from_numpy(stored * scale[:, None]))
    return network
