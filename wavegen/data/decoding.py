"""Clips decoded by all cores into shards, each of which appears whole: what is done stays done.

A shard is a file of float32 samples, whole clips one after another. Beside it stands what is
in it, written last; a shard that has that is not made again.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from wavegen.audio import reading
from wavegen.data.clips import Clip
from wavegen.data.folders import OnBadFile
from wavegen.data.settings import check_trim
from wavegen.errors import AudioFileError, DataError
from wavegen.utils.files import appearing_whole, read_json, write_json
from wavegen.utils.json_shape import fits, whole
from wavegen.utils.progress import progress_bar

T = TypeVar("T")

SAMPLE = np.dtype("<f4")
# Bytes of a shard, about: small enough that little is lost with one, and so many of them
# at most that all can be mapped at once.
_SHARD_BYTES = 32 << 20
_MOST_SHARDS = 1000
# Of what is said of a shard while others are still made.
_CONTENTS = {"names": [str], "lengths": [whole(1)], "skipped": [(str, str)]}


@dataclass(frozen=True)
class Shard:
    """What is in a file of decoded clips.

    Args:
        names: of the clips, in order.
        lengths: of each, in samples.
        skipped: names of clips that could not be decoded, and why.
    """

    names: list[str]
    lengths: list[int]
    skipped: list[tuple[str, str]]


def shard_path(folder: Path, number: int) -> Path:
    """Where a shard's samples are; there is no file if it has none."""
    return folder / f"audio-{number:05d}.f32"


def decode(
    clips: Sequence[Clip],
    sample_rate: int,
    trim: float | None,
    folder: Path,
    on_bad_file: OnBadFile,
    progress: bool,
) -> list[Shard]:
    """Decode clips into the shards of a folder, and go on where that was interrupted.

    Args:
        clips: in order.
        sample_rate: Hz.
        trim: cut both ends more than this many dB below the loudest part; None leaves them.
        folder: holds nothing but shards of these clips, if anything.
        on_bad_file: "skip" leaves out a clip that cannot be decoded, "fail" raises.
        progress: show a bar on standard error.

    Raises:
        AudioFileError: a clip cannot be decoded, if `on_bad_file` is "fail".
        OSError: no room.
    """
    size = max(_SHARD_BYTES, seconds(clips) * sample_rate * SAMPLE.itemsize / _MOST_SHARDS)
    parts = plan(clips, sample_rate, size)

    def work(number: int, bar: tqdm) -> Shard:
        return _decode(
            parts[number], sample_rate, trim, shard_path(folder, number), on_bad_file, bar
        )

    return by_all_cores(work, parts, progress)


def by_all_cores(
    work: Callable[[int, tqdm], T], parts: Sequence[Sequence[Clip]], progress: bool
) -> list[T]:
    """What `work` makes of each part, given its number and a bar that counts clips.

    The first error ends it, once the parts at hand are done.
    """
    total = sum(map(len, parts))
    with (
        progress_bar(total=total, desc="decoding", unit="clip", disable=not progress) as bar,
        # Decoding and resampling leave Python to the other threads.
        ThreadPoolExecutor(os.cpu_count() or 1) as pool,
    ):
        done = [pool.submit(work, number, bar) for number in range(len(parts))]
        try:
            return [each.result() for each in done]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def seconds(clips: Sequence[Clip]) -> float:
    """How long clips last together, by their headers."""
    return sum(clip.info.frames / clip.info.sample_rate for clip in clips)


def plan(clips: Sequence[Clip], sample_rate: int, size: float) -> list[list[Clip]]:
    """Neighbouring clips that make a part of about `size` bytes each."""
    parts: list[list[Clip]] = []
    left = 0.0
    for clip in clips:
        if left <= 0:
            parts.append([])
            left = size
        parts[-1].append(clip)
        left -= seconds([clip]) * sample_rate * SAMPLE.itemsize
    return parts


def decoded(path: Path, sample_rate: int, trim: float | None) -> Iterator[np.ndarray]:
    """A file's waveform in blocks, float32 (time,); the whole of it in one if it is trimmed.

    Raises:
        AudioFileError: it cannot be decoded; blocks may have come before.
    """
    if trim is None:
        blocks = reading.blocks(path, sample_rate)
    else:
        blocks = iter([trim_ends(reading.read(path, sample_rate), trim)])
    for block in blocks:
        yield np.ascontiguousarray(block, SAMPLE)


def trim_ends(waveform: np.ndarray, decibels: float) -> np.ndarray:
    """Cut what is more than `decibels` below the loudest part from both ends.

    Args:
        waveform: float32 `(time,)`. Loudness is its RMS over windows of 2048 samples.
        decibels: above 0. A silent waveform stays whole.
    """
    check_trim(decibels)
    import librosa  # slow to import, and needed only here

    if not waveform.any():
        return waveform
    trimmed, _ = librosa.effects.trim(waveform, top_db=decibels, ref=np.max)
    return trimmed


def skip(clip: Clip, error: AudioFileError, on_bad_file: OnBadFile) -> tuple[str, str]:
    """The name of a clip that cannot be decoded, and why; raises that instead if asked to."""
    if on_bad_file == "fail":
        raise error
    return clip.name, error.reason


def _decode(
    clips: Sequence[Clip],
    sample_rate: int,
    trim: float | None,
    path: Path,
    on_bad_file: OnBadFile,
    bar: tqdm,
) -> Shard:
    contents = path.with_suffix(".json")
    if (done := _done(contents, path, clips)) is not None:
        bar.update(len(clips))
        return done
    shard = Shard([], [], [])
    with appearing_whole(path) as file:
        for clip in clips:
            start = file.tell()
            try:
                for block in decoded(clip.path, sample_rate, trim):
                    file.write(block.data)
            except AudioFileError as error:
                shard.skipped.append(skip(clip, error, on_bad_file))
                file.seek(start)
                file.truncate()
            else:
                shard.names.append(clip.name)
                shard.lengths.append((file.tell() - start) // SAMPLE.itemsize)
            bar.update()
    write_json(contents, vars(shard))
    return shard


def _done(contents: Path, path: Path, clips: Sequence[Clip]) -> Shard | None:
    """A shard that was made before; None if there is none, or if it was damaged."""
    with suppress(DataError, OSError):
        values = read_json(contents, DataError)
        if fits(values, _CONTENTS) and len(values["names"]) == len(values["lengths"]):
            shard = Shard(
                values["names"], values["lengths"], [(a, b) for a, b in values["skipped"]]
            )
            named = sorted([*shard.names, *(name for name, _ in shard.skipped)])
            size = sum(shard.lengths) * SAMPLE.itemsize
            if named == sorted(clip.name for clip in clips) and path.stat().st_size == size:
                return shard
    return None
