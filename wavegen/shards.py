"""Shards: decoded clips as a data set of litdata, in a folder or in object storage.

An item of the data set is a piece of a clip, together with the samples before it that a
network hears, so that a crop is nearly always in one item. Items lie in chunks, files of some
64 MB. Training reads a few chunks at a time, in an order of its own for each epoch, so that it
needs neither the memory nor the disk for all of them; `wavegen.prepare` writes them.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from wavegen import mulaw
from wavegen.audio import AudioInfo, display
from wavegen.clips import Clip, ClipSet
from wavegen.errors import ConfigError, DataError, WavegenError
from wavegen.files import make_folder
from wavegen.folders import Skipped
from wavegen.store import cache_folder, digest_of, figures_kept

# Samples of an item, and of those before them that come with it.
PIECE = 2**18
BEFORE = 2**14
# A chunk that is gone when it is wanted is fetched again so many times.
_ATTEMPTS = 100
INDEX = "index.json"
# Written last: what has it is complete. litdata fetches what ends so without starting the
# client that worker processes cannot inherit.
CLIPS = "clips.index.json"


def is_remote(place: str) -> bool:
    """Whether shards are not simply in a folder; `local:` is litdata's word for one it copies."""
    return "://" in place or place.startswith("local:")


def is_shards(place: str) -> bool:
    """Whether this is a place of shards rather than a folder of recordings."""
    return is_remote(place) or (Path(place) / CLIPS).is_file()


def litdata() -> ModuleType:
    """The package, an extra."""
    # Its word on newer versions would ask the network at every start.
    os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")
    try:
        import litdata
    except ImportError as error:
        raise ConfigError(f"shards need litdata ({error}): pip install litdata") from error
    return litdata


