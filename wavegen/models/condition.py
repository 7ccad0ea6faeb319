"""The condition of streams: labels and features, the second input of every network."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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


@dataclass(frozen=True)
class FramesOf:
    """The frames of one recording, or of a part of it.

    Args:
        frames: float32 (F, D), see `Condition`; an array, or an object whose slices are arrays.
        first: number of the first given code, counted from the beginning of the first frame.
    """

    frames: Any
    first: int = 0

    def between(self, start: int, stop: int, hop: int, margin: int) -> "FramesOf":
        """The frames that codes from `start` to `stop` depend on, with `margin` on each side."""
        import numpy as np

        last = len(self.frames) - 1
        # After the end the last frame is repeated, with the same frames before it.
        begin = max(0, min((self.first + start) // hop, last) - margin)
        end = (self.first + max(stop - 1, start)) // hop + margin + 1
        part = np.asarray(self.frames[begin : max(end, begin + 1)], dtype=np.float32)
        return FramesOf(part, self.first - begin * hop)

    def moved(self, code: int) -> "FramesOf":
        """The same frames for a recording whose first given code is `code`."""
        return FramesOf(self.frames, self.first + code)


def stack(recordings: Sequence[FramesOf]) -> "tuple[Tensor, Tensor]":
    """Frames float32 (B, F, D) of a batch, padded by the last frame; and `first`, int64 (B,)."""
    import numpy as np
    import torch

    most = max(len(each.frames) for each in recordings)
    padded = [
        np.pad(each.frames, ((0, most - len(each.frames)), (0, 0)), mode="edge")
        for each in recordings
    ]
    first = torch.tensor([each.first for each in recordings], dtype=torch.int64)
    return torch.from_numpy(np.stack(padded)), first
