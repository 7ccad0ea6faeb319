"""What every engine offers."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from wavegen.distributions.sampling import Sampling
    from wavegen.models.wavenet import WaveNet


class Engine(Protocol):
    """Generates B streams of one network side by side.

    Args:
        name: as in `wavegen.engines.choice.ENGINES`.
        network: whose weights are read at every `start`.

    Shapes: B streams, T time, L layers, G gate channels, Q codes; F conditioning
    frames, which is 1: labels hold for the whole stream.

    Raises:
        ValueError: something of another shape, dtype or range than is said here (`checks`).
    """

    name: str
    network: "WaveNet"

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
            bias: (B, F, L, G) of `WaveNet.conditioning`.
            sampling: how codes are drawn.
            unspecified: (B, F, L, G) without labels, needed where `sampling.guided`.
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
