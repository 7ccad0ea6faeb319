"""The start of the streams of a torch engine."""

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
    """Prepare the start of streams, from the arguments of `Engine.start`.

    Returns:
        The bias of all rows; with guidance every stream has two rows, with its labels and without,
        and both get the same codes. The newest code of each stream, int64 (B,). And the prompt of
        all rows, None if it is empty.
    """
    streams = len(bias)
    if sampling.guided:
        assert unspecified is not None
        bias = torch.cat([bias, unspecified])
    if prompt is None or prompt.shape[1] == 0:
        return bias, torch.full((streams,), network.start_symbol, device=bias.device), None
    return bias, prompt[:, -1].clone(), prompt.repeat(len(bias) // streams, 1)
