"""The folders of stores: reading their indexes, locking them, and removing old ones.

A process that has a store open holds a shared lock on its index, as do its workers. A process
that removes a store takes an exclusive lock. On a file system without locks no store is removed,
since nobody can know whether it is in use. Windows has other locks, and cannot rename a folder of
open files.

The locks are `flock` and not of the package filelock, which needs a separate lock file. Here the
file or folder itself is locked, so that no lock file is left when it is removed.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wavegen.audio.reading import HIGHEST_RATE, LOWEST_RATE, display
from wavegen.data.folders import Skipped
from wavegen.errors import ConfigError, DataError
from wavegen.utils.files import fcntl, read_json
from wavegen.utils.json_shape import fits, whole

INDEX = "index.json"
# Largest size of an index in bytes: enough for some five million clips.
_LARGEST_INDEX = 1 << 30
# Seconds for which an interrupted job can be resumed, and for which an unused store is kept.
_STALE_SECONDS = 7 * 24 * 3600

_SHAPE = {
    "sample_rate": whole(LOWEST_RATE, HIGHEST_RATE),
    "names": [str],
    "lengths": [whole(1)],
    "skipped": [(str, str)],
    # Path -> bytes, and time of change in ns.
    "files": {str: (whole(0, 2**63), whole(-(2**63), 2**63))},
    "shards": [whole(0)],
}


@dataclass(frozen=True)
class StoreIndex:
    """The index of a store.

    Args:
        sample_rate: rate in Hz.
        names: names of the clips in the store.
        lengths: int64 (clips,), in samples.
        skipped: the clips that could not be decoded.
        files: path -> [bytes, time of change (ns)] of all clips that were given.
        shards: int64 (shards,), lengths in samples.
    """

    sample_rate: int
    names: tuple[str, ...]
    lengths: np.ndarray
    skipped: tuple[Skipped, ...]
    files: dict[str, list[int]]
    shards: np.ndarray


@dataclass(frozen=True)
class Neighbour:
    """A store in the same folder as another one.

    Args:
        folder: folder of the store.
        files: as in `StoreIndex`.
        used: time when it was opened last, in seconds.
    """

    folder: Path
    files: dict[str, list[int]]
    used: float


def read_index(folder: Path) -> StoreIndex:
    """Read the index of a store, and check that every clip is within one shard.

    Raises:
        DataError: the index is missing or damaged.
    """
    path = folder / INDEX
    values = read_json(path, DataError, _LARGEST_INDEX)
    if not fits(values, _SHAPE) or len(values["names"]) != len(values["lengths"]):
        raise DataError(f"{display(path)}: is not the index of a store")
    lengths = np.array(values["lengths"], dtype=np.int64)
    shards = np.array(values["shards"], dtype=np.int64)
    # Python integers, since the sum of damaged numbers may overflow int64.
    sound = sum(values["lengths"]) == sum(values["shards"]) < 2**62
    if not sound or not np.isin(np.cumsum(shards), np.cumsum(np.append(0, lengths))).all():
        raise DataError(f"{display(path)}: lists clips that are not in its shards")
    return StoreIndex(
        values["sample_rate"],
        tuple(values["names"]),
        lengths,
        tuple(Skipped(name, reason) for name, reason in values["skipped"]),
        values["files"],
        shards,
    )


def hold(index: Path) -> Callable[[], None]:
    """Mark a store as used, and lock it until the returned function is called.

    Raises:
        DataError: there is no such store, or it is being removed.
    """
    try:
        if not index.is_file():  # opening a pipe would block
            raise FileNotFoundError("there is no store")
        descriptor = os.open(index, os.O_RDONLY)
    except OSError as error:
        raise DataError(f"{display(index)}: cannot be read ({error})") from error

    def close() -> None:
        os.close(descriptor)

    try:
        if fcntl is not None:
            _lock(descriptor, fcntl.LOCK_SH)
        if not os.path.samestat(index.stat(), os.fstat(descriptor)):
            raise FileNotFoundError("it was replaced")
    except OSError as error:
        close()
        raise DataError(f"{display(index)}: is being removed ({error})") from error
    with suppress(OSError):  # it belongs to another user, or the disk is read-only
        os.utime(index)
    return close


def _lock(descriptor: int, kind: int) -> None:
    """Lock without waiting; `BlockingIOError` if another process has a lock."""
    assert fcntl is not None
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a file system without locks
        if kind == fcntl.LOCK_EX:
            raise


def neighbours(target: Path) -> list[Neighbour]:
    """The other, undamaged stores in the folder of `target`."""
    found = []
    for folder in target.parent.iterdir():
        if folder == target or folder.name.endswith(".part"):
            continue
        with suppress(DataError, OSError):
            files = read_index(folder).files
            found.append(Neighbour(folder, files, (folder / INDEX).stat().st_mtime))
    return found


def remove_unused(store: Neighbour, files: Mapping[str, object]) -> None:
    """Remove a store that nobody has open, if one of its files has changed or it is stale.

    Args:
        store: the store.
        files: path -> [bytes, time of change (ns)], as they are now.
    """
    outdated = any(file in files and files[file] != state for file, state in store.files.items())
    if not outdated and time.time() - store.used < _STALE_SECONDS:
        return
    # With this name it is removed as a leftover if this process is killed.
    leftover = store.folder.with_name(f".{store.folder.name}.removed.part")
    with suppress(OSError):
        if fcntl is None:
            store.folder.rename(leftover)
        else:
            # NFS grants an exclusive lock only on a file that is open for writing.
            with (store.folder / INDEX).open("r+b") as file:
                _lock(file.fileno(), fcntl.LOCK_EX)
                store.folder.rename(leftover)
    shutil.rmtree(leftover, ignore_errors=True)


def remove_leftovers(parent: Path) -> None:
    """Remove partial stores of killed processes that nobody has resumed for a week."""
    for folder in parent.glob("*.part"):
        with suppress(OSError):
            written = [path.stat().st_mtime for path in (folder, *folder.iterdir())]
            if time.time() - max(written) > _STALE_SECONDS:
                shutil.rmtree(folder)


@contextmanager
def only_one(folder: Path, busy: str | None = None) -> Iterator[None]:
    """Make a folder and lock it for one process at a time; the lock of a killed one ends.

    Args:
        folder: folder to make if it does not exist; its parent exists.
        busy: message if another process has the lock; None waits for it.

    Raises:
        ConfigError: another process has the lock; with the message `busy`.
    """
    if fcntl is None:
        folder.mkdir(exist_ok=True)
        yield
        return
    while True:
        folder.mkdir(exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
            except BlockingIOError as error:
                raise ConfigError(busy or "") from error
            except OSError:
                pass  # a file system without locks
            # Otherwise the folder was renamed or removed while this process waited.
            if folder.exists() and folder.stat().st_ino == os.fstat(descriptor).st_ino:
                yield
                return
        finally:
            os.close(descriptor)
