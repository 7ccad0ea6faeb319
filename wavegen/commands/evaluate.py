"""`wavegen evaluate`: a report on a model and held-out recordings."""

import argparse
import sys
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import wavegen
from wavegen.commands.options import (
    add_combinations,
    add_pattern,
    add_sampling,
    add_store,
    sampling_of,
)
from wavegen.errors import ConfigError, DataError, LabelError

if TYPE_CHECKING:
    from wavegen.data.clips import ClipSet
    from wavegen.distributions.sampling import Sampling
    from wavegen.models.config import ModelConfig

DESCRIPTION = (
    "Measure a model on held-out recordings, and compare the recordings that it generates with "
    "them. The results are report.json and report.html, a self-contained page."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("model", metavar="MODEL", help="run folder or model folder")
    parser.add_argument(
        "data", metavar="DATA", help="folder of recordings, which is split as in training"
    )
    parser.add_argument("--out", default="report", metavar="FOLDER", help="folder for the report")
    parser.add_argument(
        "--count", type=int, default=500, help="largest number of held-out clips to measure"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=5.0,
        help="greatest length of each generated and compared clip",
    )
    add_combinations(parser)
    parser.add_argument(
        "--classified",
        type=int,
        metavar="N",
        help="largest number of held-out clips to classify by likelihood; the time is multiplied "
        "by the number of classes (default: as many clips as make 20,000 seconds of audio times "
        "classes)",
    )
    add_pattern(parser)
    add_store(parser)
    add_sampling(parser)


def run(options: argparse.Namespace) -> None:
    """Measure, print the figures, and write the report."""
    from wavegen.data.store import open_clips
    from wavegen.evaluation.counterparts import ClipFigures
    from wavegen.evaluation.evaluate import evaluate
    from wavegen.evaluation.report import summary, write_report
    from wavegen.generation.generate import check_seed
    from wavegen.models.serialization import find_model, load_with_fingerprint
    from wavegen.scoring.unfinished import unfinished
    from wavegen.utils.device import pick_device
    from wavegen.utils.files import make_folder
    from wavegen.utils.text import display

    _check(options)
    check_seed(options.seed)
    folder = find_model(options.model)
    network, model_sha256 = load_with_fingerprint(folder, pick_device(options.device))
    config = network.config
    sampling = sampling_of(options)
    found = _found(options, config)
    # Before anything takes long.
    make_folder(options.out)
    clips, store = open_clips(found, config.sample_rate, options.store)
    job = {**vars(options), "sha256": model_sha256}
    with unfinished(ClipFigures, job, repr) as kept:
        evaluation = evaluate(
            network,
            clips,
            store,
            sampling=sampling,
            seed=options.seed,
            most=options.count,
            seconds=options.seconds,
            combinations=options.combinations,
            classified=options.classified,
            engine=options.engine,
            precision=options.precision,
            # Stay on the device that the user has named.
            stay=options.device is not None,
            kept=kept,
            say=_say,
        )
        if evaluation is None:
            return
        about = {
            "model": str(folder),
            "model_sha256": model_sha256,
            **_settings(options, config, sampling),
        }
        paths = write_report(options.out, evaluation, about)
        print(summary(evaluation.figures))
        print(*map(display, paths), sep="\n")


def _found(options: argparse.Namespace, config: "ModelConfig") -> "ClipSet":
    """The clips of the data, with the splits of training."""
    from wavegen.commands.inputs import read_as_training
    from wavegen.data.clips import find_clips
    from wavegen.scoring.sources import find_as_trained

    settings = read_as_training(options)
    found = find_as_trained(options.data, settings)
    if config.features and not config.labels:
        # Copies can be recognised by labels that the model does not know.
        with suppress(DataError, LabelError):  # such as a column of texts
            return found.with_labels_of(find_clips(options.data, replace(settings, labels=None)))
    return found


def _check(options: argparse.Namespace) -> None:
    """Refuse numbers out of range, before the long work begins."""
    if options.count < 1:
        raise ConfigError(f"--count is {options.count}: it must be 1 or more")
    if not 0 < options.seconds < float("inf"):
        raise ConfigError(f"--seconds is {options.seconds}: it must be above 0")
    if options.classified is not None and options.classified < 0:
        raise ConfigError(f"--classified is {options.classified}: it must be 0 or more")


def _settings(
    options: argparse.Namespace, config: "ModelConfig", sampling: "Sampling"
) -> dict[str, object]:
    """The settings that the figures depend on besides the model, for the report."""
    return {
        "data": str(options.data),
        "network": config.describe(),
        "sample_rate": config.sample_rate,
        "seed": options.seed,
        "seconds_compared": options.seconds,
        **asdict(sampling),
        "version": wavegen.__version__,
    }


def _say(text: str) -> None:
    from wavegen.utils.distributed import rank

    if rank() == 0:
        print(f"{text} ...", file=sys.stderr, flush=True)
