"""What commands read: the files that a command line means, and results that are kept."""

import argparse
from contextlib import AbstractContextManager
from typing import Any

from wavegen.models.serialization import fingerprint, training_reading
from wavegen.scoring.sources import Source, find_sources
from wavegen.scoring.unfinished import Unfinished, file_state, unfinished


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
