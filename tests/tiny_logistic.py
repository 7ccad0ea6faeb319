"""A second distribution, which the package does not know: a discretised logistic over Q codes."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from wavegen.codecs.windows import IGNORED
from wavegen.distributions.sampling import Sampling


@dataclass(frozen=True)
class TinyLogistic:
    """Two parameters whatever Q is: where the codes are, and how far around (its logarithm).

    The first and the last code have all that is beyond them, so the sum over codes is 1.
    """

    codes: int
    parameters: ClassVar[int] = 2

    def loss(self, parameters: Tensor, codes: Tensor) -> Tensor:
        kept = codes != IGNORED
        return -self._log(parameters[kept], codes[kept]).mean().float()

    def bits(self, parameters: Tensor, codes: Tensor) -> Tensor:
        kept = codes != IGNORED
        taken = torch.zeros(codes.shape, dtype=torch.float64, device=codes.device)
        taken[kept] = -self._log(parameters[kept], codes[kept]) / math.log(2)
        return taken

    def guide(self, conditioned: Tensor, unspecified: Tensor, guidance: float) -> Tensor:
        return unspecified + guidance * (conditioned - unspecified)

    def draw(self, parameters: Tensor, noise: Tensor, sampling: Sampling) -> Tensor:
        centre, width = self._shape(parameters)
        quantile = centre + sampling.temperature * width * torch.logit(noise)
        codes = (quantile + 0.5).floor().clamp(0, self.codes - 1)
        return codes.where(codes.isfinite(), torch.tensor(float(self.codes))).long()

    def _shape(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        centre, log_width = parameters.double().unbind(-1)
        return self.codes * torch.sigmoid(centre), self.codes / 8 * log_width.exp()

    def _log(self, parameters: Tensor, codes: Tensor) -> Tensor:
        centre, width = self._shape(parameters)
        upper = torch.sigmoid((codes + 0.5 - centre) / width)
        lower = torch.sigmoid((codes - 0.5 - centre) / width)
        upper = torch.where(codes == self.codes - 1, 1.0, upper)
        lower = torch.where(codes == 0, 0.0, lower)
        return (upper - lower).clamp(min=1e-30).log()
