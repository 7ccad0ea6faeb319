"""Inputs of commands: the files that a command line names, and results of unfinished jobs."""

import argparse
from contextlib import AbstractContextManager
from dataclasses import replace

from wavegen.data.settings import DEFAULT_SETTINGS, DataSettings, training_settings
from wavegen.models.serialization import fingerprint
from wavegen.scoring.sample_files import SampleFiles
from wavegen.scoring.sources import Source, find_sources
from wavegen.scoring.unfinished import Unfinished, file_state, unfinished
from wavegen.utils.distributed import ranks


def sources_of(
    options: argparse.Namespace, labelled: bool = False, untrimmed: bool = False
) -> list[Source]:
    """The files that the command line names.

    Args:
        options: options of the command.
        labelled: whether to find their labels.
        untrimmed: whether to read whole recordings even if training trimmed them.
    """
    settings = read_as_training(options) if labelled or options.split else DEFAULT_SETTINGS
    if untrimmed:
        settings = replace(settings, trim=None)
    return find_sources(options.paths, labelled=labelled, split=options.split, settings=settings)


def read_as_training(options: argparse.Namespace) -> DataSettings:
    """The settings that training read its folder with, changed by the command line."""
    settings = training_settings(options.model)
    if options.label_pattern is not None:
        settings = replace(settings, label_pattern=options.label_pattern, labels=None)
    return settings


def unfinished_sources(
    kind: type, options: argparse.Namespace, *more: str
) -> AbstractContextManager[Unfinished | None]:
    """Results of each source, kept until the same command has been finished on the same files."""
    return unfinished(kind, _job_of(options, *more), lambda source: file_state(source.path))


def unfinished_files(
    kind: type, options: argparse.Namespace, files: SampleFiles, *more: str
) -> AbstractContextManager[Unfinished | None]:
    """The same for pairs of a source and its name in `files`, valid while its files exist."""
    return unfinished(
        kind,
        _job_of(options, *more),
        lambda item: file_state(item[0].path),
        lambda item: files.there(item[1]),
    )


def _job_of(options: argparse.Namespace, *more: str) -> dict[str, object]:
    """The settings that identify a job of several processes; a single process keeps no results."""
    if ranks() == 1:
        return {}
    return {**vars(options), "sha256": [fingerprint(options.model), *more]}
