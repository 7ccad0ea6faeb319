"""Checkpoints of a training: files that are whole, and hold tensors and plain values alone."""

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
    """Writes checkpoints beside their target, flushes and renames them; loads only tensors.

    Args:
        folders: where checkpoints may be removed.
    """

    def __init__(self, *folders: str | Path) -> None:
        self._folders = [Path(folder).resolve() for folder in folders]

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write `checkpoint` to `path`, whole or not at all."""
        make_folder(Path(path).parent)
        # By way of memory, for torch tells a full disk from a bug only by its message.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_bytes(path, buffer.getbuffer())

    def load_checkpoint(
        self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """See `load_tensors`, whatever is asked for."""
        return load_tensors(path, map_location)

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a file of `folders`, and nothing else whatever a checkpoint may say.

        Raises:
            ModelError: it is no file, or elsewhere.
        """
        file = Path(path).resolve()
        if not any(file.is_relative_to(folder) for folder in self._folders):
            raise ModelError(
                f"{path}: not removed, for it is in no folder of this run's checkpoints"
            )
        if file.exists() and not file.is_file():
            raise ModelError(f"{path}: not removed, for it is no checkpoint but a folder")
        file.unlink(missing_ok=True)


def load_tensors(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint, onto the CPU first, without running any code that it may hold.

    Raises:
        ModelError: it cannot be read, or is no checkpoint of tensors and plain values.
    """
    try:
        with Path(path).open("rb") as file:
            if not _as_large_as_it_says(file):
                raise ModelError(f"{path}: compressed, which no checkpoint of a training is")
            checkpoint = torch.load(file, map_location, weights_only=True)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ModelError:
        raise
    except Exception as error:
        # What a damaged file makes of torch's reader can be any error.
        raise ModelError(f"{path}: damaged, or not a checkpoint of tensors only") from error
    if not isinstance(checkpoint, dict):
        raise ModelError(f"{path}: not a checkpoint of a training")
    return checkpoint


def _as_large_as_it_says(file: BinaryIO) -> bool:
    """Whether what torch will read takes no more memory than the file has bytes."""
    # By these bytes torch tells its own files from those of its first versions.
    if file.read(4) != b"PK\x03\x04":
        file.seek(0)
        return True
    with zipfile.ZipFile(file) as parts:
        entries = parts.infolist()
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
    return stored and sum(entry.file_size for entry in entries) <= size
