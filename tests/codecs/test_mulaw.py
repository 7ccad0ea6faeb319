import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wavegen.codecs import mulaw
from wavegen.codecs.counts import count_clamped


@pytest.mark.parametrize("channels", [2, 16, 255, 256, 1024, 65536])
def test_every_code_survives_decode_then_encode(channels: int) -> None:
    codes = np.arange(channels)
    assert np.array_equal(mulaw.encode(mulaw.decode(codes, channels), channels), codes)


def test_the_curve_is_the_published_one() -> None:
    waveform = np.linspace(-1, 1, 10_001)
    companded = np.sign(waveform) * np.log1p(255 * np.abs(waveform)) / np.log1p(255)
    nearest = np.floor((companded + 1) / 2 * 255 + 0.5)
    codes = mulaw.encode(waveform)
    # At a threshold itself either neighbour is right.
    assert (codes != nearest).mean() < 1e-3
    assert np.abs(codes - nearest).max() <= 1


def test_silence_and_the_ends() -> None:
    assert mulaw.encode(np.array([0.0, -1.0, 1.0])).tolist() == [128, 0, 255]
    assert mulaw.decode(np.array([0, 255])).tolist() == [-1.0, 1.0]
    assert abs(float(mulaw.decode(np.array([128]))[0])) < 1e-4


@given(st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=50))
def test_numpy_and_torch_agree_in_every_bit(samples: list[float]) -> None:
    waveform = np.array(samples, dtype=np.float32)
    codes = mulaw.encode(waveform)
    assert codes.dtype == np.int64
    assert torch.equal(mulaw.encode(torch.from_numpy(waveform)), torch.from_numpy(codes))
    decoded = mulaw.decode(codes)
    assert decoded.dtype == np.float32
    assert torch.equal(mulaw.decode(torch.from_numpy(codes)), torch.from_numpy(decoded))


@given(st.floats(-1, 1, width=32))
def test_quantising_moves_a_sample_by_at_most_half_a_bin(sample: float) -> None:
    code = int(mulaw.encode(np.array([sample]))[0])
    companded = np.sign(sample) * np.log1p(255 * abs(sample)) / np.log1p(255)
    assert abs((companded + 1) / 2 * 255 - code) <= 0.5 + 1e-4


def test_samples_beyond_full_scale_are_clamped_and_counted() -> None:
    waveform = np.array([1.5, -3.0, 0.5, 1.0])
    assert mulaw.encode(waveform)[:2].tolist() == [255, 0]
    assert count_clamped(waveform) == 2
    assert count_clamped(torch.from_numpy(waveform)) == 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_have_no_codes(bad: float) -> None:
    for waveform in (np.array([0.0, bad]), torch.tensor([0.0, bad])):
        with pytest.raises(ValueError, match="NaN or infinity"):
            mulaw.encode(waveform)
