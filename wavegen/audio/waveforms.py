"""Waveforms in memory, as arrays, tensors or lists of several types."""

from typing import Any

import numpy as np

from wavegen.errors import ConfigError

# Full scale of the integers that audio is held in.
_FULL_SCALE = {np.dtype(np.int16): 2**15, np.dtype(np.int32): 2**31}


def as_waveform(recording: Any, name: str = "the waveform") -> np.ndarray:
    """Convert a waveform of any type to float (time,).

    Args:
        recording: array, tensor or list of float, or of int16 or int32, which are scaled. The
            shape is (time,), or has another axis of length 1.
        name: name of the waveform in an error.

    Raises:
        ConfigError: the type is another one, or there are several channels.
    """
    import torch

    if isinstance(recording, torch.Tensor):
        recording = recording.detach().cpu()
        # NumPy has no bfloat16.
        recording = (recording.float() if recording.is_floating_point() else recording).numpy()
    try:
        wave = np.asarray(recording)
    except ValueError as error:
        raise ConfigError(f"{name} is a list of unequal rows: give (time,)") from error
    if wave.ndim == 2 and 1 in wave.shape:
        wave = wave.reshape(-1)
    if wave.ndim != 1:
        raise ConfigError(
            f"{name} has shape {wave.shape}: it must be (time,), one channel; mix channels "
            "by their mean, or give several waveforms as a list"
        )
    if wave.dtype in _FULL_SCALE:
        return (wave / _FULL_SCALE[wave.dtype]).astype(np.float32)
    if wave.dtype.kind != "f":
        raise ConfigError(f"{name} is {wave.dtype}: it must be float, int16 or int32")
    return wave.astype(np.float32, copy=False)
