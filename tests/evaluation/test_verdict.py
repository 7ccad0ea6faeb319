"""The sentence of a report says what its figures say."""

from typing import Any

import pytest

from wavegen.evaluation.intervals import Figure
from wavegen.evaluation.verdict import verdict


def figures(bits: float, silent: float, nearest: float) -> dict[str, Any]:
    def near(value: float) -> Figure:
        return Figure(value, value - 0.01, value + 0.01)

    return {
        "likelihood": {"bits_per_sample": near(bits), "order0": near(5.0)},
        "recognised_by_a_judge": {
            "digit": {"generated": near(0.9), "real": near(0.97)},
            "speaker": {},
        },
        "samples": {
            "silent_clips": {"generated": near(silent), "real": near(0.02)},
            "nearest_generated_over_real": {"generated": near(nearest)},
        },
    }


def test_a_good_model() -> None:
    assert verdict(figures(2.5, 0.02, 1.0)) == (
        "The model predicts held-out clips better than their histogram does (2.50 against 5.00 "
        "bits per sample); a label classifier recognises the digit of 90% of the generated clips "
        "and of 97% of the real ones; generated clips do not look like copies of training clips."
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ((5.0, 0.02, 1.0), "needs more training"),
        ((4.99, 0.02, 1.0), "needs more training"),
        ((2.5, 0.3, 1.0), "30% of the generated clips are silent"),
        ((2.5, 0.02, 0.1), "likely to be copies"),
    ],
)
def test_what_is_wrong_is_said(change, says) -> None:
    assert says in verdict(figures(*change))
    assert says not in verdict(figures(2.5, 0.02, 1.0))


def test_where_real_clips_are_in_training_nothing_is_said_of_copies() -> None:
    found = figures(2.5, 0.02, 1.0)
    del found["samples"]["nearest_generated_over_real"]
    assert "copies" not in verdict(found)
