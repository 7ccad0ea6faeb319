"""The index of shards, which is checked, since shards may come from somebody else.

`index.json` belongs to litdata and lists the chunks. `clips.index.json` is our own and gives the
place of each clip in them. A chunk is read with these two only, as bytes of float32 samples.
litdata itself would let the index choose how to decode an item, for example by pickle.
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

# Samples of an item, and samples before them that the item holds too.
PIECE = 2**18
BEFORE = 2**14
INDEX = "index.json"
# Written last, so shards that have it are complete. litdata fetches files with this suffix without
# starting a client, which worker processes could not inherit.
CLIPS = "clips.index.json"
# Largest size in bytes of each of these: enough for some 50 TB and five million clips.
LARGEST = {INDEX: 1 << 26, CLIPS: 1 << 30}
# Largest size in bytes of a chunk; those of `wavegen prepare` have a fourth of it.
_LARGEST_CHUNK = 1 << 28
# The name that litdata's writer gives to the format of items: float32, one row.
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
        filename: name without folders.
        size: size in bytes.
        items: number of items.
    """

    filename: str
    size: int
    items: int


@dataclass(frozen=True)
class ShardIndex:
    """The chunks of shards, and the place of each clip in them.

    Args:
        chunks: the chunks, in order.
        sample_rate: rate of the clips in Hz.
        first_items: int64 (clips,), number of the first item of each clip among all items.
        lengths: int64 (clips,), in samples.
        clip_set: the clips.
    """

    chunks: tuple[Chunk, ...]
    sample_rate: int
    first_items: np.ndarray
    lengths: np.ndarray
    clip_set: ClipSet


def parse(index: Any, description: Any, place: str) -> ShardIndex:
    """Parse the two files, and check each against the other.

    Args:
        index: JSON of the file `INDEX`.
        description: JSON of the file `CLIPS`.
        place: folder or address of the shards.

    Raises:
        ValueError: `wavegen.data.shard_writer` does not write such a file.
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
    # Python integers, since the sum of malicious numbers may overflow int64.
    samples = sum(description["lengths"]) + BEFORE * sum(
        max(0, each - 1) for each in items.tolist()
    )
    sound = (
        0 < len(first) == len(lengths) == len(description["clips"])
        and len({chunk.filename for chunk in chunks}) == len(chunks)
        and int((first + items).max()) <= sum(chunk.items for chunk in chunks)
        # Each item needs at least eight bytes of the chunk for its offset and its size.
        and all(chunk.size >= 8 * (chunk.items + 1) for chunk in chunks)
        and samples * _SAMPLE.itemsize <= sum(chunk.size - 8 * chunk.items for chunk in chunks)
        and _labels_agree(description)
    )
    if not sound:
        raise ValueError(f"{INDEX} and {CLIPS} do not agree")
    clip_set = _clip_set(description, place)
    return ShardIndex(chunks, description["sample_rate"], first, lengths, clip_set)


def read_item(path: Path, item: int, length: int, start: int, stop: int) -> np.ndarray:
    """Read some samples of an item.

    Args:
        path: file of the chunk.
        item: number of the item within the chunk.
        length: number of samples that the item must have.
        start, stop: range of the samples to read.

    Returns:
        float32 (stop - start,).

    Raises:
        OSError: the chunk cannot be read.
        ValueError: the chunk does not hold this item, or its samples are NaN or infinity.
    """
    with path.open("rb") as file:
        # After the number of items come the offsets of all items, and the end of the last one.
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
    """The description of the clips as JSON, which `_clip_set` reads."""
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
    """Whether the listed classes are exactly those of the clips."""
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
    """Text that is safe to print."""
    return text if text.isprintable() else display(text)
