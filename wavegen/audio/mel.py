"""Log-mel energies: one definition for arrays, and for batches that gradients go through."""

from functools import lru_cache

import librosa
import numpy as np
import torch
from torch import Tensor, nn

MELS = 40
# Added to energies, so that the logarithm of silence is finite.
_FLOOR = 1e-6


class LogMel(nn.Module):
    """Log energies of mel bands (Slaney), frames of 32 ms, one every 10 ms.

    Args:
        sample_rate: in Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.frame, self.hop = round(0.032 * sample_rate), round(0.01 * sample_rate)
        self.mels: Tensor
        self.window: Tensor
        mels = librosa.filters.mel(sr=sample_rate, n_fft=self.frame, n_mels=MELS)
        self.register_buffer("mels", torch.from_numpy(mels))
        self.register_buffer("window", torch.hann_window(self.frame))

    def forward(self, waves: Tensor) -> Tensor:
        """Natural logarithms (B, MELS, frames) of waveforms float32 (B, time)."""
        spectrum = torch.stft(
            waves,
            self.frame,
            self.hop,
            window=self.window,
            return_complex=True,
            pad_mode="constant",
        )
        energy = self.mels @ (spectrum.real**2 + spectrum.imag**2)
        return (energy + _FLOOR).log()


def log_mel(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """`LogMel` of one waveform float32 (time,), zero-padded to a frame: float32 (frames, MELS)."""
    bands = _log_mel_at(sample_rate)
    padded = np.pad(np.asarray(waveform, np.float32), (0, max(0, bands.frame - len(waveform))))
    return bands(torch.from_numpy(padded)[None])[0].T.numpy()


@lru_cache(maxsize=4)
def _log_mel_at(sample_rate: int) -> LogMel:
    return LogMel(sample_rate)
