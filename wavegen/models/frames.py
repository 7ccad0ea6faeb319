"""The bias of running streams over time, to which frames can be appended."""

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from wavegen.models.base import Network


class Frames:
    """The bias of B streams over time; frames of the past are dropped.

    Args:
        bias: (B, F, ...), result of `Network.conditioning`.
        hop: `Network.hop`, the samples of a frame; None if the first frame is for all samples.
        time: number of the next sample, counted from the beginning of the first frame.
    """

    def __init__(self, bias: "Tensor", hop: int | None, time: int = 0) -> None:
        self._bias, self._hop, self._time = bias, hop, time
        # The bias of the present frame, and the number of its samples that are left.
        self._now, self._left = bias[:, 0], 0

    def extend(self, bias: "Tensor") -> None:
        """Append frames (B, F, ...); `ValueError` for any other shape.

        If the samples of the last frame have been used up before, it was repeated.
        """
        import torch

        if self._hop is None:
            raise ValueError("this network takes labels only: there are no further frames")
        shape = (len(self._bias), max(1, bias.shape[1]), *self._bias.shape[2:])
        if bias.shape != shape:
            raise ValueError(f"frames are {tuple(bias.shape)}: they must be {shape}")
        past = min(self._time // self._hop, self._bias.shape[1])
        self._bias = torch.cat([self._bias[:, past:], bias], dim=1)
        self._time -= past * self._hop

    def spans(self, samples: int) -> "Iterator[tuple[Tensor, int]]":
        """Split the next samples by frames: yield the bias (B, ...) and a number of samples.

        The bias is the same object as long as the frame is the same.
        """
        while samples:
            if not self._left:
                self._next()
            count = min(samples, self._left)
            self._left -= count
            samples -= count
            yield self._now, count

    def _next(self) -> None:
        if self._hop is None:
            self._left = sys.maxsize
            return
        frame = max(0, self._time // self._hop)
        self._now = self._bias[:, min(frame, self._bias.shape[1] - 1)]
        self._left = (frame + 1) * self._hop - self._time
        self._time += self._left


def bias_between(
    network: "Network", labels: "Tensor", frames: Sequence[Any], begin: int, end: int
) -> "Tensor":
    """The bias of a part of the frames of B streams, in memory that does not grow with the rest.

    Args:
        network: network that takes frames.
        labels: int64 (B, A).
        frames: frames float32 (F, D) of each stream, or of one for all; only slices are read. The
            last frame of a stream is repeated.
        begin: number of the first frame.
        end: number after the last frame.

    Returns:
        (B, end - begin, ...), see `Network.conditioning`.
    """
    import numpy as np
    import torch

    from wavegen.models.condition import Condition, FramesOf, stack

    margin, parts, numbers = network.margin, [], []
    for each in frames:
        last = len(each) - 1
        first = max(0, min(begin, last) - margin)
        parts.append(np.asarray(each[first : end + margin], dtype=np.float32))
        numbers.append(np.minimum(np.arange(begin, end), last) - first)
    given = stack(list(map(FramesOf, parts)))[0].to(network.device)
    chosen = torch.from_numpy(np.stack(numbers)).to(network.device)
    bias = network.conditioning(Condition(labels, given.expand(len(labels), -1, -1)))
    return bias[torch.arange(len(labels))[:, None], chosen.expand(len(labels), -1)]
