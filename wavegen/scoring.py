"""Recordings on disk, scored under one or several labels.

Short recordings are read ahead and go through the network side by side; a long one goes
alone, block after block, in memory that does not grow with its length.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np

from wavegen import audio, mulaw
from wavegen.audio import display
from wavegen.checkpoint import load_model
from wavegen.clips import find_clips
from wavegen.errors import AudioFileError, ConfigError, DataError
from wavegen.folders import audio_files
from wavegen.labels import Labels
from wavegen.likelihood import Scorer, label_ids, surprisals
from wavegen.wavenet import WaveNet

# Samples of a recording from which it is read block after block.
_LONG = 1 << 18
# Samples, times the labels they are scored under, that are read before they are scored.
_AHEAD = 1 << 20
# Samples predicted at a time of a long recording, under all labels together.
_CHUNK = 16384
# Rows of a batch, a row being a recording under one set of labels.
_ROWS = 64


@dataclass(frozen=True)
class Source:
    """A file to be scored, and the labels that its folder gives it; `error` if it is unusable."""

    path: Path
    labels: Labels = field(default_factory=dict)
    error: str = ""


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
        surprisal: float64 (K, samples), bits of every sample, if asked for.
        waveform: float32 (samples,), if surprisal was asked for.
        error: why the file could not be read.
    """

    source: Source
    samples: int = 0
    seconds: float = 0.0
    bits: np.ndarray = field(default_factory=lambda: np.zeros(0))
    histogram: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    file_rate: int = 0
    surprisal: np.ndarray | None = None
    waveform: np.ndarray | None = None
    error: str = ""


def find_sources(
    paths: Sequence[str | Path | Source],
    *,
    labelled: bool = False,
    split: str | None = None,
    label_pattern: str | None = None,
) -> list[Source]:
    """The files meant by some paths: themselves, or all audio below a folder.

    Args:
        paths: files and folders; what was found before is passed on as it is.
        labelled: find out the labels, as training does; folders only.
        split: only the clips of "train", "validation" or "test", as training splits them;
            folders only.
        label_pattern: as in `clips.find_clips`.

    Raises:
        DataError: a path that does not exist, or a folder without audio.
        ConfigError: labels or a split asked of a file.
    """
    sources: list[Source] = []
    for each in paths:
        if isinstance(each, Source):
            sources.append(each)
            continue
        path = Path(each)
        if path.is_dir() and (labelled or split):
            found = find_clips(path, label_pattern=label_pattern)
            clips = found.clips if split is None else found.of(split)
            if not clips:
                raise DataError(f"{display(path)}: no clip is in the {split} split")
            sources += [Source(clip.path, clip.labels) for clip in clips]
            sources += [Source(path / bad.name, error=bad.reason) for bad in found.skipped]
        elif path.is_dir():
            files, closed = audio_files(path)
            sources += map(Source, files)
            sources += [Source(path / bad.name, error=bad.reason) for bad in closed]
        elif not path.exists():
            raise DataError(f"{display(path)}: no such file or folder")
        elif labelled or split:
            raise ConfigError(f"{display(path)}: labels and splits are known of folders only")
        else:
            sources.append(Source(path))
    return sources


def score(
    model: WaveNet | str | Path,
    paths: Sequence[str | Path | Source],
    labels: Labels | Sequence[Labels] | None = None,
    *,
    keep: bool = False,
    progress: Callable[[int], object] = int,
) -> Iterator[Score]:
    """Score files under each of K labels, in their order; a bad file is no reason to stop.

    Args:
        model: a network in evaluation mode, or the path of a run folder or model directory.
        paths: files and folders, or what `find_sources` found.
        labels: attribute -> class, or K such dictionaries; what is left out is unspecified.
        keep: also give the surprisal of every sample, and the waveform.
        progress: told the samples as they are scored.

    Returns:
        A `Score` for each file, as they are asked for.

    Raises:
        DataError, LabelError, ModelError: as their messages say.
    """
    network = model if isinstance(model, WaveNet) else load_model(model)
    kinds = [labels or {}] if labels is None or isinstance(labels, Mapping) else labels
    label_ids(network, kinds)  # a mistake shows before anything is read
    return _scores(network, find_sources(paths), kinds, keep, progress)


