"""Clips decoded, resampled and stored once, then memory-mapped.

A store is a folder with shards (see `wavegen.data.decoding`), which hold all clips one after
another, and `index.json`. Its name is a fingerprint of its clips (path, size, time of change), the
rate and the trimming, so a store with this name is the right one.
"""

import logging
import os
import shutil
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wavegen.data.cache import cache_folder, digest_of, figures_kept
from wavegen.data.clips import Clip, ClipSet
from wavegen.data.decoding import SAMPLE, Shard, decode, seconds, shard_path
from wavegen.data.folders import OnBadFile
from wavegen.data.store_folders import (
    INDEX,
    Neighbour,
    hold,
    neighbours,
    only_one,
    read_index,
    remove_leftovers,
    remove_unused,
)
from wavegen.errors import AudioFileError, DataError, OutputError, WavegenError
from wavegen.utils.files import flush, remove_debris, write_json
from wavegen.utils.text import display

_logger = logging.getLogger(__name__)

_VERSION = 2

_Path = str | os.PathLike[str]


class AudioStore:
    """Waveforms of clips at one rate, mapped into memory and read when they are used.

    An open store is not removed, see `wavegen.data.store_folders`.

    Attributes:
        sample_rate: rate in Hz.
        names: names of the clips in the store, in the order in which they were given.
        lengths, offsets: int64 `(clips,)`, in samples.
        skipped: the clips that could not be decoded.
        folder: folder of the store.

    Raises:
        DataError: there is no store, or it is damaged.
    """

    def __init__(self, folder: _Path) -> None:
        self.folder = Path(folder)
        close = hold(self.folder / INDEX)
        weakref.finalize(self, close)
        index = read_index(self.folder)
        self.sample_rate = index.sample_rate
        self.names = index.names
        self.lengths = index.lengths
        self.offsets = np.cumsum(self.lengths) - self.lengths
        self.skipped = index.skipped
        self._ends = np.cumsum(index.shards)
        try:
            self._shards = [
                _mapped(shard_path(self.folder, number), size)
                for number, size in enumerate(index.shards.tolist())
            ]
        except (OSError, ValueError) as error:
            raise DataError(f"{display(self.folder)}: is damaged ({error})") from error

    def __len__(self) -> int:
        return len(self.names)

    def waveform(self, clip: int) -> np.ndarray:
        """Return a clip: a read-only float32 view `(time,)` of the file."""
        offset, length = int(self.offsets[clip]), int(self.lengths[clip])
        shard = int(np.searchsorted(self._ends, offset, side="right"))
        stop = offset + length - int(self._ends[shard]) + len(self._shards[shard])
        return self._shards[shard][stop - length : stop]

    def windows(self, pieces: np.ndarray, chance: np.random.Generator) -> np.ndarray:
        """The window of each piece: a store has only one."""
        return np.zeros(len(pieces), dtype=np.int64)

    def prefetch(self, pieces: np.ndarray) -> None:
        """Do nothing: all clips are on this machine."""

    def figures(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The result of `compute`, kept in the store, since computing it reads all of the audio."""
        return figures_kept(self.folder / f"{name}.json", compute)

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process maps the files again instead of receiving all samples.
        return AudioStore, (self.folder,)


def _mapped(path: Path, samples: int) -> np.ndarray:
    if not samples:
        return np.empty(0, SAMPLE)
    # Opening a pipe would block.
    if not path.is_file() or path.stat().st_size != samples * SAMPLE.itemsize:
        raise ValueError(f"{path.name} is missing, or has another size than in the index")
    return np.memmap(path, dtype=SAMPLE, mode="r").view(np.ndarray)


def open_store(
    clips: Sequence[Clip],
    sample_rate: int,
    trim: float | None = None,
    folder: _Path | None = None,
    on_bad_file: OnBadFile = "skip",
    progress: bool = True,
) -> AudioStore:
    """Return the store of `clips`, making it if there is none or if a file has changed.

    The store appears when it is complete. Then older stores of the same recordings are removed, if
    nobody has them open and a file has changed or they were not used for a week. Memory holds one
    block of a clip at a time, or one clip with `trim`.

    Args:
        clips: the clips, in the order that the store will have.
        sample_rate: rate of the store in Hz.
        trim: cut parts of both ends that are this many dB below the loudest part; None keeps them.
        folder: folder of stores; by default `wavegen.data.cache.cache_folder`.
        on_bad_file: "skip" leaves out a clip that cannot be decoded, "fail" raises.
        progress: show a bar on standard error.

    Raises:
        AudioFileError: a clip cannot be decoded, and `on_bad_file` is "fail".
        DataError: no clip can be decoded.
        OutputError: the disk is full, or `folder` cannot be written.
        ConfigError: `sample_rate` or `trim` is out of range.
    """
    trim = None if trim is None else float(trim)
    settings = [_VERSION, sample_rate, trim]
    files = {_absolute(clip): [clip.size, clip.mtime_ns] for clip in clips}
    listed = [[_absolute(clip), clip.name, clip.size, clip.mtime_ns] for clip in clips]
    # Stores of the same data are in one folder, where a new one finds those that it replaces.
    data = os.path.commonpath([str(Path(file).parent) for file in files]) if files else ""
    root = cache_folder(folder)
    parent = root / f"{Path(data).name[:40]}-{digest_of([data, settings])}"
    target = parent / digest_of([settings, listed])
    store = _opened(target, clips)
    if store is None:
        try:
            store = _make(clips, files, sample_rate, trim, target, on_bad_file, progress)
        except (OSError, OutputError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            reason = getattr(cause, "strerror", None) or cause
            size = seconds(clips) * sample_rate * SAMPLE.itemsize / 1e6
            raise OutputError(
                f"{display(root)}: cannot keep the decoded audio there"
                f" ({reason}); it takes about {size:.0f} MB: free some space"
                " or choose another folder with --data.store"
            ) from error
    if store.skipped and on_bad_file == "fail":
        first = store.skipped[0]
        path = next(clip.path for clip in clips if clip.name == first.name)
        raise AudioFileError(f"{display(path)}: {first.reason}", path=path, reason=first.reason)
    return store


def open_clips(
    clip_set: ClipSet,
    sample_rate: int,
    folder: _Path | None = None,
    on_bad_file: OnBadFile = "skip",
) -> tuple[ClipSet, AudioStore]:
    """Decode and trim a data set by its settings; return the decoded clips and their store.

    Args:
        clip_set: clips found by `wavegen.data.clips.find_clips`.
        sample_rate, folder, on_bad_file: as in `open_store`, which also lists the errors.
    """
    store = open_store(clip_set.clips, sample_rate, clip_set.settings.trim, folder, on_bad_file)
    return clip_set.without(store.skipped), store


def _absolute(clip: Clip) -> str:
    return display(clip.path.absolute())


def _opened(target: Path, clips: Sequence[Clip]) -> AudioStore | None:
    """Open the store of some clips; None if it is missing or damaged."""
    try:
        store = AudioStore(target)
    except DataError:
        return None
    missing = {skipped.name for skipped in store.skipped}
    left = [clip.name for clip in clips if clip.name not in missing]
    return store if list(store.names) == left else None


def _make(
    clips: Sequence[Clip],
    files: dict[str, list[int]],
    sample_rate: int,
    trim: float | None,
    target: Path,
    on_bad_file: OnBadFile,
    progress: bool,
) -> AudioStore:
    parent = target.parent
    parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(parent)
    others = neighbours(target)
    _say_changed(others, files)
    part = target.with_name(f".{target.name}.part")
    with only_one(part):
        # The process that had the lock before may have made the store.
        if (store := _opened(target, clips)) is not None:
            shutil.rmtree(part)
            return store
        remove_debris(part)
        try:
            shards = decode(clips, sample_rate, trim, part, on_bad_file, progress)
            _write_index(part, shards, files, sample_rate)
            # Remove the damaged store.
            shutil.rmtree(target, ignore_errors=True)
            part.rename(target)
            flush(target.parent)
        except (WavegenError, OSError):
            shutil.rmtree(part, ignore_errors=True)
            raise
        store = AudioStore(target)
    for other in others:
        remove_unused(other, files)
    return store


def _say_changed(others: Sequence[Neighbour], files: dict[str, list[int]]) -> None:
    """Log how many files have changed since a store was last made of them."""
    older = [other for other in others if not files.keys().isdisjoint(other.files)]
    if older:
        before = max(older, key=lambda other: other.used).files
        changed = sum(before.get(file) != files.get(file) for file in before.keys() | files.keys())
        if changed:
            _logger.info(
                "%d audio files are new, gone or changed since the last run: decoding all again",
                changed,
            )


def _write_index(
    folder: Path, shards: Sequence[Shard], files: dict[str, list[int]], sample_rate: int
) -> None:
    """Write the index of the shards of a folder, and remove the list of each shard."""
    skipped = [each for shard in shards for each in shard.skipped]
    names = [name for shard in shards for name in shard.names]
    if not names:
        first = f"; {skipped[0][0]} {skipped[0][1]}" if skipped else ""
        raise DataError(f"none of {len(skipped)} clips can be decoded{first}")
    index = {
        "sample_rate": sample_rate,
        "files": files,
        "names": names,
        "lengths": [length for shard in shards for length in shard.lengths],
        "skipped": skipped,
        "shards": [sum(shard.lengths) for shard in shards],
    }
    write_json(folder / INDEX, index)
    for number in range(len(shards)):
        shard_path(folder, number).with_suffix(".json").unlink()
