"""Files appear whole: written beside their target, flushed to disk, then renamed."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from wavegen.errors import OutputError


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
    """Create `path` and its parents if missing and return it; `OutputError` if it cannot be."""
    folder = Path(path)
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: no permission to write there; choose another folder")
    return folder


@contextmanager
def appearing_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` once the block succeeds.

    The temporary file is flushed to disk before the rename and its folder after, so
    that whatever bears the name `path` is complete even after a power cut. If the
    block raises, the temporary file is removed and `path` is left as it was.

    Raises:
        OutputError: the file cannot be written, flushed or renamed.
    """
    target = Path(path)
    # The process number keeps two writers of one target apart.
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with output_errors(target):
            yield temporary
            flush(temporary)
            temporary.replace(target)
            flush(target.parent)
    except BaseException:
        # Whatever keeps it from being removed, the first error is the one to tell.
        with suppress(OSError):
            temporary.unlink()
        raise


def flush(path: Path) -> None:
    """Have what the system holds of a file, or of a folder's names, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: str | os.PathLike[str], data: bytes | memoryview) -> None:
    """Write `data` to `path`, whole or not at all."""
    with appearing_whole(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` to `path` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
