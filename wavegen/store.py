"""Clips decoded, resampled and stored once, then memory-mapped.

A store is a folder with `audio.f32`, all clips one after another, and `index.json`. It
bears the fingerprint of its clips (path, size, time of change), the rate and the
trimming, so a store that is found is the right one.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from wavegen import audio
from wavegen.audio import display
from wavegen.clips import Clip
from wavegen.errors import AudioFileError, DataError, OutputError
from wavegen.files import flush
from wavegen.folders import OnBadFile, Skipped

_VERSION = 1
_SAMPLE = np.dtype("<f4")
_STALE_SECONDS = 24 * 3600

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
        mapped = np.memmap(self.folder / "audio.f32", dtype=_SAMPLE, mode="r")
        if len(mapped) != self.lengths.sum() or len(self.lengths) != len(self.names):
            raise ValueError("the audio is not what the index says")
        self._samples = mapped.view(np.ndarray)

    def __len__(self) -> int:
        return len(self.names)

    def waveform(self, clip: int) -> np.ndarray:
        """Return a clip: a read-only float32 view `(time,)` of the file."""
        start = self.offsets[clip]
        return self._samples[start : start + self.lengths[clip]]

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process maps the file again, where it would be sent all the samples.
        return AudioStore, (self.folder,)


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
    root = _default_folder() if folder is None else Path(folder)
    parent = root / f"{Path(data).name[:40]}-{_digest([data, settings])}"
    target = parent / _digest([settings, listed])
    store = _opened(target)
    if store is None:
        try:
            store = _make(clips, files, sample_rate, trim, target, on_bad_file, progress)
        except OSError as error:
            seconds = sum(clip.info.frames / clip.info.sample_rate for clip in clips)
            size = seconds * sample_rate * _SAMPLE.itemsize / 1e6
            raise OutputError(
                f"{display(root)}: cannot keep the decoded audio there"
                f" ({error.strerror or error}); it takes about {size:.0f} MB: free some space"
                " or choose another folder with --data.store"
            ) from error
    if store.skipped and on_bad_file == "fail":
        first = store.skipped[0]
        path = next(clip.path for clip in clips if clip.name == first.name)
        raise AudioFileError(f"{display(path)}: {first.reason}")
    return store


def _absolute(clip: Clip) -> str:
    return display(clip.path.absolute())


def _default_folder() -> Path:
    if os.environ.get("WAVEGEN_CACHE"):
        return Path(os.environ["WAVEGEN_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "wavegen"


def _digest(value: object) -> str:
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
    part = Path(tempfile.mkdtemp(dir=parent, prefix=".", suffix=".part"))
    try:
        index = {"sample_rate": sample_rate, "files": files} | _decode(
            clips, sample_rate, trim, part / "audio.f32", on_bad_file, progress
        )
        with (part / "index.json").open("w", encoding="utf-8") as file:
            json.dump(index, file)
            file.flush()
            os.fsync(file.fileno())
        flush(part)
        store = _publish(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    for one in older:
        shutil.rmtree(one.folder, ignore_errors=True)
    return store


def _decode(
    clips: Sequence[Clip],
    sample_rate: int,
    trim: float | None,
    path: Path,
    on_bad_file: OnBadFile,
    progress: bool,
) -> dict[str, Any]:
    """Write all clips to `path`, flushed to disk, and return their part of the index."""
    names: list[str] = []
    lengths: list[int] = []
    skipped: list[tuple[str, str]] = []
    with path.open("wb") as file:
        for clip in tqdm(clips, desc="decoding", unit="clip", disable=not progress):
            start = file.tell()
            try:
                if trim is None:
                    blocks = audio.blocks(clip.path, sample_rate)
                else:
                    blocks = iter([audio.trim(audio.read(clip.path, sample_rate), trim)])
                for block in blocks:
                    file.write(np.ascontiguousarray(block, _SAMPLE).data)
            except AudioFileError as error:
                if on_bad_file == "fail":
                    raise
                skipped.append((clip.name, str(error).removeprefix(f"{display(clip.path)}: ")))
                file.seek(start)
                file.truncate()
            else:
                names.append(clip.name)
                lengths.append((file.tell() - start) // _SAMPLE.itemsize)
        if not names:
            first = f"; {skipped[0][0]} {skipped[0][1]}" if skipped else ""
            raise DataError(f"none of {len(clips)} clips can be decoded{first}")
        file.flush()
        os.fsync(file.fileno())
    return {"names": names, "lengths": lengths, "skipped": skipped}


def _publish(part: Path, target: Path) -> AudioStore:
    """Rename `part` to `target`, unless another process has put a sound store there."""
    try:
        part.rename(target)
    except OSError:
        store = _opened(target)
        if store is not None:
            return store
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
    flush(target.parent)
    return AudioStore(target)


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
