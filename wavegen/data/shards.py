"""Shards: decoded clips as a data set of litdata, in a folder or in object storage.

An item of the data set is a piece of a clip, together with the samples before it in a receptive
field, so that a crop is nearly always in one item. Chunks are files of items of some 64 MB.
Training reads a few chunks at a time, in a new order for each epoch, so it needs neither the
memory nor the disk for all of them. `wavegen.data.shard_writer` writes chunks, litdata fetches
them from object storage, and `wavegen.data.shard_index` reads them.
"""

import filecmp
import os
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from wavegen.codecs.codec import Waveform
from wavegen.data.cache import LARGEST_FIGURES, cache_folder, digest_of, figures_kept
from wavegen.data.remote import check_source, download, downloader, storage_errors
from wavegen.data.shard_index import (
    BEFORE,
    CLIPS,
    INDEX,
    LARGEST,
    PIECE,
    ShardIndex,
    parse,
    read_item,
)
from wavegen.errors import DataError, OutputError
from wavegen.utils.files import make_folder, read_json, write_bytes, write_json
from wavegen.utils.text import display

# A chunk that another process has removed is fetched again at most this many times.
_ATTEMPTS = 100
# After so many seconds without a new byte, a download belongs to a killed process.
_STALLED = 3600


def is_remote(place: str) -> bool:
    """Whether shards must be fetched; litdata also copies those of a folder after `local:`."""
    return "://" in place or place.startswith("local:")


def is_shards(place: str) -> bool:
    """Whether this place holds shards, not recordings."""
    return is_remote(place) or (Path(place) / CLIPS).is_file()


