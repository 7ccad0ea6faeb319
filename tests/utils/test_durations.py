"""Durations as people write them."""

import pytest

from wavegen.utils.durations import days_first, seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("60", 60),
        ("1:00", 60),
        ("10min", 600),
        ("15m", 900),
        ("1h30m", 5400),
        ("1h 30 min", 5400),
        ("0.5h", 1800),
        ("2d", 172800),
        ("00:01:30:00", 5400),
        ("45 s", 45),
    ],
)
def test_seconds(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds
    assert seconds_of(days_first(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "soon", "1x", "10m!", "1:2:3:4:5", "-5", "m"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        seconds_of(text)
