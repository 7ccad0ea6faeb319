"""`wavegen detect`: recordings that are not normal."""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from wavegen.commands.options import add_scoring
from wavegen.errors import ConfigError

if TYPE_CHECKING:
    from wavegen.commands.output import Rows
    from wavegen.scoring.detect import Finding

DESCRIPTION = (
    "Decide by their likelihood whether recordings are normal. Calibrate first, on normal "
    "recordings that were held out in training. The exit status is 1 if a recording is not "
    "normal or could not be read."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_scoring(parser)
    parser.add_argument(
        "--calibrate",
        action="store_true",
        help="calibrate on the normal recordings PATH, and keep the calibration in MODEL",
    )
    parser.add_argument(
        "--background",
        metavar="MODEL",
        help="with --calibrate: compare with the likelihood under this model, instead of under "
        "the histogram of codes",
    )
    parser.add_argument(
        "--without-classes",
        action="store_true",
        help="with --calibrate: do not score recordings under every class, which multiplies the "
        "time by the number of classes",
    )
    parser.add_argument(
        "--false-alarms",
        type=float,
        default=0.01,
        metavar="RATE",
        help="share of normal recordings that may be reported as not normal",
    )
    parser.add_argument(
        "--plot",
        metavar="FOLDER",
        help="draw the waveform, the surprisal and the spectrogram, one PNG per file, and shade "
        "unusual spans",
    )


def run(options: argparse.Namespace) -> int:
    """Calibrate, or judge files.

    Returns:
        1 if a file is not normal or cannot be read, else 0.
    """
    if options.calibrate:
        if options.plot:
            raise ConfigError("--plot cannot be used with --calibrate: leave one of them out")
        _calibrate(options)
        return 0
    if options.label or options.background or options.without_classes:
        raise ConfigError(
            "--label, --background and --without-classes need --calibrate: add it or leave them out"
        )
    return _judge(options)


def _calibrate(options: argparse.Namespace) -> None:
    from wavegen.commands.inputs import sources_of
    from wavegen.commands.output import progress, remark
    from wavegen.data import labels as labelling
    from wavegen.models.serialization import find_model, load_config
    from wavegen.scoring.calibration import DETECTOR, calibrate
    from wavegen.scoring.score import Score
    from wavegen.utils.device import pick_device
    from wavegen.utils.text import display

    config = load_config(options.model)

    def on_score(each: Score) -> None:
        if each.error:
            print(f"{display(each.source.path)}: {each.error}", file=sys.stderr)
        else:
            remark(each, config.sample_rate)

    with progress() as count:
        detector = calibrate(
            options.model,
            # Judged recordings are not trimmed, so those they are compared with are not either.
            sources_of(options, untrimmed=True),
            labelling.parse(options.label, config.labels),
            background=options.background,
            classes=not options.without_classes,
            device=pick_device(options.device),
            on_score=on_score,
            progress=count,
        )
    target, normal = find_model(options.model) / DETECTOR, len(detector.normal)
    print(
        f"{target}: calibrated on {normal} recordings; false alarms down to {1 / (normal + 1):.2g}"
    )


def _judge(options: argparse.Namespace) -> int:
    from wavegen.commands.inputs import sources_of, unfinished_files
    from wavegen.commands.output import Rows, progress
    from wavegen.models.serialization import find_model, load_config
    from wavegen.scoring.calibration import DETECTOR
    from wavegen.scoring.detect import Finding, detect
    from wavegen.scoring.sample_files import SampleFiles
    from wavegen.scoring.sources import Source, seconds_of
    from wavegen.scoring.unfinished import file_state
    from wavegen.utils.device import pick_device
    from wavegen.utils.distributed import by_ranks

    rate = load_config(options.model).sample_rate
    sources = sources_of(options, untrimmed=True)
    files = SampleFiles(rate, pictures=options.plot)
    named = list(zip(sources, files.names(options.paths, sources), strict=True))
    files.make_folders()
    calibration = file_state(find_model(options.model) / DETECTOR)
    with progress() as count, unfinished_files(Finding, options, files, calibration) as kept:

        def work(some: Sequence[tuple[Source, str]]) -> Iterator[Finding]:
            findings = detect(
                options.model,
                [source for source, _ in some],
                false_alarms=options.false_alarms,
                device=pick_device(options.device),
                watch=files.watch if files.wanted else None,
                progress=count,
            )
            for each, (_, name) in zip(findings, some, strict=True):
                spans = each.verdict.spans if each.verdict else ()
                yield replace(each, score=files.write(name, each.score, spans))

        findings = by_ranks(named, work, lambda item: seconds_of(item[0]), kept)
        if findings is None:
            return 0
        fields = ("path", "samples", "seconds", "normal", "p_value", "distance", "raised_by")
        rows = Rows(options.format, (*fields, "spans", "error"), rate)
        return _print(options, findings, rows)


def _print(options: argparse.Namespace, findings: Iterable["Finding"], rows: "Rows") -> int:
    """Print a row for each file, the meaning of what raised it, and how many are not normal."""
    from wavegen.scoring.profile import MEANINGS

    out = sys.stdout if options.format == "table" else sys.stderr
    judged, raised = 0, []
    for row, _, each in rows.readable((each.score, each) for each in findings):
        assert each.verdict is not None
        judged += 1
        row |= {
            "normal": each.normal,
            "p_value": each.verdict.p,
            "distance": each.verdict.distance,
        }
        if not each.normal:
            raised.append(each.verdict.raised_by)
            row["raised_by"] = each.verdict.raised_by
            row["spans"] = (
                each.verdict.spans
                if options.format == "jsonl"
                else " ".join(f"{begin:.2f}-{end:.2f}" for begin, end in each.verdict.spans)
            )
        rows.write(row)
    for name, meaning in MEANINGS.items():
        if name in raised:
            print(f"raised by {name}: {meaning}, unlike normal recordings", file=out)
    print(
        f"all       {len(raised)} of {judged} are not normal, at {options.false_alarms:g} "
        "false alarms",
        file=out,
    )
    return max(rows.status(), 1 if raised else 0)
