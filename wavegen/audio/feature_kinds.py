"""The kinds of features: log-mel, pitch, loudness and position.

A feature is a definition with every number that its computation needs. Frame f is for the samples
from f * hop_length on, `hop_length` of them; its window may extend beyond them on both sides.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from wavegen.audio import framing
from wavegen.codecs.codec import Waveform
from wavegen.errors import ConfigError
from wavegen.utils.numbers import whole_number

# Limits on the work that a config from somebody else can ask for.
_LIMITS = {"sample_rate": (100, 768_000), "hop_length": (1, 65536)}
_MEL_LIMITS = {"n_fft": (2, 65536), "win_length": (2, 65536), "n_mels": (1, 1024)}


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One kind of feature.

    Args:
        sample_rate: rate of recordings in Hz.
        hop_length: samples from one frame to the next.

    Attributes:
        kind: name in configs and on the command line.
        of_time: whether frames depend only on the time, not on the sound.

    Raises:
        ConfigError: a value is out of range.
    """

    kind: ClassVar[str]
    of_time: ClassVar[bool] = False
    sample_rate: int
    hop_length: int

    def __post_init__(self) -> None:
        self._check_whole(_LIMITS)

    @property
    def size(self) -> int:
        """D, the number of values in a frame."""
        raise NotImplementedError

    @property
    def ranges(self) -> list[tuple[float, float]]:
        """The least and the greatest possible value of each of the D numbers."""
        raise NotImplementedError

    def compute(self, waveform: Waveform, first: int, count: int) -> np.ndarray:
        """Compute the frames `first` to `first + count - 1` of a recording.

        Args:
            waveform: float32 (time,), of which only the part for these frames is read.
            first: number of the first frame.
            count: number of frames F.

        Returns:
            float32 (F, D).
        """
        raise NotImplementedError

    def _check_numbers(self, *names: str) -> None:
        """Convert fields to floats, or raise `ConfigError`."""
        for name in names:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ConfigError(f"{name} is {value!r:.40}: it must be a number")
            object.__setattr__(self, name, float(value))

    def _check_whole(self, limits: dict[str, tuple[int, int]]) -> None:
        for name, (least, most) in limits.items():
            value = whole_number(name, getattr(self, name), least, most)
            object.__setattr__(self, name, value)


@dataclass(frozen=True, kw_only=True)
class LogMel(Feature):
    """Logarithms of the magnitudes in mel bands.

    Args:
        n_fft: samples of a window.
        win_length: samples of the Hann window, in the middle of the window.
        n_mels: number of bands D.
        f_min: lower end of the first band, in Hz.
        f_max: upper end of the last band, in Hz.
        mel_scale: `slaney` or `htk`.
        norm: `slaney` divides each band by its width; `none` does not.
        power: exponent of the magnitudes.
        log_base: `e` or `10`.
        floor: smaller magnitudes are replaced by this before the logarithm.
        framing: one of `wavegen.audio.framing.FRAMINGS`.
    """

    kind: ClassVar[str] = "log_mel"
    n_fft: int
    win_length: int
    n_mels: int
    f_min: float = 0.0
    f_max: float
    mel_scale: str = "slaney"
    norm: str = "slaney"
    power: float = 1.0
    log_base: str = "e"
    floor: float = 1e-5
    framing: str = "whole"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_whole(_MEL_LIMITS)
        choices = {
            "mel_scale": ("slaney", "htk"),
            "norm": ("slaney", "none"),
            "log_base": ("e", "10"),
            "framing": framing.FRAMINGS,
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"{name} is {getattr(self, name)!r:.40}: it must be {' or '.join(known)}"
                )
        self._check_numbers("f_min", "f_max", "power", "floor")
        if not 0 <= self.f_min < self.f_max <= self.sample_rate / 2:
            raise ConfigError(
                f"mel bands from {self.f_min:g} to {self.f_max:g} Hz: they must be between 0 and "
                f"half the sample rate, {self.sample_rate / 2:g} Hz"
            )
        if not (0 < self.power <= 4 and 1e-30 <= self.floor <= 1):
            raise ConfigError("power must be above 0 and at most 4, and floor from 1e-30 to 1")
        if not self.hop_length <= self.win_length <= self.n_fft:
            raise ConfigError(
                f"hop_length {self.hop_length}, win_length {self.win_length}, n_fft {self.n_fft}: "
                "each must be at most the next"
            )

    @property
    def size(self) -> int:
        """D, the number of bands."""
        return self.n_mels

    @property
    def ranges(self) -> list[tuple[float, float]]:
        """See `Feature.ranges`; predicted values may be below the floor by a factor of e."""
        most = max(self.n_fft**self.power * self.n_fft, 2 * self.floor)
        return [(self._logarithm(self.floor / math.e), self._logarithm(most))] * self.n_mels

    def compute(self, waveform: Waveform, first: int, count: int) -> np.ndarray:
        """See `Feature.compute`; computed by torchaudio."""
        import torch

        padded = framing.excerpt(
            waveform, first, count, self.hop_length, self.n_fft, self.framing, "reflect"
        )
        with torch.inference_mode():
            bands = framing.mel_spectrogram(self)(torch.from_numpy(padded))
            logs = bands.clamp(min=self.floor)
            logs = logs.log() if self.log_base == "e" else logs.log10()
        return np.ascontiguousarray(logs.T.numpy())

    def _logarithm(self, value: float) -> float:
        return math.log(value) if self.log_base == "e" else math.log10(value)


