"""Checking that JSON, possibly from somebody else, has the expected shape."""

from collections.abc import Callable
from typing import Any

# More samples, items or bytes than there can be, but far below the limit of int64.
_LARGEST_COUNT = 2**40


def fits(value: Any, shape: Any) -> bool:
    """Whether a JSON value has a shape.

    Args:
        value: result of `json.loads`.
        shape: a type; `[shape]`, a list of any length; `(shape, shape)`, a list of that length;
            `{str: shape}`, an object with any keys; `{"key": shape}`, an object with these keys
            and possibly others; or a function that returns whether a value is valid.
    """
    if isinstance(shape, type):
        return type(value) is shape
    if isinstance(shape, list):
        return type(value) is list and all(fits(each, shape[0]) for each in value)
    if isinstance(shape, tuple):
        return type(value) is list and len(value) == len(shape) and all(map(fits, value, shape))
    if isinstance(shape, dict):
        if type(value) is not dict:
            return False
        if str in shape:
            return all(fits(each, shape[str]) for each in value.values())
        return all(key in value and fits(value[key], shape[key]) for key in shape)
    return shape(value)


def optional(shape: Any) -> Callable[[Any], bool]:
    """A shape that may be null instead."""
    return lambda value: value is None or fits(value, shape)


def whole(low: int, high: int = _LARGEST_COUNT) -> Callable[[Any], bool]:
    """A shape: integers from `low` to `high`."""
    return lambda value: type(value) is int and low <= value <= high


def number(low: float, high: float) -> Callable[[Any], bool]:
    """A shape: finite numbers from `low` to `high`."""
    return lambda value: type(value) in (int, float) and low <= value <= high
