import errno
import json
import os
import pickle
import resource
import subprocess
import sys
import time
from pathlib import Path

import audio_files as odd
import mutations
import numpy as np
import pytest

from wavegen.audio import reading
from wavegen.codecs import mulaw
from wavegen.commands.main import main
from wavegen.data import decoding, store_folders
from wavegen.data.clips import Clip, find_clips
from wavegen.data.store import AudioStore, open_store
from wavegen.errors import AudioFileError, ConfigError, DataError, OutputError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three clips, one of them in stereo at another rate."""
    folder = tmp_path / "data"
    odd.save(folder / "a.wav", odd.noise(0.5, seed=1))
    odd.save(folder / "b.flac", np.stack([odd.noise(1.0, 16_000, s) for s in (2, 3)], 1), 16_000)
    odd.save(folder / "c.ogg", odd.noise(0.25, seed=4))
    return folder


def clips(data: Path) -> tuple[Clip, ...]:
    return find_clips(data).clips


def stores(cache: Path) -> list[Path]:
    return [path.parent for path in cache.glob("*/*/index.json")]


def decodings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files decoded from here on."""
    decoded: list[str] = []
    blocks = reading.blocks

    def counted(path: Path, sample_rate: int | None = None) -> object:
        decoded.append(path.name)
        return blocks(path, sample_rate)

    monkeypatch.setattr(reading, "blocks", counted)
    return decoded


def test_the_store_holds_what_reading_gives(tmp_path: Path, data: Path) -> None:
    found = clips(data)
    store = open_store(found, 8000, folder=tmp_path / "cache")
    assert store.names == ("a.wav", "b.flac", "c.ogg")
    assert store.sample_rate == 8000
    assert len(store) == 3
    np.testing.assert_array_equal(store.lengths, [4000, 8000, 2000])
    np.testing.assert_array_equal(store.offsets, [0, 4000, 12_000])
    for i, clip in enumerate(found):
        waveform = store.waveform(i)
        assert waveform.dtype == np.float32
        np.testing.assert_array_equal(waveform, reading.read(clip.path, 8000))
        assert not waveform.flags.owndata
        assert not waveform.flags.writeable


def test_a_second_run_decodes_nothing(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_store(clips(data), 8000, folder=tmp_path / "cache")
    decoded = decodings(monkeypatch)
    second = open_store(clips(data), 8000, folder=tmp_path / "cache")
    assert decoded == []
    np.testing.assert_array_equal(first.waveform(1), second.waveform(1))


def test_a_changed_file_is_noticed_and_replaces_the_store(
    tmp_path: Path, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    cache = tmp_path / "cache"
    old = open_store(clips(data), 8000, folder=cache)
    before = old.waveform(2).copy()
    odd.save(data / "a.wav", odd.noise(0.75, seed=9))
    odd.save(data / "d.wav", odd.noise(0.1))
    assert not caplog.messages
    store = open_store(clips(data), 8000, folder=cache)
    assert "2 audio files are new, gone or changed" in caplog.text
    np.testing.assert_array_equal(store.lengths, [6000, 8000, 2000, 800])
    # Who still has the old one open keeps it, and so do its workers.
    np.testing.assert_array_equal(old.waveform(2), before)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(old)).waveform(2), before)
    folder = old.folder
    del old
    odd.save(data / "a.wav", odd.noise(0.5, seed=10))
    last = open_store(clips(data), 8000, folder=cache)
    assert not folder.exists()
    assert sorted(stores(cache)) == sorted([store.folder, last.folder])


def test_a_change_that_keeps_the_size_is_noticed(tmp_path: Path, data: Path) -> None:
    open_store(clips(data), 8000, folder=tmp_path / "cache")
    path = odd.save(data / "a.wav", odd.noise(0.5, seed=9))
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    store = open_store(clips(data), 8000, folder=tmp_path / "cache")
    np.testing.assert_array_equal(store.waveform(0), reading.read(path))


def test_other_data_rates_and_trims_do_not_replace_each_other(tmp_path: Path, data: Path) -> None:
    cache = tmp_path / "cache"
    found = clips(data)
    open_store(found, 8000, folder=cache)
    open_store(found, 16_000, folder=cache)
    open_store(found, 8000, trim=20, folder=cache)
    open_store(found[:1], 8000, folder=cache / "other")
    odd.save(tmp_path / "more" / "a.wav")
    open_store(clips(tmp_path / "more"), 8000, folder=cache)
    assert len(stores(cache)) == 4
    assert len(stores(cache / "other")) == 1


