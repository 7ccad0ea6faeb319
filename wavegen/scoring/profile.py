"""The scores of the surprisal of a recording, collected block by block.

Memory does not grow with the length, except for the most surprising samples.
"""

from collections.abc import Callable

import numpy as np

# The scores of a recording and their meanings.
MEANINGS = {
    "mean": "bits per sample of the whole recording",
    "window": "bits per sample of its most surprising 20 ms",
    "rest": "bits per sample of its least surprising 10 ms",
    "peak": "bits per sample of its most surprising samples, one in two hundred",
    "ratio": "bits per sample, minus those under the background model",
    "gain": "bits per sample that the best class saves",
}
SCORES = tuple(MEANINGS)
# Seconds.
WINDOW, REST = 0.02, 0.01
PEAK_SHARE = 1 / 200
# Samples added at a time for a recording in memory.
_BLOCK = 1 << 18


class Profile:
    """The scores of a recording, and the spans in which it exceeds limits.

    Args:
        sample_rate: rate of the recording in Hz.
        most: largest number of samples that the recording may have.
        high: windows of `WINDOW` with a mean above this are marked.
        low: windows of `REST` with a mean below this are marked.
    """

    def __init__(
        self, sample_rate: int, most: int, high: float = np.inf, low: float = -np.inf
    ) -> None:
        self._sample_rate = sample_rate
        self._samples, self._bits = 0, 0.0
        self._window = _Windows(WINDOW, sample_rate, np.max, lambda means: means > high)
        self._rest = _Windows(REST, sample_rate, np.min, lambda means: means < low)
        self._peaks = _Largest(_peaks(most))

    def add(self, waveform: np.ndarray | None, surprisal: np.ndarray) -> "Profile":
        """Add the bits of the next samples, float64 (time,); the waveform is not used."""
        for first in range(0, len(surprisal), _BLOCK):
            block = surprisal[first : first + _BLOCK]
            self._samples += len(block)
            self._bits += float(block.sum())
            for each in (self._window, self._rest, self._peaks):
                each.add(block)
        return self

    def features(self, background: float, gain: float) -> np.ndarray:
        """The scores of all added samples, float64 (len(SCORES),).

        Args:
            background: bits per sample under the background model.
            gain: bits per sample that classes save.
        """
        mean = self._bits / self._samples
        return np.array(
            [
                mean,
                self._window.extreme(),
                self._rest.extreme(),
                self._peaks.mean(_peaks(self._samples)),
                mean - background,
                gain,
            ]
        )

    def spans(self) -> tuple[tuple[float, float], ...]:
        """Begin and end in seconds of the marked windows."""
        spans = _united(np.concatenate([self._window.beyond(), self._rest.beyond()]))
        return tuple(map(tuple, (spans / self._sample_rate).tolist()))


def window_means(surprisal: np.ndarray, size: int) -> np.ndarray:
    """Mean of every window of `size` samples; of all samples if there are fewer."""
    size = min(len(surprisal), size)
    total = np.concatenate([[0.0], np.cumsum(surprisal, dtype=np.float64)])
    return (total[size:] - total[:-size]) / size


def _peaks(samples: int) -> int:
    return max(1, int(samples * PEAK_SHARE))


class _Windows:
    """The extreme mean of all windows of one length, and the windows beyond a limit."""

    def __init__(
        self,
        seconds: float,
        sample_rate: int,
        pick: Callable[[np.ndarray], float],
        beyond: Callable[[np.ndarray], np.ndarray],
    ) -> None:
        self._size = max(1, round(seconds * sample_rate))
        self._pick, self._beyond = pick, beyond
        self._extremes: list[float] = []
        self._spans: list[np.ndarray] = []
        # The last samples, which later windows begin with, and the number of samples before them.
        self._tail, self._gone = np.empty(0), 0

    def add(self, block: np.ndarray) -> None:
        tail = np.concatenate([self._tail, block])
        if len(tail) >= self._size:
            self._take(tail)
            left = len(tail) - self._size + 1
            tail, self._gone = tail[left:], self._gone + left
        self._tail = tail

    def _take(self, samples: np.ndarray) -> None:
        means = window_means(samples, self._size)
        self._extremes = [self._pick(np.array([*self._extremes, self._pick(means)]))]
        begins = np.flatnonzero(self._beyond(means)) + self._gone
        if len(begins):
            size = len(samples) - len(means) + 1
            self._spans.append(_united(np.stack([begins, begins + size], axis=1)))

    def _end(self) -> None:
        """Use a recording that is shorter than a window as one window."""
        if not self._extremes:
            self._take(self._tail)

    def extreme(self) -> float:
        self._end()
        return self._extremes[0]

    def beyond(self) -> np.ndarray:
        """Begin and end in samples, int64 (N, 2)."""
        self._end()
        return np.concatenate([np.empty((0, 2), np.int64), *self._spans])


class _Largest:
    """The `most` largest of many numbers."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept = np.empty(0)
        self._waiting: list[np.ndarray] = []
        self._least = -np.inf

    def add(self, block: np.ndarray) -> None:
        self._waiting.append(block[block > self._least])
        # Rarely, since it sorts all of them.
        if sum(map(len, self._waiting)) > max(self._most, _BLOCK):
            self._settle()

    def _settle(self) -> None:
        found = np.concatenate([self._kept, *self._waiting])
        self._waiting = []
        if len(found) > self._most:
            found = np.partition(found, -self._most)[-self._most :]
            self._least = float(found.min())
        self._kept = found

    def mean(self, count: int) -> float:
        self._settle()
        # Sorted, so that the rounding of the sum does not depend on the blocks.
        return float(np.sort(self._kept)[-count:].mean())


def _united(spans: np.ndarray) -> np.ndarray:
    """Spans (N, 2) in order; those that overlap or touch become one."""
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    ends = np.maximum.accumulate(spans[:, 1])
    apart = np.flatnonzero(spans[1:, 0] > ends[:-1])
    firsts, lasts = [0, *(apart + 1)], [*apart, len(spans) - 1]
    return np.stack([spans[firsts, 0], ends[lasts]], axis=1) if len(spans) else spans
