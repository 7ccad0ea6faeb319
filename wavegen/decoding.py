"""Clips decoded by all cores into shards, each of which appears whole: what is done stays done.

A shard is a file of float32 samples, whole clips one after another. Beside it stands what is
in it, written last; a shard that has that is not made again.
"""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from wavegen import audio
from wavegen.audio import display
from wavegen.clips import Clip
from wavegen.errors import AudioFileError
from wavegen.files import appearing_whole, write_json
from wavegen.folders import OnBadFile

SAMPLE = np.dtype("<f4")
# Bytes of a shard, about: small enough that little is lost with one, and so many of them
# at most that all can be mapped at once.
_SHARD_BYTES = 32 << 20
_MOST_SHARDS = 1000


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
    parts = _plan(clips, sample_rate)
    threads = os.cpu_count() or 1
    with tqdm(total=len(clips), desc="decoding", unit="clip", disable=not progress) as bar:

        def work(number: int) -> Shard:
            return _decode(
                parts[number], sample_rate, trim, shard_path(folder, number), on_bad_file, bar
            )

        # Decoding and resampling leave Python to the other threads.
        with ThreadPoolExecutor(threads) as pool:
            done = [pool.submit(work, number) for number in range(len(parts))]
            try:
                return [each.result() for each in done]
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise


def _plan(clips: Sequence[Clip], sample_rate: int) -> list[list[Clip]]:
    """Neighbouring clips that make a shard each."""
    seconds = [clip.info.frames / clip.info.sample_rate for clip in clips]
    size = max(_SHARD_BYTES, sum(seconds) * sample_rate * SAMPLE.itemsize / _MOST_SHARDS)
    parts: list[list[Clip]] = []
    left = 0.0
    for clip, length in zip(clips, seconds, strict=True):
        if left <= 0:
            parts.append([])
            left = size
        parts[-1].append(clip)
        left -= length * sample_rate * SAMPLE.itemsize
    return parts


def _decode(
    clips: Sequence[Clip],
    sample_rate: int,
    trim: float | None,
    path: Path,
    on_bad_file: OnBadFile,
    bar: tqdm,
) -> Shard:
    contents = path.with_suffix(".json")
    if contents.exists():
        bar.update(len(clips))
        values = json.loads(contents.read_text(encoding="utf-8"))
        return Shard(values["names"], values["lengths"], [(a, b) for a, b in values["skipped"]])
    shard = Shard([], [], [])
    with appearing_whole(path) as temporary, temporary.open("wb") as file:
        for clip in clips:
            start = file.tell()
            try:
                if trim is None:
                    blocks = audio.blocks(clip.path, sample_rate)
                else:
                    blocks = iter([audio.trim(audio.read(clip.path, sample_rate), trim)])
                for block in blocks:
                    file.write(np.ascontiguousarray(block, SAMPLE).data)
            except AudioFileError as error:
                if on_bad_file == "fail":
                    raise
                reason = str(error).removeprefix(f"{display(clip.path)}: ")
                shard.skipped.append((clip.name, reason))
                file.seek(start)
                file.truncate()
            else:
                shard.names.append(clip.name)
                shard.lengths.append((file.tell() - start) // SAMPLE.itemsize)
            bar.update()
    write_json(contents, vars(shard))
    return shard