def test_disjoint_parts_of_one_folder_live_side_by_side(tmp_path: Path, data: Path) -> None:
    cache = tmp_path / "cache"
    found = clips(data)
    open_store(found[:2], 8000, folder=cache)
    open_store(found[2:], 8000, folder=cache)
    assert len(stores(cache)) == 2


def test_the_order_of_the_clips_is_that_of_the_store(tmp_path: Path, data: Path) -> None:
    found = clips(data)
    open_store(found, 8000, folder=tmp_path / "cache")
    store = open_store(found[::-1], 8000, folder=tmp_path / "cache")
    assert store.names == ("c.ogg", "b.flac", "a.wav")
    assert list(store.lengths) == [2000, 8000, 4000]


def test_the_same_files_under_other_names_are_not_confused(tmp_path: Path) -> None:
    odd.save(tmp_path / "data" / "dog" / "a.wav")
    cache = tmp_path / "cache"
    assert open_store(clips(tmp_path / "data"), 8000, folder=cache).names == ("dog/a.wav",)
    assert open_store(clips(tmp_path / "data" / "dog"), 8000, folder=cache).names == ("a.wav",)


def test_trimming_is_done_on_the_way_in(tmp_path: Path) -> None:
    silence = np.zeros(8000, np.float32)
    odd.save(tmp_path / "data" / "a.wav", np.concatenate([silence, odd.noise(1.0), silence]))
    found = clips(tmp_path / "data")
    store = open_store(found, 8000, trim=30, folder=tmp_path / "cache")
    assert 8000 <= store.lengths[0] < 13_000
    np.testing.assert_array_equal(
        store.waveform(0), decoding.trim_ends(reading.read(found[0].path), 30)
    )


def test_a_file_that_fails_in_decoding_is_left_out_whole(tmp_path: Path, data: Path) -> None:
    # Damaged near its end, so that a good part of it is decoded before.
    long = np.tile(odd.noise(1.0), 60)
    odd.cut(odd.save(data / "aa.flac", long), 0.95)
    found = clips(data)
    assert len(found) == 4
    store = open_store(found, 8000, folder=tmp_path / "cache")
    assert store.names == ("a.wav", "b.flac", "c.ogg")
    (left_out,) = store.skipped
    assert left_out.name == "aa.flac"
    assert left_out.reason.startswith("is cut short")
    np.testing.assert_array_equal(store.waveform(1), reading.read(data / "b.flac", 8000))
    assert (store.folder / "audio-00000.f32").stat().st_size == 14_000 * 4
    # The store is there now; whoever wants to stop at a bad file still does.
    with pytest.raises(AudioFileError, match=r"data/aa\.flac: is cut short"):
        open_store(found, 8000, folder=tmp_path / "cache", on_bad_file="fail")


def test_failing_leaves_no_store(tmp_path: Path, data: Path) -> None:
    odd.cut(odd.save(data / "d.flac", odd.noise(4.0)))
    cache = tmp_path / "cache"
    with pytest.raises(AudioFileError, match=r"d\.flac: is cut short"):
        open_store(clips(data), 8000, folder=cache, on_bad_file="fail")
    assert list(cache.glob("*/*")) == []


def test_no_clip_that_can_be_decoded_is_a_data_error(tmp_path: Path) -> None:
    odd.cut(odd.save(tmp_path / "data" / "a.flac", odd.noise(4.0)))
    with pytest.raises(DataError, match=r"none of 1 clips can be decoded; a\.flac is cut short"):
        open_store(clips(tmp_path / "data"), 8000, folder=tmp_path / "cache")
    with pytest.raises(DataError, match="none of 0 clips"):
        open_store([], 8000, folder=tmp_path / "cache")
    assert list((tmp_path / "cache").glob("*/*")) == []


def test_settings_out_of_range_are_config_errors(tmp_path: Path, data: Path) -> None:
    with pytest.raises(ConfigError, match="sample_rate"):
        open_store(clips(data), 1, folder=tmp_path / "cache")
    with pytest.raises(ConfigError, match="trim"):
        open_store(clips(data), 8000, trim=-1, folder=tmp_path / "cache")


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("audio-00000.f32", lambda path: odd.cut(path)),
        ("audio-00000.f32", lambda path: path.write_bytes(b"")),
        ("audio-00000.f32", lambda path: path.unlink()),
        ("index.json", lambda path: odd.cut(path)),
        ("index.json", lambda path: path.write_text("{}")),
        ("index.json", lambda path: path.write_text("[]")),
    ],
)
def test_a_damaged_store_is_made_again(
    tmp_path: Path, data: Path, file: str, damage: object
) -> None:
    cache = tmp_path / "cache"
    folder = open_store(clips(data), 8000, folder=cache).folder
    damage(folder / file)  # type: ignore[operator]
    store = open_store(clips(data), 8000, folder=cache)
    np.testing.assert_array_equal(store.waveform(2), reading.read(data / "c.ogg"))
    assert odd.contents(folder.parent) == [folder.name]


