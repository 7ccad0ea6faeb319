"""Checkpoint files, which are always complete and hold only tensors and plain values."""

import io
import os
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from wavegen.errors import ModelError
from wavegen.utils.files import make_folder, write_bytes


class WholeCheckpoints(TorchCheckpointIO):
    """Writes checkpoints to a temporary file and renames it; loads only tensors and plain values.

    Args:
        folders: folders in which checkpoints may be removed.
    """

    def __init__(self, *folders: str | Path) -> None:
        self._folders = [Path(folder).resolve() for folder in folders]

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write `checkpoint` to `path`; no partial file is left if it fails."""
        make_folder(Path(path).parent)
        # Into memory first: only the message of torch's error distinguishes a full disk from a bug.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_bytes(path, buffer.getbuffer())

    def load_checkpoint(
        self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """See `load_tensors`; code in the file is never run, whatever the arguments."""
        return load_tensors(path, map_location)

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a file in `folders`, and refuse any other path that a checkpoint may name.

        Raises:
            ModelError: the path is not a file in these folders.
        """
        file = Path(path).resolve()
        if not any(file.is_relative_to(folder) for folder in self._folders):
            raise ModelError(
                f"{path}: not removed, since it is in no folder of this run's checkpoints"
            )
        if file.exists() and not file.is_file():
            raise ModelError(f"{path}: not removed, since it is a folder, not a checkpoint")
        file.unlink(missing_ok=True)


def load_tensors(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint without running any code that it may hold.

    Raises:
        ModelError: the file cannot be read, or is no checkpoint of tensors and plain values.
    """
    try:
        with Path(path).open("rb") as file:
            if not _as_large_as_it_says(file):
                raise ModelError(f"{path}: compressed, so it is no checkpoint of a training")
            checkpoint = torch.load(file, map_location, weights_only=True)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ModelError:
        raise
    except Exception as error:
        # For a damaged file torch may raise an error of any type.
        raise ModelError(f"{path}: damaged, or not a checkpoint of tensors only") from error
    if not isinstance(checkpoint, dict):
        raise ModelError(f"{path}: not a checkpoint of a training")
    return checkpoint


def _as_large_as_it_says(file: BinaryIO) -> bool:
    """Whether the contents take no more memory than the file has bytes."""
    # torch recognises its zip files by these bytes, as opposed to those of its first versions.
    if file.read(4) != b"PK\x03\x04":
        file.seek(0)
        return True
    with zipfile.ZipFile(file) as parts:
        entries = parts.infolist()
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
    return stored and sum(entry.file_size for entry in entries) <= size
