"""What is known of streams besides their codes: the second input of every network."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """Labels, which hold for a whole recording, and frames, which change with time, of B streams.

    Args:
        labels: int64 (B, A) ids as in `wavegen.data.labels`; 0 where an attribute is unspecified.
        frames: float32 (B, F, D), features; frame f holds for the `Network.hop` samples from sample
            f * hop of the recording on, and the last frame until the end. None leaves them
            unspecified.
    """

    labels: "Tensor"
    frames: "Tensor | None" = None

    def __len__(self) -> int:
        """B."""
        return len(self.labels)

    def __getitem__(self, rows: "slice | Tensor") -> "Condition":
        """The condition of some of the streams."""
        return Condition(self.labels[rows], None if self.frames is None else self.frames[rows])

    def to(self, device: "torch.device | str") -> "Condition":
        """The same on a device."""
        frames = None if self.frames is None else self.frames.to(device)
        return Condition(self.labels.to(device), frames)
