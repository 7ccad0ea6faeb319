"""Anomaly detection by scores of the likelihood, calibrated on normal recordings.

A high likelihood alone says little, since it depends on loudness and smoothness: quiet or simple
sounds look normal (Nalisnick et al. 2019a, "Do deep generative models know what they don't
know?"). So several scores are computed from the surprisal of a recording:

- `mean`: bits per sample (Hayashi et al. 2018, anomalous sound event detection by WaveNet);
- `window`: the mean over the most surprising window, 20 ms;
- `rest`: the mean over the least surprising window, 10 ms: drop-outs, held tones, hum;
- `peak`: the mean over the most surprising samples, one in two hundred: clicks, clipping;
- `ratio`: the mean minus that of a background model (Ren et al. 2019, "Likelihood ratios for
  out-of-distribution detection"), which is the histogram of normal codes or another network;
- `gain`: bits per sample that the best class of every attribute saves, compared with unspecified
  classes. An unknown speaker may be as likely as any, but no known speaker explains the voice.

All but the last are two-sided, as in a typicality test (Nalisnick et al. 2019b, "Detecting
out-of-distribution inputs to deep generative models using typicality"). They are combined by the
Mahalanobis distance from normal recordings, which also finds unusual combinations, such as a
normal mean in a recording without any quiet part.

The p-value is the share of normal recordings at the same or a greater distance, each measured
against the others (Vovk et al. 2005, conformal prediction; folds as in Vovk 2015). So the p-value
of a normal recording is below a threshold about as often as the threshold says.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wavegen.errors import ConfigError, ModelError
from wavegen.scoring.profile import SCORES, Profile
from wavegen.utils.json_shape import fits, number, optional, whole

_FOLDS = 10
# Least number of normal recordings for meaningful distances.
_FEWEST = 40
# Larger than any score or count in a calibration.
_MOST = 10**15


@dataclass(frozen=True)
class Verdict:
    """The verdict on one recording.

    Args:
        p: share of normal recordings at the same or a greater distance. Recordings farther out
            than all normal ones have the same p-value.
        distance: Mahalanobis distance from normal recordings, about a number of standard
            deviations. It ranks recordings with the same p-value.
        raised_by: the one of SCORES that is farthest from normal; None for a normal recording.
        spans: begin and end in seconds of windows that are very rare in normal recordings.
    """

    p: float
    distance: float
    raised_by: str | None
    spans: tuple[tuple[float, float], ...]


def features(surprisal: np.ndarray, background: float, gain: float, sample_rate: int) -> np.ndarray:
    """The scores of a recording, float64 (len(SCORES),).

    Args:
        surprisal: bits of every sample, float (time,).
        background: bits per sample under the background model.
        gain: bits per sample that classes save.
        sample_rate: rate of the recording in Hz.
    """
    profile = Profile(sample_rate, len(surprisal)).add(None, surprisal)
    return profile.features(background, gain)


def order0_bits(histogram: np.ndarray) -> np.ndarray:
    """Bits of each code, float64 (Q,), by its share of counts (Q,); a count of 0 becomes 0.5."""
    counts = np.asarray(histogram) + 0.5
    return -np.log2(counts / counts.sum())


def bits_by_others(histograms: np.ndarray) -> np.ndarray:
    """Bits per sample of each of N recordings under the histogram of all others, float64 (N,).

    With its own codes in the histogram a recording would have fewer bits than a new one.

    Args:
        histograms: histograms of the codes of the recordings, (N, Q).
    """
    total = histograms.sum(axis=0)
    return np.array([each @ order0_bits(total - each) / each.sum() for each in histograms])


@dataclass(frozen=True)
class Detector:
    """The calibration of a model: the scores of normal recordings.

    Args:
        normal: float64 (N, len(SCORES)), `features` of N normal recordings.
        sample_rate: rate of the model in Hz.
        model_sha256: `serialization.fingerprint` of the model.
        labels: labels under which the recordings were scored.
        histogram: histogram of normal codes, (Q,).
        background: path of a background model, used instead of the histogram.
        background_sha256: fingerprint of the background model.
        classes: whether `gain` was computed; otherwise it is 0.

    Raises:
        ConfigError: there are too few recordings.
    """

    normal: np.ndarray
    sample_rate: int
    model_sha256: str
    labels: Mapping[str, str] = field(default_factory=dict)
    histogram: tuple[int, ...] = ()
    background: str | None = None
    background_sha256: str | None = None
    classes: bool = True

    def __post_init__(self) -> None:
        count = len(self.normal)
        if count < _FEWEST:
            raise ConfigError(f"{count} normal recordings: calibrate with {_FEWEST} or more")
        if not (np.abs(self.normal) <= _MOST).all():
            raise ModelError(
                f"normal recordings have scores beyond {_MOST:.0e} bits: the weights of the model "
                "are damaged; take an earlier model"
            )
        # Each is measured against the others, since it would be too near to a set with itself.
        fold = np.arange(count) % _FOLDS
        distances = np.empty(count)
        for each in range(_FOLDS):
            out = fold == each
            distances[out] = _distance(self.normal[out], self.normal[~out])
        object.__setattr__(self, "_distances", np.sort(distances))

    def check(self, false_alarms: float) -> None:
        """Raise `ConfigError` if the recordings are too few for so low a rate of false alarms."""
        if not 0 < false_alarms < 1:
            raise ConfigError(f"false-alarms is {false_alarms}: it must be between 0 and 1")
        if false_alarms * (len(self.normal) + 1) < 1:
            raise ConfigError(
                f"false-alarms is {false_alarms}: with {len(self.normal)} normal recordings it "
                f"must be {1 / (len(self.normal) + 1):.2g} or more; calibrate with more"
            )

    def judge(
        self, surprisal: np.ndarray, background: float, gain: float, false_alarms: float
    ) -> Verdict:
        """Judge a recording by its bits, see `features`; spans are for this false alarm rate."""
        profile = self.profile(len(surprisal), false_alarms).add(None, surprisal)
        return self.verdict(profile, background, gain, false_alarms)

    def profile(self, most: int, false_alarms: float) -> Profile:
        """Make the profile that collects a recording of at most `most` samples for `verdict`."""
        high = np.quantile(self.normal[:, SCORES.index("window")], 1 - false_alarms / 2)
        low = np.quantile(self.normal[:, SCORES.index("rest")], false_alarms / 2)
        return Profile(self.sample_rate, most, float(high), float(low))

    def verdict(
        self, profile: Profile, background: float, gain: float, false_alarms: float
    ) -> Verdict:
        """Judge a recording by its profile; see `features` for the other arguments."""
        scores = profile.features(background, gain)
        squared = self.distance(scores[None])
        p = float(self.p_values(squared)[0])
        farthest = SCORES[int(np.abs(_away(scores, self.normal)).argmax())]
        return Verdict(
            p,
            math.sqrt(max(0.0, float(squared[0]))),
            farthest if p <= false_alarms else None,
            profile.spans(),
        )

    def distance(self, scores: np.ndarray) -> np.ndarray:
        """Squared distance of `features` (B, len(SCORES)) from normal recordings: float64 (B,)."""
        return _distance(scores, self.normal)

    def p_values(self, distances: np.ndarray) -> np.ndarray:
        """Share of normal recordings at the same or a greater distance, float64 (B,)."""
        normal: np.ndarray = self._distances  # type: ignore[attr-defined]
        beyond = len(normal) - np.searchsorted(normal, distances)
        return (1 + beyond) / (len(normal) + 1)

    def to_json(self) -> str:
        """The calibration as JSON, which `from_json` reads."""
        return json.dumps(
            {
                "scores": SCORES,
                "normal": self.normal.tolist(),
                "sample_rate": self.sample_rate,
                "model_sha256": self.model_sha256,
                "labels": dict(self.labels),
                "histogram": self.histogram,
                "background": self.background,
                "background_sha256": self.background_sha256,
                "classes": self.classes,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> "Detector":
        """Read the JSON of `to_json`; `ModelError` if it is something else."""
        try:
            values = json.loads(text)
            if not fits(values, _SHAPE):
                raise ValueError("of another shape")
            del values["scores"]
            normal = np.array(values.pop("normal"), dtype=np.float64)
            return cls(normal, histogram=tuple(values.pop("histogram")), **values)
        except (ValueError, LookupError, TypeError, RecursionError, ConfigError) as error:
            raise ModelError("not a calibration of this version: calibrate again") from error


# The squares of such scores are still finite.
_SHAPE: dict[str, Any] = {
    "scores": lambda names: names == list(SCORES),
    "normal": [(number(-_MOST, _MOST),) * len(SCORES)],
    "sample_rate": whole(1),
    "model_sha256": str,
    "labels": {str: str},
    "histogram": [whole(0, _MOST)],
    "background": optional(str),
    "background_sha256": optional(str),
    "classes": bool,
}


def _spread(normal: np.ndarray) -> np.ndarray:
    return np.maximum(normal.std(axis=0), 1e-9)


def _away(scores: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Difference of each score from the mean of normal ones, in standard deviations."""
    away = (scores - normal.mean(axis=0)) / _spread(normal)
    # A large gain is never unusual.
    gain = SCORES.index("gain")
    away[..., gain] = np.minimum(away[..., gain], 0)
    return away


def _distance(scores: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Squared Mahalanobis distance of each row of scores from normal ones."""
    known = _away(normal, normal)
    # A little is added to each variance, since scores may be linearly dependent.
    covariance = np.cov(known.T) + 1e-3 * np.eye(len(SCORES))
    far = _away(scores, normal) - known.mean(axis=0)
    return np.einsum("ni,ij,nj->n", far, np.linalg.inv(covariance), far)
