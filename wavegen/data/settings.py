"""The settings that a data set is read with, and `training.json`, which keeps them in a model."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wavegen.errors import ConfigError, ModelError
from wavegen.models.serialization import TRAINING, find_model, plain
from wavegen.utils.files import read_json, write_json
from wavegen.utils.json_shape import fits, number, optional, whole

_SHAPE = {
    "labels": optional([str]),
    "label_pattern": optional(str),
    "validation_fraction": number(0, 1),
    "trim": optional(number(0, 10**6)),
    "seed": whole(0, 2**63),
}
# Larger than any number of clips.
_MOST = 10**12


def check_trim(trim: float | None) -> None:
    """Refuse to trim at a level that is not below the peak.

    Raises:
        ConfigError: `trim` is not above 0.
    """
    if trim is not None and not 0 < trim < float("inf"):
        raise ConfigError(
            f"cannot trim at {trim} dB below the peak: give --data.trim a number above 0, or none"
        )


@dataclass(frozen=True)
class DataSettings:
    """The settings that a data set is read with; equal settings give the same clips and samples.

    Args:
        labels: the attributes to keep; by default every other column of the metadata, every
            named group of the pattern, or `label` for class folders.
        label_pattern: regular expression with named groups, searched in the file name.
        validation_fraction: share of the clips to hold out if the data has no validation split;
            above 0 and below 1.
        trim: cut silence at both ends of a clip that is this many dB below its loudest part;
            None keeps it.
        seed: seed of the choice of validation clips.

    Raises:
        ConfigError: a value is out of range.
    """

    labels: tuple[str, ...] | None = None
    label_pattern: str | None = None
    validation_fraction: float = 0.1
    trim: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.validation_fraction < 1:
            raise ConfigError(
                f"--data.validation_fraction is {self.validation_fraction}; give one between 0"
                " and 1"
            )
        check_trim(self.trim)
        if self.labels is not None:
            object.__setattr__(self, "labels", tuple(self.labels))
        if self.trim is not None:
            object.__setattr__(self, "trim", float(self.trim))

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON, which `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> "DataSettings":
        """Read settings from JSON; those that an earlier version did not have get defaults.

        Raises:
            ValueError: the JSON holds other things than settings, or a value out of range.
        """
        if not is_settings(values):
            raise ValueError("these are no settings of a data set")
        try:
            return cls(**values)
        except ConfigError as error:
            raise ValueError(str(error)) from error


DEFAULT_SETTINGS = DataSettings()


def is_settings(values: Any) -> bool:
    """Whether JSON holds only settings, each of the right type."""
    return (
        type(values) is dict
        and values.keys() <= _SHAPE.keys()
        and all(fits(value, _SHAPE[name]) for name, value in values.items())
    )


def save_training(
    counts: Mapping[str, Mapping[str, int]], settings: DataSettings, folder: str | Path
) -> None:
    """Write the facts about the training data of a model into its directory.

    Args:
        counts: attribute -> class -> number of training clips.
        settings: settings that the data set was read with; they hold out the same clips again.
        folder: model directory.
    """
    write_json(Path(folder) / TRAINING, {"clips": counts, "reading": settings.to_json()})


def training_settings(path: str | Path) -> DataSettings:
    """The settings that training read its data set with; defaults if the model has none.

    Raises:
        ModelError: there is no model, or its `training.json` holds something else.
    """
    try:
        return DataSettings.from_json(_training(path).get("reading", {}))
    except ValueError as error:
        raise ModelError(
            f"{find_model(path) / TRAINING}: does not hold the settings of training; copy the "
            "model again"
        ) from error


def class_counts(path: str | Path) -> dict[str, dict[str, int]]:
    """Attribute -> class -> number of clips that a model was trained on.

    Raises:
        ModelError: there is no model, or it has no such counts.
    """
    counts: Any = _training(path).get("clips")
    if not fits(counts, {str: {str: whole(0, _MOST)}}):
        raise ModelError(
            f"{find_model(path) / TRAINING}: does not say how many clips of each class there were "
            "in training"
        )
    return counts


def _training(path: str | Path) -> dict[str, Any]:
    """The contents that `save_training` wrote; empty if it was not called."""
    file = find_model(path) / TRAINING
    if not file.exists():
        return {}
    values = read_json(plain(file), ModelError)
    if not isinstance(values, dict):
        raise ModelError(f"{file}: is not a JSON object")
    return values
