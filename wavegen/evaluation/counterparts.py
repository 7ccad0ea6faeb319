"""The figures of one held-out clip, and its counterpart: a clip generated with its labels."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wavegen.data.clip_features import ComputedFrames
from wavegen.data.clips import Clip
from wavegen.data.labels import Labels
from wavegen.distributions.sampling import Sampling
from wavegen.engines.base import Engine
from wavegen.generation.generate import Stream, rounds, stream_chunks
from wavegen.models.base import Network
from wavegen.scoring.classify import classify
from wavegen.scoring.score import Score, score
from wavegen.scoring.sources import Source


@dataclass(frozen=True)
class ClipFigures:
    """The figures of one held-out clip.

    Args:
        bits: total bits under its own labels.
        samples: number of samples of the whole clip.
        taken_for: classes by likelihood, if the clip is one of those to classify.
        generated: its counterpart, float32 (time,).
    """

    bits: float
    samples: int
    taken_for: Labels
    generated: np.ndarray


@dataclass(frozen=True)
class Work:
    """Measures clips of one evaluation; see `evaluation.evaluate`.

    Args:
        whole: the clips as they were decoded, float32 (time,).
        real: the part of each clip that is compared.
        classified: numbers of the clips to classify by likelihood.
    """

    network: Network
    engine: Engine
    labels: Sequence[Labels]
    streams: Sequence[Stream]
    whole: Sequence[np.ndarray]
    real: Sequence[np.ndarray]
    seed: int
    sampling: Sampling | None
    combinations: int
    classified: frozenset[int]

    def of(self, items: Sequence[tuple[int, Clip]]) -> Iterator[ClipFigures]:
        """Yield the figures of some of the clips.

        Clips are given with their numbers. They should be in the order of their lengths, since
        neighbours are processed together.
        """
        for part in rounds([number for number, _ in items], self.engine.network):
            scores = self._scores(part)
            taken_for = self._classes([number for number in part if number in self.classified])
            waves = generated(
                self.engine,
                [self.streams[number] for number in part],
                [len(self.real[number]) for number in part],
                self.seed,
                self.sampling,
                self._frames(part),
            )
            for number, wave in zip(part, waves, strict=True):
                bits, samples = float(scores[number].bits[0]), scores[number].samples
                yield ClipFigures(bits, samples, taken_for.get(number, {}), wave)

    def _frames(self, numbers: Sequence[int]) -> list[ComputedFrames] | None:
        """The frames of clips, if the network has features: their counterparts are copies."""
        features = self.network.config.feature_set
        if features is None:
            return None
        return [ComputedFrames(features, self.whole[number]) for number in numbers]

    def _classes(self, numbers: Sequence[int]) -> dict[int, Labels]:
        if not numbers:
            return {}
        sources = [self._source(number) for number in numbers]
        found = classify(self.network, sources, combinations=self.combinations)
        return {number: each.predicted for number, each in zip(numbers, found, strict=True)}

    def _scores(self, numbers: Sequence[int]) -> dict[int, Score]:
        """Scores by number of the clip; clips with the same labels are scored together."""
        together: dict[tuple[tuple[str, str], ...], list[int]] = defaultdict(list)
        for number in numbers:
            together[tuple(sorted(self.labels[number].items()))].append(number)
        result: dict[int, Score] = {}
        for kind, members in together.items():
            sources = [self._source(number) for number in members]
            scores = score(self.network, sources, dict(kind))
            result |= zip(members, scores, strict=True)
        return result

    def _source(self, number: int) -> Source:
        """A decoded clip as a source, so that its file is not read again."""
        return Source(Path(f"clip {number}"), waveform=self.whole[number])


def generated(
    engine: Engine,
    streams: Sequence[Stream],
    lengths: Sequence[int],
    seed: int,
    sampling: Sampling | None,
    frames: Sequence[Any] | None = None,
) -> Iterator[np.ndarray]:
    """Yield a recording of each stream in order; streams of similar length are made together.

    With `frames` (F, D) of each stream, they are copies of the recordings of these frames.
    """
    order = sorted(range(len(streams)), key=lambda number: lengths[number])
    made: dict[int, np.ndarray] = {}
    for part in rounds(order, engine.network):
        longest = max(lengths[number] for number in part)
        own = None if frames is None else [frames[number] for number in part]
        chosen = [streams[number] for number in part]
        chunks = stream_chunks(engine, chosen, longest, seed, sampling, frames=own)
        waves = np.concatenate(list(chunks), axis=1)
        made |= {number: waves[row, : lengths[number]] for row, number in enumerate(part)}
    return (made[number] for number in range(len(streams)))
