"""`wavegen score` and `wavegen classify`: what they print and write."""

import argparse
import csv
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from wavegen.audio.plots import SurprisalPicture
from wavegen.codecs import mulaw
from wavegen.data import labels as labelling
from wavegen.errors import ConfigError
from wavegen.generation.generate import pick_device
from wavegen.models.serialization import class_counts, fingerprint, load_model, training_reading
from wavegen.scoring.classify import Classes, classify
from wavegen.scoring.score import Score, score
from wavegen.scoring.sources import Source, find_sources, seconds_of
from wavegen.scoring.unfinished import Unfinished, file_state, unfinished
from wavegen.utils.distributed import by_ranks, rank
from wavegen.utils.files import appearing_whole, make_folder, write_bytes
from wavegen.utils.text import display

T = TypeVar("T")


def score_command(options: argparse.Namespace) -> None:
    """Print the bits of every file and of all together."""
    network = load_model(options.model, pick_device(options.device))
    sources = sources_of(options)
    config = network.config
    kind = labelling.parse(options.label, config.labels)
    targets = _targets(options, sources)
    watch = None
    if options.per_sample or options.plot:
        watch = partial(_Samples, options, config.sample_rate)
    for folder in (options.per_sample, options.plot):
        if folder:
            make_folder(folder)
    write = writer(
        options.format, ("path", "samples", "seconds", "bits", "bits_per_sample", "error")
    )
    bits, samples, histogram = 0.0, 0, np.zeros(config.quantization_channels, np.int64)
    with progress() as count, _unfinished_samples(options) as kept:

        def work(some: Sequence[tuple[Source, str]]) -> Iterator[Score]:
            ours = [source for source, _ in some]
            scores = score(network, ours, [kind], watch=watch, progress=count)
            for each, (_, target) in zip(scores, some, strict=True):
                yield _write_samples(options, target, each, config.sample_rate)

        named = list(zip(sources, targets, strict=True))
        scores = by_ranks(named, work, lambda item: seconds_of(item[0]), kept)
        if scores is None:
            return
        pairs = ((each, None) for each in scores)
        for row, each, _ in readable(pairs, write, config.sample_rate):
            total = float(each.bits[0])
            bits += total
            samples += each.samples
            histogram += each.histogram
            write({**row, "bits": total, "bits_per_sample": total / each.samples})
    print(
        f"all       {bits / samples:.4f} bits per sample over {samples:,} samples "
        f"(uniform {np.log2(config.quantization_channels):.1f}, "
        f"order-0 {mulaw.entropy(histogram):.2f})",
        file=sys.stdout if options.format == "table" else sys.stderr,
    )


def classify_command(options: argparse.Namespace) -> None:
    """Print the posterior of every file's classes, and with --check how often it is right."""
    network = load_model(options.model, pick_device(options.device))
    sources = sources_of(options, labelled=options.check)
    given = labelling.parse(options.label, network.config.labels)
    counts = class_counts(options.model) if options.prior == "training" else None
    with progress() as count, unfinished_sources(Classes, options) as kept:

        def work(some: Sequence[Source]) -> Iterator[Classes]:
            return classify(
                network,
                some,
                given,
                counts=counts,
                combinations=options.combinations,
                progress=count,
            )

        found = by_ranks(sources, work, seconds_of, kept)
        if found is None:
            return
        classes = {n: c for n, c in network.config.labels.items() if n not in given}
        matrices = {name: Counter[tuple[str, str]]() for name in classes}
        results = ("posterior", "predicted") if options.format == "jsonl" else tuple(classes)
        write = writer(options.format, ("path", "samples", "seconds", *results, "error"))
        pairs = ((each.score, each) for each in found)
        for row, _, each in readable(pairs, write, network.config.sample_rate):
            for name, true in each.score.source.labels.items():
                if name in classes and true in classes[name]:
                    matrices[name][true, each.predicted[name]] += 1
            if options.format == "jsonl":
                write({**row, "posterior": each.posterior, "predicted": each.predicted})
            else:
                best = {n: f"{c} {each.posterior[n][c]:.4f}" for n, c in each.predicted.items()}
                write(row | best)
    if options.check:
        out = sys.stdout if options.format == "table" else sys.stderr
        for name, matrix in matrices.items():
            print(_confusion(name, classes[name], matrix), file=out)