@pytest.mark.parametrize("file", ["index.json", "audio-00000.f32"])
def test_any_other_store_is_made_again(tmp_path: Path, data: Path, file: str) -> None:
    """Of other types, sizes or lengths; a pipe, a device, a folder instead of a file."""
    cache, found = tmp_path / "cache", clips(data)
    folder = open_store(found, 8000, folder=cache, progress=False).folder
    path = folder / file

    def sound() -> None:
        store = open_store(found, 8000, folder=cache, progress=False)
        assert [len(store.waveform(clip)) for clip in range(3)] == [4000, 8000, 2000]

    if file == "index.json":
        for text in mutations.mutated(json.loads(path.read_text()), 20):
            path.write_text(text, encoding="utf-8", errors="surrogatepass")
            sound()
    for _ in mutations.no_file(path):
        sound()


def test_a_store_of_damaged_samples_is_one_line(tmp_path: Path, data: Path) -> None:
    store = open_store(clips(data), 8000, folder=tmp_path / "cache")
    odd.patch(store.folder / "audio-00000.f32", 400, np.full(9, np.nan, np.float32).tobytes())
    again = open_store(clips(data), 8000, folder=tmp_path / "cache")
    with pytest.raises(DataError, match="remove the store"):
        mulaw.encode(again.waveform(0))


def test_any_other_record_of_an_interrupted_run_is_made_again(tmp_path: Path, data: Path) -> None:
    found, folder = clips(data), tmp_path / "part"
    folder.mkdir()
    sound = decoding.decode(found, 8000, None, folder, "skip", False)
    path = folder / "audio-00000.json"
    for text in mutations.mutated(json.loads(path.read_text()), 40):
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        again = decoding.decode(found, 8000, None, folder, "skip", False)
        assert [(each.names, sum(each.lengths)) for each in again] == [
            (each.names, sum(each.lengths)) for each in sound
        ]


KILL = """
import sys, time
from wavegen.audio import reading
from wavegen.commands import main
blocks = reading.blocks
def stuck(path, *rate):
    for block in blocks(path, *rate):
        yield block
        if path.name == sys.argv[1]:
            print("decoding", flush=True)
            time.sleep(600)
reading.blocks = stuck
main.main(sys.argv[2:])
"""


