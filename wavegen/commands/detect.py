"""`wavegen detect`: what it prints."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

from wavegen.commands.score import (
    progress,
    readable,
    remark,
    sources_of,
    unfinished_sources,
    writer,
)
from wavegen.data import labels as labelling
from wavegen.errors import ConfigError
from wavegen.generation.generate import pick_device
from wavegen.models.serialization import find_model, load_config
from wavegen.scoring.detect import DETECTOR, Finding, calibrate, detect
from wavegen.scoring.score import Score
from wavegen.scoring.sources import Source, seconds_of
from wavegen.scoring.unfinished import file_state
from wavegen.utils.distributed import by_ranks
from wavegen.utils.text import display


def detect_command(options: argparse.Namespace) -> int:
    """Calibrate, or judge files: 1 if any of them is not normal, else 0."""
    if options.calibrate:
        _calibrate(options)
        return 0
    if options.label or options.background or options.without_classes:
        raise ConfigError("--label, --background and --without-classes belong to --calibrate")
    return _judge(options)


def _calibrate(options: argparse.Namespace) -> None:
    config = load_config(options.model)

    def on_score(each: Score) -> None:
        if each.error:
            print(f"{display(each.source.path)}: {each.error}", file=sys.stderr)
        else:
            remark(each, config.sample_rate)

    with progress() as count:
        detector = calibrate(
            options.model,
            sources_of(options),
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

        findings = by_ranks(sources_of(options), work, seconds_of, kept)
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
