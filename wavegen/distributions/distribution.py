"""The contract of a distribution over codes, whose parameters are the outputs of a network."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from wavegen.distributions.sampling import Sampling


class Distribution(Protocol):
    """p(code) from parameters.

    Shapes: B batch, T time, N predictions, P parameters of each.
    """

    @property
    def parameters(self) -> int:
        """P, the number of outputs of a network for each code."""
        ...

    def loss(self, parameters: "Tensor", codes: "Tensor") -> "Tensor":
        """Mean nats of codes int64 (N,), without `windows.IGNORED`, under parameters (N, P)."""
        ...

    def bits(self, parameters: "Tensor", codes: "Tensor") -> "Tensor":
        """Bits float64 (B, T) of codes, int64 (B, T), under (B, T, P); 0 where ignored."""
        ...

    def guide(self, conditioned: "Tensor", unspecified: "Tensor", guidance: float) -> "Tensor":
        """Parameters for classifier-free guidance; all have the same shape."""
        ...

    def draw(self, parameters: "Tensor", noise: "Tensor", sampling: "Sampling") -> "Tensor":
        """Draw codes int64 (B,) under parameters (B, P) by noise float64 (B,).

        If parameters are not finite, the result is the number of codes, which is no code.
        """
        ...
