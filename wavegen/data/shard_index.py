"""What shards say of themselves, checked: they may be from elsewhere.

`index.json` is litdata's and says which chunks there are. `clips.index.json` is ours and says
where in them each clip is. A chunk is read by these two alone, as bytes of float32 samples:
litdata itself would let the index choose how an item is decoded, by pickle for one.
"""

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wavegen.audio.reading import HIGHEST_RATE, LOWEST_RATE, AudioInfo, display
from wavegen.data.clips import Clip, ClipSet
from wavegen.data.folders import Skipped
from wavegen.data.settings import DataSettings, is_settings
from wavegen.data.splits import SPLITS
from wavegen.utils.json_shape import fits, whole

# Samples of an item, and of those before them that come with it.
PIECE = 2**18
BEFORE = 2**14
INDEX = "index.json"
# Written last: what has it is complete. litdata fetches what ends so without starting the
# client that worker processes cannot inherit.
CLIPS = "clips.index.json"
# Bytes that each of these may have: enough for some 50 TB and five million clips.
LARGEST = {INDEX: 1 << 26, CLIPS: 1 << 30}
# `wavegen prepare` writes chunks of a fourth of it.
_LARGEST_CHUNK = 1 << 28
# float32, one row: what litdata's writer calls the items of `wavegen.data.shard_writer`.
_FORMAT = ["no_header_numpy:9"]

_SAMPLE = np.dtype("<f4")
_NAME = re.compile(r"chunk-[0-9]{1,9}-[0-9]{1,9}\.bin")

_INDEX_SHAPE = {
    "chunks": [
        {
            "filename": lambda name: isinstance(name, str) and bool(_NAME.fullmatch(name)),
            "chunk_bytes": whole(1, _LARGEST_CHUNK),
            "chunk_size": whole(1),
        }
    ],
    "config": {
        "data_format": lambda value: value == _FORMAT,
        "compression": type(None),
        "encryption": type(None),
    },
}
_CLIPS_SHAPE: dict[str, Any] = {
    "sample_rate": whole(LOWEST_RATE, HIGHEST_RATE),
    "first_items": [whole(0)],
    "lengths": [whole(1)],
    "clips": [(str, lambda split: split in SPLITS, {str: str}, (whole(1), whole(1), whole(0)))],
    "attributes": {str: [str]},
    "skipped": [(str, str)],
    "notes": [str],
    "reading": is_settings,
}


@dataclass(frozen=True)
class Chunk:
    """A file of items.

    Args:
        filename: its bare name.
        size: its bytes.
        items: how many are in it.
    """

    filename: str
    size: int
    items: int


@dataclass(frozen=True)
class ShardIndex:
    """Which chunks there are, and where in them each clip is.

    Args:
        chunks: in order.
        sample_rate: Hz.
        first_items: int64 (clips,), of each clip among all items.
        lengths: int64 (clips,), in samples.
        clip_set: the clips.
    """

    chunks: tuple[Chunk, ...]
    sample_rate: int
    first_items: np.ndarray
    lengths: np.ndarray
    clip_set: ClipSet


