"""Whether JSON that may be from elsewhere has the shape that it should have."""

from collections.abc import Callable
from typing import Any

# Far more samples, items or bytes than there can be, and far from the end of int64.
_LARGEST_COUNT = 2**40


def fits(value: Any, shape: Any) -> bool:
    """Whether a JSON value has a shape.

    Args:
        value: what `json.loads` returned.
        shape: a type; `[shape]`, a list of any length; `(shape, shape)`, a list of that length;
            `{str: shape}`, an object of any keys; `{"key": shape}`, an object with these keys
            and maybe others; or a function that says whether a value is right.
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
    """Whole numbers of a range."""
    return lambda value: type(value) is int and low <= value <= high


def number(low: float, high: float) -> Callable[[Any], bool]:
    """Finite numbers of a range, whole or not."""
    return lambda value: type(value) in (int, float) and low <= value <= high
