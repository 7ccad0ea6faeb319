"""The features of clips: computed when they are read, or kept in the store of the clips."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from tqdm import tqdm

from wavegen.audio.features import FeatureSet
from wavegen.codecs.codec import Waveform
from wavegen.data.cache import digest_of
from wavegen.data.store import AudioStore
from wavegen.errors import DataError, OutputError, WavegenError
from wavegen.utils.files import appearing_whole, remove_debris
from wavegen.utils.progress import progress_bar
from wavegen.utils.text import display

_FRAME = np.dtype("<f4")
# Clips whose frames are kept where there is no file of them.
_KEPT = 64


class ComputedFrames:
    """The frames (F, D) of a waveform, whose slices are computed when they are read.

    Pitch depends on the sound around a slice, so sets with pitch are computed as a whole, once.

    Args:
        features: definition of the frames.
        waveform: float32 (time,) at the rate of the features, in memory or on disk.
    """

    def __init__(self, features: FeatureSet, waveform: Waveform) -> None:
        self._features, self._waveform = features, waveform
        self._count = features.frames(len(waveform))
        self._whole: np.ndarray | None = None

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, part: slice) -> np.ndarray:
        """Frames float32 (F, D) of a slice without a step."""
        begin, end, _ = part.indices(self._count)
        if self._features.column("pitch") is not None:
            if self._whole is None:
                self._whole = self._features.compute(self._waveform)
            return self._whole[begin:end]
        return self._features.compute(self._waveform, begin, max(0, end - begin))


def frames_of_clips(features: FeatureSet, store: Any) -> Callable[[int], Any]:
    """Return a function from the number of a clip to its frames (F, D), an array or lazy.

    The frames of an `AudioStore` are computed once, on all cores, and kept with it. Those of other
    stores are computed when they are read.

    Raises:
        DataError: the features of a clip cannot be computed.
    """
    if isinstance(store, AudioStore):
        return _KeptFrames(features, store)
    return _Computed(features, store)


class _Computed:
    """Frames of the clips of a store, computed when they are read; those of the last are kept."""

    def __init__(self, features: FeatureSet, store: Any) -> None:
        self._features, self._store = features, store
        self._kept: dict[int, ComputedFrames] = {}

    def __call__(self, clip: int) -> ComputedFrames:
        if clip not in self._kept:
            while len(self._kept) >= _KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[clip] = ComputedFrames(self._features, self._store.waveform(clip))
        return self._kept[clip]

    def __reduce__(self) -> tuple[Any, ...]:
        return _Computed, (self._features, self._store)


class _KeptFrames:
    """Frames of the clips of a store, float32 in one file, mapped into memory."""

    def __init__(self, features: FeatureSet, store: AudioStore) -> None:
        self._features, self._store = features, store
        counts = [features.frames(length) for length in store.lengths.tolist()]
        self._ends = np.cumsum(counts)
        self._path = store.folder / f"features-{digest_of(features.to_json())}.f32"
        self._otherwise = _Computed(features, store)
        self._frames = self._mapped()
        if self._frames is None:
            self._write()
            self._frames = self._mapped()

    def __call__(self, clip: int) -> Any:
        """The frames of a clip: a view (F, D) of the file, or lazy if there is no file."""
        if self._frames is None:
            return self._otherwise(clip)
        begin = 0 if clip == 0 else self._ends[clip - 1]
        return self._frames[begin : self._ends[clip]]

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process maps the file again.
        return _KeptFrames, (self._features, self._store)

    def _mapped(self) -> np.ndarray | None:
        shape = (int(self._ends[-1]), self._features.size)
        size = shape[0] * shape[1] * _FRAME.itemsize
        if not self._path.is_file() or self._path.stat().st_size != size:
            return None
        return np.memmap(self._path, _FRAME, mode="r", shape=shape).view(np.ndarray)

    def _write(self) -> None:
        remove_debris(self._path.parent)
        clips = range(len(self._store))
        try:
            with appearing_whole(self._path) as file:
                for each in _in_order(self._compute, clips):
                    file.write(np.ascontiguousarray(each, _FRAME).tobytes())
        except OutputError:
            # The disk is full or read-only: the frames are computed when they are read.
            return

    def _compute(self, clip: int) -> np.ndarray:
        try:
            frames = self._features.compute(self._store.waveform(clip))
        except WavegenError as error:
            name = display(self._store.names[clip])
            raise DataError(f"{name}: features cannot be computed ({error})") from error
        if not np.isfinite(frames).all():
            raise DataError(f"{display(self._store.names[clip])}: its features are not finite")
        return frames


def _in_order(work: Callable[[int], np.ndarray], clips: Sequence[int]) -> Iterator[np.ndarray]:
    """Results of the work in order, by all cores, of which few are in memory at a time."""
    threads = os.cpu_count() or 1
    bar: tqdm[Any]
    with (
        ThreadPoolExecutor(threads) as pool,
        progress_bar(total=len(clips), desc="features", unit=" clips") as bar,
    ):
        for begin in range(0, len(clips), 8 * threads):
            for each in pool.map(work, clips[begin : begin + 8 * threads]):
                bar.update()
                yield each


def statistics(
    frames: Callable[[int], Any], clips: Sequence[int], size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each feature over the frames of clips, float64 (D,)."""
    count, sums, squares = 0, np.zeros(size), np.zeros(size)
    for clip in clips:
        own = np.asarray(frames(clip)[:], dtype=np.float64)
        count += len(own)
        sums += own.sum(0)
        squares += (own**2).sum(0)
    mean = sums / max(1, count)
    return mean, np.sqrt(np.maximum(squares / max(1, count) - mean**2, 0))
