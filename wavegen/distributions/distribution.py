"""What every distribution of a code offers: a network gives its parameters."""

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
        """P, how many numbers a network puts out for each code."""
        ...

    def loss(self, parameters: "Tensor", codes: "Tensor") -> "Tensor":
        """Mean nats of codes, int64 (N,), under parameters (N, P); `windows.IGNORED` bears none."""
        ...

    def bits(self, parameters: "Tensor", codes: "Tensor") -> "Tensor":
        """Bits float64 (B, T) of codes, int64 (B, T), under (B, T, P); 0 where ignored."""
        ...

    def guide(self, conditioned: "Tensor", unspecified: "Tensor", guidance: float) -> "Tensor":
        """Parameters moved along the difference that the condition makes, of one shape."""
        ...

    def draw(self, parameters: "Tensor", noise: "Tensor", sampling: "Sampling") -> "Tensor":
        """Codes int64 (B,), one for each number of noise, float64 (B,), under (B, P).

        Where parameters are not finite it is the number of codes, which is no code.
        """
        ...
