"""The contract of a codec: waveforms to codes and back."""

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Array = TypeVar("Array", np.ndarray, "Tensor")


class Waveform(Protocol):
    """A recording (time,), in memory or on disk; its slices are float32 arrays."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Any: ...


class Codec(Protocol):
    """Waveforms are float32 in [-1, 1], codes int64 from 0 to `codes` - 1, both of any shape."""

    @property
    def name(self) -> str:
        """A name such as "256 mu-law"; different codecs have different names."""
        ...

    @property
    def codes(self) -> int:
        """How many codes there are."""
        ...

    def encode(self, waveform: Array) -> Array:
        """Codes of a waveform, clamped to [-1, 1]; `NotFiniteError` for NaN or infinity."""
        ...

    def decode(self, codes: Array) -> Array:
        """The waveform of codes; encoding it gives the same codes."""
        ...
