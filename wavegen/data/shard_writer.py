"""Writes shards: decodes clips on all cores, and sends them to a folder or to object storage.

Memory and the local disk hold a few chunks at a time. An interrupted job keeps the parts that are
complete.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from wavegen.codecs.counts import CodeCounts
from wavegen.codecs.mulaw import MuLaw
from wavegen.data.cache import cache_folder, digest_of, figures_name
from wavegen.data.clips import Clip, ClipSet
from wavegen.data.decoding import SAMPLE, by_all_cores, decoded, plan, skip
from wavegen.data.folders import OnBadFile, Skipped
from wavegen.data.remote import litdata, storage_errors
from wavegen.data.shard_index import BEFORE, CLIPS, INDEX, PIECE, describe
from wavegen.data.shards import is_remote
from wavegen.data.splits import SPLITS
from wavegen.data.store_folders import only_one
from wavegen.errors import AudioFileError, ConfigError, DataError
from wavegen.utils.files import flush, make_folder, output_errors, read_json, write_json, write_text
from wavegen.utils.json_shape import fits, optional, whole
from wavegen.utils.text import display

_VERSION = 1
_CHUNK_BYTES = 64 << 20
# Bytes of a part, the most that each thread repeats after an interruption.
_PART_BYTES = 4 * _CHUNK_BYTES
# Most networks have this codec. Figures for others are computed when they are needed.
_CODEC = MuLaw()
_JOURNAL = ".parts"
_RECORD = {
    "chunks": [{"filename": str, "chunk_bytes": whole(1), "chunk_size": whole(1)}],
    "config": optional(dict),
    "items": whole(0),
    "lengths": {str: (whole(0), whole(1))},
    "skipped": [(str, str)],
    "counts": [whole(0)],
    "clamped": whole(0),
}


def write_shards(
    clip_set: ClipSet,
    sample_rate: int,
    place: str,
    on_bad_file: OnBadFile = "skip",
    cache: str | None = None,
    progress: bool = True,
) -> ClipSet:
    """Write the clips as shards, or resume an interrupted job.

    The order of the clips is random, so that neighbours in a chunk are of different classes.

    Args:
        clip_set: clips found by `wavegen.data.clips.find_clips`; its settings include trimming.
        sample_rate: rate of the result in Hz.
        place: folder that is empty or new, or an address such as `s3://bucket/digits`.
        on_bad_file: "skip" leaves out a clip that cannot be decoded, "fail" raises.
        cache: folder for chunks to be uploaded; by default in the user's cache.
        progress: show a bar on standard error.

    Returns:
        The clips that are in the shards.

    Raises:
        ConfigError: litdata is not installed, the place holds other files, or another
            process writes there.
        AudioFileError: a clip cannot be decoded, and `on_bad_file` is "fail".
        DataError: no clip can be decoded.
        OutputError: the place cannot be written to.
    """
    litdata()
    place = place.rstrip("/")
    # A digest of the recordings as they are now, so that new shards differ from older ones.
    trim = clip_set.settings.trim
    listed = [[clip.name, clip.size, clip.mtime_ns, clip.split] for clip in clip_set.clips]
    settings = digest_of([_VERSION, sample_rate, trim, PIECE, BEFORE, _PART_BYTES, listed])
    if is_remote(place):
        journal = cache_folder(cache) / f"shards-{digest_of(place)}{_JOURNAL}"
    else:
        journal = Path(place) / _JOURNAL
    make_folder(journal.parent)
    lock = journal if is_remote(place) else Path(place)
    busy = (
        f"{display(place)}: another prepare writes there; wait for it, or choose another --shards"
    )
    order = _order(clip_set.clips)
    parts = plan([clip_set.clips[i] for i in order], sample_rate, _PART_BYTES)
    with output_errors(journal), only_one(lock, busy):
        if not is_remote(place):
            _refuse_others(Path(place), journal / settings)
        send = _sender(place)
        _begin(journal, settings)
        work = _Parts(parts, sample_rate, trim, journal, send, on_bad_file)
        records = by_all_cores(work.of, parts, progress)
        about = {"prepared_from": settings, "sample_rate": sample_rate}
        if not is_remote(place):
            _remove_others(Path(place), records)
        done = _finish(clip_set, about, order, records, journal, send)
        shutil.rmtree(journal)
    return done


def _begin(journal: Path, settings: str) -> None:
    """Make the journal, or empty it if its settings are different."""
    journal.mkdir(exist_ok=True)
    if not (journal / settings).exists():
        # Records with other settings are useless. The folder itself stays, since it may be locked.
        for left in journal.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        (journal / settings).touch()


def _refuse_others(place: Path, begun: Path) -> None:
    """Raise `ConfigError` for files in the place, unless the job that wrote `begun` made them."""
    others = {path.name for path in place.iterdir()} - {_JOURNAL}
    if others and not begun.exists():
        if CLIPS in others and begun.parent.exists():  # it was killed at its very end
            shutil.rmtree(begun.parent)
        raise ConfigError(f"{display(place)}: already holds files; choose another --shards")


def _order(clips: Sequence[Clip]) -> list[int]:
    """Numbers of the clips: one split after another, each in random order."""
    chance = np.random.default_rng(0).permutation(len(clips))
    return sorted(chance.tolist(), key=lambda clip: SPLITS.index(clips[clip].split))


@dataclass(frozen=True)
class _Parts:
    """Writes parts of the data, each into its own chunks.

    Args:
        parts: the clips of each part.
        sample_rate: rate of the result in Hz.
        trim: as in `wavegen.data.decoding.decode`.
        journal: folder for records of complete parts, and for chunks to be sent.
        send: moves a chunk to its place.
        on_bad_file: as in `write_shards`.
    """

    parts: Sequence[Sequence[Clip]]
    sample_rate: int
    trim: float | None
    journal: Path
    send: Callable[[Path], None]
    on_bad_file: OnBadFile

    def of(self, number: int, bar: tqdm) -> dict[str, Any]:
        """The record of a part, which is decoded and sent unless it is complete already."""
        clips, done = self.parts[number], self.journal / f"{number}.json"
        if (known := _recorded(done, clips)) is not None:
            bar.update(len(clips))
            return known
        folder = self.journal / str(number)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        record = self._written(clips, _Chunks(folder, number, self.send), bar)
        write_json(done, record)
        shutil.rmtree(folder)
        return record

    def _written(self, clips: Sequence[Clip], chunks: "_Chunks", bar: tqdm) -> dict[str, Any]:
        lengths: dict[str, tuple[int, int]] = {}
        skipped: list[tuple[str, str]] = []
        total = CodeCounts(_CODEC)
        for clip in clips:
            first, length = chunks.items, 0
            counts = CodeCounts(_CODEC)
            try:
                for piece, before in _pieces(decoded(clip.path, self.sample_rate, self.trim)):
                    chunks.add(piece)
                    length += len(piece) - before
                    if clip.split == "train":
                        counts.add(piece[before:])
            except AudioFileError as error:
                skipped.append(skip(clip, error, self.on_bad_file))
            else:
                lengths[clip.name] = first, length
                total.counts += counts.counts
                total.clamped += counts.clamped
            bar.update()
        return {
            **chunks.finish(),
            "items": chunks.items,
            "lengths": lengths,
            "skipped": skipped,
            "counts": total.counts.tolist(),
            "clamped": total.clamped,
        }


def _recorded(done: Path, clips: Sequence[Clip]) -> dict[str, Any] | None:
    """The record of a part that is complete; None if there is none, or if it is damaged."""
    with suppress(DataError):
        record = read_json(done, DataError)
        if fits(record, _RECORD) and len(record["counts"]) == _CODEC.codes:
            named = [*record["lengths"], *(name for name, _ in record["skipped"])]
            if sorted(named) == sorted(clip.name for clip in clips):
                return record
    return None


def _pieces(blocks: Iterator[np.ndarray]) -> Iterator[tuple[np.ndarray, int]]:
    """Yield pieces of a clip, and how many earlier samples each starts with.

    Each piece has `PIECE` samples, the last one fewer, after `BEFORE` earlier ones, or after none
    at the beginning of the clip.
    """
    held, before = np.empty(0, SAMPLE), 0
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) - before >= PIECE:
            yield held[: before + PIECE], before
            held, before = held[before + PIECE - BEFORE :], BEFORE
    if len(held) > before:
        yield held, before


class _Chunks:
    """The chunks of one part, which are sent when they are full.

    Args:
        folder: folder to write them in.
        number: number of the part.
        send: moves a chunk to its place.
    """

    def __init__(self, folder: Path, number: int, send: Callable[[Path], None]) -> None:
        from litdata.streaming.writer import BinaryWriter

        class PartWriter(BinaryWriter):
            # The rank is part of the file names, chunk-RANK-N.bin.
            rank = number

        self._writer = PartWriter(str(folder), chunk_bytes=_CHUNK_BYTES)
        self._index = folder / f"{number}.{INDEX}"
        self._send = send
        self.items = 0

    def add(self, piece: np.ndarray) -> None:
        """Add an item, float32 (time,)."""
        if chunk := self._writer.add_item(self.items, {"audio": piece}):
            self._send(Path(chunk))
        self.items += 1

    def finish(self) -> dict[str, Any]:
        """Send the last chunks, and return litdata's description of all chunks."""
        for chunk in self._writer.done():
            self._send(Path(chunk))
        # Without items there is no index.
        return (
            json.loads(self._index.read_text())
            if self._index.exists()
            else {"chunks": [], "config": None}
        )


