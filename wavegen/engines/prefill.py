"""The start of the streams of a torch engine."""

import torch
from torch import Tensor

from wavegen.distributions.sampling import Sampling
from wavegen.models.base import Network


def all_rows(bias: Tensor, sampling: Sampling, unspecified: Tensor | None) -> Tensor:
    """The bias of all rows: with guidance every stream has two rows, which get the same codes.

    The first half of the rows has the conditions, and the second half is unspecified.

    Raises:
        ValueError: `unspecified` is missing for guidance.
    """
    if not sampling.guided:
        return bias
    if unspecified is None:
        raise ValueError("guidance needs the bias without labels: give unspecified")
    return torch.cat([bias, unspecified])


def begin(
    network: Network,
    bias: Tensor,
    sampling: Sampling,
    unspecified: Tensor | None,
    prompt: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Prepare the start of streams, from the arguments of `Engine.start`.

    Returns:
        The bias of `all_rows`. The newest code of each stream, int64 (B,). And the prompt of all
        rows, None if it is empty.
    """
    streams = len(bias)
    bias = all_rows(bias, sampling, unspecified)
    if prompt is None or prompt.shape[1] == 0:
        return bias, torch.full((streams,), network.start_symbol, device=bias.device), None
    return bias, prompt[:, -1].clone(), prompt.repeat(len(bias) // streams, 1)
