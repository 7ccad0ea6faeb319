"""Checking numbers of users."""

from numbers import Integral

from wavegen.errors import ConfigError


def whole_number(name: str, value: object, low: int, high: int) -> int:
    """`value` as an int; `ConfigError` if it is no whole number from `low` to `high`."""
    if isinstance(value, Integral) and not isinstance(value, bool) and low <= int(value) <= high:
        return int(value)
    raise ConfigError(f"{name} is {value!r:.40}: it must be a whole number from {low} to {high}")
