"""What commands print: rows as a table, CSV or JSON lines, remarks, and progress."""

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

from wavegen.errors import ConfigError
from wavegen.scoring.score import Score
from wavegen.utils.distributed import rank
from wavegen.utils.text import display

T = TypeVar("T")


def readable(
    pairs: Iterable[tuple[Score, T]],
    write: Callable[[Mapping[str, object]], None],
    sample_rate: int,
) -> Iterator[tuple[dict[str, object], Score, T]]:
    """The scores of good files, each with the beginning of its row; bad files are written.

    Raises:
        ConfigError: at the end, if no file was good.
    """
    good = 0
    for each, more in pairs:
        row: dict[str, object] = {"path": display(each.source.path)}
        if each.error:
            write({**row, "error": each.error})
            continue
        good += 1
        remark(each, sample_rate)
        yield {**row, "samples": each.samples, "seconds": each.seconds}, each, more
    if not good:
        raise ConfigError("none of the files could be scored")


def remark(each: Score, sample_rate: int) -> None:
    if each.file_rate != sample_rate:
        tqdm.write(
            f"{display(each.source.path)}: resampled from {each.file_rate} to {sample_rate} Hz",
            file=sys.stderr,
        )


def writer(kind: str, fields: Sequence[str]) -> Callable[[Mapping[str, object]], None]:
    """Writes rows to standard output as a table, as CSV or as JSON lines."""
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


@contextmanager
def progress() -> Iterator[Callable[[int], object]]:
    quiet = rank() > 0 or not sys.stderr.isatty()
    with tqdm(unit=" samples", unit_scale=True, disable=quiet) as bar:
        yield bar.update
