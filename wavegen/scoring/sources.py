"""Which recordings are meant by paths: files, folders, splits of a data set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wavegen.audio import reading
from wavegen.data.clips import ClipSet, find_clips
from wavegen.data.folders import audio_files
from wavegen.data.labels import Labels
from wavegen.errors import AudioFileError, ConfigError, DataError, LabelError
from wavegen.utils.text import display


@dataclass(frozen=True)
class Source:
    """A recording to be scored: a file, or a waveform in memory.

    Args:
        path: of the file; of a waveform a name to show it by.
        labels: that its folder gives it.
        error: why it cannot be used.
        waveform: float32 (time,), instead of reading the file.
        sample_rate: of the waveform, in Hz; 0 is the rate of the network.
    """

    path: Path
    labels: Labels = field(default_factory=dict)
    error: str = ""
    waveform: np.ndarray | None = field(default=None, compare=False, repr=False)
    sample_rate: int = 0


def find_as_trained(folder: str | Path, reading: Mapping[str, Any]) -> ClipSet:
    """The clips of a folder with the labels and splits that training gave them.

    Args:
        folder: of recordings.
        reading: `checkpoint.training_reading`.
    """
    try:
        return find_clips(folder, **reading)
    except LabelError:
        # Another folder than that of training, without all its attributes.
        return find_clips(folder, **{**reading, "labels": None})


def find_sources(
    paths: str | Path | Sequence[str | Path | Source],
    *,
    labelled: bool = False,
    split: str | None = None,
    reading: Mapping[str, Any] | None = None,
) -> list[Source]:
    """The files meant by some paths: themselves, or all audio below a folder.

    Args:
        paths: files and folders; what was found before is passed on as it is.
        labelled: find out the labels, as training does; folders only.
        split: only the clips of "train", "validation" or "test", as training splits them;
            folders only.
        reading: options of `clips.find_clips`; for the labels and splits that training saw
            take those of `checkpoint.training_reading`.

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
            found = find_as_trained(path, reading or {})
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


def seconds_of(source: Source) -> float:
    """How long a file is by its header; 0 if it cannot be read, or is no file."""
    if source.waveform is not None:
        return 0.0
    try:
        info = reading.probe(source.path)
    except AudioFileError:
        return 0.0
    return info.frames / info.sample_rate
