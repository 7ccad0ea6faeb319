"""Generation from frames of features that arrive one after another."""

import logging
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from wavegen.data import labels as labelling
from wavegen.data.labels import Labels
from wavegen.distributions.sampling import Sampling
from wavegen.engines.base import Engine
from wavegen.errors import ConfigError
from wavegen.generation.conditions import Conditions, check_frames
from wavegen.generation.generate import draw
from wavegen.models.base import Network

_logger = logging.getLogger(__name__)


class _Arrived:
    """The frames that have arrived, of which only the last few are kept."""

    def __init__(self, kept: int) -> None:
        self._kept, self._dropped = kept, 0
        self._frames: np.ndarray | None = None

    def __len__(self) -> int:
        return self._dropped + (0 if self._frames is None else len(self._frames))

    def __getitem__(self, part: slice) -> np.ndarray:
        begin, end, _ = part.indices(len(self))
        assert self._frames is not None
        assert begin >= self._dropped
        return self._frames[begin - self._dropped : end - self._dropped]

    def add(self, frames: np.ndarray) -> None:
        self._frames = frames if self._frames is None else np.concatenate([self._frames, frames])

    def drop(self, used: int) -> None:
        """Forget the frames that are not needed after the first `used` frames have been used."""
        if self._frames is not None and (past := used - self._kept - self._dropped) > 0:
            self._frames, self._dropped = self._frames[past:], self._dropped + past


def latency(network: Network) -> int:
    """Samples between the beginning of a frame in the features and in the result.

    This is one hop, for the frame itself, and the frames that the network looks ahead at. The
    window of the features is not included.
    """
    return (network.margin + 1) * (network.hop or 0)


def live_chunks(
    engine: Engine,
    frames: Iterable[Any],
    labels: Labels | None = None,
    seed: int = 0,
    sampling: Sampling | None = None,
) -> Iterator[np.ndarray]:
    """Generate a stream from frames that arrive, as soon as they allow it.

    The samples of a frame are generated when the frames that it looks ahead at have arrived, or
    no more come. They are equal to those of `stream_chunks` with all frames.

    Args:
        engine: engine of a network with features, in evaluation mode.
        frames: arrays float32 (F, D) or (D,), one after another.
        labels: attribute -> class; an attribute that is left out is unspecified.
        seed: 0 to 2^64 - 1.
        sampling: how codes are drawn; by default at temperature 1 without limits.

    Yields:
        float32 (samples,), a multiple of the hop.

    Raises:
        ConfigError: the network takes no frames, or frames of another size.
        LabelError: a label is unknown.
    """
    network, sampling = engine.network, sampling or Sampling()
    if network.hop is None:
        raise ConfigError("the model has no features: leave the features out")
    delay = latency(network)
    _logger.info(
        "latency %.1f ms: %d frames of %d samples",
        1000 * delay / network.config.sample_rate,
        network.margin + 1,
        network.hop,
    )
    row = tuple(labelling.encode(labels or {}, network.config.labels))
    # Frames before the next one: its margin, and as many for the frames that are repeated.
    arrived, given, hop = _Arrived(2 * network.margin + 1), 0, network.hop
    conditions: Conditions | None = None

    def generated(stop: int) -> np.ndarray:
        nonlocal given, conditions
        if conditions is None:
            conditions = Conditions(network, [row], [arrived])
            bias, unspecified = conditions.start(stop * hop)
            engine.start(bias, sampling, unspecified=unspecified)
        else:
            conditions.extend(engine, stop * hop)
        start, given = given, stop
        arrived.drop(given)
        return draw(engine, seed, [0], start * hop, stop * hop)[0]

    for each in frames:
        own = np.atleast_2d(np.asarray(each, dtype=np.float32))
        check_frames([own], network)
        arrived.add(own)
        if len(arrived) - network.margin > given:
            yield generated(len(arrived) - network.margin)
    if len(arrived) > given:
        yield generated(len(arrived))