class ShardStore:
    """Waveforms of clips in shards: what `wavegen.store.AudioStore` is, but seen in parts.

    Args:
        place: a folder, or an address such as `s3://bucket/digits`.
        cache: folder for what is fetched from object storage, in the user's if None.
        keep: bytes of that at most. A fourth of it is what an epoch goes through at a time.

    Attributes:
        clip_set: the clips, in the order of all that follows.
        sample_rate: Hz.
        names, lengths, skipped: as in `AudioStore`.
        folder: where the chunks are that are here.

    Raises:
        DataError: no shards are there, or they are damaged.
        ConfigError: litdata is not installed.
    """

    def __init__(self, place: str, cache: str | None = None, keep: float = 8e9) -> None:
        self._arguments = place, cache, keep
        self.place = place.rstrip("/")
        self.remote = is_remote(place)
        litdata()
        if self.remote:
            self.folder = cache_folder(cache) / f"shards-{digest_of(self.place)}"
            make_folder(self.folder)
        else:
            self.folder = Path(place)
        description = self._json(CLIPS)
        self._chunks = self._json(INDEX)["chunks"]
        self._downloader = _downloader(self.place, self.folder, self._chunks)
        self._keep = keep
        self._ends = np.cumsum([chunk["chunk_size"] for chunk in self._chunks])
        self._dataset: Any = None
        self._wanted: object = None

        self.sample_rate: int = description["sample_rate"]
        self.lengths = np.array(description["lengths"], dtype=np.int64)
        self._first = np.array(description["first_items"], dtype=np.int64)
        self.clip_set = _clip_set(description, self.place)
        self.names = tuple(clip.name for clip in self.clip_set.clips)
        self.skipped = self.clip_set.skipped
        if not self.remote:
            for chunk in range(len(self._chunks)):
                self._check(chunk)

    def __len__(self) -> int:
        return len(self.names)

    def waveform(self, clip: int) -> mulaw.Waveform:
        """A clip, whose samples are read as they are asked for."""
        return _Waveform(int(self.lengths[clip]), lambda start, stop: self._read(clip, start, stop))

    def windows(self, pieces: np.ndarray, chance: np.random.Generator) -> np.ndarray:
        """Which of the parts that an epoch goes through one by one each piece is in.

        A part is some chunks that happen to come together, as many as are kept easily.

        Args:
            pieces: int64 (pieces, 3) of clip, start and stop.
            chance: decides which chunks those are.

        Returns:
            int64 (pieces,), from 0.
        """
        chunk = self._chunk(pieces)
        sizes = np.array([each["chunk_bytes"] for each in self._chunks], dtype=np.int64)
        order = chance.permutation(len(sizes))
        order = order[np.isin(order, chunk)]
        window = np.zeros(len(sizes), dtype=np.int64)
        before = np.cumsum(sizes[order]) - sizes[order]
        window[order] = before // max(1, int(self._keep / 4))
        return window[chunk]

    def prefetch(self, pieces: np.ndarray) -> None:
        """Begin to fetch the chunks of these pieces, which are read soon, in this order."""
        if not self.remote:
            return
        chunks = list(dict.fromkeys(self._chunk(pieces).tolist()))
        self._wanted = chunks

        def fetch() -> None:
            for chunk in chunks:
                if self._wanted is not chunks:
                    return
                # Whoever needs it will see what is wrong.
                with suppress(DataError):
                    self._fetch(chunk, wait=False)

        threading.Thread(target=fetch, daemon=True).start()

    def figures(self, name: str, reckon: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What `reckon` returns, kept with the shards or beside what was fetched of them."""
        path = self.folder / f"{name}.json"
        if self.remote and not path.exists():
            with suppress(Exception):  # not prepared for this network: it is reckoned here
                _downloader(self.place, self.folder, []).download_file(
                    f"{self.place}/{path.name}", str(path)
                )
        return figures_kept(path, reckon)

    def _chunk(self, pieces: np.ndarray) -> np.ndarray:
        """The chunk of each piece's last sample."""
        item = self._first[pieces[:, 0]] + (pieces[:, 2] - 1) // PIECE
        return np.searchsorted(self._ends, item, side="right")

    def _read(self, clip: int, start: int, stop: int) -> np.ndarray:
        parts: list[np.ndarray] = []
        while start < stop:
            number = (stop - 1) // PIECE
            samples = self._item(int(self._first[clip]) + number)
            first = max(0, number * PIECE - BEFORE)
            low = max(start, first)
            parts.insert(0, samples[low - first : stop - first])
            stop = low
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def _item(self, number: int) -> np.ndarray:
        chunk = int(np.searchsorted(self._ends, number, side="right"))
        path = self.folder / self._chunks[chunk]["filename"]
        if self._dataset is None:
            self._dataset = litdata().StreamingDataset(str(self.folder))
        left = _ATTEMPTS
        while True:
            self._fetch(chunk)
            try:
                return self._dataset[number]["audio"]
            except OSError as error:
                left -= 1
                # Another process may have made room in between, and have it here again by now.
                damaged = not (left and self.remote and isinstance(error, FileNotFoundError))
                with suppress(FileNotFoundError):
                    damaged |= path.stat().st_size < self._chunks[chunk]["chunk_bytes"]
                if damaged:
                    raise DataError(f"{display(path)}: cannot be read ({error})") from error

    def _fetch(self, chunk: int, wait: bool = True) -> None:
        """Have a chunk here; `wait` for it if another process is fetching it."""
        if not self.remote:
            return
        path = self.folder / self._chunks[chunk]["filename"]
        here = path.exists()
        while not path.exists():
            with storage_errors(self.place):
                # It does nothing where another process is at it.
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
        """Remove what was not used for longest, as far as there is more than shall be kept."""
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

    def _json(self, name: str) -> dict[str, Any]:
        """A description, fetched anew: shards may have been prepared again, and the old ones go."""
        path = self.folder / name
        try:
            if self.remote:
                fresh = path.with_name(f".{os.getpid()}.{name}")
                with storage_errors(self.place):
                    _downloader(self.place, self.folder, []).download_file(
                        f"{self.place}/{name}", str(fresh)
                    )
                if path.exists() and path.read_bytes() != fresh.read_bytes():
                    self._forget()
                fresh.replace(path)
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self.place}: no shards can be read there ({error}); write them with "
                f"'wavegen prepare FOLDER --shards {self.place}'"
            ) from error

    def _forget(self) -> None:
        """Remove what was fetched of other shards that were in this place."""
        for pattern in ("*.bin", "figures-*.json"):
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)

    def _check(self, chunk: int) -> None:
        """Refuse a chunk that is not whole."""
        name, size = self._chunks[chunk]["filename"], self._chunks[chunk]["chunk_bytes"]
        path = self.folder / name
        if not path.is_file() or path.stat().st_size < size:
            if self.remote:
                path.unlink(missing_ok=True)
            raise DataError(
                f"{display(f'{self.place}/{name}')}: is missing or cut short; copy the shards again"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        return ShardStore, self._arguments


class _Waveform:
    """A `mulaw.Waveform` of which only what is asked for is read."""

    def __init__(self, length: int, read: Callable[[int, int], np.ndarray]) -> None:
        self._length = length
        self._read = read

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice) -> np.ndarray:
        start, stop, _ = part.indices(self._length)
        return self._read(start, stop)


def describe(clip_set: ClipSet) -> dict[str, Any]:
    """What is said of the clips, as JSON; `_clip_set` is the way back."""
    return {
        "clips": [
            [clip.name, clip.split, clip.labels, list(vars(clip.info).values())]
            for clip in clip_set.clips
        ],
        "attributes": clip_set.attributes,
        "skipped": [[bad.name, bad.reason] for bad in clip_set.skipped],
        "notes": clip_set.notes,
        "reading": clip_set.reading,
    }


def _clip_set(description: dict[str, Any], place: str) -> ClipSet:
    root = Path(place)
    clips = tuple(
        Clip(root / name, name, labels, split, AudioInfo(*info), 0, 0)
        for name, split, labels, info in description["clips"]
    )
    return ClipSet(
        folder=root,
        clips=clips,
        attributes={key: tuple(names) for key, names in description["attributes"].items()},
        skipped=tuple(Skipped(*each) for each in description["skipped"]),
        notes=tuple(description["notes"]),
        reading=description["reading"],
    )


def _downloader(place: str, folder: Path, chunks: list[dict[str, Any]]) -> Any:
    from litdata.streaming.downloader import get_downloader

    with storage_errors(place):
        return get_downloader(place, str(folder), chunks, {})


@contextmanager
def storage_errors(place: str) -> Iterator[None]:
    """Whatever a client of object storage raises, as one line."""
    try:
        yield
    except WavegenError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{place}: cannot be used ({reason[:200]}); check the address and your credentials"
        ) from error
