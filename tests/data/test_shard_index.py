"""Shards from elsewhere: nothing in them runs, hangs or writes outside the cache."""

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audio_files import contents, noise, save
from mutations import mutated, no_file

from wavegen.data import shard_index, shard_writer, shards
from wavegen.data.clips import find_clips
from wavegen.data.shard_index import CLIPS, INDEX
from wavegen.data.shard_writer import write_shards
from wavegen.data.shards import ShardStore
from wavegen.data.summary import summary
from wavegen.errors import DataError

pytest.importorskip("litdata")


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Shards of four clips, the longest of which is in three items."""
    for module in (shards, shard_index, shard_writer):
        monkeypatch.setattr(module, "PIECE", 1000)
        monkeypatch.setattr(module, "BEFORE", 100)
    for number in range(4):
        waveform = noise([0.05, 0.3][number % 2], seed=number)
        save(tmp_path / "voices" / "ab"[number // 2] / f"{number}.wav", waveform)
    write_shards(find_clips(tmp_path / "voices"), 8000, str(tmp_path / "out"), progress=False)
    return tmp_path / "out"


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


def use(place: str | Path, cache: Path | None = None) -> ShardStore:
    """Go through all of it, as training does."""
    store = ShardStore(str(place), str(cache) if cache else None)
    for clip in range(len(store)):
        assert len(store.waveform(clip)[:]) == store.lengths[clip]
    store.clip_set.class_counts("train")
    summary(store.clip_set, store.sample_rate).encode()
    pieces = np.stack([np.arange(len(store)), 0 * store.lengths, store.lengths], axis=1)
    store.windows(pieces, np.random.default_rng(0))
    return store


class Command:
    """What runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def let_pickle_decode(folder: Path, marker: Path) -> None:
    """Say that items are pickled, and put what runs a command into the first chunk."""

    def edit(index: dict[str, Any]) -> None:
        index["config"]["data_format"] = ["pickle"]
        chunk = index["chunks"][0]
        body = pickle.dumps(Command(marker))
        item = struct.pack("<I", len(body)) + body
        count = chunk["chunk_size"]
        begins = [4 + 4 * (count + 1) + number * len(item) for number in range(count + 1)]
        data = struct.pack(f"<{count + 2}I", count, *begins) + count * item
        (folder / chunk["filename"]).write_bytes(data.ljust(chunk["chunk_bytes"], b"\0"))

    change(folder / INDEX, edit)


@pytest.mark.parametrize("prefix", ["", "local:"])
@pytest.mark.parametrize("later", [False, True])
def test_an_index_cannot_have_code_run(
    written: Path, tmp_path: Path, prefix: str, later: bool
) -> None:
    """Neither an index found nor one exchanged after it was checked."""
    place, marker = f"{prefix}{written}", tmp_path / "ran"
    store = ShardStore(place, str(tmp_path / "cache")) if later else None
    let_pickle_decode(written, marker)
    if store is not None and prefix:
        shutil.copy(written / INDEX, store.folder / INDEX)
    with pytest.raises(DataError, match=r"copy the shards again|is not what 'wavegen prepare'"):
        (store or ShardStore(place, str(tmp_path / "cache"))).waveform(0)[:10]
    assert not marker.exists()


@pytest.mark.parametrize("name", ["../outside.bin", "{}/outside.bin", "a/b.bin", "x", "", None])
def test_a_chunk_has_a_bare_name(written: Path, tmp_path: Path, name: str | None) -> None:
    """Else what is fetched would be written outside the cache."""
    name = name and name.format(tmp_path)
    if name:
        (written / name).parent.mkdir(exist_ok=True)
        shutil.copy(written / "chunk-0-0.bin", written / name)
    before = contents(tmp_path)
    change(written / INDEX, lambda index: index["chunks"][0].update(filename=name))
    cache = tmp_path / "cache"
    with pytest.raises(DataError, match="no shards can be read there"):
        use(f"local:{written}", cache)
    assert contents(tmp_path) == sorted([*before, "cache"])
    assert [path.name[:7] for path in cache.iterdir()] == ["shards-"]


