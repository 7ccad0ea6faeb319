"""What a torch engine starts its streams from."""

import torch
from torch import Tensor

from wavegen.distributions.sampling import Sampling
from wavegen.models.base import Network


def begin(
    network: Network,
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
