"""Damaged copies of a sound JSON: what a file from elsewhere may hold."""

import copy
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Of other types, out of range, not finite, too large for a machine number, no text.
ODD = [
    None, True, False, 0, -1, 1, 2, 0.5, -0.0, 2**31, 2**63, 2**64, -(2**63), 10**12, 10**400,
    1e308, 1e-320, float("nan"), float("inf"), float("-inf"), "", "0", "x", "a\0b", "\ud800",
    "\x1b[2J", "../" * 9, "y" * 5000, [], {}, [[]], [None], [0] * 100, {"": {}}, {"a": [1, {}]},
]  # fmt: skip


def mutated(value: Any, count: int, seed: int = 0) -> Iterator[str]:
    """`count` texts that are nearly the JSON of `value`, the same ones for a seed."""
    chance = random.Random(seed)
    text = json.dumps(value)
    for number in range(count):
        if number % 5 == 4:
            yield _scratched(text, chance)
            continue
        other = copy.deepcopy(value)
        for _ in range(chance.choice([1, 1, 1, 2, 3])):
            _change(other, chance)
        yield json.dumps(other)


def _change(value: Any, chance: random.Random) -> None:
    """Go down at random, and change what is there."""
    while True:
        if not value:
            return
        key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
        if not isinstance(value[key], dict | list) or not value[key] or chance.random() < 0.3:
            break
        value = value[key]
    what = chance.random()
    if what < 0.15:
        del value[key]
    elif what < 0.25 and isinstance(value, list):
        value.extend(value[:3] * chance.choice([1, 50]))
    elif what < 0.3 and isinstance(value, dict):
        value["another"] = chance.choice(ODD)
    elif what < 0.35:
        value[key] = [value[key]]
    else:
        value[key] = copy.deepcopy(chance.choice(ODD))


def _scratched(text: str, chance: random.Random) -> str:
    place = chance.randrange(len(text))
    return chance.choice(
        [
            text[:place],
            text[:place] + chance.choice('{}[]",:0-e\\\0\x85') + text[place + 1 :],
            text[:place] + "[" * 100_000 + text[place:],
            text[:place] + "9" * 5000 + text[place:],
            "[" * 100_000,
        ]
    )


def no_file(path: Path) -> Iterator[str]:
    """Put in the place of `path`, in turn, what cannot be read to its end; say what it is."""
    for name, make in {
        "a pipe": os.mkfifo,
        "a device": lambda place: place.symlink_to("/dev/zero"),
        "a folder": Path.mkdir,
        "a large file": _large,
        "no text": lambda place: place.write_bytes(b"\xff\xfe{}"),
    }.items():
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
        make(path)  # type: ignore[operator]
        yield name


def _large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(3 << 30)


def survives(
    read: Callable[[], object], error: type[Exception], path: Path, value: Any, count: int
) -> int:
    """Read mutations written to `path`: only `error` comes, on one line; return how often."""
    refused = []
    for text in mutated(value, count):
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        try:
            read()
        except error as caught:
            refused.append(str(caught))
        except Exception as caught:
            pytest.fail(f"{caught!r} of {text[:500]}")
    assert all(str(path) in line for line in refused)
    for _ in no_file(path):
        with pytest.raises(
            error, match=r"not a regular|no such|too many for|link|is not UTF-8|no model"
        ):
            read()
    return len(refused)
