import numpy as np
import pytest

from wavegen.codecs.counts import CodeCounts
from wavegen.codecs.mulaw import MuLaw


def test_counts_of_codes_and_their_entropy() -> None:
    counts = CodeCounts(MuLaw())
    assert counts.figures() == {"order0_bits": 0, "clamped": 0}
    two_codes = MuLaw().decode(np.array([10, 10, 200, 10], dtype=np.int64))
    counts.add(two_codes[:2])
    assert counts.figures()["order0_bits"] == 0
    counts.add(two_codes[2:])
    expected = -(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25))
    assert counts.figures()["order0_bits"] == pytest.approx(expected)
    counts.add(np.array([1.5, -2], dtype=np.float32))
    assert counts.clamped == 2
    assert (counts.counts[0], counts.counts[255]) == (1, 1)
