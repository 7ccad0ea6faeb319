"""Object storage through litdata: its clients, their errors, and limits on what they copy."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from wavegen.errors import ConfigError, DataError, WavegenError
from wavegen.utils.text import display


def litdata() -> ModuleType:
    """Import litdata, an optional dependency."""
    # Its check for newer versions would use the network at every start.
    os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")
    try:
        import litdata
    except ImportError as error:
        raise ConfigError(f"shards need litdata ({error}): pip install litdata") from error
    return litdata


def downloader(place: str, folder: Path, chunks: list[dict[str, Any]]) -> Any:
    """Make a client that fetches files of a place into a folder.

    Args:
        place: address such as `s3://bucket/digits`.
        folder: folder for the files.
        chunks: filename and chunk_bytes of each chunk.
    """
    litdata()
    from litdata.streaming.downloader import get_downloader

    with storage_errors(place):
        return get_downloader(place, str(folder), chunks, {})


def download(place: str, name: str, folder: Path, largest: int) -> Path:
    """Fetch one file of a place into a folder; see `check_source` for `largest`."""
    check_source(place, name, largest)
    path = folder / name
    with storage_errors(place):
        downloader(place, folder, []).download_file(f"{place}/{name}", str(path))
    return path


def check_source(place: str, name: str, largest: int) -> None:
    """Refuse to copy a device, or a file of more than `largest` bytes, from `local:`.

    Raises:
        DataError: the file is such a one.
    """
    source = Path(place.removeprefix("local:")) / name
    if not place.startswith("local:") or not source.exists():
        return
    if not source.is_file() or source.stat().st_size > largest:
        raise DataError(
            f"{display(source)}: is no file, or larger than its index says; copy the shards again"
        )


@contextmanager
def storage_errors(place: str) -> Iterator[None]:
    """Turn any error of a client of object storage into a `DataError` of one line."""
    try:
        yield
    except WavegenError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{place}: cannot be used ({reason[:200]}); check the address and your credentials"
        ) from error
