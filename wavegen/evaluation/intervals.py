"""A figure and how sure it is: intervals of 95 %.

Sources: Efron 1979 (bootstrap); Clopper & Pearson 1934 (exact interval of a share).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

_DRAWS = 300


@dataclass(frozen=True)
class Figure:
    """A figure and the interval that it lies in with 95 % confidence."""

    value: float
    low: float
    high: float


def bootstrap(figure: Callable[[np.ndarray], float], count: int) -> Figure:
    """A figure of `count` clips, given the numbers of those to take, with its interval.

    Clips are drawn again with replacement; the interval leaves out 2.5 % on either side.
    """
    chance = np.random.default_rng(0)
    drawn = [figure(chance.integers(count, size=count)) for _ in range(_DRAWS)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Figure(figure(np.arange(count)), float(low), float(high))


def mean(values: Sequence[float]) -> Figure:
    """The mean over clips of one value each, with its interval."""
    array = np.array(values)
    return bootstrap(lambda n: float(array[n].mean()), len(array))


def share_of(hits: Sequence[bool] | np.ndarray) -> Figure:
    """How often it is so of independent clips, with its interval.

    The interval is the exact one: where all clips agree, draws of them would all be alike.
    """
    from scipy.stats import binomtest  # slow to import, and needed only here

    found = binomtest(int(np.sum(hits)), len(hits))
    low, high = found.proportion_ci(confidence_level=0.95, method="exact")
    return Figure(float(np.mean(hits)), float(low), float(high))


def half_samples(figure: Callable[[np.ndarray], float], count: int) -> Figure:
    """The same for a distance between sets, which clips that come twice would distort.

    Halves are drawn without replacement: their spread is that of the whole.
    """
    chance = np.random.default_rng(0)
    drawn = [figure(chance.permutation(count)[: count // 2]) for _ in range(_DRAWS // 3)]
    value, reach = figure(np.arange(count)), 1.96 * float(np.std(drawn))
    return Figure(value, value - reach, value + reach)
