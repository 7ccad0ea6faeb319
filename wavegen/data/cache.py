"""The cache: its folder, the names in it, and figures kept in files."""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from wavegen.errors import DataError, OutputError
from wavegen.utils.files import read_json, remove_debris, write_json
from wavegen.utils.json_shape import fits, number, whole

# Largest size in bytes of a file of figures.
LARGEST_FIGURES = 1 << 16
_FIGURES = {"order0_bits": number(0, 64), "clamped": whole(0, 2**62)}

_Path = str | os.PathLike[str]


def cache_folder(folder: _Path | None) -> Path:
    """`folder` if there is one, else `$WAVEGEN_CACHE`, else the user's cache folder."""
    if folder is not None:
        return Path(folder)
    if os.environ.get("WAVEGEN_CACHE"):
        return Path(os.environ["WAVEGEN_CACHE"])
    return platformdirs.user_cache_path("wavegen", appauthor=False)


def digest_of(value: object) -> str:
    """A short name for a value that JSON can represent."""
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=12).hexdigest()


def figures_name(training_clips: np.ndarray, codes: int) -> str:
    """The name under which figures of these clips (int64) in so many codes are kept."""
    chosen = hashlib.blake2b(training_clips.tobytes(), digest_size=12).hexdigest()
    return f"figures-{codes}-{chosen}"


def figures_kept(path: Path, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Read figures from a file, or compute them by `compute` and write the file."""
    with suppress(DataError):
        kept = read_json(path, DataError, LARGEST_FIGURES)
        if fits(kept, _FIGURES):
            return kept
    figures = compute()
    remove_debris(path.parent)
    with suppress(OutputError):  # the disk is full: the next run computes them again
        write_json(path, figures)
    return figures
