"""Detecting recordings that are not normal, by a model calibrated on normal ones."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from wavegen.codecs.windows import regrouped
from wavegen.errors import AudioFileError, ConfigError, ModelError
from wavegen.models.base import Network
from wavegen.models.serialization import (
    load_with_fingerprint,
)
from wavegen.scoring.anomaly import Detector, Verdict, order0_bits
from wavegen.scoring.calibration import (
    calibrate,
    class_gain,
    explanations,
    load_background,
    load_detector,
    scored,
)
from wavegen.scoring.score import Score, Watcher
from wavegen.scoring.sources import Source

# Exported here too, so that callers need one import for calibrating and detecting.
__all__ = ["AnomalyDetector", "Finding", "calibrate", "detect", "load_detector"]


@dataclass(frozen=True)
class Finding:
    """The result for a file.

    Args:
        score: bits of the file, or the error.
        verdict: the verdict; None if the file cannot be read.
        normal: whether the p-value is above the false alarm rate.
    """

    score: Score
    verdict: Verdict | None = None
    normal: bool | None = None


def detect(
    model: str | Path,
    paths: str | Path | Sequence[str | Path | Source],
    *,
    false_alarms: float = 0.01,
    device: str | torch.device = "cpu",
    watch: Callable[[int], Watcher] | None = None,
    progress: Callable[[int], object] = int,
) -> Iterator[Finding]:
    """Judge files in their order by a calibrated model.

    Args:
        model: path of a run folder or model directory.
        paths: files and folders, or results of `sources.find_sources`.
        false_alarms: share of normal recordings that may be reported as not normal.
        device: device for scoring.
        watch: makes another watcher of the samples of each file, see `score`; it is in the
            `Score` of the finding.
        progress: called with the number of samples that have been scored.

    Returns:
        An iterator over the `Finding` for each file.

    Raises:
        ConfigError: the calibration has too few recordings for this false alarm rate.
        DataError: a path does not exist, or a folder holds no audio.
        ModelError: the model is missing or damaged, was not calibrated, or has changed since.
    """
    network, model_sha256 = load_with_fingerprint(model, device)
    judge = AnomalyDetector(network, load_detector(model, model_sha256), false_alarms)
    return judge.files(paths, watch=watch, progress=progress)


class AnomalyDetector:
    """A network with its calibration, for judging files, waveforms and live sound.

    Args:
        network: network in evaluation mode.
        calibration: its calibration, from `load_detector`.
        false_alarms: share of normal recordings that may be reported as not normal.

    Raises:
        ConfigError: the calibration has too few recordings for this false alarm rate.
        ModelError: the background model of the calibration has changed.
    """

    def __init__(self, network: Network, calibration: Detector, false_alarms: float = 0.01) -> None:
        calibration.check(false_alarms)
        self.network, self.calibration, self.false_alarms = network, calibration, false_alarms
        self._background: Network | None = None
        if calibration.background is not None:
            self._background, sha256 = load_background(calibration.background, network)
            if sha256 != calibration.background_sha256:
                raise ModelError(
                    f"{calibration.background}: has changed since the calibration; calibrate again"
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
        """Judge files in their order; see `detect`."""
        take = partial(_Watched, self.calibration, self.false_alarms, watch)
        pairs = scored(self.network, self._background, paths, self._kinds, take, progress)
        return (self._finding(each, bits) for each, bits in pairs)

    def judge(self, waveform: np.ndarray, sample_rate: int | None = None) -> Finding:
        """Judge a recording in memory.

        Args:
            waveform: float (time,).
            sample_rate: rate of the waveform in Hz; by default that of the network.

        Raises:
            AudioFileError: the waveform has no samples, or holds NaN or infinity.
            ConfigError: the shape or type is wrong, or the rate is outside 100 to 768,000 Hz.
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
        """Judge live sound in parts of `seconds`, each like a recording.

        The results do not depend on the sizes of the chunks. The rest at the end, which is
        shorter than `seconds`, is not judged.

        Args:
            chunks: waveforms float (time,), one after another.
            seconds: length of a part, similar to that of the recordings used in calibration.
            sample_rate: rate of the chunks in Hz; by default that of the network.

        Yields:
            The begin of a part in seconds, and its finding, as soon as the part is complete.
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
    """Passes a recording to a profile and to another watcher."""

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


def _per_sample(each: Score, background_bits: float | None, order0: np.ndarray) -> float:
    """Bits per sample under the background model."""
    bits = each.histogram @ order0 if background_bits is None else background_bits
    return float(bits) / each.samples
