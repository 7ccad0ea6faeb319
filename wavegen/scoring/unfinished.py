"""Results of an unfinished job of several processes, kept on disk until the job is complete.

Each process appends its results to its own file in the user's cache. If a process dies or the job
is interrupted, the next job of the same command continues from all these files. They hold JSON, so
reading them runs no code.
"""

import base64
import dataclasses
import errno
import json
import logging
import os
import shutil
import socket
import time
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

import wavegen
from wavegen.data.cache import cache_folder, digest_of
from wavegen.errors import OutputError
from wavegen.utils.distributed import rank, ranks
from wavegen.utils.files import make_folder

_logger = logging.getLogger(__name__)

# Seconds after which an interrupted job is removed.
_FORGOTTEN = 30 * 24 * 3600


class Unfinished:
    """Results of a job by item; see `unfinished`."""

    def __init__(
        self,
        folder: Path,
        kind: type,
        name: Callable[[Any], str],
        sound: Callable[[Any], bool],
    ) -> None:
        self._kind, self._name, self._sound = kind, name, sound
        self._known: dict[str, Any] = {}
        for path in sorted(folder.glob("*.jsonl")):
            for line in path.read_bytes().splitlines():
                try:
                    name_of_item, value = json.loads(line)
                    self._known[name_of_item] = value
                except (ValueError, TypeError):
                    # The last line of a killed process may be incomplete.
                    continue
        process = f"{rank()}-{socket.gethostname()}-{os.getpid()}"
        # Unbuffered, so that results outlive the process.
        self._file = (folder / f"{process}.jsonl").open("ab", buffering=0)
        self._full = False

    def get(self, item: Any) -> Any | None:
        """The kept result of an item; None if there is none."""
        value = self._known.get(self._name(item))
        if value is None or not self._sound(item):
            return None
        try:
            return _restored(self._kind, value)
        except (ValueError, TypeError, LookupError, AttributeError):
            return None

    def add(self, item: Any, result: Any) -> None:
        """Keep the result of an item; if it cannot be written, log a warning and continue."""
        if self._full:
            return
        line = json.dumps([self._name(item), _plain(result)]).encode() + b"\n"
        try:
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            _cannot_keep(str(error))
            self._full = True

    def close(self) -> None:
        self._file.close()


@contextmanager
def unfinished(
    kind: type,
    about: Mapping[str, object],
    name: Callable[[Any], str],
    sound: Callable[[Any], bool] = lambda _: True,
) -> Iterator[Unfinished | None]:
    """Keep the results of a job until the block ends without an error; None for one process.

    Args:
        kind: dataclass of the results.
        about: everything besides the items that the results depend on, as JSON.
        name: returns the name of an item, including everything that its result depends on.
        sound: returns whether the files of an item still exist.
    """
    if ranks() == 1:
        yield None
        return
    jobs = cache_folder(None) / "unfinished"
    try:
        folder = make_folder(jobs / digest_of({**about, "version": wavegen.__version__}))
        results = Unfinished(folder, kind, name, sound)
    except (OSError, OutputError) as error:
        _cannot_keep(str(error))
        yield None
        return
    if rank() == 0:
        for job in jobs.iterdir():
            if job != folder and time.time() - _changed(job) > _FORGOTTEN:
                shutil.rmtree(job, ignore_errors=True)
    try:
        yield results
    finally:
        results.close()
    if rank() == 0:
        shutil.rmtree(folder, ignore_errors=True)


def file_state(path: Path) -> str:
    """A name for the present contents of a file; it differs after the file has changed."""
    try:
        about = path.stat()
    except OSError:
        return os.fspath(path)
    return f"{path.resolve()} {about.st_size} {about.st_mtime_ns} {about.st_ctime_ns}"


def _cannot_keep(reason: str) -> None:
    _logger.warning("results of this unfinished job cannot be kept: %s", reason)


def _changed(job: Path) -> float:
    try:
        return max(path.stat().st_mtime for path in (job, *job.iterdir()))
    except OSError:  # its own processes are removing it
        return time.time()


def _plain(value: Any) -> Any:
    """A result as JSON, from which `_restored` makes the same result, to the last bit."""
    if dataclasses.is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        return [value.dtype.str, value.shape, data]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return os.fspath(value) if isinstance(value, Path) else value


def _restored(kind: Any, value: Any) -> Any:
    if value is None:
        return None
    if get_origin(kind) in (Union, types.UnionType):
        (kind,) = (each for each in get_args(kind) if each is not types.NoneType)
    if dataclasses.is_dataclass(kind):
        fields = get_type_hints(kind)
        return kind(**{name: _restored(fields[name], each) for name, each in value.items()})  # type: ignore[operator]
    if kind is np.ndarray:
        dtype, shape, data = value
        return np.frombuffer(base64.b64decode(data), np.dtype(dtype)).reshape(shape).copy()
    if kind is Path:
        return Path(value)
    arguments = get_args(kind)
    if isinstance(value, dict) and arguments:
        return {key: _restored(arguments[1], each) for key, each in value.items()}
    if isinstance(value, list) and arguments:
        return tuple(_restored(arguments[0], each) for each in value)
    return value
