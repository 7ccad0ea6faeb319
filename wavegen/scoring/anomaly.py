"""Does a recording belong? Scores of its likelihood, calibrated on normal recordings.

A high likelihood alone says little: it follows loudness and smoothness, so that quiet or
simple sounds look normal (Nalisnick et al. 2019a, "Do deep generative models know what
they don't know?"). So several scores are taken of the surprisal of a recording:

- `mean`: bits per sample (Hayashi et al. 2018, anomalous sound event detection by WaveNet);
- `window`: the mean over the most surprising window, 20 ms;
- `rest`: the mean over the least surprising window, 10 ms: drop-outs, held tones, hum;
- `peak`: the mean over the most surprising samples, one in two hundred: clicks, clipping;
- `ratio`: the mean less that of a background model (Ren et al. 2019, "Likelihood ratios for
  out-of-distribution detection"): the histogram of normal codes, or another network;
- `gain`: bits per sample that are saved by knowing the class, at best, of every attribute: a
  voice of nobody in the training data may be as likely as any, but no speaker explains it.

All but the last are two-sided, as in a typicality test (Nalisnick et al. 2019b, "Detecting
out-of-distribution inputs to deep generative models using typicality"): their combination
is the Mahalanobis distance from normal recordings, which also sees what is unusual only
together, such as a mean that is normal for a recording that is never at rest.

The p-value is the share of normal recordings that lie as far out, each measured against
the others (Vovk et al. 2005, conformal prediction; folds as in Vovk 2015): a normal
recording falls below a threshold about as often as the threshold says.
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
# Normal recordings with which the distances mean anything.
_FEWEST = 40
# No score and no count in a calibration is larger.
_MOST = 10**15


@dataclass(frozen=True)
class Verdict:
    """On one recording.

    Args:
        p: share of normal recordings that lie as far out; it ties where all lie nearer.
        distance: Mahalanobis distance from normal recordings, about as many standard deviations;
            it ranks recordings further where p-values tie.
        raised_by: the one of SCORES that is farthest from normal; None of a normal recording.
        spans: seconds from and to, of windows beyond those of nearly all normal recordings.
    """

    p: float
    distance: float
    raised_by: str | None
    spans: tuple[tuple[float, float], ...]


def features(surprisal: np.ndarray, background: float, gain: float, sample_rate: int) -> np.ndarray:
    """The scores of a recording, float64 (len(SCORES),).

    Args:
        surprisal: bits of every sample (time,).
        background: bits per sample under the background model.
        gain: bits per sample that classes save.
        sample_rate: in Hz.
    """
    profile = Profile(sample_rate, len(surprisal)).add(None, surprisal)
    return profile.features(background, gain)


def order0_bits(histogram: np.ndarray) -> np.ndarray:
    """Bits of each code, float64 (Q,), by its share of counts (Q,); one unseen counts half."""
    counts = np.asarray(histogram) + 0.5
    return -np.log2(counts / counts.sum())


def bits_by_others(histograms: np.ndarray) -> np.ndarray:
    """Bits per sample of each of N recordings under the codes of all the others, float64 (N,).

    A recording that helped to make its own background would look nearer to it than a new one.

    Args:
        histograms: of the recordings' codes, (N, Q).
    """
    total = histograms.sum(axis=0)
    return np.array([each @ order0_bits(total - each) / each.sum() for each in histograms])


@dataclass(frozen=True)
class Detector:
    """What normal recordings look like to a model.

    Args:
        normal: float64 (N, len(SCORES)), `features` of N normal recordings.
        sample_rate: in Hz.
        model_sha256: `serialization.fingerprint` of the model.
        labels: under which they were scored.
        histogram: of normal codes, (Q,).
        background: path of a background model, used instead of the histogram.
        background_sha256: its fingerprint.
        classes: whether `gain` is known, else it is 0.

    Raises:
        ConfigError: too few recordings.
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
        # Each is measured against the others: against all it would look nearer than it is.
        fold = np.arange(count) % _FOLDS
        distances = np.empty(count)
        for each in range(_FOLDS):
            out = fold == each
            distances[out] = _distance(self.normal[out], self.normal[~out])
        object.__setattr__(self, "_distances", np.sort(distances))

    def check(self, false_alarms: float) -> None:
        """`ConfigError` where so low a rate of false alarms cannot be promised."""
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
        """Judge a recording by its bits, as in `features`; spans at this rate of false alarms."""
        profile = self.profile(len(surprisal), false_alarms).add(None, surprisal)
        return self.verdict(profile, background, gain, false_alarms)

    def profile(self, most: int, false_alarms: float) -> Profile:
        """What takes a recording of `most` samples at most as it is scored, for `verdict`."""
        high = np.quantile(self.normal[:, SCORES.index("window")], 1 - false_alarms / 2)
        low = np.quantile(self.normal[:, SCORES.index("rest")], false_alarms / 2)
        return Profile(self.sample_rate, most, float(high), float(low))

    def verdict(
        self, profile: Profile, background: float, gain: float, false_alarms: float
    ) -> Verdict:
        """Judge a recording; background and gain as in `features`."""
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
        """Squared distance of rows of `features`, (B, len(SCORES)), from normal: float64 (B,)."""
        return _distance(scores, self.normal)

    def p_values(self, distances: np.ndarray) -> np.ndarray:
        """Share of normal recordings that lie as far out, float64 (B,)."""
        normal: np.ndarray = self._distances  # type: ignore[attr-defined]
        beyond = len(normal) - np.searchsorted(normal, distances)
        return (1 + beyond) / (len(normal) + 1)

    def to_json(self) -> str:
        """This detector as JSON; `from_json` gives it back."""
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
        """Read what `to_json` wrote; `ModelError` if it is not that."""
        try:
            values = json.loads(text)
            if not fits(values, _SHAPE):
                raise ValueError("of another shape")
            del values["scores"]
            normal = np.array(values.pop("normal"), dtype=np.float64)
            return cls(normal, histogram=tuple(values.pop("histogram")), **values)
        except (ValueError, LookupError, TypeError, RecursionError, ConfigError) as error:
            raise ModelError("not a calibration of this version: calibrate again") from error


# Scores are so small that their squares are numbers, too.
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
    """How many standard deviations each score lies from the mean of normal ones."""
    away = (scores - normal.mean(axis=0)) / _spread(normal)
    # No class can explain a recording too well.
    gain = SCORES.index("gain")
    away[..., gain] = np.minimum(away[..., gain], 0)
    return away


def _distance(scores: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Squared Mahalanobis distance of each row of scores from normal ones."""
    known = _away(normal, normal)
    # A little is added to each variance: scores may follow from one another.
    covariance = np.cov(known.T) + 1e-3 * np.eye(len(SCORES))
    far = _away(scores, normal) - known.mean(axis=0)
    return np.einsum("ni,ij,nj->n", far, np.linalg.inv(covariance), far)
