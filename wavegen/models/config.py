"""The configurations of networks: architecture, codec and labels, as frozen dataclasses."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from wavegen.errors import ConfigError
from wavegen.utils.numbers import whole_number
from wavegen.utils.text import display

if TYPE_CHECKING:
    from wavegen.audio.features import FeatureSet
    from wavegen.codecs.codec import Codec

# The format of `config.json`. The first one had no number and no name of a network. The second one
# has no features, and is still written for models without features.
FORMAT = 3
# Larger values are mistakes or attacks. The limits also bound the memory that the config of a model
# from somebody else can ask for.
_LIMITS = {"quantization_channels": (2, 65536), "sample_rate": (100, 768_000)}
# Fields that only matter with features.
OF_FEATURES = ("features", "pitch_waves")
_WAVENET_LIMITS = {
    "layers": (1, 512),
    "stacks": (1, 512),
    "kernel_size": (2, 64),
    "residual_channels": (1, 8192),
    "gate_channels": (2, 16384),
    "skip_channels": (1, 16384),
    "pitch_waves": (0, 12),
}
_MOST_RECEPTIVE_FIELD = 2**22
Gate = Literal["linear", "tanh"]
GATES: tuple[str, ...] = get_args(Gate)


def _is_text(name: str) -> bool:
    """Whether a name is valid UTF-8; a lone surrogate is not."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The config of any network; the same dictionary in YAML, `config.json` and checkpoints.

    Each network has a subclass with its architecture.

    Args:
        quantization_channels: number of mu-law codes Q.
        sample_rate: rate in Hz.
        labels: label attributes, each with its class names.
        features: definitions of the features in the frames of a condition, as written by
            `FeatureSet.to_json`.

    Attributes:
        network: registered name of the network, in `config.json`.
        look_ahead: frames after the present one that the network needs, `Network.margin`; None if
            it does not say.

    Raises:
        ConfigError: a value is out of range.
    """

    network: ClassVar[str]
    look_ahead: ClassVar[int | None] = None
    quantization_channels: int = 256
    sample_rate: int = 16000
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    features: tuple[dict[str, Any], ...] = ()

    def __post_init__(self) -> None:
        self._check_whole(_LIMITS)
        if not isinstance(self.labels, Mapping):
            raise ConfigError("labels must map attribute names to lists of class names")
        for name, classes in self.labels.items():
            if (
                not isinstance(classes, list | tuple)
                or not classes
                or not all(isinstance(c, str) for c in classes)
            ):
                raise ConfigError(f"label attribute '{name}' must list at least one class name")
            for each in (name, *classes):
                if not isinstance(each, str) or not _is_text(each):
                    raise ConfigError(f"label attribute {name!a}: {each!a} is no text in UTF-8")
            if len(set(classes)) != len(classes):
                raise ConfigError(f"label attribute '{name}' lists a class twice")
        if not isinstance(self.features, list | tuple):
            raise ConfigError("features must be a list of feature definitions")
        object.__setattr__(self, "features", tuple(self.features))
        # Made once here, so that a wrong definition is refused like any other field.
        features = self.feature_set
        if features is not None and features.sample_rate != self.sample_rate:
            raise ConfigError(
                f"the features have a rate of {features.sample_rate} Hz, but the model has "
                f"{self.sample_rate} Hz: both must be the same"
            )
        labels = {name: tuple(classes) for name, classes in self.labels.items()}
        object.__setattr__(self, "labels", labels)

    @property
    def receptive_field(self) -> int | None:
        """Number of past codes that can influence a prediction; None if there is no limit."""
        return None

    @property
    def codec(self) -> "Codec":
        """The codec between waveforms and codes."""
        # Imported here, so that the help of the command line does not load numpy.
        from wavegen.codecs.mulaw import MuLaw

        return MuLaw(self.quantization_channels)

    @cached_property
    def feature_set(self) -> "FeatureSet | None":
        """The definition of the frames of a condition; None if the model has no features."""
        if not self.features:
            return None
        from wavegen.audio.features import FeatureSet

        return FeatureSet.from_json(self.features)

    @property
    def sound_features(self) -> "FeatureSet | None":
        """The features; None if there are none, or they depend only on the time."""
        features = self.feature_set
        return None if features is None or features.of_time else features

    def architecture(self) -> list[str]:
        """Lines of `describe` about the architecture, each with a word before it."""
        return [f"network   {self.network}"]

    def describe(self) -> str:
        """The architecture, the receptive field and the labels, in a few lines."""
        lines = [
            *self.architecture(),
            f"codes     {self.codec.name} at {self.sample_rate} Hz",
            *self._described_features(),
            *(f"label     {name}: {', '.join(classes)}" for name, classes in self.labels.items()),
        ]
        return "\n".join(map(display, lines))

    def _described_features(self) -> list[str]:
        features = self.feature_set
        if features is None:
            return []
        hop = 1000 * features.hop_length / features.sample_rate
        numbers = "1 number" if features.size == 1 else f"{features.size} numbers"
        line = f"features  {features.name}, {numbers} every {hop:.1f} ms"
        if self.look_ahead is not None:
            line += f"; a stream is {(self.look_ahead + 1) * hop:.1f} ms later than its features"
        return [line]

    def to_json(self) -> str:
        """This config as indented JSON, which `registry.config_from_json` reads."""
        values = {"format": FORMAT, "network": self.network, **dataclasses.asdict(self)}
        if not self.features:
            values["format"] = 2
            values = {name: values[name] for name in values if name not in OF_FEATURES}
        return json.dumps(values, indent=2, ensure_ascii=False) + "\n"

    def _check_whole(self, limits: Mapping[str, tuple[int, int]]) -> None:
        """Convert fields to integers within their limits, or raise `ConfigError`."""
        for name, (low, high) in limits.items():
            object.__setattr__(self, name, whole_number(name, getattr(self, name), low, high))


@dataclass(frozen=True)
class WaveNetConfig(ModelConfig):
    """A WaveNet and its codec; the same dictionary in YAML, `config.json` and checkpoints.

    Args:
        layers: number of dilated causal convolutions.
        stacks: the dilations 1, 2, 4, ... start again this many times; divides `layers`.
        kernel_size: taps of each convolution, at least 2.
        residual_channels: width of the residual stream.
        gate_channels: channels before the gate: half are the signal, half control the gate.
        skip_channels: width of the skip sum and of the hidden layer after it.
        quantization_channels: number of mu-law codes Q.
        sample_rate: rate in Hz.
        labels: label attributes, each with its class names.
        features: definitions of the features in the frames of a condition.
        gate: activation of the signal: `linear` (a gated linear unit, Dauphin et al. 2017) or
            `tanh` (van den Oord et al. 2016).
        pitch_waves: number of waves over the octave, with periods of an octave, half an octave and
            so on, by which the network also gets the feature `pitch`. With 5 of them it can tell
            pitches apart that differ by a small part of a semitone.
    """

    network: ClassVar[str] = "wavenet"
    look_ahead: ClassVar[int] = 2
    layers: int = 20
    stacks: int = 2
    kernel_size: int = 2
    residual_channels: int = 32
    gate_channels: int = 64
    skip_channels: int = 128
    gate: Gate = "linear"
    pitch_waves: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_whole(_WAVENET_LIMITS)
        if self.layers % self.stacks:
            raise ConfigError(
                f"layers ({self.layers}) must be a multiple of stacks ({self.stacks})"
            )
        if self.gate_channels % 2:
            raise ConfigError(f"gate_channels ({self.gate_channels}) must be even")
        if self.gate not in GATES:
            raise ConfigError(f"gate is {self.gate!r}: it must be {' or '.join(GATES)}")
        if self.receptive_field > _MOST_RECEPTIVE_FIELD:
            raise ConfigError(
                f"the receptive field is {self.receptive_field} samples, more than "
                f"{_MOST_RECEPTIVE_FIELD}: take fewer layers per stack or a smaller kernel_size"
            )

    @property
    def dilations(self) -> tuple[int, ...]:
        """Dilation of each layer, in samples."""
        per_stack = self.layers // self.stacks
        return tuple(2 ** (layer % per_stack) for layer in range(self.layers))

    @property
    def receptive_field(self) -> int:
        """Number of past codes that can influence a prediction."""
        per_stack = self.layers // self.stacks
        return 1 + (self.kernel_size - 1) * self.stacks * (2**per_stack - 1)

    def architecture(self) -> list[str]:
        """The layers, their channels and the receptive field."""
        milliseconds = 1000 * self.receptive_field / self.sample_rate
        return [
            f"network   {self.layers} layers in {self.stacks} stacks, kernel {self.kernel_size}; "
            f"{self.residual_channels} residual, {self.gate_channels} gate ({self.gate}), "
            f"{self.skip_channels} skip channels",
            f"memory    receptive field of {self.receptive_field} samples ({milliseconds:.0f} ms)",
        ]
