"""Distances between sets of recordings."""

import numpy as np
import pytest

from wavegen.evaluation.distances import divergence, frechet, kernel, nearest

RNG = np.random.default_rng(0)


def test_frechet_is_that_of_the_normal_distributions() -> None:
    one = RNG.normal(size=(4000, 3)) * [1, 2, 3]
    other = RNG.normal(size=(4000, 3)) * [2, 2, 1] + [1, 0, -2]
    # Means 5 apart in square, deviations 1, 0 and 2 apart.
    assert frechet(one, other) == pytest.approx(5 + 1 + 0 + 4, rel=0.1)
    assert frechet(one, one) == pytest.approx(0, abs=1e-9)


def test_the_kernel_distance_is_unbiased() -> None:
    """About 0 between sets of one kind, on average, however small they are; else above."""
    alike = [kernel(RNG.normal(size=(8, 5)), RNG.normal(size=(9, 5))) for _ in range(400)]
    apart = [kernel(RNG.normal(size=(8, 5)), RNG.normal(size=(9, 5)) + 1) for _ in range(400)]
    error = np.std(alike) / 20
    assert abs(np.mean(alike)) < 4 * error
    assert np.mean(apart) > 20 * error


def test_nearest_is_that_of_a_loop() -> None:
    rows, among = RNG.normal(size=(6, 4)), RNG.normal(size=(9, 4))
    expected = [min(np.linalg.norm(row - each) for each in among) for row in rows]
    np.testing.assert_allclose(nearest(rows, among), expected)
    assert nearest(among[:3], among).max() < 1e-6


def test_divergence_goes_from_0_to_1() -> None:
    one = np.array([5, 3, 0, 0])
    assert divergence(one, 7 * one) == pytest.approx(0)
    assert divergence(one, one[::-1]) == pytest.approx(1)
    assert 0 < divergence(one, np.ones(4)) < 1
