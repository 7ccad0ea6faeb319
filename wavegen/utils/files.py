"""Writing files completely or not at all: to a temporary file that is flushed and renamed.

Files from others are read only if they are regular files of a plausible size.
"""

import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

from wavegen.errors import OutputError, WavegenError

# In bytes; a config with thousands of classes has some hundred thousand.
_LARGEST_TEXT = 16 << 20

# None if the system has no such locks. Other modules that lock files import it from here.
fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

# Names of the temporary files of `appearing_whole`; version 0.1.0 used the process number.
_TEMPORARY = re.compile(r"\..+\.([0-9a-f]{8}|[0-9]+)\.part", re.DOTALL)


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn an operating-system error while writing `path` into an `OutputError`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"{path}: cannot be written ({reason}); free some space or choose another place"
        ) from error


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Create a folder and its parents; remove temporary files of killed processes in it.

    Raises:
        OutputError: the folder cannot be created, or cannot be written to.
    """
    folder = Path(path)
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: no permission to write there; choose another folder")
    remove_debris(folder)
    return folder


@contextmanager
def appearing_whole(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Yield a temporary file, open for writing, and rename it to `path` after the block.

    The temporary file is in the same folder. It is flushed to disk before the rename and its
    folder after, so that `path` is complete even after a power cut. If the block raises, the
    temporary file is removed and `path` is left unchanged. If the process is killed, the temporary
    file stays, and `make_folder` removes it later.

    Raises:
        OutputError: the file cannot be written, flushed or renamed.
    """
    target = Path(path)
    with output_errors(target):
        temporary, file = _locked_beside(target)
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                if fcntl is None:  # Windows cannot rename an open file
                    file.close()
                temporary.replace(target)
        except BaseException:
            # If the file cannot be removed, the first error is still the one to report.
            with suppress(OSError):
                temporary.unlink()
            raise
        flush(target.parent)


def _locked_beside(target: Path) -> tuple[Path, BinaryIO]:
    """A new file in the folder of `target`, open for writing and locked while it is open."""
    while True:
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        file = temporary.open("xb")
        if fcntl is None:
            return temporary, file
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        # `remove_debris` may have removed the file before it was locked.
        if os.fstat(file.fileno()).st_nlink:
            return temporary, file
        file.close()


def remove_debris(folder: Path) -> None:
    """Remove the temporary files in a folder whose writers were killed.

    A file is locked while it is written, and the lock ends with its process. NFS and cluster file
    systems share locks among machines. (NFS mounted with `nolock` or `local_lock` does not: there,
    write to a folder from one machine at a time.) On a file system without locks nothing is
    removed.
    """
    # In a folder that cannot be read or changed there is nothing to do.
    with suppress(OSError):
        for path in folder.iterdir():
            if _TEMPORARY.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                with suppress(OSError):
                    _remove_unless_locked(path)


def _remove_unless_locked(path: Path) -> None:
    """Remove a file; `OSError` if it is locked, or open on Windows, or cannot be removed."""
    if fcntl is None:
        path.unlink()
        return
    # NFS grants locks only on files that are open for writing.
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()


def flush(path: Path) -> None:
    """Flush a file, or the names in a folder, to disk.

    A folder that cannot be opened, as on Windows, is left to the system.
    """
    folder = path.is_dir()
    try:
        # Windows flushes only files that are open for writing.
        descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    except PermissionError:
        if folder:
            return
        raise
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: str | os.PathLike[str], data: bytes | memoryview) -> None:
    """Write `data` to `path`; no partial file is left if it fails."""
    with appearing_whole(path) as file:
        file.write(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` to `path` as UTF-8; no partial file is left if it fails."""
    write_bytes(path, text.encode())


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` to `path` as indented JSON; no partial file is left if it fails.

    Paths may hold bytes that are not UTF-8; JSON escapes them like any lone surrogate.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def read_text(
    path: str | os.PathLike[str], error: type[WavegenError], largest: int = _LARGEST_TEXT
) -> str:
    """Read a small text file, possibly from somebody else, in bounded time and memory.

    Args:
        path: file in UTF-8.
        error: class of the error to raise.
        largest: largest accepted size in bytes.

    Raises:
        WavegenError: of the class `error`: the file is missing, not a regular file, too large,
            or not UTF-8.
    """
    with _regular(path, error) as file:
        data = file.read(largest + 1)
    if len(data) > largest:
        raise error(f"{path}: has more than {largest} bytes, too many for such a file")
    try:
        return data.decode()
    except ValueError as failure:
        raise error(f"{path}: is not UTF-8 ({failure})") from failure


def read_json(
    path: str | os.PathLike[str], error: type[WavegenError], largest: int = _LARGEST_TEXT
) -> Any:
    """Read a JSON file, see `read_text`; `error` also if it is not JSON."""
    try:
        return json.loads(read_text(path, error, largest))
    except (ValueError, RecursionError) as failure:
        raise error(f"{path}: is not JSON ({failure})") from failure


def file_sha256(path: str | os.PathLike[str], error: type[WavegenError]) -> str:
    """SHA-256 of the bytes of a file, in hexadecimal; `error` if the file cannot be read."""
    with _regular(path, error) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _regular(path: str | os.PathLike[str], error: type[WavegenError]) -> Iterator[BufferedReader]:
    """Open a regular file for reading."""
    try:
        # Opening a pipe would block, and a device may be endless.
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise error(f"{path}: is not a regular file; put the file itself there")
        with Path(path).open("rb") as file:
            yield file
    except OSError as failure:
        raise error(f"{path}: cannot be read ({failure.strerror or failure})") from failure
    except ValueError as failure:  # a zero byte in the path
        raise error(f"{path}: cannot be read ({failure})") from failure
