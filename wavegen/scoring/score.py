"""Scoring recordings on disk under one or several labels.

Short recordings are read ahead and scored together in batches. A long one is scored alone, block
by block, in memory that does not grow with its length; for a model with features it is read whole.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from wavegen.audio import reading
from wavegen.audio.features import FeatureSet
from wavegen.codecs import counts
from wavegen.codecs.windows import regrouped
from wavegen.data.decoding import decoded
from wavegen.data.labels import Labels
from wavegen.engines.base import Scorer
from wavegen.errors import AudioFileError
from wavegen.models.base import Network
from wavegen.models.condition import FramesOf
from wavegen.models.serialization import load_model
from wavegen.scoring.likelihood import BLOCK, scorer, total_bits
from wavegen.scoring.sources import Source, find_sources

# Recordings with more samples than this are read block by block.
_LONG = 1 << 18
# Samples, times the number of labels, that are read before they are scored.
_AHEAD = 1 << 20


class Watcher(Protocol):
    """Receives a recording block by block while it is scored."""

    def add(self, waveform: np.ndarray, surprisal: np.ndarray) -> object:
        """Receive the next samples, float32 (time,), and their bits, float64 (time,)."""
        ...


@dataclass(frozen=True)
class Score:
    """The score of a file, or the error if it cannot be read.

    Args:
        source: the file.
        samples: number of samples at the rate of the network.
        seconds: duration.
        bits: float64 (K,), total bits under each of the labels.
        histogram: int64 (Q,), number of occurrences of each code.
        file_rate: rate in Hz before resampling.
        surprisal: float64 (samples,), bits of every sample under the first labels, with `keep`.
        waveform: float32 (samples,), with `keep`.
        watcher: the watcher that `watch` made for this file, if it was given.
        error: the reason why the file could not be read.
    """

    source: Source
    samples: int = 0
    seconds: float = 0.0
    bits: np.ndarray = field(default_factory=lambda: np.zeros(0))
    # Arrays as long as the file are not printed.
    histogram: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64), repr=False)
    file_rate: int = 0
    surprisal: np.ndarray | None = field(default=None, repr=False)
    waveform: np.ndarray | None = field(default=None, repr=False)
    watcher: Any = field(default=None, repr=False)
    error: str = ""

    def without_samples(self) -> "Score":
        """The same without arrays as long as the file, so that many fit into memory."""
        source = replace(self.source, waveform=None)
        return replace(self, source=source, surprisal=None, waveform=None, watcher=None)


def score(
    model: Network | str | Path,
    paths: str | Path | Sequence[str | Path | Source],
    labels: Labels | Sequence[Labels] | None = None,
    *,
    keep: bool = False,
    watch: Callable[[int], Watcher] | None = None,
    progress: Callable[[int], object] = int,
) -> Iterator[Score]:
    """Score recordings in their order under each of K labels; unreadable files do not raise.

    Args:
        model: network in evaluation mode, or the path of a run folder or model directory.
        paths: files and folders, or results of `find_sources`; a `Source` may hold a waveform.
        labels: attribute -> class, or K such dictionaries; an attribute that is left out is
            unspecified.
        keep: also return the surprisal of every sample under the first labels, and the waveform.
        watch: makes a watcher for each file, given its largest possible number of samples. The
            watcher receives the samples block by block, and is in the `Score`.
        progress: called with the number of samples that have been scored.

    Returns:
        An iterator over the `Score` of each file.

    Raises:
        DataError: a path does not exist, or a folder holds no audio.
        LabelError: a label is unknown.
        ModelError: the model is missing or damaged.
    """
    network = model if isinstance(model, Network) else load_model(model)
    kinds = [labels or {}] if labels is None or isinstance(labels, Mapping) else labels
    watch = _Kept if keep else watch
    features = network.config.feature_set
    scoring = _Scoring(network, features, scorer(network, kinds), len(kinds), watch, progress)
    return scoring.scores(find_sources(paths))


@dataclass(frozen=True)
class _Opened:
    """A file and its waveform in blocks (time,), or the reason why it cannot be read.

    By its header the file has at most `most` samples.
    """

    source: Source
    file_rate: int = 0
    most: int = 0
    blocks: Iterable[np.ndarray] = ()
    error: str = ""


class _Kept:
    """All samples of a recording and their bits."""

    def __init__(self, most: int) -> None:
        self.blocks: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, waveform: np.ndarray, surprisal: np.ndarray) -> None:
        self.blocks.append((waveform, surprisal))


@dataclass(frozen=True)
class _Scoring:
    network: Network
    features: FeatureSet | None
    scorer: Scorer
    kinds: int
    watch: Callable[[int], Watcher] | None
    progress: Callable[[int], object]

    def scores(self, sources: Sequence[Source]) -> Iterator[Score]:
        waiting: list[_Opened] = []
        ahead = 0
        for source in sources:
            opened, size = _open(source, self.network.config.sample_rate)
            if self.features is not None and size > _LONG:
                opened, size = _whole(opened), 0
            if size <= _LONG:
                waiting.append(opened)
                ahead += size * self.kinds
            if ahead > _AHEAD or size > _LONG:
                yield from self._together(waiting)
                waiting, ahead = [], 0
            if size > _LONG:
                yield self._alone(opened)
        yield from self._together(waiting)

    def _together(self, waiting: Sequence[_Opened]) -> Iterator[Score]:
        """Score short recordings in one batch."""
        waves = [np.concatenate(list(each.blocks)) for each in waiting if not each.error]
        codes = [self._encode(wave) for wave in waves]
        frames = None
        if self.features is not None:
            frames = [FramesOf(self.features.compute(wave)) for wave in waves]
        scored = zip(waves, codes, self.scorer.totals(codes, 0, frames), strict=True)
        for each in waiting:
            if each.error:
                yield Score(each.source, error=each.error)
                continue
            wave, recording, (sums, bits) = next(scored)
            totals = total_bits(sums)
            self.progress(len(wave))
            watcher = self._watcher(each)
            if watcher is not None:
                watcher.add(wave, bits)
            yield self._score(each, totals, self._histogram(recording), watcher)

    def _alone(self, opened: _Opened) -> Score:
        """Score a long recording block by block."""
        totals, histogram = np.zeros(self.kinds), self._histogram(np.empty(0, np.int64))
        watcher = self._watcher(opened)
        waves: list[np.ndarray] = []

        def blocks() -> Iterator[np.ndarray]:
            for wave in regrouped(opened.blocks, BLOCK):
                codes = self._encode(wave)
                histogram[:] += self._histogram(codes)
                waves.append(wave)
                yield codes

        try:
            for sums, bits in self.scorer.blocks(blocks()):
                totals = total_bits(sums, totals)
                wave = waves.pop()
                if watcher is not None:
                    watcher.add(wave, bits)
                self.progress(len(bits))
        except AudioFileError as error:
            return Score(opened.source, error=error.reason)
        return self._score(opened, totals, histogram, watcher)

    def _watcher(self, opened: _Opened) -> Watcher | None:
        return None if self.watch is None else self.watch(opened.most)

    def _score(
        self, opened: _Opened, bits: np.ndarray, histogram: np.ndarray, watcher: Watcher | None
    ) -> Score:
        samples = int(histogram.sum())
        seconds = samples / self.network.config.sample_rate
        result = Score(opened.source, samples, seconds, bits, histogram, opened.file_rate)
        if isinstance(watcher, _Kept):
            waves, kept = zip(*watcher.blocks, strict=True)
            return replace(result, surprisal=np.concatenate(kept), waveform=np.concatenate(waves))
        return replace(result, watcher=watcher)

    def _encode(self, wave: np.ndarray) -> np.ndarray:
        return self.network.config.codec.encode(wave)

    def _histogram(self, codes: np.ndarray) -> np.ndarray:
        return counts.histogram(codes, self.network.config.codec)


def _whole(opened: _Opened) -> _Opened:
    """Read all of a recording, for features that depend on both sides of a block."""
    try:
        return replace(opened, blocks=list(opened.blocks))
    except AudioFileError as error:
        return replace(opened, error=error.reason)


def _open(source: Source, sample_rate: int) -> tuple[_Opened, int]:
    """Open a file, and read it if it has at most `_LONG` samples; return its samples read."""
    if source.error:
        return _Opened(source, error=source.error), 0
    first: list[np.ndarray] = []
    size = 0
    try:
        if source.waveform is None:
            info = reading.probe(source.path)
            rate, frames = info.sample_rate, info.frames
            blocks = decoded(source.path, sample_rate, source.trim)
        else:
            rate, frames = source.sample_rate or sample_rate, len(source.waveform)
            blocks = reading.waveform_blocks(source.waveform, rate, sample_rate, source.path)
        # Resampling may round up.
        most = math.ceil(frames * sample_rate / rate) + 1
        for block in blocks:
            first.append(block)
            size += len(block)
            if size > _LONG:
                return _Opened(source, rate, most, chain(first, blocks)), size
    except AudioFileError as error:
        return _Opened(source, error=error.reason), 0
    return _Opened(source, rate, most, first), size
