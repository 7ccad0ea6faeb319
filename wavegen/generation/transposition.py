"""Moving the pitch of features, so that a melody can be played by another voice or instrument."""

from typing import Any

import numpy as np

from wavegen.errors import ConfigError
from wavegen.generation.recipe import MOST_SEMITONES
from wavegen.models.base import Network


def transposed(frames: Any, network: Network, semitones: float | None) -> tuple[Any, float]:
    """Move the pitch of frames.

    Args:
        frames: frames (F, D) for a network with features, an array or lazy.
        network: the network.
        semitones: the distance; None moves by whole octaves, to where the voiced frames are nearest
            to the mean pitch in the training data.

    Returns:
        The frames, and the distance in semitones. Frames without pitch are returned as they are.

    Raises:
        ConfigError: the distance is out of range, or the network has no pitch to move.
    """
    features = network.config.feature_set
    column = None if features is None else features.column("pitch")
    most = MOST_SEMITONES
    if semitones is not None and not -most <= semitones <= most:
        raise ConfigError(f"transpose is {semitones!s:.20}: it must be from -{most} to {most}")
    if column is None:
        if semitones:
            raise ConfigError("transpose needs a model with the feature pitch: leave it out")
        return frames, 0.0
    if semitones == 0:
        return frames, 0.0
    moved = np.array(frames[:], dtype=np.float32)
    voiced = moved[:, column + 1] > 0.5
    if semitones is None:
        if network.feature_mean is None or not voiced.any():
            return moved, 0.0
        away = float(network.feature_mean[column]) - float(np.median(moved[voiced, column]))
        semitones = 12.0 * round(away)
    moved[:, column] += semitones / 12
    return moved, float(semitones)
