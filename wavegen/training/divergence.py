"""Whether a training has diverged."""

import math

import torch
from torch import Tensor

# Training has diverged where the loss, averaged over about so many steps (single batches leap),
# is so many bits worse than guessing. Enough above it to tell learning that is only slow.
_DIVERGED_STEPS = 100
DIVERGED_BITS = 1.0


class LossWatch:
    """Whether the loss is sound, found out while the device is busy with the backward pass.

    Args:
        most: bits that its average over the last steps may come to.
    """

    def __init__(self, most: float) -> None:
        self._most = most * math.log(2)
        self._mean = torch.zeros(())

    def look(self, loss: Tensor, clips: Tensor) -> None:
        """Take in the loss of a step, and the clips of its batch."""
        loss, self.clips = loss.detach(), clips
        # One batch beyond all measure must not count as hundreds.
        bounded = loss.clamp(max=2 * self._most)
        self._mean = self._mean.to(loss).lerp(bounded, 1 / _DIVERGED_STEPS)
        verdict = torch.stack([torch.isfinite(loss), self._mean <= self._most])
        self._verdict = verdict.to("cpu", non_blocking=True)
        self._event = None
        if loss.is_cuda:
            self._event = torch.cuda.Event()
            self._event.record()

    def seen(self) -> tuple[bool, bool]:
        """Whether the loss was finite, and whether its average is low enough."""
        if self._event is not None:
            self._event.synchronize()
        finite, low = self._verdict.tolist()
        return finite, low
