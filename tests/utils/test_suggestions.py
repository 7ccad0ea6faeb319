"""Which option a misspelled or guessed one was meant to be."""

import pytest

from wavegen.utils.suggestions import closest

KNOWN = ["--seconds", "--count", "--data.sample_rate", "--top-k"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("--second", "--seconds"),
        ("--lenght", "--seconds"),
        ("--sample-rate", "--data.sample_rate"),
        ("--top_k", "--top-k"),
        ("--frobnicate", None),
    ],
)
def test_closest(given: str, meant: str | None) -> None:
    assert closest(given, KNOWN, {"length": "--seconds"}) == meant