def _scores(
    network: WaveNet,
    sources: Sequence[Source],
    kinds: Sequence[Labels],
    keep: bool,
    progress: Callable[[int], object],
) -> Iterator[Score]:
    rate = network.config.sample_rate
    waiting: list[_Read] = []
    ahead = 0
    for source in sources:
        size = 0
        try:
            if source.error:
                raise AudioFileError(source.error)
            file_rate = audio.probe(source.path).sample_rate
            blocks = audio.blocks(source.path, rate)
            first = []
            for block in blocks:
                first.append(block)
                size += len(block)
                if size > _LONG:
                    break
            if size <= _LONG:
                waiting.append(_Read(source, np.concatenate(first), file_rate))
                ahead += size * len(kinds)
        except AudioFileError as error:
            size = 0
            waiting.append(_Read(source, error=_reason(source, error)))
        if ahead > _AHEAD or size > _LONG:
            yield from _side_by_side(network, waiting, kinds, keep, progress)
            waiting, ahead = [], 0
        if size > _LONG:
            long = _Long(source, chain(first, blocks), file_rate)
            yield _alone(network, long, kinds, keep, progress)
    yield from _side_by_side(network, waiting, kinds, keep, progress)


@dataclass(frozen=True)
class _Read:
    source: Source
    waveform: np.ndarray | None = None
    file_rate: int = 0
    error: str = ""


@dataclass(frozen=True)
class _Long:
    source: Source
    blocks: Iterable[np.ndarray]
    file_rate: int


def _reason(source: Source, error: AudioFileError) -> str:
    return str(error).removeprefix(f"{display(source.path)}: ")


def _side_by_side(
    network: WaveNet,
    waiting: Sequence[_Read],
    kinds: Sequence[Labels],
    keep: bool,
    progress: Callable[[int], object],
) -> Iterator[Score]:
    """Score what was read, recordings of about one length together."""
    config = network.config
    codes = {
        number: mulaw.encode(read.waveform, config.quantization_channels)
        for number, read in enumerate(waiting)
        if read.waveform is not None
    }
    bits: dict[int, np.ndarray] = {}
    together = max(1, _ROWS // len(kinds))
    order = sorted(codes, key=lambda number: len(codes[number]))
    for begin in range(0, len(order), together):
        part = order[begin : begin + together]
        scored = surprisals(network, [codes[number] for number in part], kinds)
        bits.update(zip(part, scored, strict=True))
        progress(sum(len(codes[number]) for number in part))
    for number, read in enumerate(waiting):
        if read.waveform is None:
            yield Score(read.source, error=read.error)
            continue
        yield Score(
            read.source,
            len(read.waveform),
            len(read.waveform) / config.sample_rate,
            bits[number].sum(axis=1),
            np.bincount(codes[number], minlength=config.quantization_channels),
            read.file_rate,
            bits[number] if keep else None,
            read.waveform if keep else None,
        )


def _alone(
    network: WaveNet,
    long: _Long,
    kinds: Sequence[Labels],
    keep: bool,
    progress: Callable[[int], object],
) -> Score:
    """Score one recording block after block."""
    config = network.config
    scorer = Scorer(network, label_ids(network, kinds))
    totals, histogram = np.zeros(len(kinds)), np.zeros(config.quantization_channels, np.int64)
    kept: list[np.ndarray] = []
    heard: list[np.ndarray] = []
    step = max(1, _CHUNK // len(kinds))
    try:
        for block in long.blocks:
            for begin in range(0, len(block), step):
                part = block[begin : begin + step]
                codes = mulaw.encode(part, config.quantization_channels)
                bits = scorer.surprisal(np.tile(codes, (len(kinds), 1)))
                totals += bits.sum(axis=1)
                histogram += np.bincount(codes, minlength=config.quantization_channels)
                if keep:
                    kept.append(bits)
                    heard.append(part)
                progress(len(part))
    except AudioFileError as error:
        return Score(long.source, error=_reason(long.source, error))
    samples = int(histogram.sum())
    return Score(
        long.source,
        samples,
        samples / config.sample_rate,
        totals,
        histogram,
        long.file_rate,
        np.concatenate(kept, axis=1) if keep else None,
        np.concatenate(heard) if keep else None,
    )
