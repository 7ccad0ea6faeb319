"""Calibrating a model on normal recordings.

The calibration is `detector.json` in the model directory.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from wavegen.data.labels import Attributes, Labels, encode, one_class_each
from wavegen.errors import ConfigError, DataError, LabelError, ModelError
from wavegen.models.base import Network
from wavegen.models.serialization import (
    find_model,
    fingerprint,
    load_config,
    load_with_fingerprint,
    plain,
)
from wavegen.scoring.anomaly import SCORES, Detector, bits_by_others
from wavegen.scoring.profile import Profile
from wavegen.scoring.score import Score, Watcher, score
from wavegen.scoring.sources import Source
from wavegen.utils.files import make_folder, read_text, write_text

DETECTOR = "detector.json"
# Largest size of the file in bytes: about half a million recordings.
_LARGEST = 64 << 20


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
    """Score normal recordings, and write the calibration into the model directory.

    Args:
        model: path of a run folder or model directory.
        paths: files and folders of normal recordings that the model was not trained on; files
            that cannot be read are skipped.
        labels: labels for scoring, now and later; by default unspecified.
        background: path of a model to compare with, instead of the histogram of codes.
        classes: also score recordings under every class of every other attribute, which
            multiplies the time by the number of classes.
        device: device for scoring.
        on_score: called with the score of every file, also of those that cannot be read.
        progress: called with the number of samples that have been scored.

    Raises:
        ConfigError: there are too few recordings, or the background model has another rate.
        DataError: a path does not exist, or a folder holds no audio.
        LabelError: a label is unknown.
        ModelError: a model is missing or damaged.
        OutputError: the calibration cannot be written.
    """
    network, model_sha256 = load_with_fingerprint(model, device)
    # Checked before the long work begins.
    make_folder(find_model(model))
    config = network.config
    other, background_sha256 = None, None
    if background is not None:
        other, background_sha256 = load_background(background, network)
    kinds = explanations(config.labels, labels or {}, classes)
    take = partial(Profile, config.sample_rate)
    pairs = scored(network, other, paths, kinds, take, progress)
    table, histograms = _normal(pairs, kinds, on_score)
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


def _normal(
    pairs: Iterable[tuple[Score, float | None]],
    kinds: Sequence[Labels],
    on_score: Callable[[Score], object],
) -> tuple[np.ndarray, np.ndarray]:
    """The scores of normal recordings.

    Args:
        pairs: results of `scored`, each with a `Profile`.
        kinds: result of `explanations`.
        on_score: called with the score of every file.

    Returns:
        The scores of each recording, float64 (N, len(SCORES)), and the histogram of its codes,
        int64 (N, Q).
    """
    rows, histograms, samples, background = [], [], [], []
    for each, bits in pairs:
        on_score(each)
        if each.watcher is None:
            continue
        rows.append(each.watcher.features(0.0, class_gain(each.bits, kinds) / each.samples))
        histograms.append(each.histogram)
        samples.append(each.samples)
        background.append(bits)
    if not rows:
        raise DataError("none of the files could be scored")
    table, counts = np.array(rows), np.stack(histograms)
    under = bits_by_others(counts) if background[0] is None else np.array(background) / samples
    table[:, SCORES.index("ratio")] -= under
    return table, counts


def load_detector(model: str | Path, model_sha256: str | None = None) -> Detector:
    """Read the calibration of a model.

    Args:
        model: path of a run folder or model directory.
        model_sha256: `fingerprint` of the model, if it has been loaded already.

    Raises:
        ModelError: the calibration is missing, damaged or of another model.
    """
    file = plain(find_model(model) / DETECTOR)
    if not file.exists():
        raise ModelError(
            f"{file}: no such file; make it with wavegen detect --calibrate MODEL NORMAL_FOLDER"
        )
    text = read_text(file, ModelError, _LARGEST)
    try:
        detector = Detector.from_json(text)
    except ModelError as error:
        raise ModelError(f"{file}: {error}") from error
    if detector.model_sha256 != (model_sha256 or fingerprint(model)):
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
    """The given labels alone, and with every class of every other attribute."""
    return [labels, *(one_class_each(attributes, labels) if classes else [])]


def class_gain(bits: np.ndarray, kinds: Sequence[Labels]) -> float:
    """Bits saved by the best class of every attribute, from bits (K,) under `explanations`."""
    known, *others = kinds
    saved: dict[str, float] = {}
    for each, labels in zip(bits[1:], others, strict=True):
        (name,) = labels.keys() - known.keys()
        saved[name] = max(saved.get(name, -np.inf), bits[0] - each)
    return float(sum(saved.values()))


def load_background(path: str | Path, network: Network) -> tuple[Network, str]:
    other, sha256 = load_with_fingerprint(path, network.device)
    if other.config.sample_rate != network.config.sample_rate:
        raise ConfigError(
            f"{path}: has a rate of {other.config.sample_rate} Hz, but the model has "
            f"{network.config.sample_rate}; give a background model of the same rate"
        )
    return other, sha256


def scored(
    network: Network,
    other: Network | None,
    paths: str | Path | Sequence[str | Path | Source],
    kinds: Sequence[Labels],
    take: Callable[[int], Watcher],
    progress: Callable[[int], object],
) -> Iterator[tuple[Score, float | None]]:
    """Yield scores with profiles, and total bits under a background network."""
    scores = score(network, paths, kinds, watch=take, progress=progress)
    if other is None:
        return ((each, None) for each in scores)
    beside = (None if each.error else float(each.bits[0]) for each in score(other, paths))
    return zip(scores, beside, strict=True)
