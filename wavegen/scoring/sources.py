"""Finding the recordings of paths: files, folders, and splits of a data set."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from wavegen.audio import reading
from wavegen.data.clips import ClipSet, find_clips
from wavegen.data.folders import audio_files, count
from wavegen.data.labels import Labels
from wavegen.data.settings import DEFAULT_SETTINGS, DataSettings
from wavegen.errors import AudioFileError, ConfigError, DataError, LabelError
from wavegen.utils.text import display

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A recording to be scored: a file, or a waveform in memory.

    Args:
        path: path of the file; or a name for the waveform.
        labels: labels from its folder.
        error: the reason why it cannot be used.
        waveform: float32 (time,), used instead of the file.
        sample_rate: rate of the waveform in Hz; 0 is the rate of the network.
        trim: level for trimming the file, see `DataSettings`.
    """

    path: Path
    labels: Labels = field(default_factory=dict)
    error: str = ""
    waveform: np.ndarray | None = field(default=None, compare=False, repr=False)
    sample_rate: int = 0
    trim: float | None = None


def find_as_trained(folder: str | Path, settings: DataSettings) -> ClipSet:
    """Find the clips of a folder, with labels and splits as in training.

    Args:
        folder: folder of recordings.
        settings: settings of training, from `wavegen.data.settings.training_settings`.
    """
    try:
        return find_clips(folder, settings)
    except LabelError:
        # This is another folder than that of training, and lacks some of its attributes.
        return find_clips(folder, replace(settings, labels=None))


def find_sources(
    paths: str | Path | Sequence[str | Path | Source],
    *,
    labelled: bool = False,
    split: str | None = None,
    settings: DataSettings = DEFAULT_SETTINGS,
) -> list[Source]:
    """Find the recordings of paths: files, or all audio below folders.

    With labels or a split, files that metadata, a label pattern or split folders leave out are
    skipped, with a warning. Files that cannot be read are included, unless they are known to be in
    another split.

    Args:
        paths: files and folders; results of this function are returned unchanged.
        labelled: find the labels, as in training; for folders only.
        split: use only the clips of "train", "validation" or "test", as split in training; for
            folders only.
        settings: settings for labels, splits and trimming. `wavegen.data.settings.
            training_settings` gives those of training. Without labels and a split, recordings
            are not trimmed.

    Raises:
        DataError: a path does not exist, or a folder holds no audio.
        ConfigError: labels or a split are needed for a file.
    """
    sources: list[Source] = []
    for each in [paths] if isinstance(paths, str | Path) else paths:
        if isinstance(each, Source):
            sources.append(each)
            continue
        path = Path(each)
        if path.is_dir() and (labelled or split):
            found = find_as_trained(path, settings)
            clips = found.clips if split is None else found.of(split)
            if not clips:
                raise DataError(
                    f"{display(path)}: no clip is in the {split} split; leave --split out"
                )
            sources += [Source(clip.path, clip.labels, trim=settings.trim) for clip in clips]
            sources += [
                Source(path / bad.name, error=bad.reason)
                for bad in found.skipped
                if not bad.there and split in (None, bad.split or split)
            ]
            _say_left_out(found)
        elif path.is_dir():
            files, closed = audio_files(path)
            sources += map(Source, files)
            sources += [Source(path / bad.name, error=bad.reason) for bad in closed]
        elif not path.exists():
            raise DataError(f"{display(path)}: no such file or folder")
        elif labelled or split:
            raise ConfigError(
                f"{display(path)}: only folders have labels and splits: give a folder"
            )
        else:
            sources.append(Source(path))
    return sources


def _say_left_out(found: ClipSet) -> None:
    """Warn that some files are not scored, although they may be good."""
    scored = {clip.name for clip in found.clips}
    files = [each for each in found.skipped if each.there and each.name not in scored]
    if files:
        first = f"{display(files[0].name)} {files[0].reason}"
        _logger.warning(
            "%s: %s left out: %s", display(found.folder), count(len(files), "file"), first
        )


def seconds_of(source: Source) -> float:
    """Duration of a file by its header; 0 if it cannot be read, or for a waveform."""
    if source.waveform is not None:
        return 0.0
    try:
        info = reading.probe(source.path)
    except AudioFileError:
        return 0.0
    return info.frames / info.sample_rate
