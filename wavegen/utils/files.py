"""Files appear whole: written beside their target, flushed to disk, then renamed.

What is read of others is bounded: a regular file of a size that it can sensibly have.
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

# Bytes: a config of thousands of classes has some hundred thousand.
_LARGEST_TEXT = 16 << 20

# None where the system has no such locks; whoever locks files takes it from here.
fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

# Of `appearing_whole`; in version 0.1.0 they had the number of the process.
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
    """Create a folder to write to, and its parents; remove what killed processes left in it.

    Raises:
        OutputError: it cannot be created, or not be written to.
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
    """Yield a temporary file beside `path`, open for writing; rename it to `path` once the
    block succeeds.

    The temporary file is flushed to disk before the rename and its folder after, so
    that whatever bears the name `path` is complete even after a power cut. If the
    block raises, the temporary file is removed and `path` is left as it was. If the
    process is killed, the temporary file stays, and `make_folder` removes it later.

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
                if fcntl is None:  # Windows renames no open file
                    file.close()
                temporary.replace(target)
        except BaseException:
            # Whatever keeps it from being removed, the first error is the one to tell.
            with suppress(OSError):
                temporary.unlink()
            raise
        flush(target.parent)


def _locked_beside(target: Path) -> tuple[Path, BinaryIO]:
    """A new file beside `target`, open for writing, and locked as long as it is open."""
    while True:
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        file = temporary.open("xb")
        if fcntl is None:
            return temporary, file
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        # Before it was locked, `remove_debris` could take it for debris.
        if os.fstat(file.fileno()).st_nlink:
            return temporary, file
        file.close()


def remove_debris(folder: Path) -> None:
    """Remove the temporary files in a folder whose writers were killed.

    A file that is being written is locked, and its lock ends with its process, whatever
    machine that runs on: NFS and cluster file systems share locks among machines. (NFS mounted
    with `nolock` or `local_lock` does not: there, write to a folder from one machine at a time.)
    On a file system without locks nothing is removed.
    """
    # Where nothing may be removed, there is nothing to do.
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
    # NFS gives locks only to those who may write.
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()


def flush(path: Path) -> None:
    """Have what the system holds of a file, or of a folder's names, on disk.

    A folder that cannot be opened is left to the system: Windows opens none.
    """
    folder = path.is_dir()
    try:
        # Windows flushes only what is open for writing.
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
    """Write `data` to `path`, whole or not at all."""
    with appearing_whole(path) as file:
        file.write(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` to `path` as indented JSON, whole or not at all.

    Paths may hold bytes that are not UTF-8: JSON writes them as it does any lone surrogate.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def read_text(
    path: str | os.PathLike[str], error: type[WavegenError], largest: int = _LARGEST_TEXT
) -> str:
    """Read a small text that may be from elsewhere, in bounded time and memory.

    Args:
        path: of the file, UTF-8.
        error: what to raise.
        largest: size that is still read, in bytes.

    Raises:
        WavegenError: of the kind `error`: the file is not there, not a regular one, too large,
            or not UTF-8.
    """
    with _regular(path, error) as file:
        data = file.read(largest + 1)
    if len(data) > largest:
        raise error(f"{path}: has more than {largest} bytes; no such file is so large")
    try:
        return data.decode()
    except ValueError as failure:
        raise error(f"{path}: is not UTF-8 ({failure})") from failure


def read_json(
    path: str | os.PathLike[str], error: type[WavegenError], largest: int = _LARGEST_TEXT
) -> Any:
    """Read a JSON as `read_text` reads a text; `error` also where it is not JSON."""
    try:
        return json.loads(read_text(path, error, largest))
    except (ValueError, RecursionError) as failure:
        raise error(f"{path}: is not JSON ({failure})") from failure


def file_sha256(path: str | os.PathLike[str], error: type[WavegenError]) -> str:
    """SHA-256 of a file's bytes, in hexadecimal; `error` if it cannot be read to an end."""
    with _regular(path, error) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _regular(path: str | os.PathLike[str], error: type[WavegenError]) -> Iterator[BufferedReader]:
    """Open a regular file to be read."""
    try:
        # Opening a pipe would wait for ever, and a device may never end.
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise error(f"{path}: is not a regular file; put the file itself there")
        with Path(path).open("rb") as file:
            yield file
    except OSError as failure:
        raise error(f"{path}: cannot be read ({failure.strerror or failure})") from failure
    except ValueError as failure:  # a zero byte in the path
        raise error(f"{path}: cannot be read ({failure})") from failure
