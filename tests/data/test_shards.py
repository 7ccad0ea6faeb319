"""Shards: what is trained on is what the folder of recordings gives, wherever the shards lie."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from audio_files import contents, cut, noise, save
from mutations import mutated

from wavegen.codecs.mulaw import MuLaw
from wavegen.commands.main import main
from wavegen.data import shard_index, shard_writer, shards
from wavegen.data.batches import TrainingCrops, ValidationWindows
from wavegen.data.cache import digest_of
from wavegen.data.clips import find_clips
from wavegen.data.corpus import Corpus
from wavegen.data.settings import DataSettings
from wavegen.data.shard_writer import write_shards
from wavegen.data.shards import ShardStore
from wavegen.data.store import open_store
from wavegen.errors import AudioFileError, ConfigError, DataError

pytest.importorskip("litdata")

HISTORY = 62


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Items and chunks so small that clips of half a second are in many."""
    for module in (shards, shard_index, shard_writer):
        monkeypatch.setattr(module, "PIECE", 1000)
        monkeypatch.setattr(module, "BEFORE", 100)
    monkeypatch.setattr(shard_writer, "_CHUNK_BYTES", 20_000)
    monkeypatch.setattr(shard_writer, "_PART_BYTES", 40_000)


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    """Twelve recordings of two classes, from 10 samples to a second, and one that is damaged."""
    for number in range(12):
        seconds = [0.00125, 0.1, 0.5, 1.0][number % 4]
        name = f"{'ab'[number % 2]}/{number:02d}.wav"
        save(tmp_path / "voices" / name, noise(seconds, seed=number))
    damaged = save(tmp_path / "voices" / "a" / "damaged.flac", noise(0.9))
    cut(damaged, 0.6)
    return tmp_path / "voices"


@pytest.fixture
def written(voices: Path, tmp_path: Path) -> Path:
    clips = write_shards(find_clips(voices), 8000, str(tmp_path / "out"), progress=False)
    assert [bad.name for bad in clips.skipped] == ["a/damaged.flac"]
    return tmp_path / "out"


def test_shards_know_how_their_folder_was_read(voices: Path, tmp_path: Path) -> None:
    clips = find_clips(voices, DataSettings(("label",), validation_fraction=0.3, trim=40))
    write_shards(clips, 8000, str(tmp_path / "out"), progress=False)
    again = ShardStore(str(tmp_path / "out")).clip_set
    assert again.settings == clips.settings
    found = find_clips(voices, again.settings).without(again.skipped)
    assert [clip.name for clip in found.of("validation")] == [
        clip.name for clip in again.of("validation")
    ]


def corpus_of(store, history: int = HISTORY) -> Corpus:
    labels = np.arange(1, len(store) + 1)[:, None]
    return Corpus(store, labels, history + 1, MuLaw())


def test_shards_hold_what_the_store_holds(voices: Path, written: Path) -> None:
    clips = find_clips(voices)
    store = open_store(clips.clips, 8000, progress=False)
    held = ShardStore(str(written))
    assert held.names == store.names
    assert held.clip_set.attributes == {"label": ("a", "b")}
    assert held.skipped == (*clips.skipped, *store.skipped)
    assert held.clip_set.class_counts("train") == clips.without(store.skipped).class_counts("train")
    np.testing.assert_array_equal(held.lengths, store.lengths)
    for clip in range(len(store)):
        waveform, expected = held.waveform(clip), store.waveform(clip)
        assert len(waveform) == len(expected)
        for part in (slice(None), slice(3, 9), slice(950, 1050), slice(1500, 4100), slice(5, 5)):
            got = waveform[part]
            assert got.dtype == np.float32
            np.testing.assert_array_equal(got, expected[part])
    # Files: chunks of about the size asked for, and what says where everything is.
    names = contents(written)
    assert sum(name.startswith("chunk-") for name in names) > 5
    assert len(names) == sum(name.startswith("chunk-") for name in names) + 3


@pytest.mark.parametrize("history", [10, 62, 300])
def test_training_sees_the_same_batches(voices: Path, written: Path, history: int) -> None:
    """To the last bit; also where a crop's history reaches beyond its item."""
    clips = find_clips(voices)
    one = corpus_of(open_store(clips.clips, 8000, progress=False), history)
    other = corpus_of(ShardStore(str(written)), history)
    training = np.flatnonzero([clip.split == "train" for clip in other.store.clip_set.clips])
    for epoch in range(2):
        both = [TrainingCrops(c, training, 700, 2, 0.3, seed=5) for c in (one, other)]
        assert len(both[0]) == len(both[1]) > 5
        for number in range(len(both[0])):
            for name, value in both[0][epoch, number].items():
                other_value = both[1][epoch, number][name]
                assert torch.equal(torch.as_tensor(value), torch.as_tensor(other_value)), name
    held_out = np.setdiff1d(np.arange(len(one.store)), training)
    for batch, same in zip(
        *(list(map(ValidationWindows(c, held_out).__getitem__, [0])) for c in (one, other)),
        strict=True,
    ):
        for name, value in batch.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(same[name]))


