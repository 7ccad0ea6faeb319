"""Damaged copies of a file's bytes, and bounds within which reading them must stay.

For damaged JSON see `mutations`.
"""

import faulthandler
import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Values that headers trip over: zero, the largest, and those about a change of sign.
_EDGES = [b"\x00", b"\xff", b"\x7f", b"\x80", b"\x01"]


def mutants(data: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """`count` damaged copies of `data`, the same ones for a seed.

    Half of the changes fall on the first 200 bytes, where headers are.
    """
    chance = random.Random(seed)
    for _ in range(count):
        mutant = bytearray(data)
        for _ in range(chance.choice([1, 1, 1, 2, 5])):
            _change(mutant, chance)
        yield bytes(mutant)


def _change(mutant: bytearray, chance: random.Random) -> None:
    end = len(mutant) if chance.random() < 0.5 else min(200, len(mutant))
    if not end:
        mutant += b"x"
        return
    place = chance.randrange(end)
    size = chance.choice([1, 2, 4, 8, 100, 1000])
    match chance.randrange(7):
        case 0:
            mutant[place] ^= 1 << chance.randrange(8)
        case 1:
            mutant[place : place + size] = chance.randbytes(size)
        case 2:
            mutant[place : place + size] = chance.choice(_EDGES) * size
        case 3:
            del mutant[place : place + size]
        case 4:
            mutant[place:place] = chance.randbytes(size)
        case 5:
            mutant[place:place] = mutant[place : place + size] * chance.choice([1, 50])
        case 6:
            del mutant[place:]


@contextmanager
def bounded(megabytes: int, seconds: int = 100) -> Iterator[None]:
    """More memory than this beyond what is held already is an error, and more time the end."""
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (held + (megabytes << 20), before[1]))
    # Code that hangs outside of Python ends by no exception.
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        resource.setrlimit(resource.RLIMIT_AS, before)
