"""The contracts of engines and scorers."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from wavegen.distributions.sampling import Sampling
    from wavegen.models.base import Network
    from wavegen.models.condition import FramesOf


class Engine(Protocol):
    """Generates B streams of one network together.

    Shapes: B streams, T time, F frames, P parameters of the distribution.

    Attributes:
        name: as in `wavegen.engines.choice.ENGINES`.

    Raises:
        ValueError: an argument has a wrong shape, dtype or range, see `checks`.
    """

    name: str

    @property
    def network(self) -> "Network":
        """The network, whose weights are read at every `start`."""
        ...

    def start(
        self,
        bias: "Tensor",
        sampling: "Sampling",
        *,
        unspecified: "Tensor | None" = None,
        prompt: "Tensor | None" = None,
    ) -> None:
        """Start new streams, after their prompts if they have any.

        Args:
            bias: (B, F, ...), result of `Network.conditioning`; a prompt starts with the first
                frame.
            sampling: how codes are drawn.
            unspecified: bias of the unspecified condition, needed if `sampling.guided`.
            prompt: int64 codes (B, T) to continue; one parallel pass processes them.
        """
        ...

    def extend(self, bias: "Tensor", unspecified: "Tensor | None" = None) -> None:
        """Append frames to running streams.

        Args:
            bias: (B, F, ...), result of `Network.conditioning`.
            unspecified: bias of the unspecified condition, needed if the sampling is guided.

        Raises:
            ValueError: the network takes labels only, or the frames have a wrong shape.
        """
        ...

    def generate(self, noise: "Tensor") -> "Tensor":
        """Draw the next codes, int64 (B, T), one for each number of noise, float64 (B, T).

        Noise is in [0, 1).

        Raises:
            ModelError: the logits are not finite.
        """
        ...

    def force(self, codes: "Tensor") -> "Tensor":
        """Continue with given codes, int64 (B, T): the parameters (B, T, P) under teacher forcing.

        The parameters at t are those of code t; `Distribution.bits` gives its bits.
        """
        ...


class Scorer(Protocol):
    """Bits of recordings under each of K conditions."""

    def surprisals(
        self,
        recordings: "Sequence[np.ndarray]",
        context: int = 0,
        frames: "Sequence[FramesOf] | None" = None,
    ) -> "list[np.ndarray]":
        """Bits of every code of some recordings, int64 (time,): float64 (K, time) for each.

        The first `context` codes of each recording are known, but not scored. They are all earlier
        codes, or at least a receptive field. For a network with frames, `frames` has those of each.
        """
        ...

    def totals(
        self,
        recordings: "Sequence[np.ndarray]",
        context: int = 0,
        frames: "Sequence[FramesOf] | None" = None,
    ) -> "list[tuple[np.ndarray, np.ndarray]]":
        """Sums of these bits, so that memory does not grow with K times the time.

        For each recording: sums of groups of `windows.SUMMED` codes, from the first scored one on,
        float64 (K, groups); and the bits of every code under the first condition, float64 (time,).
        """
        ...

    def blocks(
        self, blocks: "Iterable[np.ndarray]", frames: "FramesOf | None" = None
    ) -> "Iterator[tuple[np.ndarray, np.ndarray]]":
        """`totals` for each block, int64 (time,), of one recording that is too long for memory.

        `frames` has the frames of the whole recording; only slices of them are read.
        """
        ...
