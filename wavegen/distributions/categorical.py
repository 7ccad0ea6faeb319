"""The categorical distribution over Q codes: the parameters are logits."""

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from wavegen.distributions import sampling as drawing
from wavegen.distributions.sampling import Sampling


@dataclass(frozen=True)
class Categorical:
    """A `wavegen.distributions.distribution.Distribution` over Q codes.

    Args:
        parameters: number of logits Q, one for each code.
    """

    parameters: int

    def loss(self, parameters: Tensor, codes: Tensor) -> Tensor:
        """See `Distribution.loss`; computed in float32."""
        return F.cross_entropy(parameters.float(), codes)

    def bits(self, parameters: Tensor, codes: Tensor) -> Tensor:
        """See `Distribution.bits`."""
        nats = F.cross_entropy(parameters.transpose(1, 2).float(), codes, reduction="none")
        return nats.double() / math.log(2)

    def guide(self, conditioned: Tensor, unspecified: Tensor, guidance: float) -> Tensor:
        """See `Distribution.guide`; applied to logits (Ho & Salimans 2021)."""
        return drawing.guide(conditioned, unspecified, guidance)

    def draw(self, parameters: Tensor, noise: Tensor, sampling: Sampling) -> Tensor:
        """See `Distribution.draw`, and `sampling.draw`, which the compiled engines follow."""
        return drawing.draw(parameters, noise, sampling)
