"""The condition of streams: labels and features, the second input of every network."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """The labels of B streams, which are constant, and their frames, which change with time.

    Args:
        labels: int64 (B, A) ids as in `wavegen.data.labels`; 0 is an unspecified attribute.
        frames: float32 (B, F, D), features. Frame f is for the `Network.hop` samples from sample
            f * hop of the recording on, and the last frame also for all later samples. None
            means unspecified.
    """

    labels: "Tensor"
    frames: "Tensor | None" = None

    def __len__(self) -> int:
        """B."""
        return len(self.labels)

    def __getitem__(self, rows: "slice | Tensor") -> "Condition":
        """The condition of some streams."""
        return Condition(self.labels[rows], None if self.frames is None else self.frames[rows])

    def to(self, device: "torch.device | str") -> "Condition":
        """The same on a device."""
        frames = None if self.frames is None else self.frames.to(device)
        return Condition(self.labels.to(device), frames)
