"""`wavegen detect`: calibrating on normal recordings, and judging others."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from wavegen import labels as labelling
from wavegen.audio import display
from wavegen.checkpoint import find_model, fingerprint, load_model
from wavegen.detection import SCORES, Detector, features, order0_bits
from wavegen.errors import ConfigError, ModelError
from wavegen.files import write_text
from wavegen.labels import Labels
from wavegen.score_command import prepared, progress, readable, remark, writer
from wavegen.scoring import Score, Source, score
from wavegen.wavenet import WaveNet

DETECTOR = "detector.json"


def detect_command(options: argparse.Namespace) -> int:
    """Calibrate, or judge files: 1 if any of them is not normal, else 0."""
    network, sources = prepared(options)
    if options.calibrate:
        _calibrate(options, network, sources)
        return 0
    return _judge(options, network, sources)


def _calibrate(options: argparse.Namespace, network: WaveNet, sources: Sequence[Source]) -> None:
    config = network.config
    kind = labelling.parse(options.label, config.labels)
    other = None if options.background is None else _background(options.background, network)
    histogram = np.zeros(config.quantization_channels, np.int64)
    normal: list[Score] = []
    rows, others = [], []
    with progress() as count:
        for each, bits in _scored(network, other, sources, kind, count):
            if each.error:
                print(f"{display(each.source.path)}: {each.error}", file=sys.stderr)
                continue
            remark(each, config.sample_rate)
            assert each.surprisal is not None
            rows.append(features(each.surprisal[0], 0.0, config.sample_rate))
            others.append(bits)
            histogram += each.histogram
            # Not the bits of every sample: there may be many recordings.
            normal.append(replace(each, surprisal=None, waveform=None))
    order0 = order0_bits(histogram)
    for row, each, bits in zip(rows, normal, others, strict=True):
        row[SCORES.index("ratio")] -= _per_sample(each, bits, order0)
    detector = Detector(
        np.array(rows),
        config.sample_rate,
        fingerprint(options.model),
        kind,
        tuple(histogram.tolist()),
        None if options.background is None else str(find_model(options.background).resolve()),
        None if options.background is None else fingerprint(options.background),
    )
    target = find_model(options.model) / DETECTOR
    write_text(target, detector.to_json())
    least = 1 / (len(normal) + 1)
    print(f"{target}: calibrated on {len(normal)} recordings; false alarms down to {least:.2g}")


def _judge(options: argparse.Namespace, network: WaveNet, sources: Sequence[Source]) -> int:
    config = network.config
    file = find_model(options.model) / DETECTOR
    try:
        detector = Detector.from_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            f"{file}: there is none; make it with wavegen detect --calibrate MODEL NORMAL_FOLDER"
        ) from error
    except (ModelError, UnicodeDecodeError) as error:
        raise ModelError(f"{file}: {error}") from error
    if detector.model_sha256 != fingerprint(options.model):
        raise ModelError(f"{file}: made for another model; calibrate again")
    if options.label or options.background:
        raise ConfigError("--label and --background belong to --calibrate")
    detector.check(options.false_alarms)
    other = None
    if detector.background is not None:
        other = _background(detector.background, network)
        if fingerprint(detector.background) != detector.background_sha256:
            raise ModelError(f"{detector.background}: not the model that it was at calibration")
    order0 = order0_bits(np.array(detector.histogram))
    write = writer(
        options.format,
        ("path", "samples", "seconds", "normal", "p_value", "raised_by", "spans", "error"),
    )
    judged = found = 0
    with progress() as count:
        pairs = _scored(network, other, sources, detector.labels, count)
        for row, each, bits in readable(pairs, write, config.sample_rate):
            assert each.surprisal is not None
            background = _per_sample(each, bits, order0)
            verdict = detector.judge(each.surprisal[0], background, options.false_alarms)
            normal = verdict.p > options.false_alarms
            judged += 1
            found += not normal
            row |= {"normal": normal, "p_value": verdict.p}
            if not normal:
                row["raised_by"] = verdict.raised_by
                row["spans"] = (
                    verdict.spans
                    if options.format == "jsonl"
                    else " ".join(f"{begin:.2f}-{end:.2f}" for begin, end in verdict.spans)
                )
            write(row)
    print(
        f"all       {found} of {judged} are not normal, at {options.false_alarms:g} false alarms",
        file=sys.stdout if options.format == "table" else sys.stderr,
    )
    return 1 if found else 0


def _background(path: str, network: WaveNet) -> WaveNet:
    other = load_model(path, network.output.weight.device)
    if other.config.sample_rate != network.config.sample_rate:
        raise ConfigError(
            f"{path}: is for {other.config.sample_rate} Hz, the model for "
            f"{network.config.sample_rate}; a background model must have the same rate"
        )
    return other


def _scored(
    network: WaveNet,
    other: WaveNet | None,
    sources: Sequence[Source],
    labels: Labels,
    count: Callable[[int], object],
) -> Iterator[tuple[Score, float | None]]:
    """Scores with the bits of every sample, and total bits under a background network."""
    scores = score(network, sources, [labels], keep=True, progress=count)
    if other is None:
        yield from ((each, None) for each in scores)
        return
    for each, background in zip(scores, score(other, sources, [{}]), strict=True):
        yield each, None if background.error else float(background.bits[0])


def _per_sample(each: Score, background_bits: float | None, order0: np.ndarray) -> float:
    """Bits per sample under the background model."""
    bits = each.histogram @ order0 if background_bits is None else background_bits
    return float(bits) / each.samples