def test_more_than_may_be_kept_is_gone_through_in_windows(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a store that copies: every crop once an epoch, with few chunks here at a time."""
    store = ShardStore(f"local:{written}", str(tmp_path / "cache"), keep=60_000)
    corpus = corpus_of(store)
    fetched: list[int] = []
    fetch = store._downloader.download_chunk_from_index
    monkeypatch.setattr(
        store._downloader,
        "download_chunk_from_index",
        lambda chunk: (fetched.append(chunk), fetch(chunk)),
    )
    crops = TrainingCrops(corpus, np.arange(len(store)), crop=500, batch_size=2)
    orders = []
    for epoch in range(2):
        fetched.clear()
        seen: dict[int, list[int]] = {}
        windows = []
        for number in range(len(crops)):
            batch = crops[epoch, number]
            windows.append(crops._windows[number])
            for targets, clip in zip(batch["targets"], batch["clips"], strict=True):
                seen.setdefault(int(clip), []).extend(targets[targets >= 0].tolist())
            here = len(list(store.folder.glob("*.bin")))
            # The chunks that came last are over the limit until room is made.
            assert here < 60_000 / 20_000 + 3
        assert windows == sorted(windows)
        assert len(set(windows)) > 2
        for clip, length in enumerate(store.lengths):
            assert len(seen[clip]) >= length
        assert sum(map(len, seen.values())) < store.lengths.sum() + 1000
        assert len(fetched) < 5 * len(store._chunks)
        orders.append(fetched[:5])
    assert orders[0] != orders[1], "every epoch takes the chunks in an order of its own"


def test_several_processes_fetch_and_make_room_beside_one_another(
    written: Path, tmp_path: Path
) -> None:
    code = (
        "import sys, numpy as np, wavegen.data.shards as s, wavegen.data.shard_index as i\n"
        "s.PIECE, s.BEFORE, i.PIECE, i.BEFORE = 1000, 100, 1000, 100\n"
        "store = s.ShardStore(sys.argv[1], sys.argv[2], keep=60_000)\n"
        "for clip in np.random.default_rng(int(sys.argv[3])).integers(len(store), size=60):\n"
        "    assert len(store.waveform(clip)[:]) == store.lengths[clip]\n"
    )
    arguments = [f"local:{written}", str(tmp_path / "cache")]
    running = [
        subprocess.Popen([sys.executable, "-c", code, *arguments, str(n)], stderr=subprocess.PIPE)
        for n in range(3)
    ]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()


def test_an_interrupted_writing_goes_on(
    voices: Path, written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "second"
    decoded: list[str] = []
    original = shard_writer.decoded

    def counting(clip, *settings):
        decoded.append(clip.name)
        if len(decoded) == 7:
            raise KeyboardInterrupt
        return original(clip, *settings)

    monkeypatch.setattr(shard_writer, "decoded", counting)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    with pytest.raises(KeyboardInterrupt):
        write_shards(find_clips(voices), 8000, str(place), progress=False)
    assert not (place / shards.CLIPS).exists()
    assert not shards.is_shards(str(place))
    first = set(decoded[:4])
    decoded[:] = ["begun before"] * 7
    write_shards(find_clips(voices), 8000, str(place), progress=False)
    assert not first & set(decoded[7:]), "what was done is not done again"
    assert contents(place) == contents(written)
    for name in contents(place):
        assert (place / name).read_bytes() == (written / name).read_bytes(), name


def test_what_killed_writings_left_is_cleared(
    voices: Path, written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "out2"
    with monkeypatch.context() as patch:
        patch.setattr(shard_writer, "_finish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_shards(find_clips(voices), 8000, str(place), progress=False)
    records = sorted((place / ".parts").glob("*.json"))
    assert len(records) > 3
    # Records are of any other kind, and a part once came to more chunks than now.
    for path, text in zip(records, mutated(json.loads(records[0].read_text()), 4), strict=False):
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
    (place / "chunk-0-99.bin").write_bytes(b"old")
    write_shards(find_clips(voices), 8000, str(place), progress=False)
    assert contents(place) == contents(written)
    for name in contents(place):
        assert (place / name).read_bytes() == (written / name).read_bytes(), name
    # Killed when all was there but for removing what was done.
    (place / ".parts").mkdir()
    (place / ".parts" / "3.json").write_text("{}")
    with pytest.raises(ConfigError, match="already holds files"):
        write_shards(find_clips(voices), 8000, str(place), progress=False)
    assert contents(place) == contents(written)


@pytest.mark.parametrize("remote", [False, True])
def test_a_second_writing_beside_the_first_is_refused(
    voices: Path, written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remote: bool
) -> None:
    place = tmp_path / "second"
    cache = tmp_path / "cache"
    if remote:
        place.mkdir()
        monkeypatch.setattr(shard_writer, "is_remote", lambda _: True)
        monkeypatch.setattr(
            shard_writer, "_sender", lambda _: lambda path: path.rename(place / path.name)
        )
        # What a writing with other settings has left.
        left = cache / f"shards-{digest_of(str(place))}.parts" / "0"
        left.mkdir(parents=True)
        (left.parent / "old").touch()
    clips = find_clips(voices)
    seen: list[str] = []
    original = shard_writer.decoded

    def decoded(clip, *settings):
        with pytest.raises(ConfigError, match="another prepare writes there; wait for it"):
            write_shards(clips, 8000, str(place), cache=str(cache), progress=False)
        seen.append(clip.name)
        return original(clip, *settings)

    monkeypatch.setattr(shard_writer, "decoded", decoded)
    write_shards(clips, 8000, str(place), cache=str(cache), progress=False)
    assert len(seen) == 13
    assert contents(place) == contents(written)
    if remote:
        assert not any(cache.iterdir())
    else:
        with pytest.raises(ConfigError, match="already holds files"):
            write_shards(clips, 8000, str(place), progress=False)


def test_downloads_of_killed_processes_are_removed(written: Path, tmp_path: Path) -> None:
    arguments = f"local:{written}", str(tmp_path / "cache")
    folder = ShardStore(*arguments).folder
    for name, age in (("chunk-0-0.bin.tmp.7", 7200), ("chunk-0-1.bin.tmp.8", 0)):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (time.time() - age,) * 2)
    ShardStore(*arguments)
    assert contents(folder) == ["chunk-0-1.bin.tmp.8", "clips.index.json", "index.json"]


def test_other_settings_begin_anew(voices: Path, tmp_path: Path, monkeypatch) -> None:
    place = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(shard_writer, "_finish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_shards(find_clips(voices), 8000, str(place), progress=False)
    with pytest.raises(ConfigError, match="already holds files; choose another --shards"):
        write_shards(find_clips(voices), 4000, str(place), progress=False)
    shutil.rmtree(place)
    write_shards(find_clips(voices), 4000, str(place), progress=False)
    assert ShardStore(str(place)).sample_rate == 4000


TINY = [
    "--model.network.layers=4",
    "--model.network.stacks=1",
    "--model.network.residual_channels=8",
    "--model.network.gate_channels=16",
    "--model.network.skip_channels=8",
    "--data.crop=500",
    "--data.batch_size=2",
    "--trainer.precision=32-true",
    "--trainer.enable_progress_bar=false",
    "--trainer.accelerator=cpu",
]


def checkpoint(run: Path) -> dict:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_training_goes_on_in_mid_epoch(
    written: Path, voices: Path, tmp_path: Path, workers: int
) -> None:
    """From shards that are fetched: two halves give what the whole gives, to the last bit,
    and both what the folder of recordings gives."""
    place = f"local:{written}"
    limits = [f"--data.num_workers={workers}", "--trainer.max_steps=60", *TINY]
    limits += ["--trainer.val_check_interval=20"]
    whole, halves, folder = (tmp_path / name for name in ("whole", "halves", "folder"))
    assert main(["train", place, "--run", str(whole), *limits]) == 0
    stop = ["--trainer.callbacks+=stopping.StopAt", "--trainer.callbacks.signal=15"]
    assert main(["train", place, "--run", str(halves), *limits, *stop]) == 128 + 15
    assert checkpoint(halves)["global_step"] == 11
    assert main(["train", "--resume", str(halves), "--trainer.callbacks=null"]) == 0
    assert main(["train", str(voices), "--run", str(folder), *limits]) == 0
    expected = checkpoint(whole)
    assert expected["global_step"] == 60
    for other in (checkpoint(halves), checkpoint(folder)):
        for name, value in expected["state_dict"].items():
            assert torch.equal(value, other["state_dict"][name]), name
    figures = [json.loads((run / "best.json").read_text()) for run in (whole, folder)]
    assert figures[0] == figures[1]


def test_the_command_prepares_shards_that_train_takes(
    voices: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    place = str(tmp_path / "out")
    assert main(["prepare", str(voices), "--shards", place]) == 0
    assert "x real time" in capsys.readouterr().out
    assert main(["prepare", str(voices), "--shards", place]) == 2
    assert "already holds files; choose another --shards" in capsys.readouterr().err
    run = ["--run", str(tmp_path / "run"), "--trainer.max_steps=2", *TINY]
    # What agrees with them may be said.
    agreed = ["--data.sample_rate=8000", "--data.labels=[label]"]
    assert main(["train", place, *agreed, *run]) == 0
    assert "left out: 1 file" in capsys.readouterr().out
    for option in ("sample_rate=4000", "labels=[digit]", "trim=30", "label_pattern=x"):
        assert main(["train", place, f"--data.{option}", *TINY]) == 2
        assert "settled when the shards were written" in capsys.readouterr().err


def test_the_command_prepares_what_train_finds(
    voices: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    store = str(tmp_path / "store")
    assert main(["prepare", str(voices), "--data.store", store]) == 0
    before = {path: path.stat().st_mtime_ns for path in Path(store).rglob("audio-*")}
    assert before
    capsys.readouterr()
    run = ["--run", str(tmp_path / "run"), "--trainer.max_steps=1", *TINY]
    assert main(["train", str(voices), "--data.store", store, *run]) == 0
    assert "decoding" not in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in Path(store).rglob("audio-*")}


def test_a_bad_clip_can_stop_it(voices: Path, tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match=r"damaged\.flac"):
        write_shards(
            find_clips(voices), 8000, str(tmp_path / "out"), on_bad_file="fail", progress=False
        )
    assert not shards.is_shards(str(tmp_path / "out"))


def drop_chunk(folder: Path) -> None:
    next(folder.glob("chunk-*")).unlink()


def cut_chunk(folder: Path) -> None:
    cut(next(folder.glob("chunk-*")))


def spoil(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text("{")


@pytest.mark.parametrize(
    "damage", [drop_chunk, cut_chunk, spoil(shards.CLIPS), spoil(shards.INDEX)]
)
@pytest.mark.parametrize(("remote", "workers"), [(False, 0), (True, 0), (True, 1)])
def test_damage_is_one_line(
    written: Path, damage, remote: bool, workers: int, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Every damage is told before or as it is read; sound copies are trained on above."""
    copy = tmp_path / "copy"
    shutil.copytree(written, copy)
    damage(copy)
    place = f"local:{copy}" if remote else str(copy)
    started = time.monotonic()
    run = ["--run", str(tmp_path / "run"), "--trainer.max_steps=30", *TINY]
    status = main(["train", place, f"--data.num_workers={workers}", *run])
    assert time.monotonic() - started < 30
    errors = capsys.readouterr().err
    assert status == 2
    assert str(copy) in errors
    assert "Traceback" not in errors
    assert len([line for line in errors.splitlines() if line.startswith("wavegen:")]) == 1


def test_shards_that_were_prepared_again_are_fetched_again(
    voices: Path, written: Path, tmp_path: Path
) -> None:
    """As many samples in files of the same names, and not one of them as before."""

    def heard() -> list[np.ndarray]:
        store = ShardStore(f"local:{written}", str(tmp_path / "cache"))
        return [np.array(store.waveform(clip)[:]) for clip in range(len(store))]

    before = heard()
    for path in voices.rglob("*.wav"):
        wave, rate = soundfile.read(path)
        soundfile.write(path, -wave, rate)
    shutil.rmtree(written)
    write_shards(find_clips(voices), 8000, str(written), progress=False)
    after = heard()
    assert len(after) == len(before) > 10
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(other, -one, atol=1e-3)
    assert any(np.abs(wave).max() > 0.01 for wave in after)


def test_what_is_not_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["train", f"local:{tmp_path}/nothing", *TINY]) == 2
    assert "cannot be used" in capsys.readouterr().err
    assert main(["train", "ftp://nothing/here", *TINY]) == 2
    assert "wavegen: ftp://nothing/here: " in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "litdata", None)
    assert main(["train", "s3://nothing/here", *TINY]) == 2
    assert "pip install litdata" in capsys.readouterr().err


def test_nothing_to_write_is_no_shards(tmp_path: Path) -> None:
    for number in range(3):
        cut(save(tmp_path / "voices" / f"{number}.flac", noise(0.9)), 0.3)
    with pytest.raises(DataError, match="none of 3 clips can be decoded"):
        write_shards(find_clips(tmp_path / "voices"), 8000, str(tmp_path / "out"), progress=False)