def parse(index: Any, description: Any, place: str) -> ShardIndex:
    """What the two files say, checked against one another.

    Args:
        index: JSON of the one called `INDEX`.
        description: JSON of the one called `CLIPS`.
        place: where the shards are.

    Raises:
        ValueError: one of them is not what `wavegen.data.shard_writer` writes.
    """
    if not fits(index, _INDEX_SHAPE):
        raise ValueError(f"{INDEX} is not what 'wavegen prepare' writes")
    if not fits(description, _CLIPS_SHAPE):
        raise ValueError(f"{CLIPS} is not what 'wavegen prepare' writes")
    chunks = tuple(
        Chunk(each["filename"], each["chunk_bytes"], each["chunk_size"]) for each in index["chunks"]
    )
    first = np.array(description["first_items"], dtype=np.int64)
    lengths = np.array(description["lengths"], dtype=np.int64)
    items = -(-lengths // PIECE)
    # Numbers of Python, for hostile ones may sum up to more than an int64 holds.
    samples = sum(description["lengths"]) + BEFORE * sum(
        max(0, each - 1) for each in items.tolist()
    )
    sound = (
        0 < len(first) == len(lengths) == len(description["clips"])
        and len({chunk.filename for chunk in chunks}) == len(chunks)
        and int((first + items).max()) <= sum(chunk.items for chunk in chunks)
        # Twice four bytes for each item: where it begins, and its size.
        and all(chunk.size >= 8 * (chunk.items + 1) for chunk in chunks)
        and samples * _SAMPLE.itemsize <= sum(chunk.size - 8 * chunk.items for chunk in chunks)
        and _labels_agree(description)
    )
    if not sound:
        raise ValueError(f"{INDEX} and {CLIPS} do not agree")
    clip_set = _clip_set(description, place)
    return ShardIndex(chunks, description["sample_rate"], first, lengths, clip_set)


def read_item(path: Path, item: int, length: int, start: int, stop: int) -> np.ndarray:
    """Some samples of an item.

    Args:
        path: of the chunk.
        item: its number within the chunk.
        length: samples that the item must have.
        start, stop: of the samples wanted.

    Returns:
        float32 (stop - start,).

    Raises:
        OSError: the chunk cannot be read.
        ValueError: it does not hold this item, or the samples are no audio.
    """
    with path.open("rb") as file:
        # Behind the number of items stands where each begins and where the last one ends.
        file.seek(4 + 4 * item)
        begin, end = _numbers(file.read(8), 2)
        file.seek(begin)
        (size,) = _numbers(file.read(4), 1)
        if not end - begin - 4 == size == length * _SAMPLE.itemsize:
            raise ValueError("an item has another size than the index says")
        file.seek(begin + 4 + start * _SAMPLE.itemsize)
        samples = np.fromfile(file, _SAMPLE, stop - start)
    if len(samples) < stop - start:
        raise ValueError("is cut short")
    if not np.isfinite(samples).all():
        raise ValueError("holds samples that are not numbers")
    return samples


def _numbers(data: bytes, count: int) -> tuple[int, ...]:
    if len(data) < 4 * count:
        raise ValueError("is cut short")
    return struct.unpack(f"<{count}I", data)


def describe(clip_set: ClipSet) -> dict[str, Any]:
    """What is said of the clips, as JSON; `_clip_set` is the way back."""
    return {
        "clips": [
            [clip.name, clip.split, clip.labels, list(vars(clip.info).values())]
            for clip in clip_set.clips
        ],
        "attributes": clip_set.attributes,
        "skipped": [[bad.name, bad.reason] for bad in clip_set.skipped],
        "notes": clip_set.notes,
        "reading": clip_set.settings.to_json(),
    }


def _labels_agree(description: dict[str, Any]) -> bool:
    """Whether the classes are those that clips have, each once."""
    found: dict[str, set[str]] = {}
    for _, _, labels, _ in description["clips"]:
        for attribute, name in labels.items():
            found.setdefault(attribute, set()).add(name)
    attributes = description["attributes"]
    return found.keys() == attributes.keys() and all(
        found[key] == set(names) and len(names) == len(found[key])
        for key, names in attributes.items()
    )


def _clip_set(description: dict[str, Any], place: str) -> ClipSet:
    root = Path(place)
    clips = tuple(
        Clip(root / name, _shown(name), _all_shown(labels), split, AudioInfo(*info), 0, 0)
        for name, split, labels, info in description["clips"]
    )
    return ClipSet(
        folder=root,
        clips=clips,
        attributes={
            _shown(key): tuple(map(_shown, names))
            for key, names in description["attributes"].items()
        },
        skipped=tuple(Skipped(_shown(name), _shown(why)) for name, why in description["skipped"]),
        notes=tuple(map(_shown, description["notes"])),
        settings=DataSettings.from_json(description["reading"]),
    )


def _all_shown(labels: dict[str, str]) -> dict[str, str]:
    return {_shown(key): _shown(name) for key, name in labels.items()}


def _shown(text: str) -> str:
    """Text that a terminal can be given."""
    return text if text.isprintable() else display(text)
