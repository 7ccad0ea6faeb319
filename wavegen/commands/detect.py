"""`wavegen detect`: recordings that do not belong."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

from wavegen.commands.options import add_scoring
from wavegen.errors import ConfigError

DESCRIPTION = (
    "Judge recordings by their likelihood: normal, or not. The exit status is 1 if any is not. "
    "Calibrate first, on normal recordings that were held out in training."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_scoring(parser)
    parser.add_argument(
        "--calibrate", action="store_true", help="learn from PATHs what is normal, beside MODEL"
    )
    parser.add_argument(
        "--background",
        metavar="MODEL",
        help="with --calibrate: compare with this model, not with the histogram of codes",
    )
    parser.add_argument(
        "--without-classes",
        action="store_true",
        help="with --calibrate: do not ask which class explains a recording best, which takes as "
        "many times longer as there are classes",
    )
    parser.add_argument(
        "--false-alarms",
        type=float,
        default=0.01,
        metavar="RATE",
        help="share of normal recordings that may be reported as not normal",
    )


def run(options: argparse.Namespace) -> int:
    """Calibrate, or judge files: 1 if any of them is not normal, else 0."""
    if options.calibrate:
        _calibrate(options)
        return 0
    if options.label or options.background or options.without_classes:
        raise ConfigError("--label, --background and --without-classes belong to --calibrate")
    return _judge(options)


def _calibrate(options: argparse.Namespace) -> None:
    from wavegen.commands.inputs import sources_of
    from wavegen.commands.output import progress, remark
    from wavegen.data import labels as labelling
    from wavegen.generation.generate import pick_device
    from wavegen.models.serialization import find_model, load_config
    from wavegen.scoring.detect import DETECTOR, calibrate
    from wavegen.scoring.score import Score
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
            # Recordings to be judged come whole: those to compare with must come alike.
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
    from wavegen.commands.inputs import sources_of, unfinished_sources
    from wavegen.commands.output import progress, readable, writer
    from wavegen.generation.generate import pick_device
    from wavegen.models.serialization import find_model, load_config
    from wavegen.scoring.detect import DETECTOR, Finding, detect
    from wavegen.scoring.sources import Source, seconds_of
    from wavegen.scoring.unfinished import file_state
    from wavegen.utils.distributed import by_ranks

    rate = load_config(options.model).sample_rate
    judged = found = 0
    calibration = find_model(options.model) / DETECTOR
    state = file_state(calibration)
    with progress() as count, unfinished_sources(Finding, options, state) as kept:

        def work(some: Sequence[Source]) -> Iterator[Finding]:
            findings = detect(
                options.model,
                some,
                false_alarms=options.false_alarms,
                device=pick_device(options.device),
                progress=count,
            )
            return (replace(each, score=each.score.without_samples()) for each in findings)

        findings = by_ranks(sources_of(options, untrimmed=True), work, seconds_of, kept)
        if findings is None:
            return 0
        write = writer(
            options.format,
            ("path", "samples", "seconds", "normal", "p_value", "raised_by", "spans", "error"),
        )
        pairs = ((each.score, each) for each in findings)
        for row, _, each in readable(pairs, write, rate):
            assert each.verdict is not None
            judged += 1
            row |= {"normal": each.normal, "p_value": each.verdict.p}
            if not each.normal:
                found += 1
                row["raised_by"] = each.verdict.raised_by
                row["spans"] = (
                    each.verdict.spans
                    if options.format == "jsonl"
                    else " ".join(f"{begin:.2f}-{end:.2f}" for begin, end in each.verdict.spans)
                )
            write(row)
    print(
        f"all       {found} of {judged} are not normal, at {options.false_alarms:g} false alarms",
        file=sys.stdout if options.format == "table" else sys.stderr,
    )
    return 1 if found else 0
