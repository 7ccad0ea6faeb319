"""The reference engine: steps of any network, in plain torch."""

import torch
from torch import Tensor

from wavegen.distributions.sampling import Sampling
from wavegen.engines.checks import check_codes, check_drawn, check_noise, check_start
from wavegen.engines.prefill import all_rows, begin
from wavegen.models.base import Network


class TorchQueue:
    """A `wavegen.engines.base.Engine` on the device and in the precision of the network.

    Args:
        network: the network; its weights are read at every `start`.
    """

    name = "torch"

    def __init__(self, network: Network) -> None:
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
        self._state = (
            network.initial_state(bias) if prompt is None else network.state_after(bias, prompt)
        )

    @torch.inference_mode()
    def extend(self, bias: Tensor, unspecified: Tensor | None = None) -> None:
        """See `Engine.extend`."""
        rows = all_rows(bias, self.sampling, unspecified)
        self.network.extend(self._state, rows)

    @torch.inference_mode()
    def generate(self, noise: Tensor) -> Tensor:
        """See `Engine.generate`."""
        check_noise(noise, len(self._codes))
        codes = torch.empty(noise.shape, dtype=torch.int64, device=self._codes.device)
        columns = noise.to(codes.device).t().contiguous()
        for time, column in enumerate(columns):
            parameters = self._step()
            self._codes = self.network.distribution.draw(parameters, column, self.sampling)
            codes[:, time] = self._codes
        return check_drawn(codes, self.network)

    @torch.inference_mode()
    def force(self, codes: Tensor) -> Tensor:
        """See `Engine.force`."""
        check_codes(codes, len(self._codes), self.network)
        network = self.network
        shape = (*codes.shape, network.distribution.parameters)
        parameters = torch.empty(shape, dtype=network.dtype, device=network.device)
        for time, column in enumerate(codes.t()):
            parameters[:, time] = self._step()
            self._codes = column
        return parameters

    def _step(self) -> Tensor:
        """Process the newest code; return parameters (B, P) of the next one."""
        parameters = self.network.step(self._codes.repeat(self._rows), self._state)
        if self.sampling.guided:
            conditioned, unspecified = parameters.chunk(2)
            parameters = self.network.distribution.guide(
                conditioned, unspecified, self.sampling.guidance
            )
        return parameters
