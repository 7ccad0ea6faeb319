"""The folders of stores: what their indexes say, who has them open, and which of them may go.

Whoever has a store open holds a shared lock on its index, and its workers with it; whoever
removes one takes the lock alone. On a file system without locks no store is removed, for nobody
can tell whether it is in use. Windows has other locks, and renames no folder of open files.

These are locks of the system's own and not of filelock, which keeps a lock file beside what it
guards. Here the guarded file or folder is locked itself, so that nothing is left when it goes.
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
# Bytes: enough for some five million clips.
_LARGEST_INDEX = 1 << 30
# A killed run is gone on with until then, and a store kept that nobody uses.
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
    """What a store says of itself.

    Args:
        sample_rate: Hz.
        names: of the clips that are in it.
        lengths: int64 (clips,), in samples.
        skipped: the clips that could not be decoded.
        files: path -> [bytes, time of change (ns)] of all clips given.
        shards: int64 (shards,), in samples.
    """

    sample_rate: int
    names: tuple[str, ...]
    lengths: np.ndarray
    skipped: tuple[Skipped, ...]
    files: dict[str, list[int]]
    shards: np.ndarray


@dataclass(frozen=True)
class Neighbour:
    """A store beside another one.

    Args:
        folder: where it is.
        files: as in `StoreIndex`.
        used: when it was opened last (s).
    """

    folder: Path
    files: dict[str, list[int]]
    used: float


def read_index(folder: Path) -> StoreIndex:
    """Read the index of a store, and check that clips lie whole in its shards.

    Raises:
        DataError: there is none, or it is damaged.
    """
    path = folder / INDEX
    values = read_json(path, DataError, _LARGEST_INDEX)
    if not fits(values, _SHAPE) or len(values["names"]) != len(values["lengths"]):
        raise DataError(f"{display(path)}: is not the index of a store")
    lengths = np.array(values["lengths"], dtype=np.int64)
    shards = np.array(values["shards"], dtype=np.int64)
    # Numbers of Python, for those of a damaged index may sum up to more than an int64 holds.
    sound = sum(values["lengths"]) == sum(values["shards"]) < 2**62
    if not sound or not np.isin(np.cumsum(shards), np.cumsum(np.append(0, lengths))).all():
        raise DataError(f"{display(path)}: has clips that do not lie in its shards")
    return StoreIndex(
        values["sample_rate"],
        tuple(values["names"]),
        lengths,
        tuple(Skipped(name, reason) for name, reason in values["skipped"]),
        values["files"],
        shards,
    )


def hold(index: Path) -> Callable[[], None]:
    """Keep a store from being removed until what this returns is called; it was used now.

    Raises:
        DataError: there is no such store, or it is being removed.
    """
    try:
        if not index.is_file():  # opening a pipe would wait for ever
            raise FileNotFoundError("no store is there")
        descriptor = os.open(index, os.O_RDONLY)
    except OSError as error:
        raise DataError(f"{display(index)}: cannot be read ({error})") from error

    def close() -> None:
        os.close(descriptor)

    try:
        if fcntl is not None:
            _lock(descriptor, fcntl.LOCK_SH)
        if not os.path.samestat(index.stat(), os.fstat(descriptor)):
            raise FileNotFoundError("it was exchanged")
    except OSError as error:
        close()
        raise DataError(f"{display(index)}: is being removed ({error})") from error
    with suppress(OSError):  # of another user, or on a disk that cannot be written to
        os.utime(index)
    return close


def _lock(descriptor: int, kind: int) -> None:
    """Lock at once; `BlockingIOError` if another process keeps it from that."""
    assert fcntl is not None
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a file system without locks
        if kind == fcntl.LOCK_EX:
            raise


def neighbours(target: Path) -> list[Neighbour]:
    """The sound stores beside `target`."""
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
        store: where it is, and what it is of.
        files: path -> [bytes, time of change (ns)], as they are.
    """
    outdated = any(file in files and files[file] != state for file, state in store.files.items())
    if not outdated and time.time() - store.used < _STALE_SECONDS:
        return
    # Under this name it is a leftover, should this process be killed.
    leftover = store.folder.with_name(f".{store.folder.name}.removed.part")
    with suppress(OSError):
        if fcntl is None:
            store.folder.rename(leftover)
        else:
            # NFS gives a lock alone only to those who may write.
            with (store.folder / INDEX).open("r+b") as file:
                _lock(file.fileno(), fcntl.LOCK_EX)
                store.folder.rename(leftover)
    shutil.rmtree(leftover, ignore_errors=True)


def remove_leftovers(parent: Path) -> None:
    """Remove what killed runs left beside stores and nobody has gone on with for a week."""
    for folder in parent.glob("*.part"):
        with suppress(OSError):
            written = [path.stat().st_mtime for path in (folder, *folder.iterdir())]
            if time.time() - max(written) > _STALE_SECONDS:
                shutil.rmtree(folder)


@contextmanager
def only_one(folder: Path, busy: str | None = None) -> Iterator[None]:
    """Make a folder and let one process at a time work in it; a killed one lets go.

    Args:
        folder: one that is made if it is not there; its parent is.
        busy: what to say if another process works there; it is waited for if None.

    Raises:
        ConfigError: `busy`.
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
            # Else it was renamed or removed while this process waited.
            if folder.exists() and folder.stat().st_ino == os.fstat(descriptor).st_ino:
                yield
                return
        finally:
            os.close(descriptor)