def _finish(
    clip_set: ClipSet,
    about: dict[str, Any],
    order: Sequence[int],
    records: Sequence[dict[str, Any]],
    journal: Path,
    send: Callable[[Path], None],
) -> ClipSet:
    """Write the index files."""
    skipped = [Skipped(*each) for record in records for each in record["skipped"]]
    places: dict[str, tuple[int, int]] = {}
    items = 0
    for record in records:
        for name, (first, length) in record["lengths"].items():
            places[name] = items + first, length
        items += record["items"]
    if not places:
        first_bad = f"; {skipped[0].name} {skipped[0].reason}" if skipped else ""
        raise DataError(f"none of {len(order)} clips can be decoded{first_bad}")
    clips = clip_set.without(skipped)
    first_items, lengths = zip(*(places[clip.name] for clip in clips.clips), strict=True)
    training = np.flatnonzero([clip.split == "train" for clip in clips.clips])
    total = CodeCounts(_CODEC)
    for record in records:
        total.counts += record["counts"]
        total.clamped += record["clamped"]
    index = {
        "chunks": [chunk for record in records for chunk in record["chunks"]],
        "config": next(record["config"] for record in records if record["config"]),
    }
    description = {
        **about,
        "first_items": first_items,
        "lengths": lengths,
        **describe(clips),
    }
    for name, value in {
        f"{figures_name(training, _CODEC.codes)}.json": total.figures(),
        INDEX: index,
        CLIPS: description,
    }.items():
        write_text(journal / name, json.dumps(value))
        send(journal / name)
    return clips


def _remove_others(place: Path, records: Sequence[dict[str, Any]]) -> None:
    """Remove chunks of an interrupted part that has fewer chunks after it was repeated."""
    known = {chunk["filename"] for record in records for chunk in record["chunks"]}
    for path in place.glob("chunk-*.bin"):
        if path.name not in known:
            path.unlink()


def _sender(place: str) -> Callable[[Path], None]:
    """Return a function that moves a file to the place."""
    if not is_remote(place):

        def move(path: Path) -> None:
            flush(path)
            path.replace(Path(place) / path.name)
            flush(Path(place))

        return move
    from litdata.streaming.fs_provider import _get_fs_provider

    with storage_errors(place):
        provider = _get_fs_provider(place)
        if provider.exists(f"{place}/{CLIPS}"):
            raise ConfigError(f"{place}: already holds shards; choose another --shards")

    def upload(path: Path) -> None:
        with storage_errors(place):
            provider.upload_file(str(path), f"{place}/{path.name}")
        path.unlink()

    return upload
