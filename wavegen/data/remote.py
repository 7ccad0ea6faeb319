"""Object storage, by way of litdata: its clients, their errors, and bounds of what they copy."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from wavegen.errors import ConfigError, DataError, WavegenError
from wavegen.utils.text import display


def litdata() -> ModuleType:
    """The package, an extra."""
    # Its word on newer versions would ask the network at every start.
    os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")
    try:
        import litdata
    except ImportError as error:
        raise ConfigError(f"shards need litdata ({error}): pip install litdata") from error
    return litdata


def downloader(place: str, folder: Path, chunks: list[dict[str, Any]]) -> Any:
    """What fetches files of a place into a folder.

    Args:
        place: an address such as `s3://bucket/digits`.
        folder: where they shall be.
        chunks: filename and chunk_bytes of each of those that are asked for by number.
    """
    litdata()
    from litdata.streaming.downloader import get_downloader

    with storage_errors(place):
        return get_downloader(place, str(folder), chunks, {})


def download(place: str, name: str, folder: Path, largest: int) -> Path:
    """Fetch one file of a place into a folder; `largest` is as in `check_source`."""
    check_source(place, name, largest)
    path = folder / name
    with storage_errors(place):
        downloader(place, folder, []).download_file(f"{place}/{name}", str(path))
    return path


def check_source(place: str, name: str, largest: int) -> None:
    """Refuse to copy from `local:` what has no end, or more bytes than `largest`.

    Raises:
        DataError: it is such a file.
    """
    source = Path(place.removeprefix("local:")) / name
    if not place.startswith("local:") or not source.exists():
        return
    if not source.is_file() or source.stat().st_size > largest:
        raise DataError(
            f"{display(source)}: is no file, or larger than shards say; copy the shards again"
        )


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
