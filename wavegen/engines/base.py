"""What every engine offers."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from wavegen.distributions.sampling import Sampling
    from wavegen.models.base import Network


class Engine(Protocol):
    """Generates B streams of one network side by side.

    Shapes: B streams, T time, Q codes.

    Attributes:
        name: as in `wavegen.engines.choice.ENGINES`.

    Raises:
        ValueError: something of another shape, dtype or range than is said here (`checks`).
    """

    name: str

    @property
    def network(self) -> "Network":
        """Whose weights are read at every `start`."""
        ...

    def start(
        self,
        bias: "Tensor",
        sampling: "Sampling",
        *,
        unspecified: "Tensor | None" = None,
        prompt: "Tensor | None" = None,
    ) -> None:
        """Begin new streams, after their prompts if they have any.

        Args:
            bias: (B, ...) of `Network.conditioning`.
            sampling: how codes are drawn.
            unspecified: the same without labels, needed where `sampling.guided`.
            prompt: int64 codes (B, T) that the streams go on from; one parallel pass
                takes them in.
        """
        ...

    def generate(self, noise: "Tensor") -> "Tensor":
        """Draw the next codes, int64 (B, T), one for each number of noise, float64 (B, T).

        Noise is in [0, 1).

        Raises:
            ModelError: logits that are not finite.
        """
        ...

    def force(self, codes: "Tensor") -> "Tensor":
        """Go on with given codes, int64 (B, T), and return the logits (B, T, Q) that met them."""
        ...
