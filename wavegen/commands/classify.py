"""`wavegen classify`: the most probable classes of recordings."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from wavegen.commands.options import add_combinations, add_scoring
from wavegen.utils.text import display

if TYPE_CHECKING:
    from wavegen.scoring.classify import Classes

DESCRIPTION = (
    "Compute the posterior probability of the classes of each attribute, by Bayes' rule. The exit "
    "status is 1 if a file could not be read."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_scoring(parser)
    parser.add_argument(
        "--prior",
        choices=("uniform", "training"),
        default="uniform",
        help="prior of the classes: equal, or their share of the training recordings",
    )
    add_combinations(parser)
    parser.add_argument(
        "--check", action="store_true", help="compare with the labels of the recordings"
    )


def run(options: argparse.Namespace) -> int:
    """Print the posterior of the classes of every file, and with --check the accuracy.

    Returns:
        1 if a file could not be read, else 0.
    """
    from wavegen.commands.inputs import sources_of, unfinished_sources
    from wavegen.commands.output import Rows, progress
    from wavegen.data import labels as labelling
    from wavegen.data.settings import class_counts
    from wavegen.models.serialization import load_model
    from wavegen.scoring.classify import Classes, classify
    from wavegen.scoring.sources import Source, seconds_of
    from wavegen.utils.device import pick_device
    from wavegen.utils.distributed import by_ranks

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
            return 0
        classes = {n: c for n, c in network.config.labels.items() if n not in given}
        matrices = {name: Counter[tuple[str, str]]() for name in classes}
        fields = ("path", "samples", "seconds", *_columns(options.format, classes), "error")
        rows = Rows(options.format, fields, network.config.sample_rate)
        pairs = ((each.score, each) for each in found)
        for row, _, each in rows.readable(pairs):
            for name, true in each.score.source.labels.items():
                if name in classes and true in classes[name]:
                    matrices[name][true, each.predicted[name]] += 1
            rows.write(row | _cells(options.format, each))
    if options.check:
        out = sys.stdout if options.format == "table" else sys.stderr
        for name, matrix in matrices.items():
            print(_confusion(name, classes[name], matrix), file=out)
    return rows.status()


def _columns(kind: str, attributes: Iterable[str]) -> list[str]:
    """Names of the columns for the classes."""
    if kind == "jsonl":
        return ["posterior", "predicted"]
    if kind == "csv":
        return [column for name in attributes for column in (name, f"{name}_probability")]
    return list(attributes)


def _cells(kind: str, found: "Classes") -> dict[str, object]:
    """Values of these columns for one recording."""
    if kind == "jsonl":
        return {"posterior": found.posterior, "predicted": found.predicted}
    likeliest = {name: found.posterior[name][each] for name, each in found.predicted.items()}
    if kind == "csv":
        chances = {f"{name}_probability": chance for name, chance in likeliest.items()}
        return {**found.predicted, **chances}
    return {name: f"{found.predicted[name]} {chance:.4f}" for name, chance in likeliest.items()}


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
