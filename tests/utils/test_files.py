"""Contract C8: files appear whole."""

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wavegen.errors import ModelError, OutputError
from wavegen.utils import files
from wavegen.utils.files import (
    appearing_whole,
    file_sha256,
    make_folder,
    read_json,
    write_json,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with appearing_whole(target) as file:
        file.write(b"new")
        assert target.read_text() == "old"
        assert Path(file.name).parent == target.parent
    assert target.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_an_error_leaves_everything_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail_halfway() -> None:
        with appearing_whole(target) as file:
            file.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        fail_halfway()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


# Says when half of a file is there, and then waits for a line.
WRITER = """
import sys
from wavegen.utils.files import appearing_whole
with appearing_whole(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    print("half", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen]]:
    """Begins processes that write half of `a.txt`."""
    begun: list[subprocess.Popen] = []

    def one() -> subprocess.Popen:
        command = [sys.executable, "-c", WRITER, str(tmp_path / "a.txt")]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        begun.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        return process

    yield one
    for process in begun:
        process.kill()
        process.communicate()


def test_what_the_killed_leave_is_removed_and_what_is_being_written_is_not(
    tmp_path: Path, begin
) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    killed, living = begin(), begin()
    assert len(names(tmp_path)) == 3
    killed.kill()
    killed.wait()
    assert target.read_text() == "old"
    make_folder(tmp_path)
    assert len(names(tmp_path)) == 2
    living.communicate("go on\n")
    assert living.returncode == 0
    assert target.read_text() == "half"
    assert names(tmp_path) == ["a.txt"]


def test_only_temporary_files_are_removed(tmp_path: Path) -> None:
    for name in ("a.part", ".a.part", ".a.b.part", ".a.12ab34cd", "b.12ab34cd.part"):
        (tmp_path / name).write_text("")
    (tmp_path / ".store.12ab34cd.part").mkdir()
    (tmp_path / ".link.12ab34cd.part").symlink_to("a.part")
    os.mkfifo(tmp_path / ".pipe.12ab34cd.part")
    kept = names(tmp_path)
    # Version 0.1.0 called them by the number of the process.
    for name in (".a.txt.12ab34cd.part", ".a.txt.4711.part", ".two\nlines.12ab34cd.part"):
        (tmp_path / name).write_text("")
    make_folder(tmp_path)
    assert names(tmp_path) == kept


def test_a_file_that_is_taken_for_debris_before_its_lock_is_made_again(
    tmp_path: Path, monkeypatch
) -> None:
    flock, calls = fcntl.flock, []

    def late(file, how: int) -> None:
        calls.append(file.name)
        if len(calls) == 1:
            Path(file.name).unlink()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    write_text(tmp_path / "a.txt", "text")
    assert len(calls) == 2
    assert names(tmp_path) == ["a.txt"]


def test_without_locks_files_are_written_and_none_is_removed(tmp_path: Path, monkeypatch) -> None:
    def none(file, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    (tmp_path / ".b.txt.12ab34cd.part").write_text("")
    write_text(make_folder(tmp_path) / "a.txt", "text")
    assert names(tmp_path) == [".b.txt.12ab34cd.part", "a.txt"]


def test_windows_has_no_locks_opens_no_folder_and_renames_no_open_file(
    tmp_path: Path, monkeypatch
) -> None:
    real_open, replace = os.open, Path.replace

    def windows_open(path, flags: int, *rest) -> int:
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real_open(path, flags, *rest)

    def windows_replace(self: Path, target: Path) -> Path:
        opened = {each.resolve() for each in Path("/proc/self/fd").iterdir()}
        assert self.resolve() not in opened
        return replace(self, target)

    monkeypatch.setattr(files, "fcntl", None)
    monkeypatch.setattr(os, "open", windows_open)
    monkeypatch.setattr(Path, "replace", windows_replace)
    (tmp_path / ".b.txt.12ab34cd.part").write_text("")
    write_text(make_folder(tmp_path) / "a.txt", "text")
    files.flush(tmp_path / "a.txt")
    assert names(tmp_path) == ["a.txt"]


def test_it_is_flushed_before_it_is_renamed(tmp_path: Path, monkeypatch) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def watched_fsync(descriptor: int) -> None:
        events.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    def watched_replace(self: Path, target: Path) -> Path:
        events.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(Path, "replace", watched_replace)
    write_text(tmp_path / "a.txt", "text")
    assert len(events) == 3
    assert events[0].endswith(".part")
    assert events[1:] == ["rename", str(tmp_path)]


def test_no_room_on_the_disk_is_one_clear_line(tmp_path: Path) -> None:
    program = (
        "import resource, signal, sys\n"
        "from wavegen.errors import OutputError\n"
        "from wavegen.utils.files import write_text\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    write_text(sys.argv[1], 'x' * 5000)\n"
        "except OutputError as error:\n"
        "    print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "a.txt")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "a.txt: cannot be written" in run.stdout
    assert names(tmp_path) == []


def test_a_place_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        make_folder(tmp_path / "file" / "folder")
    with pytest.raises(OutputError, match="cannot be written"):
        write_json(tmp_path / "file" / "a.json", {})
    with pytest.raises(OutputError, match="cannot be written"):
        write_json(tmp_path / "missing" / "a.json", {})


def test_the_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a", ModelError).startswith("ba7816bf8f01cfea")


def test_json_holds_paths_of_any_bytes(tmp_path: Path) -> None:
    value = {"a": os.fsdecode(b"caf\xe9/\\"), "b": "\ud83d", "c": "ü\U0001f600"}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json", ModelError) == value
    assert "ü\U0001f600" in (tmp_path / "a.json").read_text(encoding="utf-8")
    with pytest.raises(ModelError, match="cannot be read"):
        read_json("a\0b", ModelError)