@pytest.mark.parametrize("shards", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_prepare_killed_leaves_nothing_in_the_finished_store(
    tmp_path: Path, data: Path, shards: bool
) -> None:
    """kill -9 in mid-decoding, three times, then a run to the end."""
    if shards:
        pytest.importorskip("litdata")
    cache, place = tmp_path / "cache", tmp_path / "out"
    arguments = ["prepare", str(data), "--data.store", str(cache)]
    arguments += ["--data.sample_rate", "8000", *(["--shards", str(place)] if shards else [])]
    for name in ("b.flac", "c.ogg"):
        command = [sys.executable, "-c", KILL, name, *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "decoding\n"
            process.kill()
    if not shards:
        assert list(cache.glob("*/.*.part/.*.part"))
    assert main(arguments) == 0
    if shards:
        names = odd.contents(place)
        assert names[:2] == ["chunk-0-0.bin", "clips.index.json"]
        assert names[2].startswith("figures-256-")
        assert names[3:] == ["index.json"]
    else:
        (folder,) = stores(cache)
        assert odd.contents(folder) == ["audio-00000.f32", "index.json"]
        assert odd.contents(folder.parent) == [folder.name]


def test_an_interrupted_run_is_gone_on_with(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing half-written is seen, and nothing that was whole is decoded again."""
    cache = tmp_path / "cache"
    monkeypatch.setattr(decoding, "_SHARD_BYTES", 1)
    blocks = reading.blocks

    def interrupted(path: Path, sample_rate: int | None = None) -> object:
        assert stores(cache) == []
        if path.name == "c.ogg":
            raise KeyboardInterrupt
        return blocks(path, sample_rate)

    with monkeypatch.context() as patch:
        patch.setattr(reading, "blocks", interrupted)
        with pytest.raises(KeyboardInterrupt):
            open_store(clips(data), 8000, folder=cache)
    assert stores(cache) == []
    decoded = decodings(monkeypatch)
    store = open_store(clips(data), 8000, folder=cache)
    assert decoded == ["c.ogg"]
    for number, clip in enumerate(clips(data)):
        np.testing.assert_array_equal(store.waveform(number), reading.read(clip.path, 8000))
    assert odd.contents(store.folder.parent) == [store.folder.name]
    assert odd.contents(store.folder) == [
        *(f"audio-0000{number}.f32" for number in range(3)),
        "index.json",
    ]


def test_figures_are_computed_once(tmp_path: Path, data: Path) -> None:
    store = open_store(clips(data), 8000, folder=tmp_path / "cache")
    one, two = ({"order0_bits": bits, "clamped": 0} for bits in (3.5, 4))
    assert store.figures("some", lambda: one) == one
    assert store.figures("some", lambda: two) == one
    assert store.figures("other", lambda: two) == two
    damaged = ["{", "{}", "[" * 100_000, json.dumps({**one, "order0_bits": "high"})]
    damaged += [json.dumps({**one, "order0_bits": float("nan")}), "1" * 10_000, '"\\ud800"']
    for text in damaged:
        (store.folder / "some.json").write_text(text)
        assert store.figures("some", lambda: two) == two
        assert store.figures("some", lambda: one) == two
    assert len(open_store(clips(data), 8000, folder=tmp_path / "cache")) == 3


def test_shards_hold_whole_clips_in_order(tmp_path: Path, monkeypatch) -> None:
    """Of any size, with bad clips among them: also a shard of none but bad ones."""
    rng = np.random.default_rng(0)
    for number in range(12):
        path = odd.save(tmp_path / "data" / f"{number:02}.flac", odd.noise(rng.uniform(0.1, 1)))
        if number in (3, 4, 7):
            odd.cut(path)
    good = [clip for clip in clips(tmp_path / "data") if clip.name[:2] not in ("03", "04", "07")]
    for size in (1, 30_000, 1 << 30):
        monkeypatch.setattr(decoding, "_SHARD_BYTES", size)
        store = open_store(clips(tmp_path / "data"), 8000, folder=tmp_path / str(size))
        assert len(store.skipped) == 3
        assert list(store.names) == [clip.name for clip in good]
        for number, clip in enumerate(good):
            np.testing.assert_array_equal(store.waveform(number), reading.read(clip.path, 8000))


def test_what_a_killed_run_left_is_removed_after_a_week(tmp_path: Path, data: Path) -> None:
    cache = tmp_path / "cache"
    parent = open_store(clips(data), 8000, folder=cache).folder.parent
    for name, age in ((".old.part", 8), (".fresh.part", 0)):
        file = parent / name / "audio-00000.f32"
        file.parent.mkdir()
        file.write_bytes(b"half")
        for path in (file, file.parent):
            os.utime(path, (time.time() - age * 86_400,) * 2)
    odd.save(data / "d.wav")
    (first,) = stores(cache)
    store = open_store(clips(data), 8000, folder=cache)
    assert odd.contents(parent) == sorted([".fresh.part", first.name, store.folder.name])


USE = """
import sys
from wavegen.data.clips import find_clips
from wavegen.data.store import open_store
store = open_store(find_clips(sys.argv[1]).clips, 8000, folder=sys.argv[2], progress=False)
print(store.folder, flush=True)
sys.stdin.read()
"""


def test_a_store_that_another_process_has_open_stays(tmp_path: Path, data: Path) -> None:
    cache = tmp_path / "cache"
    command = [sys.executable, "-c", USE, str(data), str(cache)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:  # type: ignore[call-overload]
        folder = Path(process.stdout.readline().strip())
        for seed in (5, 6):
            odd.save(data / "a.wav", odd.noise(0.5, seed=seed))
            open_store(clips(data), 8000, folder=cache)
        os.utime(folder / "index.json", (0, 0))
        odd.save(data / "a.wav", odd.noise(0.5, seed=7))
        open_store(clips(data), 8000, folder=cache)
        assert len(AudioStore(folder)) == 3
        process.kill()
    odd.save(data / "a.wav", odd.noise(0.5, seed=8))
    last = open_store(clips(data), 8000, folder=cache)
    assert stores(cache) == [last.folder]


def test_stores_of_some_of_the_files_go_when_nobody_used_them_for_a_week(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, found = tmp_path / "cache", clips(data)
    folders = [open_store(part, 8000, folder=cache).folder for part in (found, found[:2])]
    decoded = decodings(monkeypatch)
    for part in (found, found[:2]):
        open_store(part, 8000, folder=cache)
    assert decoded == []
    for folder, days in zip(folders, (6, 8), strict=True):
        os.utime(folder / "index.json", (time.time() - days * 86_400,) * 2)
    last = open_store(found[:1], 8000, folder=cache)
    assert sorted(stores(cache)) == sorted([folders[0], last.folder])
    assert len(odd.contents(last.folder.parent)) == 2


def test_without_locks_nothing_is_removed(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(store_folders.fcntl, "flock", no_locks)
    cache = tmp_path / "cache"
    old = open_store(clips(data), 8000, folder=cache)
    odd.save(data / "a.wav", odd.noise(0.5, seed=9))
    store = open_store(clips(data), 8000, folder=cache)
    assert sorted(stores(cache)) == sorted([old.folder, store.folder])


def test_where_there_is_no_fcntl_stores_are_made_and_replaced(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, but that a folder of open files can be renamed here."""
    monkeypatch.setattr(store_folders, "fcntl", None)
    cache = tmp_path / "cache"
    open_store(clips(data), 8000, folder=cache)
    odd.save(data / "a.wav", odd.noise(0.5, seed=9))
    store = open_store(clips(data), 8000, folder=cache)
    assert stores(cache) == [store.folder]


BUILD = """
import sys
from pathlib import Path
from wavegen.audio import reading
from wavegen.data.clips import find_clips
from wavegen.errors import OutputError
from wavegen.data.store import open_store
try:
    store = open_store(find_clips(sys.argv[1]).clips, 8000, folder=sys.argv[2], progress=False)
    print(float(store.waveform(1).sum()), *store.lengths)
except OutputError as error:
    print(error)
"""


def test_processes_that_build_at_once_agree(tmp_path: Path) -> None:
    data, cache = tmp_path / "data", tmp_path / "cache"
    for i in range(30):
        odd.save(data / f"{i:02}.wav", odd.noise(1.0, seed=i))
    command = [sys.executable, "-c", BUILD, str(data), str(cache)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = {process.communicate()[0] for process in running}
    assert [process.returncode for process in running] == [0] * 4
    expected = reading.read(data / "01.wav").sum()
    assert said == {f"{float(expected)} {' '.join(['8000'] * 30)}\n"}
    (folder,) = stores(cache)
    assert odd.contents(folder.parent) == [folder.name]


def test_a_full_disk_is_an_output_error_that_names_the_option(tmp_path: Path) -> None:
    data, cache = tmp_path / "data", tmp_path / "cache"
    odd.save(data / "a.wav", odd.noise(5.0))
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(data), str(cache)],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )
    assert done.stdout.startswith(f"{cache}: cannot keep the decoded audio there")
    assert "--data.store" in done.stdout
    assert done.stdout.count("\n") == 1
    assert list(cache.glob("*/*")) == []


def test_a_cache_that_cannot_be_written_is_an_output_error(tmp_path: Path, data: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/cache: .*Not a directory.*--data\.store"):
        open_store(clips(data), 8000, folder=tmp_path / "file" / "cache")


def test_a_pickled_store_is_small_and_the_same(tmp_path: Path, data: Path) -> None:
    store = open_store(clips(data), 8000, folder=tmp_path / "cache")
    pickled = pickle.dumps(store)
    assert len(pickled) < 1000
    again = pickle.loads(pickled)
    assert isinstance(again, AudioStore)
    np.testing.assert_array_equal(again.waveform(1), store.waveform(1))


def test_the_default_place_follows_the_environment(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("WAVEGEN_CACHE", raising=False)
    assert open_store(clips(data), 8000).folder.is_relative_to(tmp_path / "xdg" / "wavegen")
    monkeypatch.setenv("WAVEGEN_CACHE", str(tmp_path / "own"))
    assert open_store(clips(data), 8000).folder.is_relative_to(tmp_path / "own")


def test_progress_goes_to_stderr_unless_it_is_off(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    open_store(clips(data), 8000, folder=tmp_path / "a", progress=False)
    assert capsys.readouterr() == ("", "")
    open_store(clips(data), 8000, folder=tmp_path / "b")
    out, err = capsys.readouterr()
    assert out == ""
    assert "decoding" in err


def test_names_that_are_not_utf8_are_stored(tmp_path: Path) -> None:
    odd.rename_to_bytes(odd.save(tmp_path / "data" / "a.wav"), b"\xff.wav")
    store = open_store(clips(tmp_path / "data"), 8000, folder=tmp_path / "cache")
    assert store.lengths[0] == 4000
    json.loads((store.folder / "index.json").read_text(encoding="utf-8"))
