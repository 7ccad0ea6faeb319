"""Decodes clips on all cores into shards, so that an interrupted job can be resumed.

A shard is a file of float32 samples, whole clips one after another. A second file lists its
contents. It is written last, and a shard that has it is not made again.
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
# Approximate bytes of a shard: small enough that losing one costs little, and large enough that
# all can be mapped at once.
_SHARD_BYTES = 32 << 20
_MOST_SHARDS = 1000
# Suffix of the file that lists the contents of a shard, while other shards are still made.
_CONTENTS = {"names": [str], "lengths": [whole(1)], "skipped": [(str, str)]}


@dataclass(frozen=True)
class Shard:
    """The contents of a file of decoded clips.

    Args:
        names: names of the clips, in order.
        lengths: length of each in samples.
        skipped: names of clips that could not be decoded, with the reasons.
    """

    names: list[str]
    lengths: list[int]
    skipped: list[tuple[str, str]]


def shard_path(folder: Path, number: int) -> Path:
    """The file of the samples of a shard; it does not exist if there are none."""
    return folder / f"audio-{number:05d}.f32"


def decode(
    clips: Sequence[Clip],
    sample_rate: int,
    trim: float | None,
    folder: Path,
    on_bad_file: OnBadFile,
    progress: bool,
) -> list[Shard]:
    """Decode clips into the shards of a folder, or resume an interrupted job there.

    Args:
        clips: the clips, in order.
        sample_rate: rate of the result in Hz.
        trim: cut parts of both ends that are this many dB below the loudest part; None keeps them.
        folder: folder that is empty, or holds shards of these clips.
        on_bad_file: "skip" leaves out a clip that cannot be decoded, "fail" raises.
        progress: show a bar on standard error.

    Raises:
        AudioFileError: a clip cannot be decoded, and `on_bad_file` is "fail".
        OSError: the disk is full.
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
    """Call `work` for each part in threads, with its number and a bar that counts clips.

    After the first error no more parts are started, and the error is raised.
    """
    total = sum(map(len, parts))
    with (
        progress_bar(total=total, desc="decoding", unit="clip", disable=not progress) as bar,
        # Decoding and resampling release the lock of the interpreter.
        ThreadPoolExecutor(os.cpu_count() or 1) as pool,
    ):
        done = [pool.submit(work, number, bar) for number in range(len(parts))]
        try:
            return [each.result() for each in done]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def seconds(clips: Sequence[Clip]) -> float:
    """Total duration of clips by their headers."""
    return sum(clip.info.frames / clip.info.sample_rate for clip in clips)


def plan(clips: Sequence[Clip], sample_rate: int, size: float) -> list[list[Clip]]:
    """Split clips, in order, into parts of about `size` bytes each."""
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
    """The waveform of a file in blocks, float32 (time,); a trimmed one is a single block.

    Raises:
        AudioFileError: the file cannot be decoded; some blocks may have been yielded before.
    """
    if trim is None:
        blocks = reading.blocks(path, sample_rate)
    else:
        blocks = iter([trim_ends(reading.read(path, sample_rate), trim)])
    for block in blocks:
        yield np.ascontiguousarray(block, SAMPLE)


def trim_ends(waveform: np.ndarray, decibels: float) -> np.ndarray:
    """Cut parts of both ends that are more than `decibels` below the loudest part.

    Args:
        waveform: float32 `(time,)`. Its loudness is the RMS over windows of 2048 samples.
        decibels: above 0. A silent waveform is not cut.
    """
    check_trim(decibels)
    import librosa  # slow to import, so only where it is needed

    if not waveform.any():
        return waveform
    trimmed, _ = librosa.effects.trim(waveform, top_db=decibels, ref=np.max)
    return trimmed


def skip(clip: Clip, error: AudioFileError, on_bad_file: OnBadFile) -> tuple[str, str]:
    """The name of a clip that cannot be decoded, and the reason; raises it for "fail"."""
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
    """A shard that was made before; None if it is missing or damaged."""
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
