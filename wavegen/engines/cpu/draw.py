"""Drawing a code in the compiled engine: `wavegen.distributions.sampling.draw` for one row."""

from typing import NamedTuple

import numpy as np

from wavegen.engines.cpu.vectors import exp64, helper


class How(NamedTuple):
    """`Sampling` as numbers; limits that are off are infinite or 1."""

    temperature: float
    top_k: float
    top_p: float
    guidance: float


@helper
def _lowest_kept(values, scratch, budget, by_value):
    """The lowest of `values` that top-k or top-p keeps, by quickselect.

    A value is kept if the total weight of all values above it is less than `budget`. The weight of
    a value is the value itself (top-p) or 1 (top-k).
    """
    count = values.size
    scratch[:] = values
    above = 0.0
    while True:
        pivot = scratch[count // 2]
        greater = equal = 0.0
        lesser = False
        for value in scratch[:count]:
            weight = value if by_value else 1.0
            if value > pivot:
                greater += weight
            elif value == pivot:
                equal += weight
            else:
                lesser = True
        up = above + greater >= budget
        if not up:
            above += greater + equal
            if not lesser or above >= budget:
                return pivot
        kept = 0
        for i in range(count):
            value = scratch[i]
            if (value > pivot) if up else (value < pivot):
                scratch[kept] = value
                kept += 1
        if kept == 0:  # only if rounding or NaN leaves no value to choose from
            return pivot
        count = kept


@helper
def draw(logits, noise, how, probabilities, scratch):
    """Draw a code for one row: float32 logits (Q,), float64 probabilities and scratch (Q,)."""
    if how.temperature == 0:
        best = np.argmax(logits)
        return best if np.isfinite(logits[best]) else logits.size
    peak = np.float64(np.max(logits))
    for code in range(logits.size):
        probabilities[code] = (np.float64(logits[code]) - peak) / how.temperature
    least = -np.inf
    if how.top_k < logits.size:
        least = _lowest_kept(probabilities, scratch, how.top_k, False)
    for code in range(logits.size):
        scaled = probabilities[code]
        probabilities[code] = exp64(scaled) if scaled >= least else 0.0
    if how.top_p < 1:
        total = probabilities.sum()
        least = _lowest_kept(probabilities, scratch, how.top_p * total, True)
        for code in range(logits.size):
            if probabilities[code] < least:
                probabilities[code] = 0.0
    total = 0.0
    for code in range(logits.size):
        total += probabilities[code]
        probabilities[code] = total
    reach, drawn = noise * total, 0
    for code in range(logits.size):
        drawn += probabilities[code] < reach
    # If logits are not finite, their differences from the peak are NaN, so no sum is above 0.
    return min(drawn, logits.size - 1) if total > 0 else logits.size
