"""Contract C4: randomness is data."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wavegen.distributions.sampling import Sampling, distribution, draw, guide, stream_noise
from wavegen.errors import ConfigError


@settings(deadline=None)
@given(start=st.integers(0, 20_000), count=st.integers(0, 9000), stream=st.integers(0, 2**64 - 1))
def test_noise_is_a_function_of_seed_stream_and_time(start: int, count: int, stream: int) -> None:
    whole = stream_noise(7, [3, stream], 0, start + count)
    part = stream_noise(7, [stream], start, count)
    assert np.array_equal(part[0], whole[1, start:])


def test_noise_is_uniform_and_never_0_or_1() -> None:
    noise = stream_noise(0, range(4), 0, 50_000)
    assert noise.min() > 0
    assert noise.max() < 1
    counts = np.histogram(noise, bins=100, range=(0, 1))[0]
    # Chi-square of 99 degrees of freedom: beyond 200 with probability 1e-8.
    assert ((counts - 2000) ** 2 / 2000).sum() < 200
    correlations = np.corrcoef(noise) - np.eye(4)
    assert np.abs(correlations).max() < 0.03
    assert not np.array_equal(noise, stream_noise(1, range(4), 0, 50_000))


@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(0), Sampling(top_k=2), Sampling(top_p=0.5)], ids=str
)
def test_where_logits_are_not_finite_no_code_is_drawn(sampling: Sampling) -> None:
    bad = [[float("nan"), 0.0, 1.0], [0.0, float("inf"), 1.0], [-float("inf")] * 3]
    noise = torch.full((4,), 0.999, dtype=torch.float64)
    drawn = draw(torch.tensor([*bad, [0.0, 1.0, 2.0]]), noise, sampling)
    assert drawn.tolist() == [3, 3, 3, 2]


def test_codes_are_drawn_with_their_probabilities() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0, -1.0]])
    noise = torch.from_numpy(stream_noise(0, [0], 0, 100_000))[0]
    codes = draw(logits.expand(100_000, -1), noise, Sampling())
    shares = torch.bincount(codes, minlength=4) / 100_000
    torch.testing.assert_close(shares, logits[0].softmax(-1), atol=0.006, rtol=0)


@given(st.floats(2**-52, 1 - 2**-52, exclude_min=False))
def test_no_code_of_probability_zero_is_drawn(noise: float) -> None:
    logits = torch.tensor([[-torch.inf, 1.0, 0.5, -torch.inf]])
    assert draw(logits, torch.tensor([noise], dtype=torch.float64), Sampling()).item() in (1, 2)


def test_temperature_zero_takes_the_likeliest() -> None:
    logits = torch.tensor([[0.0, 3.0, 2.0], [5.0, 3.0, 2.0]])
    noise = torch.tensor([0.999, 0.999], dtype=torch.float64)
    assert draw(logits, noise, Sampling(temperature=0)).tolist() == [1, 0]


def test_temperature_top_k_and_top_p() -> None:
    logits = torch.tensor([[0.1, 0.4, 0.3, 0.2]]).log()
    plain = distribution(logits, Sampling(temperature=2.0))[0]
    expected = torch.tensor([0.1, 0.4, 0.3, 0.2], dtype=torch.float64).sqrt()
    torch.testing.assert_close(plain, expected / expected.sum(), atol=1e-6, rtol=0)
    top_k = distribution(logits, Sampling(top_k=2))[0]
    torch.testing.assert_close(top_k, torch.tensor([0, 4 / 7, 3 / 7, 0]).double())
    top_p = distribution(logits, Sampling(top_p=0.65))[0]
    torch.testing.assert_close(top_p, torch.tensor([0, 4 / 7, 3 / 7, 0]).double())
    tiny = distribution(logits, Sampling(top_p=1e-9))[0]
    assert tiny.tolist() == [0, 1, 0, 0]
    assert (distribution(logits, Sampling(top_k=100, top_p=1.0)) > 0).all()


def test_guidance_moves_along_the_difference() -> None:
    conditioned, unspecified = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 1.0])
    assert guide(conditioned, unspecified, 1.0).tolist() == [1.0, 2.0]
    assert guide(conditioned, unspecified, 3.0).tolist() == [1.0, 4.0]
    assert guide(conditioned, unspecified, 0.0).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"top_k": 0}, "top-k is 0"),
        ({"top_p": 0.0}, "top-p is 0.0"),
        ({"top_p": 1.5}, "top-p is 1.5"),
        ({"guidance": float("inf")}, "guidance"),
        ({"guidance": 1e300}, "guidance"),
        ({"temperature": 10**400}, "temperature"),
        ({"temperature": True}, "temperature is True"),
        ({"temperature": None}, "temperature is None"),
        ({"top_k": 1.5}, r"top-k is 1\.5"),
        ({"top_k": 2**80}, "top-k"),
        ({"top_p": "1"}, "top-p is '1'"),
    ],
)
def test_settings_without_meaning_are_refused(settings, says) -> None:
    with pytest.raises(ConfigError, match=says):
        Sampling(**settings)


def test_numbers_of_numpy_become_plain_ones() -> None:
    sampling = Sampling(np.float32(0.5), np.int64(3), np.float64(0.25), np.float32(2))
    assert sampling == Sampling(0.5, 3, 0.25, 2.0)
    assert {type(value) for value in vars(sampling).values()} == {int, float}
