"""Durations in the forms that users write."""

import re

_UNITS = {"d": 86400, "h": 3600, "min": 60, "m": 60, "sec": 1, "s": 1}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(d|h|min|m|sec|s)\s*")
_COLONS = re.compile(r"\d+(:\d+){0,3}")


def seconds_of(text: str) -> int:
    """Whole seconds in `90`, `1:30`, `10min`, `1h30m`, `2d` or `00:01:30:00`, days first.

    Raises:
        ValueError: the text has none of these forms.
    """
    text = text.strip().lower()
    if _COLONS.fullmatch(text):
        parts = [int(part) for part in reversed(text.split(":"))]
        return sum(part * unit for part, unit in zip(parts, (1, 60, 3600, 86400), strict=False))
    found = _PART.findall(text)
    if not found or _PART.sub("", text):
        raise ValueError(f"{text!r} is no duration")
    return round(sum(float(number) * _UNITS[unit] for number, unit in found))


def days_first(seconds: int) -> str:
    """`DD:HH:MM:SS`, the form that Lightning reads."""
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    day, hour = divmod(hours, 24)
    return f"{day:02}:{hour:02}:{minute:02}:{second:02}"
