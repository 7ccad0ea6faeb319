"""Files of features, `.npy`, such as a text-to-speech system writes."""

import os
import stat
from pathlib import Path

import numpy as np

from wavegen.audio.features import FeatureSet
from wavegen.errors import ConfigError, DataError
from wavegen.utils.text import display

SUFFIX = ".npy"
_NO_ARRAY = "is not an array of numbers: write it with numpy.save"


def is_feature_file(path: str | os.PathLike[str]) -> bool:
    """Whether the name of a file says that it holds features."""
    return Path(path).suffix.lower() == SUFFIX


def feature_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The files of features below a folder, sorted, without hidden ones."""
    found = (path for path in Path(folder).rglob("*") if is_feature_file(path))
    return sorted(path for path in found if not path.name.startswith("."))


def read_features(path: str | os.PathLike[str], features: FeatureSet) -> np.ndarray:
    """Map the features of a file into memory, and check every value; see `open_features`.

    Raises:
        DataError: as for `open_features`, or a value is impossible by the definition.
    """
    frames = open_features(path, features)
    try:
        features.check(frames)
    except ConfigError as error:
        raise DataError(f"{display(path)}: {error}") from error
    return frames


def open_features(path: str | os.PathLike[str], features: FeatureSet) -> np.ndarray:
    """Map the features of a file into memory.

    Args:
        path: `.npy` with numbers (F, D) or (D, F). If F = D, it is read as (F, D).
        features: their definition.

    Returns:
        Numbers (F, D) of the type in the file, on disk.

    Raises:
        DataError: the file cannot be read, or holds an array of another kind or shape.
    """
    name, size = display(path), features.size
    try:
        # A pipe would block.
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise DataError(f"{name}: is not a file")
        empty = Path(path).stat().st_size == 0
        # Pickled objects could run code, so they are never loaded.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise DataError(f"{name}: {error.strerror or 'cannot be read'}") from error
    except DataError:
        raise
    except Exception as error:  # a damaged header can raise nearly anything
        raise DataError(f"{name}: {'is empty' if empty else _NO_ARRAY}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise DataError(f"{name}: {_NO_ARRAY}")
    if array.ndim != 2 or size not in array.shape:
        raise DataError(
            f"{name}: holds an array {array.shape}, but the model needs (frames, {size}) or "
            f"({size}, frames) for {features.name}"
        )
    frames = array if array.shape[1] == size else array.T
    if not len(frames):
        raise DataError(f"{name}: holds no frames")
    return frames
