"""Recordings that do not belong: calibrating a model on normal ones, and judging others.

The calibration lies beside the model, as `detector.json`.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from wavegen.codecs.windows import regrouped
from wavegen.data.labels import Attributes, Labels, encode, one_class_each
from wavegen.errors import AudioFileError, ConfigError, DataError, LabelError, ModelError
from wavegen.models.base import Network
from wavegen.models.serialization import (
    find_model,
    fingerprint,
    load_config,
    load_with_fingerprint,
    plain,
)
from wavegen.scoring.anomaly import SCORES, Detector, Verdict, bits_by_others, order0_bits
from wavegen.scoring.profile import Profile
from wavegen.scoring.score import Score, Watcher, score
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
        other, background_sha256 = _load_background(background, network)
    kinds = explanations(config.labels, labels or {}, classes)
    take = partial(Profile, config.sample_rate)
    scored = _scored(network, other, paths, kinds, take, progress)
    table, histograms = _normal(scored, kinds, on_score)
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
    scored: Iterable[tuple[Score, float | None]],
    kinds: Sequence[Labels],
    on_score: Callable[[Score], object],
) -> tuple[np.ndarray, np.ndarray]:
    """What normal recordings are like.

    Args:
        scored: of `_scored`, watched by a `Profile` each.
        kinds: of `explanations`.
        on_score: told of every file.

    Returns:
        The scores of each recording, float64 (N, len(SCORES)), and the histogram of its codes,
        int64 (N, Q).
    """
    rows, histograms, samples, background = [], [], [], []
    for each, bits in scored:
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


def detect(
    model: str | Path,
    paths: str | Path | Sequence[str | Path | Source],
    *,
    false_alarms: float = 0.01,
    device: str | torch.device = "cpu",
    watch: Callable[[int], Watcher] | None = None,
    progress: Callable[[int], object] = int,
) -> Iterator[Finding]:
    """Judge files, in their order, by a model that was calibrated.

    Args:
        model: path of a run folder or model directory.
        paths: files and folders, or what `sources.find_sources` found.
        false_alarms: share of normal recordings that may be taken for others.
        device: to score on.
        watch: makes what is shown the samples of each file besides, as in `score`; the `Score`
            of the finding has it.
        progress: told the samples as they are scored.

    Returns:
        A `Finding` for each file, as they are asked for.

    Raises:
        ConfigError: a rate that cannot be promised.
        DataError, ModelError: as their messages say; the model was not calibrated, or has
            changed since.
    """
    network, model_sha256 = load_with_fingerprint(model, device)
    judge = AnomalyDetector(network, load_detector(model, model_sha256), false_alarms)
    return judge.files(paths, watch=watch, progress=progress)


class AnomalyDetector:
    """A network and what it takes for normal, ready to judge files, waveforms and live sound.

    Args:
        network: in evaluation mode.
        calibration: of that network, from `load_detector`.
        false_alarms: share of normal recordings that may be taken for others.

    Raises:
        ConfigError: a rate that cannot be promised.
        ModelError: the background model of the calibration has changed.
    """

    def __init__(self, network: Network, calibration: Detector, false_alarms: float = 0.01) -> None:
        calibration.check(false_alarms)
        self.network, self.calibration, self.false_alarms = network, calibration, false_alarms
        self._background: Network | None = None
        if calibration.background is not None:
            self._background, sha256 = _load_background(calibration.background, network)
            if sha256 != calibration.background_sha256:
                raise ModelError(
                    f"{calibration.background}: not the model that it was at calibration"
                )
        self._order0 = order0_bits(np.array(calibration.histogram))
        self._kinds = explanations(network.config.labels, calibration.labels, calibration.classes)

    def files(
        self,
        paths: str | Path | Sequence[str | Path | Source],
        *,
        watch: Callable[[int], Watcher] | None = None,
        progress: Callable[[int], object] = int,
    ) -> Iterator[Finding]:
        """Judge files, in their order; see `detect`."""
        take = partial(_Watched, self.calibration, self.false_alarms, watch)
        pairs = _scored(self.network, self._background, paths, self._kinds, take, progress)
        return (self._finding(each, bits) for each, bits in pairs)

    def judge(self, waveform: np.ndarray, sample_rate: int | None = None) -> Finding:
        """Judge a recording in memory.

        Args:
            waveform: float (time,).
            sample_rate: of the waveform, in Hz; the network's if not given.

        Raises:
            AudioFileError: no samples, or NaN or infinity.
            ConfigError: another shape or type, or a rate outside 100 to 768,000 Hz.
        """
        source = Source(Path("waveform"), waveform=waveform, sample_rate=sample_rate or 0)
        (finding,) = self.files([source])
        if finding.score.error:
            reason = finding.score.error
            raise AudioFileError(f"waveform: {reason}", reason=reason)
        return finding

    def stream(
        self, chunks: Iterable[np.ndarray], seconds: float, sample_rate: int | None = None
    ) -> Iterator[tuple[float, Finding]]:
        """Judge live sound, every so many seconds as a recording of its own.

        What is found does not depend on how the sound comes in chunks. What is left at the end,
        shorter than `seconds`, is not judged.

        Args:
            chunks: waveforms float (time,), one after another.
            seconds: about as long as the recordings that the model was calibrated on.
            sample_rate: of the chunks, in Hz; the network's if not given.

        Yields:
            Seconds from the beginning of the sound at which a part begins, and what is found of
            it, as soon as it has come.
        """
        rate = sample_rate or self.network.config.sample_rate
        if not 0 < seconds < math.inf:
            raise ConfigError(f"seconds is {seconds}: it must be above 0")
        size = max(1, round(seconds * rate))
        for number, part in enumerate(regrouped(chunks, size)):
            if len(part) == size:
                yield number * size / rate, self.judge(part, rate)

    def _finding(self, each: Score, background_bits: float | None) -> Finding:
        if each.watcher is None:
            return Finding(each)
        watched: _Watched = each.watcher
        background = _per_sample(each, background_bits, self._order0)
        gain = class_gain(each.bits, self._kinds) / each.samples
        verdict = self.calibration.verdict(watched.profile, background, gain, self.false_alarms)
        score = replace(each, watcher=watched.other)
        return Finding(score, verdict, verdict.p > self.false_alarms)


class _Watched:
    """Shows a recording to a profile, and to who else wants to see it."""

    def __init__(
        self,
        calibration: Detector,
        false_alarms: float,
        watch: Callable[[int], Watcher] | None,
        most: int,
    ) -> None:
        self.profile = calibration.profile(most, false_alarms)
        self.other = None if watch is None else watch(most)

    def add(self, waveform: np.ndarray, surprisal: np.ndarray) -> None:
        self.profile.add(waveform, surprisal)
        if self.other is not None:
            self.other.add(waveform, surprisal)


def load_detector(model: str | Path, model_sha256: str | None = None) -> Detector:
    """The calibration that lies beside a model.

    Args:
        model: path of a run folder or model directory.
        model_sha256: `fingerprint` of the model that was loaded from there, if it was.

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


def _load_background(path: str | Path, network: Network) -> tuple[Network, str]:
    other, sha256 = load_with_fingerprint(path, network.device)
    if other.config.sample_rate != network.config.sample_rate:
        raise ConfigError(
            f"{path}: is for {other.config.sample_rate} Hz, the model for "
            f"{network.config.sample_rate}; a background model must have the same rate"
        )
    return other, sha256


def _scored(
    network: Network,
    other: Network | None,
    paths: str | Path | Sequence[str | Path | Source],
    kinds: Sequence[Labels],
    take: Callable[[int], Watcher],
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
