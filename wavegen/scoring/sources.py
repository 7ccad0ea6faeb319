"""Which recordings are meant by paths: files, folders, splits of a data set."""

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
        path: of the file; of a waveform a name to show it by.
        labels: that its folder gives it.
        error: why it cannot be used.
        waveform: float32 (time,), instead of reading the file.
        sample_rate: of the waveform, in Hz; 0 is the rate of the network.
        trim: the file is trimmed as `DataSettings` says.
    """

    path: Path
    labels: Labels = field(default_factory=dict)
    error: str = ""
    waveform: np.ndarray | None = field(default=None, compare=False, repr=False)
    sample_rate: int = 0
    trim: float | None = None


def find_as_trained(folder: str | Path, settings: DataSettings) -> ClipSet:
    """The clips of a folder with the labels and splits that training gave them.

    Args:
        folder: of recordings.
        settings: `wavegen.data.settings.training_settings` of the model.
    """
    try:
        return find_clips(folder, settings)
    except LabelError:
        # Another folder than that of training, without all its attributes.
        return find_clips(folder, replace(settings, labels=None))


def find_sources(
    paths: str | Path | Sequence[str | Path | Source],
    *,
    labelled: bool = False,
    split: str | None = None,
    settings: DataSettings = DEFAULT_SETTINGS,
) -> list[Source]:
    """The files meant by some paths: themselves, or all audio below a folder.

    With labels or a split, files that metadata, a label pattern or split folders leave out are
    not meant: a warning says how many. Files that cannot be read are, unless it is known that
    they are of another split.

    Args:
        paths: files and folders; what was found before is passed on as it is.
        labelled: find out the labels, as training does; folders only.
        split: only the clips of "train", "validation" or "test", as training splits them;
            folders only.
        settings: how labels and splits are found, and how the clips are trimmed; for what
            training saw take `wavegen.data.settings.training_settings`. What is asked for
            without labels or a split is read whole.

    Raises:
        DataError: a path that does not exist, or a folder without audio.
        ConfigError: labels or a split asked of a file.
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
                raise DataError(f"{display(path)}: no clip is in the {split} split")
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
            raise ConfigError(f"{display(path)}: labels and splits are known of folders only")
        else:
            sources.append(Source(path))
    return sources


def _say_left_out(found: ClipSet) -> None:
    """Say that files are not scored, though nothing may be wrong with them."""
    scored = {clip.name for clip in found.clips}
    files = [each for each in found.skipped if each.there and each.name not in scored]
    if files:
        first = f"{display(files[0].name)} {files[0].reason}"
        _logger.warning(
            "%s: %s left out: %s", display(found.folder), count(len(files), "file"), first
        )


def seconds_of(source: Source) -> float:
    """How long a file is by its header; 0 if it cannot be read, or is no file."""
    if source.waveform is not None:
        return 0.0
    try:
        info = reading.probe(source.path)
    except AudioFileError:
        return 0.0
    return info.frames / info.sample_rate
