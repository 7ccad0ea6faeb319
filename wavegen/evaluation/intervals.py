"""Figures with confidence intervals of 95 %.

Sources: Efron 1979 (bootstrap); Clopper & Pearson 1934 (exact interval of a share).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

_DRAWS = 300


@dataclass(frozen=True)
class Figure:
    """A figure and its confidence interval of 95 %."""

    value: float
    low: float
    high: float


def bootstrap(figure: Callable[[np.ndarray], float], count: int) -> Figure:
    """A figure of `count` clips with its bootstrap interval.

    `figure` is a function of the numbers of the clips. Clips are drawn again with replacement, and
    the interval leaves out 2.5 % on either side.
    """
    chance = np.random.default_rng(0)
    drawn = [figure(chance.integers(count, size=count)) for _ in range(_DRAWS)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Figure(figure(np.arange(count)), float(low), float(high))


def mean(values: Sequence[float]) -> Figure:
    """The mean of one value per clip, with its interval."""
    array = np.array(values)
    return bootstrap(lambda n: float(array[n].mean()), len(array))


def share_of(hits: Sequence[bool] | np.ndarray) -> Figure:
    """The share of hits among independent clips, with its interval.

    The interval is exact. A bootstrap would give an empty interval if all clips agree.
    """
    from scipy.stats import binomtest  # slow to import, so only where it is needed

    found = binomtest(int(np.sum(hits)), len(hits))
    low, high = found.proportion_ci(confidence_level=0.95, method="exact")
    return Figure(float(np.mean(hits)), float(low), float(high))


def half_samples(figure: Callable[[np.ndarray], float], count: int) -> Figure:
    """A distance between sets of clips with its interval, by random halves.

    Clips that are drawn twice would distort a distance, so halves are drawn without replacement.
    Their spread is that of the whole set.
    """
    chance = np.random.default_rng(0)
    drawn = [figure(chance.permutation(count)[: count // 2]) for _ in range(_DRAWS // 3)]
    value, reach = figure(np.arange(count)), 1.96 * float(np.std(drawn))
    return Figure(value, value - reach, value + reach)
