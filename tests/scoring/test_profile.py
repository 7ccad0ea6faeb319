"""What is taken of surprisal is that of the whole recording, however it comes."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavegen.scoring.profile import SCORES, Profile

RATE = 1000
HIGH, LOW = 5.2, 2.5


def whole(surprisal: np.ndarray) -> tuple[list[float], np.ndarray]:
    """Scores and marked samples, straight from their definitions."""
    count, marked = len(surprisal), np.zeros(len(surprisal), bool)
    extremes = []
    for size, sign, limit in ((20, 1, HIGH), (10, -1, LOW)):
        size = min(size, count)
        means = np.array([surprisal[n : n + size].mean() for n in range(count - size + 1)])
        extremes.append(sign * (sign * means).max())
        for begin in np.flatnonzero(sign * means > sign * limit):
            marked[begin : begin + size] = True
    peaks = np.sort(surprisal)[-max(1, count // 200) :]
    return [surprisal.mean(), *extremes, peaks.mean(), surprisal.mean() - 3, 0.2], marked


@settings(deadline=None, max_examples=40)
@given(
    count=st.integers(1, 2500),
    cuts=st.lists(st.integers(0, 2500), max_size=8),
    seed=st.integers(0, 99),
    beyond=st.integers(0, 500),
)
def test_blocks_give_what_the_whole_gives(count, cuts, seed, beyond) -> None:
    rng = np.random.default_rng(seed)
    surprisal = 4 + np.sin(np.arange(count) / 30) + rng.standard_normal(count)
    profile = Profile(RATE, count + beyond, HIGH, LOW)
    for block in np.split(surprisal, sorted(cut for cut in cuts if cut < count)):
        profile.add(None, block)
    scores, marked = whole(surprisal)
    assert profile.features(3, 0.2) == pytest.approx(scores)
    assert len(scores) == len(SCORES)
    spans = np.zeros(count, bool)
    for begin, end in profile.spans():
        # Those that touch are one.
        assert begin == 0 or not spans[round(begin * RATE) - 1]
        spans[round(begin * RATE) : round(end * RATE)] = True
    assert np.array_equal(spans, marked)


def test_memory_does_not_grow_with_the_recording() -> None:
    block = np.random.default_rng(0).uniform(0, 9, 1 << 16)

    def most(blocks: int) -> int:
        profile = Profile(RATE, blocks * len(block))
        tracemalloc.start()
        for _ in range(blocks):
            profile.add(None, block)
        profile.features(0, 0)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    # A hundred blocks are 52 MB.
    assert most(100) < most(20) + 5e6
