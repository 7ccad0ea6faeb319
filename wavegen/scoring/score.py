"""Recordings on disk, scored under one or several labels.

Short recordings are read ahead and go through the network side by side; a long one goes
alone, block after block, in memory that does not grow with its length.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from wavegen.audio import reading
from wavegen.codecs import counts
from wavegen.codecs.windows import regrouped
from wavegen.data.decoding import decoded
from wavegen.data.labels import Labels
from wavegen.engines.base import Scorer
from wavegen.errors import AudioFileError
from wavegen.models.base import Network
from wavegen.models.serialization import load_model
from wavegen.scoring.likelihood import BLOCK, scorer, total_bits
from wavegen.scoring.sources import Source, find_sources

# Samples of a recording from which it is read block after block.
_LONG = 1 << 18
# Samples, times the labels they are scored under, that are read before they are scored.
_AHEAD = 1 << 20


class Watcher(Protocol):
    """Takes in a recording block by block, as it is scored."""

    def add(self, waveform: np.ndarray, surprisal: np.ndarray) -> object:
        """The next samples: float32 (time,), and float64 (time,) of their bits."""
        ...


@dataclass(frozen=True)
class Score:
    """What is known of a file: of a bad one, only the error.

    Args:
        source: the file.
        samples: at the rate of the network.
        seconds: length.
        bits: float64 (K,), total bits under each of the labels asked for.
        histogram: int64 (Q,), how often each code occurs.
        file_rate: in Hz, before resampling.
        surprisal: float64 (samples,), bits of every sample under the first labels, if asked for.
        waveform: float32 (samples,), if surprisal was asked for.
        watcher: what was made for this file by `watch`, if that was given.
        error: why the file could not be read.
    """

    source: Source
    samples: int = 0
    seconds: float = 0.0
    bits: np.ndarray = field(default_factory=lambda: np.zeros(0))
    # What is long is not printed.
    histogram: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64), repr=False)
    file_rate: int = 0
    surprisal: np.ndarray | None = field(default=None, repr=False)
    waveform: np.ndarray | None = field(default=None, repr=False)
    watcher: Any = field(default=None, repr=False)
    error: str = ""

    def without_samples(self) -> "Score":
        """The same without what is as long as the file, so that many can be held at once."""
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
    """Score recordings under each of K labels, in their order; a bad one is no reason to stop.

    Args:
        model: a network in evaluation mode, or the path of a run folder or model directory.
        paths: files and folders, or what `find_sources` found; a `Source` may hold a waveform.
        labels: attribute -> class, or K such dictionaries; what is left out is unspecified.
        keep: also give the surprisal of every sample under the first labels, and the waveform.
        watch: instead of keeping them, makes what each file's are shown to, given the samples
            that it has at most; the `Score` has it then.
        progress: told the samples as they are scored.

    Returns:
        A `Score` for each file, as they are asked for.

    Raises:
        DataError, LabelError, ModelError: as their messages say.
    """
    network = model if isinstance(model, Network) else load_model(model)
    kinds = [labels or {}] if labels is None or isinstance(labels, Mapping) else labels
    watch = _Kept if keep else watch
    scoring = _Scoring(network, scorer(network, kinds), len(kinds), watch, progress)
    return scoring.scores(find_sources(paths))


@dataclass(frozen=True)
class _Opened:
    """A file, its waveform in blocks (time,), or why it could not be read.

    By its header it has `most` samples at most.
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
    scorer: Scorer
    kinds: int
    watch: Callable[[int], Watcher] | None
    progress: Callable[[int], object]

    def scores(self, sources: Sequence[Source]) -> Iterator[Score]:
        waiting: list[_Opened] = []
        ahead = 0
        for source in sources:
            opened, size = _open(source, self.network.config.sample_rate)
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
        """Score short recordings side by side."""
        waves = [np.concatenate(list(each.blocks)) for each in waiting if not each.error]
        codes = [self._encode(wave) for wave in waves]
        scored = zip(waves, codes, self.scorer.totals(codes), strict=True)
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
        """Score a long recording block after block."""
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


def _open(source: Source, sample_rate: int) -> tuple[_Opened, int]:
    """A file whose beginning is read, and how much: all of it up to `_LONG` samples."""
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
        # Resampling rounds.
        most = math.ceil(frames * sample_rate / rate) + 1
        for block in blocks:
            first.append(block)
            size += len(block)
            if size > _LONG:
                return _Opened(source, rate, most, chain(first, blocks)), size
    except AudioFileError as error:
        return _Opened(source, error=error.reason), 0
    return _Opened(source, rate, most, first), size
