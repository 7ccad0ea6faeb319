"""Searches a folder for audio files, and lists the files left out."""

import os
import posixpath
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wavegen.audio.reading import AUDIO_SUFFIXES
from wavegen.data.metadata import METADATA
from wavegen.errors import DataError, WavegenError
from wavegen.utils.text import display, writable

OnBadFile = Literal["skip", "fail"]


@dataclass(frozen=True)
class Skipped:
    """A file left out.

    Args:
        name: path of the file below the folder, printable.
        reason: text that continues the name: "is cut short (...)".
        there: whether the file was not opened, since metadata, a label pattern or split folders
            leave it out.
        split: split of the file, if metadata or a folder gives it.
    """

    name: str
    reason: str
    there: bool = False
    split: str | None = None


class LeftOut:
    """Collects the files left out, or raises at the first one."""

    def __init__(self, root: Path, on_bad_file: OnBadFile) -> None:
        self._root = root
        self._fail = on_bad_file == "fail"
        self.skipped: list[Skipped] = []

    def add(
        self,
        name: str,
        reason: str,
        kind: type[WavegenError] = DataError,
        *,
        there: bool = False,
        split: str | None = None,
    ) -> None:
        """Leave out `name`, a path below the root, or raise `kind`; see `Skipped` for the rest."""
        if self._fail:
            path = self._root / name
            raise kind(f"{display(path)}: {reason}", path=path, reason=reason)
        self.skipped.append(Skipped(writable(name), reason, there, split))


def audio_files(folder: str | os.PathLike[str]) -> tuple[list[Path], list[Skipped]]:
    """Every audio file below `folder`, sorted, and the folders that could not be opened.

    Raises:
        DataError: the folder cannot be opened, or there is no audio in it.
    """
    root = Path(folder)
    left_out = LeftOut(root, "skip")
    names, _ = walk(root, left_out)
    return [root / name for name in names], left_out.skipped


def walk(root: Path, left_out: LeftOut, skip_runs: bool = False) -> tuple[list[str], list[str]]:
    """Return the audio files below `root` as sorted relative paths with `/`, and remarks.

    Args:
        root: the folder to search.
        left_out: collects what cannot be opened.
        skip_runs: skip run folders of wavegen below `root`, whose audio is generated.

    Raises:
        DataError: `root` cannot be opened, or there is no audio in it.
    """
    _check_folder(root)
    folders = _Folders(root, left_out)
    runs: list[str] = []
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        entries = folders.opened(prefix)
        if entries is None:
            continue
        if skip_runs and prefix and _is_run({entry.name for entry in entries}):
            runs.append(display(prefix))
            continue
        waiting += folders.take(prefix, entries)
    notes = folders.notes
    if runs:
        more = f" and {len(runs) - 5} more" if len(runs) > 5 else ""
        notes.append(f"run folders of wavegen are not read: {', '.join(runs[:5])}{more}")
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in folders.others.most_common(5))
    if not folders.audio:
        closed = [f"{one.name} {one.reason}" for one in left_out.skipped]
        why = [*closed, *(notes[-1:] if runs else []), kinds or "no files"][0]
        raise DataError(
            f"{display(root)}: no audio in it ({why}); give a folder with"
            f" {' '.join(AUDIO_SUFFIXES)} files"
        )
    if folders.others:
        total = folders.others.total()
        notes.append(f"{count(total, 'file')} of other types skipped: {kinds}")
    return sorted(folders.audio), notes


class _Folders:
    """Opens folders, each once, and sorts their contents.

    Args:
        root: folder above all of them; their paths are relative to it, with `/`.
        left_out: collects what cannot be opened.

    Attributes:
        audio: the audio files.
        others: number of files of each other suffix.
        notes: remarks on folders that links lead to again.
    """

    def __init__(self, root: Path, left_out: LeftOut) -> None:
        self._root, self._left_out = root, left_out
        self._seen: set[tuple[int, int]] = set()
        self.audio: list[str] = []
        self.others: Counter[str] = Counter()
        self.notes: list[str] = []

    def opened(self, prefix: str) -> list[os.DirEntry[str]] | None:
        """The entries of a folder in descending order; None if it was read before or cannot be."""
        try:
            status = (self._root / prefix).stat()
            if (status.st_dev, status.st_ino) in self._seen:
                self.notes.append(
                    f"{display(prefix)} leads to a folder already read: not read again"
                )
                return None
            self._seen.add((status.st_dev, status.st_ino))
            with os.scandir(self._root / prefix) as scan:
                return sorted(scan, key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            reason = f"cannot be opened ({error.strerror}); allow reading it"
            self._left_out.add(prefix or ".", reason)
            return None

    def take(self, prefix: str, entries: Iterable[os.DirEntry[str]]) -> Iterator[str]:
        """Add the files of a folder; yield the folders in it."""
        for entry in entries:
            name = posixpath.join(prefix, entry.name)
            suffix = posixpath.splitext(entry.name)[1].lower()
            if entry.name.startswith("."):
                continue
            try:
                folder = _is_folder(entry)
            except OSError as error:
                reason = f"cannot be looked at ({error.strerror}); allow reading it"
                self._left_out.add(name, reason)
                continue
            if folder:
                yield name
            elif suffix in AUDIO_SUFFIXES:
                self.audio.append(name)
            elif entry.name not in METADATA:
                self.others[display(suffix) or "without suffix"] += 1


def _is_folder(entry: os.DirEntry[str]) -> bool:
    # For a link that leads to itself the entry would raise an error, and the path returns False.
    return Path(entry.path).is_dir() if entry.is_symlink() else entry.is_dir()


def _check_folder(root: Path) -> None:
    try:
        status = root.stat()
    except OSError as error:
        raise DataError(
            f"{display(root)}: cannot be opened ({error.strerror}); check the path"
        ) from error
    if not stat.S_ISDIR(status.st_mode):
        raise DataError(f"{display(root)}: is not a folder; give the folder that holds the clips")


def _is_run(names: set[str]) -> bool:
    """Whether a folder with these files is a run folder."""
    return "config.yaml" in names and not names.isdisjoint({"checkpoints", "model", "samples"})


def count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
