"""The bias of streams while they are generated: labels, and frames of features part by part."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch

from wavegen.engines.base import Engine
from wavegen.errors import ConfigError
from wavegen.models.base import Network
from wavegen.models.condition import Condition
from wavegen.models.frames import bias_between


class Conditions:
    """The conditions of B streams of a network.

    Args:
        network: the network.
        rows: ids of the labels of each stream.
        frames: frames float32 (F, D) of each stream, or of one for all, of which only slices are
            read; None is unspecified.
        skipped: number of frames before the first sample of the prompt or of the stream.
        past: samples of the prompt.

    Raises:
        ConfigError: the network takes no frames, or frames of another size.
    """

    def __init__(
        self,
        network: Network,
        rows: Sequence[tuple[int, ...]],
        frames: Sequence[Any] | None = None,
        skipped: int = 0,
        past: int = 0,
    ) -> None:
        if frames is not None:
            check_frames(frames, network)
        self._network, self._rows, self._frames = network, rows, frames
        labels = torch.tensor(rows, dtype=torch.int64, device=network.device)
        self._labels = labels.view(len(rows), -1)
        self._skipped, self._past = skipped, past
        self._hop = network.hop or 1
        self._given = 0
        self._without: torch.Tensor
        # In float64, rounding does not depend on how many frames are computed together, so a stream
        # whose frames arrive has the samples of one whose frames are known.
        self._exact: Network

    @torch.inference_mode()
    def start(self, samples: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The bias for the prompt and the first samples, and the unspecified bias."""
        network = self._network
        self._without = network.conditioning(network.unspecified())
        if self._frames is not None:
            self._exact = deepcopy(network).double()
            bias = self._next(samples)
        else:
            # Each distinct set of labels once, so that equal streams start equal, bit for bit.
            numbers = {row: number for number, row in enumerate(dict.fromkeys(self._rows))}
            kinds = torch.tensor(list(numbers), dtype=torch.int64, device=network.device)
            bias = network.conditioning(Condition(kinds))[[numbers[row] for row in self._rows]]
        return bias, self._without.expand_as(bias)

    @torch.inference_mode()
    def extend(self, engine: Engine, stop: int) -> None:
        """Give an engine the frames that it needs for the samples before `stop`."""
        if self._frames is not None and self._needed(stop) > self._given:
            bias = self._next(stop)
            engine.extend(bias, self._without.expand_as(bias))

    def _needed(self, stop: int) -> int:
        return (self._past + stop - 1) // self._hop + 1

    def _next(self, stop: int) -> torch.Tensor:
        assert self._frames is not None
        needed = self._needed(stop)
        begin, end = self._skipped + self._given, self._skipped + needed
        self._given = needed
        bias = bias_between(self._exact, self._labels, self._frames, begin, end)
        return bias.to(self._without.dtype)


def check_frames(frames: Sequence[Any], network: Network) -> None:
    """Raise `ConfigError` if a network cannot take frames (F, D)."""
    features = network.config.feature_set
    if features is None:
        raise ConfigError("the model has no features: leave the features out")
    for each in frames:
        if len(each) == 0:
            raise ConfigError("there are no frames of features: give at least one")
        shape = np.shape(each[:1])
        if len(shape) != 2 or shape[1] != features.size:
            raise ConfigError(
                f"features have the shape (frames, {', '.join(map(str, shape[1:]))}), but the "
                f"model needs (frames, {features.size}): {features.name}"
            )
