"""Intervals hold the truth as often as they say."""

import numpy as np
import pytest

from wavegen.evaluation.intervals import bootstrap, half_samples, share_of


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    held = []
    for draw in range(120):
        values = np.random.default_rng(draw).normal(3.0, 1.0, size=80)
        figure = bootstrap(lambda n, v=values: float(v[n].mean()), 80)
        assert figure.low < figure.value < figure.high
        held.append(figure.low < 3.0 < figure.high)
    assert 0.87 <= np.mean(held) <= 1


@pytest.mark.parametrize("truth", [0.01, 0.5, 0.99])
@pytest.mark.parametrize("count", [8, 40])
def test_intervals_of_shares_hold_the_truth_where_all_clips_agree_too(truth, count) -> None:
    rng = np.random.default_rng(0)
    figures = [share_of(rng.random(count) < truth) for _ in range(400)]
    assert all(0 <= each.low <= each.value <= each.high <= 1 for each in figures)
    assert np.mean([each.low <= truth <= each.high for each in figures]) > 0.93
    assert share_of([False] * count).high > 3 / (count + 3)
    assert share_of([True] * count).low < count / (count + 3)


def test_half_samples_spread_as_the_whole_does() -> None:
    estimates = []
    for draw in range(60):
        values = np.random.default_rng(draw).normal(size=100)
        figure = half_samples(lambda n, v=values: float(v[n].mean()), 100)
        estimates.append((figure.high - figure.low) / 2 / 1.96)
    # The mean of 100 has a deviation of 0.1.
    assert np.mean(estimates) == pytest.approx(0.1, rel=0.1)
