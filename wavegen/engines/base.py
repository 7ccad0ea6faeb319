"""What every engine and every scorer offers."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from wavegen.distributions.sampling import Sampling
    from wavegen.models.base import Network


class Engine(Protocol):
    """Generates B streams of one network side by side.

    Shapes: B streams, T time, F frames, P parameters of the distribution.

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
            bias: (B, F, ...) of `Network.conditioning`; a prompt begins with the first frame.
            sampling: how codes are drawn.
            unspecified: the same with nothing specified, needed where `sampling.guided`.
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
        """Continue with given codes, int64 (B, T): the parameters (B, T, P) under teacher forcing.

        Those at t are what code t would have been drawn from; `Distribution.bits` scores it.
        """
        ...


class Scorer(Protocol):
    """Bits of recordings under each of K conditions."""

    def surprisals(
        self, recordings: "Sequence[np.ndarray]", context: int = 0
    ) -> "list[np.ndarray]":
        """Bits of every code of some recordings, int64 (time,): float64 (K, time) for each.

        The first `context` codes of each are given, but not scored: they are all that came
        before, or at least a receptive field.
        """
        ...

    def totals(
        self, recordings: "Sequence[np.ndarray]", context: int = 0
    ) -> "list[tuple[np.ndarray, np.ndarray]]":
        """The same summed, for each: memory does not grow with K times the time.

        Sums of `windows.SUMMED` codes each, from the first that is scored on, float64
        (K, blocks); bits of every code under the first condition, float64 (time,).
        """
        ...

    def blocks(self, blocks: "Iterable[np.ndarray]") -> "Iterator[tuple[np.ndarray, np.ndarray]]":
        """`totals` of each block, int64 (time,), of one recording that is too long for memory."""
        ...