class ShardStore:
    """Waveforms of clips in shards, with the interface of `wavegen.data.store.AudioStore`.

    Args:
        place: folder, or an address such as `s3://bucket/digits`.
        cache: folder for chunks from object storage; by default in the user's cache.
        keep: largest size of these chunks in bytes. An epoch reads a fourth of it at a time.

    Attributes:
        clip_set: the clips, in the order of `names` and `lengths`.
        sample_rate: rate of the clips in Hz.
        names, lengths, skipped: as in `AudioStore`.
        folder: folder of the local chunks.

    Raises:
        DataError: there are no shards, or they are damaged.
        ConfigError: litdata is not installed.
    """

    def __init__(self, place: str, cache: str | None = None, keep: float = 8e9) -> None:
        self._arguments = place, cache, keep
        self.place = place.rstrip("/")
        self.remote = is_remote(place)
        self._keep = keep
        self._wanted: object = None
        if self.remote:
            self.folder = make_folder(cache_folder(cache) / f"shards-{digest_of(self.place)}")
            self._remove_stalled()
            index = self._fetch_index()
            files = [{"filename": each.filename, "chunk_bytes": each.size} for each in index.chunks]
            self._downloader = downloader(self.place, self.folder, files)
        else:
            self.folder = Path(place)
            index = self._read_index(self.folder)
        self._chunks = index.chunks
        self._ends = np.cumsum([chunk.items for chunk in self._chunks])
        self._first = index.first_items
        self.sample_rate = index.sample_rate
        self.lengths = index.lengths
        self.clip_set = index.clip_set
        self.names = tuple(clip.name for clip in self.clip_set.clips)
        self.skipped = self.clip_set.skipped
        if not self.remote:
            for chunk in range(len(self._chunks)):
                self._check(chunk)

    def __len__(self) -> int:
        return len(self.names)

    def waveform(self, clip: int) -> Waveform:
        """A clip, whose samples are read when they are needed."""
        return _Waveform(int(self.lengths[clip]), lambda start, stop: self._read(clip, start, stop))

    def windows(self, pieces: np.ndarray, chance: np.random.Generator) -> np.ndarray:
        """The window of each piece; an epoch reads one window after another.

        A window consists of randomly chosen chunks that fit into a fourth of `keep`.

        Args:
            pieces: int64 (pieces, 3): clip, start and stop.
            chance: random generator for the choice.

        Returns:
            int64 (pieces,), numbers of windows from 0.
        """
        chunk = self._chunk(pieces)
        sizes = np.array([each.size for each in self._chunks], dtype=np.int64)
        order = chance.permutation(len(sizes))
        order = order[np.isin(order, chunk)]
        window = np.zeros(len(sizes), dtype=np.int64)
        before = np.cumsum(sizes[order]) - sizes[order]
        window[order] = before // max(1, int(self._keep / 4))
        return window[chunk]

    def prefetch(self, pieces: np.ndarray) -> None:
        """Start to fetch the chunks of these pieces, which will be read soon, in this order."""
        if not self.remote:
            return
        chunks = list(dict.fromkeys(self._chunk(pieces).tolist()))
        self._wanted = chunks

        def fetch() -> None:
            for chunk in chunks:
                if self._wanted is not chunks:
                    return
                # The error is raised again when the chunk is read.
                with suppress(DataError):
                    self._fetch(chunk, wait=False)

        threading.Thread(target=fetch, daemon=True).start()

    def figures(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The result of `compute`, kept with the shards or with their local copies."""
        path = self.folder / f"{name}.json"
        if self.remote and not path.exists():
            # The shards may have no figures for this network.
            with suppress(DataError, OutputError), tempfile.TemporaryDirectory() as folder:
                fresh = download(self.place, path.name, Path(folder), LARGEST_FIGURES)
                write_json(path, read_json(fresh, DataError, LARGEST_FIGURES))
        return figures_kept(path, compute)

    def _chunk(self, pieces: np.ndarray) -> np.ndarray:
        """The chunk of the last sample of each piece."""
        item = self._first[pieces[:, 0]] + (pieces[:, 2] - 1) // PIECE
        return np.searchsorted(self._ends, item, side="right")

    def _read(self, clip: int, start: int, stop: int) -> np.ndarray:
        parts: list[np.ndarray] = []
        while start < stop:
            number = (stop - 1) // PIECE
            low = max(start, max(0, number * PIECE - BEFORE))
            parts.insert(0, self._samples(clip, number, low, stop))
            stop = low
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def _samples(self, clip: int, number: int, start: int, stop: int) -> np.ndarray:
        """Samples of a clip that are all in its item of this number."""
        first = max(0, number * PIECE - BEFORE)
        length = min((number + 1) * PIECE, int(self.lengths[clip])) - first
        item = int(self._first[clip]) + number
        chunk = int(np.searchsorted(self._ends, item, side="right"))
        within = item - int(self._ends[chunk]) + self._chunks[chunk].items
        path = self.folder / self._chunks[chunk].filename
        left = _ATTEMPTS
        while True:
            self._fetch(chunk)
            try:
                return read_item(path, within, length, start - first, stop - first)
            except (OSError, ValueError) as error:
                left -= 1
                # Another process may have removed the chunk in between.
                if left and self.remote and isinstance(error, FileNotFoundError):
                    continue
                if self.remote:
                    path.unlink(missing_ok=True)
                raise DataError(
                    f"{display(path)}: cannot be read ({error}); copy the shards again"
                ) from error

    def _fetch(self, chunk: int, wait: bool = True) -> None:
        """Fetch a chunk if it is not here; `wait` for it if another process is fetching it."""
        if not self.remote:
            return
        name = self._chunks[chunk].filename
        path = self.folder / name
        here = path.exists()
        while not path.exists():
            check_source(self.place, name, self._chunks[chunk].size)
            with storage_errors(self.place):
                # litdata does nothing if another process is fetching the chunk.
                self._downloader.download_chunk_from_index(chunk)
            if path.exists():
                self._check(chunk)
            elif not wait:
                return
            else:
                time.sleep(0.02)
        with suppress(OSError):
            os.utime(path)
        if not here:
            self._make_room()

    def _make_room(self) -> None:
        """Remove the least recently used chunks until the others fit into `keep`."""
        found = []
        for path in self.folder.glob("*.bin"):
            with suppress(OSError):  # another process makes room too
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self._keep:
                return
            path.unlink(missing_ok=True)
            total -= size

    def _read_index(self, folder: Path) -> ShardIndex:
        try:
            clips, chunks = (
                read_json(folder / name, DataError, LARGEST[name]) for name in (CLIPS, INDEX)
            )
            return parse(chunks, clips, self.place)
        except (DataError, ValueError) as error:
            raise DataError(
                f"{self.place}: no shards can be read there ({error}); write them with "
                f"'wavegen prepare FOLDER --shards {self.place}'"
            ) from error

    def _fetch_index(self) -> ShardIndex:
        """Fetch the index again; if the shards have been replaced, remove the old chunks."""
        with tempfile.TemporaryDirectory() as folder:
            fresh = [
                download(self.place, name, Path(folder), LARGEST[name]) for name in (CLIPS, INDEX)
            ]
            index = self._read_index(Path(folder))
            kept = [self.folder / path.name for path in fresh]
            same = [
                old.exists() and filecmp.cmp(old, new, shallow=False)
                for old, new in zip(kept, fresh, strict=True)
            ]
            if not all(same):
                self._forget()
            for old, new, equal in zip(kept, fresh, same, strict=True):
                if not equal:
                    write_bytes(old, new.read_bytes())
        return index

    def _forget(self) -> None:
        """Remove local chunks of earlier shards of this place."""
        for pattern in ("*.bin", "figures-*.json"):
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)

    def _remove_stalled(self) -> None:
        """Remove partial downloads of killed processes."""
        for path in self.folder.glob("*.bin.tmp*"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _STALLED:
                    path.unlink()

    def _check(self, chunk: int) -> None:
        """Refuse a chunk whose size is not that of the index."""
        name, size = self._chunks[chunk].filename, self._chunks[chunk].size
        path = self.folder / name
        if not path.is_file() or path.stat().st_size != size:
            if self.remote:
                path.unlink(missing_ok=True)
            raise DataError(
                f"{display(f'{self.place}/{name}')}: is missing, or has another size than in the "
                "index; copy the shards again"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        return ShardStore, self._arguments


class _Waveform:
    """A `codecs.codec.Waveform` whose slices are read when they are needed."""

    def __init__(self, length: int, read: Callable[[int, int], np.ndarray]) -> None:
        self._length = length
        self._read = read

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice) -> np.ndarray:
        start, stop, _ = part.indices(self._length)
        return self._read(start, stop)
