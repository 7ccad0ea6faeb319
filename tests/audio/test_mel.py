"""Log-mel energies: those of librosa, of arrays and of batches alike."""

import librosa
import numpy as np
import pytest
import torch

from wavegen.audio.mel import MELS, LogMel, log_mel
from wavegen.evaluation.distances import shape, statistics


@pytest.mark.parametrize("rate", [8000, 16000, 22050])
def test_bands_are_those_of_librosa(rate) -> None:
    wave = (0.1 * np.random.default_rng(0).standard_normal(rate)).astype(np.float32)
    expected = librosa.feature.melspectrogram(
        y=wave, sr=rate, n_fft=round(0.032 * rate), hop_length=round(0.01 * rate), n_mels=MELS
    )
    assert log_mel(wave, rate) == pytest.approx(np.log(expected.T + 1e-6), abs=1e-4)


def test_gradients_go_through_a_batch() -> None:
    waves = (0.1 * torch.randn(2, 1000)).requires_grad_()
    bands = LogMel(8000)(waves)
    assert bands.shape == (2, MELS, 13)
    bands[0].sum().backward()
    assert waves.grad is not None
    assert waves.grad[0].abs().sum() > 0
    assert not waves.grad[1].any()


def test_spectra_have_a_form_of_their_own() -> None:
    tone = np.sin(0.3 * np.arange(4000)).astype(np.float32)
    for wave in (tone, tone[:50], np.zeros(3000, np.float32)):
        spectrum = log_mel(wave, 8000)
        assert np.isfinite(spectrum).all()
        assert statistics(spectrum).shape == (80,)
        assert shape(spectrum).shape == (640,)
    louder = log_mel(10 * tone, 8000) - log_mel(tone, 8000)
    assert louder.max() == pytest.approx(np.log(100), rel=0.01)