@pytest.mark.parametrize("file", [INDEX, CLIPS])
def test_any_other_description_is_one_line_or_sound(written: Path, file: str) -> None:
    sound = json.loads((written / file).read_text())
    refused: list[str] = []
    for text in mutated(sound, 300):
        (written / file).write_text(text, encoding="utf-8", errors="surrogatepass")
        try:
            use(written)
        except DataError as error:
            refused.append(str(error))
    assert len(refused) > 200
    assert all(str(written) in line for line in refused)
    assert not any("\n" in line for line in refused)


@pytest.mark.parametrize("file", [INDEX, CLIPS])
@pytest.mark.parametrize("prefix", ["", "local:"])
def test_a_description_without_an_end_is_one_line(
    written: Path, tmp_path: Path, file: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in (shards, shard_index):
        monkeypatch.setattr(each, "LARGEST", {INDEX: 10_000, CLIPS: 10_000})
    for _ in no_file(written / file):
        with pytest.raises(DataError):
            use(f"{prefix}{written}", tmp_path / "cache")


def test_a_chunk_without_an_end_is_not_fetched(written: Path, tmp_path: Path) -> None:
    chunk = written / "chunk-0-0.bin"
    for _ in no_file(chunk):
        with pytest.raises(DataError, match=r"chunk-0-0\.bin"):
            use(f"local:{written}", tmp_path / "cache")


@pytest.mark.parametrize(
    "edit",
    [
        lambda it: it["lengths"].__setitem__(0, 2**40),
        lambda it: it["lengths"].__setitem__(0, it["lengths"][0] + 1),
        lambda it: it["lengths"].__setitem__(1, it["lengths"][1] - 1),
        lambda it: it.update(lengths=[0] * len(it["lengths"])),
        lambda it: it["first_items"].__setitem__(0, 10**6),
        lambda it: it.update(sample_rate=10**9),
        lambda it: it["clips"][0][2].update(colour="red"),
        lambda it: it["attributes"].update(label=["a", "b", "c"]),
        lambda it: it["clips"].pop(),
    ],
)
def test_what_does_not_agree_is_refused(written: Path, edit: Callable[[Any], object]) -> None:
    change(written / CLIPS, edit)
    with pytest.raises(DataError):
        use(written)


def test_any_other_chunk_is_one_line_or_audio(written: Path) -> None:
    """Sizes and places within a chunk are checked as they are used."""
    path = written / "chunk-0-0.bin"
    sound = path.read_bytes()
    count = struct.unpack("<I", sound[:4])[0]
    head = 4 * (count + 2)
    chance = np.random.default_rng(0)
    for _ in range(200):
        data = bytearray(sound)
        at = int(chance.integers(1, head // 4)) * 4
        data[at : at + 4] = struct.pack(
            "<I", int(chance.choice([0, 1, head + 4, 2**31, 2**32 - 1]))
        )
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"chunk-0-0\.bin: cannot be read"):
            use(written)
    path.write_bytes(sound[:-4] + struct.pack("<f", float("nan")))
    with pytest.raises(DataError, match="holds samples that are not numbers"):
        use(written)


def test_names_from_elsewhere_are_shown_as_text(written: Path) -> None:
    escape = "\x1b]0;title\x07\x9b31m\ud800"

    def edit(description: dict[str, Any]) -> None:
        description["clips"][0][0] += escape
        description["notes"] = [escape]
        description["skipped"] = [[escape, escape]]

    change(written / CLIPS, edit)
    store = use(written)
    shown = store.names[0] + store.clip_set.notes[0] + store.skipped[0].reason
    assert "\x1b" not in shown
    assert "title" in shown
    assert shown.encode()