def sources_of(options: argparse.Namespace, labelled: bool = False) -> list[Source]:
    """The files that the command line means."""
    reading = read_as_training(options) if labelled or options.split else None
    return find_sources(options.paths, labelled=labelled, split=options.split, reading=reading)


def read_as_training(options: argparse.Namespace) -> dict[str, Any]:
    """How training read its folder, but for what the command line says."""
    reading = training_reading(options.model)
    if options.label_pattern is not None:
        reading |= {"label_pattern": options.label_pattern, "labels": None}
    return reading


def unfinished_sources(
    kind: type, options: argparse.Namespace, *more: str
) -> AbstractContextManager[Unfinished | None]:
    """Results by source, for the next run of the same command with the same files."""
    about = {**vars(options), "sha256": [fingerprint(options.model), *more]}
    return unfinished(kind, about, lambda source: file_state(source.path))


def _unfinished_samples(
    options: argparse.Namespace,
) -> AbstractContextManager[Unfinished | None]:
    """Scores by source and target; only while what was written of its samples is there."""
    about = {**vars(options), "sha256": fingerprint(options.model)}
    written = ((options.per_sample, "npz"), (options.plot, "png"))

    def sound(item: tuple[Source, str]) -> bool:
        files = [Path(folder) / f"{item[1]}.{kind}" for folder, kind in written if folder]
        return all(file.exists() for file in files)

    return unfinished(Score, about, lambda item: file_state(item[0].path), sound)


def _targets(options: argparse.Namespace, sources: Sequence[Source]) -> list[str]:
    """A name for what is written of each file: its path below the folder that was named."""
    roots = [Path(path) for path in options.paths]
    names = []
    for source in sources:
        root = next((each for each in roots if each in (source.path, *source.path.parents)), None)
        # Metadata may name files elsewhere.
        above = source.path.parent if root in (None, source.path) else root
        inside = source.path.relative_to(above)
        names.append("-".join(map(labelling.file_name, map(display, inside.parts))))
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice and (options.per_sample or options.plot):
        raise ConfigError(f"two files would be written to {twice[0]}: score them one by one")
    return names


def _write_samples(
    options: argparse.Namespace, target: str, each: Score, sample_rate: int
) -> Score:
    """Write the bits of every sample where that was asked for; the score without them."""
    if isinstance(each.watcher, _Samples):
        if options.per_sample:
            bits = np.concatenate(each.watcher.bits)
            with appearing_whole(Path(options.per_sample) / f"{target}.npz") as file:
                np.savez_compressed(file, surprisal=bits, sample_rate=sample_rate)
        if each.watcher.picture is not None:
            picture = each.watcher.picture.png(display(each.source.path))
            write_bytes(Path(options.plot) / f"{target}.png", picture)
    return each.without_samples()


class _Samples:
    """Takes what is to be written of a file's samples."""

    def __init__(self, options: argparse.Namespace, sample_rate: int, most: int) -> None:
        self._keep = bool(options.per_sample)
        self.bits: list[np.ndarray] = []
        self.picture = SurprisalPicture(sample_rate, most) if options.plot else None

    def add(self, waveform: np.ndarray, surprisal: np.ndarray) -> None:
        if self._keep:
            self.bits.append(surprisal)
        if self.picture is not None:
            self.picture.add(waveform, surprisal)


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


def _confusion(name: str, classes: Sequence[str], matrix: Counter[tuple[str, str]]) -> str:
    total = matrix.total()
    if not total:
        return f"{display(name)}: no file has this label"
    right = sum(count for (true, predicted), count in matrix.items() if true == predicted)
    shown = [display(each) for each in classes]
    width = max(4, *map(len, shown)) + 1
    lines = [f"{display(name)}: {right} of {total} right, {right / total:.1%}; true class by row"]
    lines.append(" " * width + "".join(f"{each:>{width}}" for each in shown))
    for true, head in zip(classes, shown, strict=True):
        cells = "".join(f"{matrix[true, predicted]:>{width}}" for predicted in classes)
        lines.append(f"{head:>{width}}{cells}")
    return "\n".join(lines)


@contextmanager
def progress() -> Iterator[Callable[[int], object]]:
    quiet = rank() > 0 or not sys.stderr.isatty()
    with tqdm(unit=" samples", unit_scale=True, disable=quiet) as bar:
        yield bar.update
