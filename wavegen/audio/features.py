"""Feature sets: the definition of the frames that condition a model.

A model keeps the whole definition in its config, so that the features of other recordings are
computed in the same way.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from wavegen.audio import framing
from wavegen.audio.feature_kinds import KINDS, Feature, LogMel
from wavegen.codecs.codec import Waveform
from wavegen.errors import ConfigError

# Frames that are computed at a time, so that memory does not grow with the length.
_FRAMES = 4096


@dataclass(frozen=True)
class FeatureSet:
    """Features that are concatenated, with the same sample rate and hop.

    Args:
        features: one or more features, each of another kind.

    Raises:
        ConfigError: a kind comes twice, or rates or hops differ.
    """

    features: tuple[Feature, ...]

    def __post_init__(self) -> None:
        kinds = [each.kind for each in self.features]
        if not kinds or len(set(kinds)) != len(kinds):
            raise ConfigError("features: name at least one kind, and each kind once")
        if len({(each.sample_rate, each.hop_length) for each in self.features}) > 1:
            raise ConfigError("features must have one sample_rate and one hop_length")

    @property
    def sample_rate(self) -> int:
        """The rate of recordings in Hz."""
        return self.features[0].sample_rate

    @property
    def hop_length(self) -> int:
        """Samples from one frame to the next."""
        return self.features[0].hop_length

    @property
    def size(self) -> int:
        """D, the number of values in a frame."""
        return sum(each.size for each in self.features)

    @property
    def name(self) -> str:
        """The kinds, such as "pitch,loudness"."""
        return ",".join(each.kind for each in self.features)

    @property
    def of_time(self) -> bool:
        """Whether all frames depend only on the time, so that they are known in advance."""
        return all(each.of_time for each in self.features)

    def frames(self, samples: int) -> int:
        """F, the number of frames of a recording with so many samples, see `framing.frames`."""
        framings = [each.framing for each in self.features if isinstance(each, LogMel)]
        return framing.frames(samples, self.hop_length, *framings)

    def compute(self, waveform: Waveform, first: int = 0, count: int | None = None) -> np.ndarray:
        """Compute frames of a recording, float32 (F, D): all, or `count` of them from `first` on.

        Args:
            waveform: float32 (time,) at `sample_rate`, in memory or on disk.
            first: number of the first frame.
            count: number of frames.
        """
        total = self.frames(len(waveform))
        stop = total if count is None else min(total, first + count)
        parts = [
            np.concatenate(
                [each.compute(waveform, at, min(_FRAMES, stop - at)) for each in self.features],
                axis=1,
            )
            for at in range(first, stop, _FRAMES)
        ]
        return np.concatenate(parts) if parts else np.empty((0, self.size), np.float32)

    def column(self, kind: str) -> int | None:
        """The number of the first value of a kind in a frame; None if it is not in the set."""
        before = 0
        for each in self.features:
            if each.kind == kind:
                return before
            before += each.size
        return None

    def check(self, frames: np.ndarray) -> None:
        """Check values (F, D) from elsewhere.

        Raises:
            ConfigError: values are not finite, or impossible by this definition.
        """
        names = [each.kind for each in self.features for _ in range(each.size)]
        ranges = [each for feature in self.features for each in feature.ranges]
        for begin in range(0, len(frames), _FRAMES):
            part = np.asarray(frames[begin : begin + _FRAMES])
            if not np.isfinite(part).all():
                raise ConfigError("holds NaN or infinity: compute the features again")
            least, most = part.min(0), part.max(0)
            for name, (low, high), below, above in zip(names, ranges, least, most, strict=True):
                if below < low or above > high:
                    wrong = below if below < low else above
                    raise ConfigError(
                        f"holds {wrong:.4g} for {name}, which is from {low:.4g} to {high:.4g} by "
                        "the definition of the model: compute the features by that definition"
                    )

    def to_json(self) -> list[dict[str, Any]]:
        """The definition as JSON, which `from_json` reads."""
        return [{"kind": each.kind, **asdict(each)} for each in self.features]

    @classmethod
    def from_json(cls, values: object) -> "FeatureSet":
        """Read the JSON of `to_json`; `ConfigError` for anything else."""
        if not isinstance(values, list | tuple):
            raise ConfigError("features must be a list of definitions")
        return cls(tuple(_from_json(each) for each in values))


def _from_json(values: Any) -> Feature:
    if not isinstance(values, dict) or values.get("kind") not in KINDS:
        raise ConfigError(f"features: {values!r:.60} is none of the kinds {', '.join(KINDS)}")
    kind = KINDS[values["kind"]]
    given = {name: value for name, value in values.items() if name != "kind"}
    names = {each.name for each in fields(kind)}
    if set(given) != names:
        raise ConfigError(
            f"features: {kind.kind} has the fields {', '.join(sorted(names))}, and given are "
            f"{', '.join(sorted(map(str, given)))}"
        )
    return kind(**given)


def parse(text: str | Sequence[str], sample_rate: int) -> FeatureSet:
    """Parse features such as `log_mel`, `pitch,loudness` or `log_mel:hifigan`.

    Raises:
        ConfigError: a kind or preset is unknown, or a preset has another sample rate.
    """
    from wavegen.audio.presets import make

    words = list(_words(text))
    return FeatureSet(make(words, sample_rate))


def _words(text: str | Sequence[str]) -> Iterator[tuple[str, str]]:
    for word in text.split(",") if isinstance(text, str) else text:
        kind, _, preset = word.strip().partition(":")
        yield kind, preset
