"""What every codec offers: a waveform to codes and back."""

from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Array = TypeVar("Array", np.ndarray, "Tensor")


class Codec(Protocol):
    """Waveforms are float32 in [-1, 1], codes int64 from 0 to `codes` - 1, both of any shape."""

    @property
    def codes(self) -> int:
        """How many codes there are."""
        ...

    def encode(self, waveform: Array) -> Array:
        """Codes of a waveform; `NotFiniteError` where it holds NaN or infinity."""
        ...

    def decode(self, codes: Array) -> Array:
        """The waveform of codes; `encode` gives them back."""
        ...
