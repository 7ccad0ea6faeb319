"""Detecting that a training has diverged."""

import math

import torch
from torch import Tensor

# Training has diverged if the loss, averaged over about this many steps since single batches vary,
# exceeds that of guessing by this many bits. Slow learning stays below that.
_DIVERGED_STEPS = 100
DIVERGED_BITS = 1.0


class LossWatch:
    """Checks the loss while the device is busy with the backward pass.

    Args:
        most: largest sound average of the loss over the last steps, in bits.
    """

    def __init__(self, most: float) -> None:
        self._most = most * math.log(2)
        self._mean = torch.zeros(())

    def look(self, loss: Tensor, clips: Tensor) -> None:
        """Add the loss of a step, and remember the clips of its batch."""
        loss, self.clips = loss.detach(), clips
        # A single extreme batch must not outweigh hundreds of others.
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
