"""Output of commands: rows as a table, CSV or JSON lines, remarks, and progress."""

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from wavegen.errors import ConfigError
from wavegen.scoring.score import Score
from wavegen.utils.distributed import rank
from wavegen.utils.progress import on_terminal
from wavegen.utils.text import display

T = TypeVar("T")


class Rows:
    """The rows that a command prints, one for each file.

    Args:
        kind: table, csv or jsonl.
        fields: names of the columns.
        sample_rate: rate of the model in Hz.
    """

    def __init__(self, kind: str, fields: Sequence[str], sample_rate: int) -> None:
        self.write = writer(kind, fields)
        self._sample_rate = sample_rate
        self._good = self._bad = 0

    def readable(
        self, pairs: Iterable[tuple[Score, T]]
    ) -> Iterator[tuple[dict[str, object], Score, T]]:
        """Yield the first columns of each good file with its score; write rows of bad files.

        Raises:
            ConfigError: at the end, if no file was good.
        """
        for each, more in pairs:
            row: dict[str, object] = {"path": display(each.source.path)}
            if each.error:
                self._bad += 1
                self.write({**row, "error": each.error})
                continue
            self._good += 1
            remark(each, self._sample_rate)
            yield {**row, "samples": each.samples, "seconds": each.seconds}, each, more
        if not self._good:
            raise ConfigError("none of the files could be scored")

    def status(self) -> int:
        """The exit status: 1 if a file could not be read, after a remark that says so, else 0."""
        if self._bad:
            print(
                f"wavegen: {self._bad} of {self._bad + self._good} files could not be scored; "
                "the rows above say why",
                file=sys.stderr,
            )
        return 1 if self._bad else 0


def remark(each: Score, sample_rate: int) -> None:
    if each.file_rate != sample_rate:
        tqdm.write(
            f"{display(each.source.path)}: resampled from {each.file_rate} to {sample_rate} Hz",
            file=sys.stderr,
        )


def writer(kind: str, fields: Sequence[str]) -> Callable[[Mapping[str, object]], None]:
    """Return a function that writes a row to standard output as a table, CSV or JSON lines."""
    if rank() > 0:
        return lambda _: None
    if kind == "jsonl":
        return lambda row: tqdm.write(json.dumps({**dict.fromkeys(fields), **row}))
    if kind == "csv":
        lines = csv.writer(sys.stdout, lineterminator="\n")
        lines.writerow(map(display, fields))
        return lambda row: lines.writerow([_shown(row.get(name, "")) for name in fields])
    tqdm.write(
        "  ".join(f"{name:>{_width(name)}}" for name in map(display, fields) if name != "error")
    )

    def write(row: Mapping[str, object]) -> None:
        if "error" in row:
            tqdm.write(display(f"{row['path']}: {row['error']}"))
            return
        cells = [_cell(row.get(name, "")) for name in fields if name != "error"]
        widths = [_width(name) for name in fields if name != "error"]
        tqdm.write("  ".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True)))

    return write


def _width(name: str) -> int:
    return 40 if name == "path" else max(14, len(name))


def _cell(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else display(str(value))


def _shown(value: object) -> object:
    return display(value) if isinstance(value, str) else value


def print_files(paths: Sequence[Path], plot: bool) -> None:
    """Print the paths; with `plot` also draw each file as a PNG of the same name."""
    for path in paths:
        if plot:
            from wavegen.audio import reading
            from wavegen.audio.plots import write_spectrogram

            rate = reading.probe(path).sample_rate
            write_spectrogram(path.with_suffix(".png"), reading.read(path), rate, path.stem)
        print(display(path))


@contextmanager
def progress() -> Iterator[Callable[[int], object]]:
    quiet = rank() > 0 or not on_terminal()
    with tqdm(unit=" samples", unit_scale=True, disable=quiet) as bar:
        yield bar.update
