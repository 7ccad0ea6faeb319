"""Clips decoded, resampled and stored once, then memory-mapped.

A store is a folder with shards (see `wavegen.decoding`), all clips one after another, and
`index.json`. It bears the fingerprint of its clips (path, size, time of change), the rate and the
trimming, so a store that is found is the right one.
"""

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from tqdm import tqdm

from wavegen.audio import display
from wavegen.clips import Clip
from wavegen.decoding import SAMPLE, decode, seconds, shard_path
from wavegen.errors import AudioFileError, DataError, OutputError, WavegenError
from wavegen.files import flush, read_json, remove_debris, write_json
from wavegen.folders import OnBadFile, Skipped
from wavegen.json_shape import fits, number, whole

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

_VERSION = 2
# A killed run is gone on with until then.
_STALE_SECONDS = 7 * 24 * 3600
# Bytes of a file of figures.
LARGEST_FIGURES = 1 << 16
_FIGURES = {"order0_bits": number(0, 64), "clamped": whole(0, 2**62)}

_Path = str | os.PathLike[str]


class AudioStore:
    """Waveforms of clips at one rate, mapped into memory and read as they are used.

    Attributes:
        sample_rate: Hz.
        names: the names of the clips that are here, in the order they were given.
        lengths, offsets: int64 `(clips,)`, in samples.
        skipped: the clips given that could not be decoded.
        folder: where the store is.
        files: path -> [bytes, time of change (ns)] of all clips given.
        made: when the store was made (ns).
    """

    def __init__(self, folder: _Path) -> None:
        self.folder = Path(folder)
        index = json.loads((self.folder / "index.json").read_text(encoding="utf-8"))
        self.sample_rate: int = index["sample_rate"]
        self.names: tuple[str, ...] = tuple(index["names"])
        self.lengths = np.array(index["lengths"], dtype=np.int64)
        self.offsets = np.cumsum(self.lengths) - self.lengths
        self.skipped = tuple(Skipped(name, reason) for name, reason in index["skipped"])
        self.files: dict[str, list[int]] = index["files"]
        self.made = (self.folder / "index.json").stat().st_mtime_ns
        samples = np.array(index["shards"], dtype=np.int64)
        self._ends = np.cumsum(samples)
        self._shards = [
            np.memmap(shard_path(self.folder, number), dtype=SAMPLE, mode="r").view(np.ndarray)
            if size
            else np.empty(0, SAMPLE)
            for number, size in enumerate(samples.tolist())
        ]
        sound = [len(shard) for shard in self._shards] == samples.tolist()
        if not sound or samples.sum() != self.lengths.sum() or len(self.lengths) != len(self.names):
            raise ValueError("the audio is not what the index says")

    def __len__(self) -> int:
        return len(self.names)

    def waveform(self, clip: int) -> np.ndarray:
        """Return a clip: a read-only float32 view `(time,)` of the file."""
        offset, length = int(self.offsets[clip]), int(self.lengths[clip])
        shard = int(np.searchsorted(self._ends, offset, side="right"))
        stop = offset + length - int(self._ends[shard]) + len(self._shards[shard])
        return self._shards[shard][stop - length : stop]

    def windows(self, pieces: np.ndarray, chance: np.random.Generator) -> np.ndarray:
        """Which of the parts that an epoch goes through one by one each piece is in: all in one."""
        return np.zeros(len(pieces), dtype=np.int64)

    def prefetch(self, pieces: np.ndarray) -> None:
        """Nothing to do: all of it is here."""

    def figures(self, name: str, reckon: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What `reckon` returns, kept in the store: it goes through all of the audio once."""
        return figures_kept(self.folder / f"{name}.json", reckon)

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process maps the file again, where it would be sent all the samples.
        return AudioStore, (self.folder,)


def figures_name(training_clips: np.ndarray, quantization_channels: int) -> str:
    """What the figures of these clips (int64) in so many codes are kept under."""
    chosen = hashlib.blake2b(training_clips.tobytes(), digest_size=12).hexdigest()
    return f"figures-{quantization_channels}-{chosen}"


def figures_kept(path: Path, reckon: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `reckon` returned when the file was written, which this does if it is not there."""
    with suppress(DataError):
        kept = read_json(path, DataError, LARGEST_FIGURES)
        if fits(kept, _FIGURES):
            return kept
    figures = reckon()
    remove_debris(path.parent)
    with suppress(OutputError):  # no room: then the next run reckons again
        write_json(path, figures)
    return figures


def open_store(
    clips: Sequence[Clip],
    sample_rate: int,
    trim: float | None = None,
    folder: _Path | None = None,
    on_bad_file: OnBadFile = "skip",
    progress: bool = True,
) -> AudioStore:
    """Return the store of `clips`, making it if there is none or if a file has changed.

    It appears when it is complete, and then takes the place of older stores of the same
    files. Memory holds one block of a clip at a time, with `trim` one clip.

    Args:
        clips: in the order the store shall have.
        sample_rate: Hz.
        trim: cut both ends more than this many dB below the loudest part; None leaves them.
        folder: where stores are kept; by default `$WAVEGEN_CACHE`, else `wavegen` in
            `$XDG_CACHE_HOME` or `~/.cache`.
        on_bad_file: "skip" leaves out a clip that cannot be decoded, "fail" raises.
        progress: show a bar, and say how many files have changed, on stderr.

    Raises:
        AudioFileError: a clip cannot be decoded, if `on_bad_file` is "fail".
        DataError: no clip can be decoded.
        OutputError: no room or no permission in `folder`.
        ConfigError: `sample_rate` or `trim` is outside its range.
    """
    trim = None if trim is None else float(trim)
    settings = [_VERSION, sample_rate, trim]
    files = {_absolute(clip): [clip.size, clip.mtime_ns] for clip in clips}
    listed = [[_absolute(clip), clip.name, clip.size, clip.mtime_ns] for clip in clips]
    # Stores of the same data are neighbours, so that a new one finds those it replaces.
    data = os.path.commonpath([str(Path(file).parent) for file in files]) if files else ""
    root = cache_folder(folder)
    parent = root / f"{Path(data).name[:40]}-{digest_of([data, settings])}"
    target = parent / digest_of([settings, listed])
    store = _opened(target)
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
        raise AudioFileError(f"{display(path)}: {first.reason}")
    return store


def _absolute(clip: Clip) -> str:
    return display(clip.path.absolute())


def cache_folder(folder: _Path | None) -> Path:
    """`folder` if there is one, else the user's folder for what can be made again."""
    if folder is not None:
        return Path(folder)
    if os.environ.get("WAVEGEN_CACHE"):
        return Path(os.environ["WAVEGEN_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "wavegen"


def digest_of(value: object) -> str:
    """A name for a value that JSON can hold."""
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=12).hexdigest()


def _opened(target: Path) -> AudioStore | None:
    """Open a store; None if there is none, or if it was damaged."""
    try:
        return AudioStore(target)
    except (OSError, ValueError, KeyError, TypeError):
        return None


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
    older = _older(target, files)
    if older and progress:
        latest = max(older, key=lambda store: store.made)
        before = latest.files
        changed = sum(before.get(file) != files.get(file) for file in before.keys() | files.keys())
        if changed:
            tqdm.write(
                f"{changed} audio files are new, gone or changed since the last run:"
                " decoding all again",
                file=sys.stderr,
            )
    part = target.with_name(f".{target.name}.part")
    with only_one(part):
        # Whoever had it before may have made the store.
        if (store := _opened(target)) is not None:
            shutil.rmtree(part)
            return store
        try:
            shards = decode(clips, sample_rate, trim, part, on_bad_file, progress)
            skipped = [each for shard in shards for each in shard.skipped]
            if not any(shard.names for shard in shards):
                first = f"; {skipped[0][0]} {skipped[0][1]}" if skipped else ""
                raise DataError(f"none of {len(clips)} clips can be decoded{first}")
            index = {
                "sample_rate": sample_rate,
                "files": files,
                "names": [name for shard in shards for name in shard.names],
                "lengths": [length for shard in shards for length in shard.lengths],
                "skipped": skipped,
                "shards": [sum(shard.lengths) for shard in shards],
            }
            write_json(part / "index.json", index)
            for number in range(len(shards)):
                shard_path(part, number).with_suffix(".json").unlink()
            # What is damaged is in the way.
            shutil.rmtree(target, ignore_errors=True)
            part.rename(target)
            flush(target.parent)
        except (WavegenError, OSError):
            shutil.rmtree(part, ignore_errors=True)
            raise
    for one in older:
        shutil.rmtree(one.folder, ignore_errors=True)
    return AudioStore(target)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Make a folder and let one process at a time work in it; a killed one lets go."""
    if fcntl is None:
        folder.mkdir(exist_ok=True)
        yield
        return
    while True:
        folder.mkdir(exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Else it was renamed or removed while this process waited.
            if folder.exists() and folder.stat().st_ino == os.fstat(descriptor).st_ino:
                yield
                return
        finally:
            os.close(descriptor)


def _older(target: Path, files: dict[str, list[int]]) -> list[AudioStore]:
    """Stores beside `target` that share files with it; remove what a killed run left."""
    older = []
    for folder in target.parent.iterdir():
        if folder.name.endswith(".part"):
            written = max((file.stat().st_mtime for file in folder.glob("*")), default=0.0)
            if time.time() - max(written, folder.stat().st_mtime) > _STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
            continue
        store = _opened(folder)
        if store is not None and folder != target and not files.keys().isdisjoint(store.files):
            older.append(store)
    return older
