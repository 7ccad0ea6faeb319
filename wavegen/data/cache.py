"""Where what can be made again is kept, under which names, and figures kept with it."""

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

# Bytes of a file of figures.
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
    """A name for a value that JSON can hold."""
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=12).hexdigest()


def figures_name(training_clips: np.ndarray, codes: int) -> str:
    """What the figures of these clips (int64) in so many codes are kept under."""
    chosen = hashlib.blake2b(training_clips.tobytes(), digest_size=12).hexdigest()
    return f"figures-{codes}-{chosen}"


def figures_kept(path: Path, reckon: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `reckon` returned when the file was written, which this does if it is not there."""
    with suppress(DataError):
        kept = read_json(path, DataError, LARGEST_FIGURES)
        if fits(kept, _FIGURES):
            return kept
    figures = reckon()
    remove_debris(path.parent)
    with suppress(OutputError):  # no room: then the next run reckons again
        write_json(path, figures)
    return figures
