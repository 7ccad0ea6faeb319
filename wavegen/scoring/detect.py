"""Recordings that do not belong: calibrating a model on normal ones, and judging others.

The calibration lies beside the model, as `detector.json`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from wavegen.data.labels import Attributes, Labels, encode, one_class_each
from wavegen.errors import ConfigError, DataError, LabelError, ModelError
from wavegen.models.serialization import (
    find_model,
    fingerprint,
    load_config,
    load_model,
    load_with_fingerprint,
    plain,
)
from wavegen.models.wavenet import WaveNet
from wavegen.scoring.anomaly import SCORES, Detector, Verdict, bits_by_others, order0_bits
from wavegen.scoring.profile import Profile
from wavegen.scoring.score import Score, score
from wavegen.scoring.sources import Source
from wavegen.utils.files import make_folder, read_text, write_text

DETECTOR = "detector.json"
# Bytes of it: about half a million recordings.
_LARGEST = 64 << 20


@dataclass(frozen=True)
class Finding:
    """What is thought of a file; of a bad one, nothing.

    Args:
        score: its bits, or the error.
        verdict: p-value, the score that raised it and where, if it could be read.
        normal: whether the p-value is above the rate of false alarms.
    """

    score: Score
    verdict: Verdict | None = None
    normal: bool | None = None


def calibrate(
    model: str | Path,
    paths: str | Path | Sequence[str | Path | Source],
    labels: Labels | None = None,
    *,
    background: str | Path | None = None,
    classes: bool = True,
    device: str | torch.device = "cpu",
    on_score: Callable[[Score], object] = lambda _: None,
    progress: Callable[[int], object] = int,
) -> Detector:
    """Learn what normal recordings look like to a model, and write it beside the model.

    Args:
        model: path of a run folder or model directory.
        paths: files and folders of normal recordings that it was not trained on; those that
            cannot be read are passed over.
        labels: under which recordings are scored, now and later; unspecified by default.
        background: path of a model to compare with, instead of the histogram of codes.
        classes: also ask which class of every other attribute explains a recording best: it
            takes as many times longer as there are classes.
        device: to score on.
        on_score: told of every file, the bad ones too.
        progress: told the samples as they are scored.

    Raises:
        ConfigError: too few recordings; a background model of another rate.
        DataError, LabelError, ModelError, OutputError: as their messages say.
    """
    network, model_sha256 = load_with_fingerprint(model, device)
    # Before anything takes long.
    make_folder(find_model(model))
    config = network.config
    other, background_sha256 = None, None
    if background is not None:
        other, background_sha256 = _background(background, network)
    normal: list[Score] = []
    rows, others = [], []
    kinds = explanations(config.labels, labels or {}, classes)
    take = partial(Profile, config.sample_rate)
    for each, bits in _scored(network, other, paths, kinds, take, progress):
        on_score(each)
        if each.watcher is None:
            continue
        rows.append(each.watcher.features(0.0, class_gain(each.bits, kinds) / each.samples))
        others.append(bits)
        normal.append(each.without_samples())
    if not normal:
        raise DataError("none of the files could be scored")
    table, histograms = np.array(rows), np.stack([each.histogram for each in normal])
    if other is None:
        under = bits_by_others(histograms)
    else:
        under = np.array(others) / [each.samples for each in normal]
    table[:, SCORES.index("ratio")] -= under
    detector = Detector(
        table,
        config.sample_rate,
        model_sha256,
        labels or {},
        tuple(histograms.sum(axis=0).tolist()),
        None if background is None else str(find_model(background).resolve()),
        background_sha256,
        classes,
    )
    write_text(find_model(model) / DETECTOR, detector.to_json())
    return detector


def detect(
    model: str | Path,
    paths: str | Path | Sequence[str | Path | Source],
    *,
    false_alarms: float = 0.01,
    device: str | torch.device = "cpu",
    progress: Callable[[int], object] = int,
) -> Iterator[Finding]:
    """Judge files, in their order, by a model that was calibrated.

    Args:
        model: path of a run folder or model directory.
        paths: files and folders, or what `scoring.find_sources` found.
        false_alarms: share of normal recordings that may be taken for others.
        device: to score on.
        progress: told the samples as they are scored.

    Returns:
        A `Finding` for each file, as they are asked for.

    Raises:
        ConfigError: a rate that cannot be promised.
        DataError, ModelError: as their messages say; the model was not calibrated, or has
            changed since.
    """
    network = load_model(model, device)
    # After the network: one that training has saved since is found out.
    detector = load_detector(model)
    detector.check(false_alarms)
    other = None
    if detector.background is not None:
        other, background_sha256 = _background(detector.background, network)
        if background_sha256 != detector.background_sha256:
            raise ModelError(f"{detector.background}: not the model that it was at calibration")
    order0 = order0_bits(np.array(detector.histogram))
    kinds = explanations(network.config.labels, detector.labels, detector.classes)
    take = partial(detector.profile, false_alarms=false_alarms)
    pairs = _scored(network, other, paths, kinds, take, progress)

    def finding(each: Score, bits: float | None) -> Finding:
        if each.watcher is None:
            return Finding(each)
        background = _per_sample(each, bits, order0)
        gain = class_gain(each.bits, kinds) / each.samples
        verdict = detector.verdict(each.watcher, background, gain)
        return Finding(each, verdict, verdict.p > false_alarms)

    return (finding(each, bits) for each, bits in pairs)


def load_detector(model: str | Path) -> Detector:
    """The calibration that lies beside a model.

    Raises:
        ModelError: there is none, it is damaged, or made for another model.
    """
    file = plain(find_model(model) / DETECTOR)
    if not file.exists():
        raise ModelError(
            f"{file}: there is none; make it with wavegen detect --calibrate MODEL NORMAL_FOLDER"
        )
    text = read_text(file, ModelError, _LARGEST)
    try:
        detector = Detector.from_json(text)
    except ModelError as error:
        raise ModelError(f"{file}: {error}") from error
    if detector.model_sha256 != fingerprint(model):
        raise ModelError(f"{file}: made for another model; calibrate again")
    config = load_config(model)
    found = (detector.sample_rate, len(detector.histogram))
    if found != (config.sample_rate, config.quantization_channels):
        raise ModelError(f"{file}: of another rate or other codes than its model; calibrate again")
    try:
        encode(detector.labels, config.labels)
    except LabelError as error:
        raise ModelError(f"{file}: {error}") from error
    return detector


def explanations(attributes: Attributes, labels: Labels, classes: bool = True) -> list[Labels]:
    """What is known of recordings, and that with every class of every other attribute."""
    return [labels, *(one_class_each(attributes, labels) if classes else [])]


def class_gain(bits: np.ndarray, kinds: Sequence[Labels]) -> float:
    """Bits that the best class of every attribute saves, summed: of (K,) under `explanations`."""
    known, *others = kinds
    saved: dict[str, float] = {}
    for each, labels in zip(bits[1:], others, strict=True):
        (name,) = labels.keys() - known.keys()
        saved[name] = max(saved.get(name, -np.inf), bits[0] - each)
    return float(sum(saved.values()))


def _background(path: str | Path, network: WaveNet) -> tuple[WaveNet, str]:
    other, sha256 = load_with_fingerprint(path, network.output.weight.device)
    if other.config.sample_rate != network.config.sample_rate:
        raise ConfigError(
            f"{path}: is for {other.config.sample_rate} Hz, the model for "
            f"{network.config.sample_rate}; a background model must have the same rate"
        )
    return other, sha256


def _scored(
    network: WaveNet,
    other: WaveNet | None,
    paths: str | Path | Sequence[str | Path | Source],
    kinds: Sequence[Labels],
    take: Callable[[int], Profile],
    progress: Callable[[int], object],
) -> Iterator[tuple[Score, float | None]]:
    """Scores with a profile each, and total bits under a background network."""
    scores = score(network, paths, kinds, watch=take, progress=progress)
    if other is None:
        return ((each, None) for each in scores)
    beside = (None if each.error else float(each.bits[0]) for each in score(other, paths))
    return zip(scores, beside, strict=True)


def _per_sample(each: Score, background_bits: float | None, order0: np.ndarray) -> float:
    """Bits per sample under the background model."""
    bits = each.histogram @ order0 if background_bits is None else background_bits
    return float(bits) / each.samples