@dataclass(frozen=True, kw_only=True)
class Pitch(Feature):
    """The fundamental frequency as log2(Hz), and whether a frame is voiced: 1 or 0.

    The method is probabilistic YIN (Mauch & Dixon 2014, `pyin` of librosa). YIN itself does not
    decide whether a frame is voiced, and jumps by octaves. The probabilities of `pyin` are low even
    for clear voices, so the decision of its hidden Markov model is used. The pitch of unvoiced
    frames is interpolated between the nearest voiced ones.

    Args:
        f_min: lowest pitch in Hz.
        f_max: highest pitch in Hz.
    """

    kind: ClassVar[str] = "pitch"
    f_min: float = 65.0
    f_max: float = 1000.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_numbers("f_min", "f_max")
        if not self.sample_rate / 32768 <= self.f_min < self.f_max < self.sample_rate / 2:
            raise ConfigError(
                f"pitch from {self.f_min:g} to {self.f_max:g} Hz: it must be between "
                f"{self.sample_rate / 32768:g} Hz and half the sample rate"
            )

    @property
    def size(self) -> int:
        """D: log2(Hz), and whether the frame is voiced."""
        return 2

    @property
    def ranges(self) -> list[tuple[float, float]]:
        """See `Feature.ranges`; a pitch may be outside f_min and f_max, such as a shifted one."""
        return [(0.0, math.log2(self.sample_rate)), (0.0, 1.0)]

    def compute(self, waveform: Waveform, first: int, count: int) -> np.ndarray:
        """See `Feature.compute`.

        `pyin` sees these frames and half a second of sound on both sides.
        """
        return framing.pitch(
            waveform, first, count, self.sample_rate, self.hop_length, self.f_min, self.f_max
        )


@dataclass(frozen=True, kw_only=True)
class Loudness(Feature):
    """The level of four hops of sound around a frame, in decibels below full scale.

    The level is not weighted by the sensitivity of hearing, since the network must also generate
    sounds that are hard to hear.

    Args:
        floor: least level in decibels.
    """

    kind: ClassVar[str] = "loudness"
    floor: float = -80.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_numbers("floor")
        if not -200 <= self.floor < 0:
            raise ConfigError(f"floor is {self.floor:g}: it must be from -200 to 0 decibels")

    @property
    def size(self) -> int:
        """D, a single number."""
        return 1

    @property
    def ranges(self) -> list[tuple[float, float]]:
        """See `Feature.ranges`; a floating-point recording may be above full scale."""
        return [(self.floor - 1, 60.0)]

    def compute(self, waveform: Waveform, first: int, count: int) -> np.ndarray:
        """See `Feature.compute`."""
        hop, window = self.hop_length, 4 * self.hop_length
        padded = framing.excerpt(waveform, first, count, hop, window, "same", "constant")
        sums = np.cumsum(np.square(padded, dtype=np.float64))
        sums = np.concatenate([[0.0], sums])
        starts = np.arange(count) * hop
        power = np.maximum(sums[starts + window] - sums[starts], 0) / window
        levels = 10 * np.log10(np.maximum(power, 10 ** (self.floor / 10)))
        return levels.astype(np.float32)[:, None]


@dataclass(frozen=True, kw_only=True)
class Position(Feature):
    """The time t since the beginning of the recording, as t / (t + s) for several s in seconds.

    Each number rises from 0 to 1. Together they resolve hundredths of a second at the beginning,
    and minutes later.
    """

    kind: ClassVar[str] = "position"
    of_time: ClassVar[bool] = True
    scales: ClassVar[tuple[float, ...]] = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)

    @property
    def size(self) -> int:
        """D, one number for each scale."""
        return len(self.scales)

    @property
    def ranges(self) -> list[tuple[float, float]]:
        """See `Feature.ranges`."""
        return [(0.0, 1.0)] * self.size

    def compute(self, waveform: Waveform, first: int, count: int) -> np.ndarray:
        """See `Feature.compute`."""
        seconds = np.arange(first, first + count)[:, None] * self.hop_length / self.sample_rate
        return (seconds / (seconds + np.array(self.scales))).astype(np.float32)


KINDS: dict[str, type[Feature]] = {each.kind: each for each in (LogMel, Pitch, Loudness, Position)}
