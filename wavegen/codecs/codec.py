"""What every codec offers: a waveform to codes and back."""

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Array = TypeVar("Array", np.ndarray, "Tensor")


class Waveform(Protocol):
    """A recording (time,) that may lie elsewhere: slices of it are float32 arrays."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Any: ...


class Codec(Protocol):
    """Waveforms are float32 in [-1, 1], codes int64 from 0 to `codes` - 1, both of any shape."""

    @property
    def name(self) -> str:
        """The codec in words, such as "256 mu-law"; another codec has another name."""
        ...

    @property
    def codes(self) -> int:
        """How many codes there are."""
        ...

    def encode(self, waveform: Array) -> Array:
        """Codes of a waveform, clamped to [-1, 1]; `NotFiniteError` if it has NaN or infinity."""
        ...

    def decode(self, codes: Array) -> Array:
        """The waveform of codes; `encode` gives them back."""
        ...
