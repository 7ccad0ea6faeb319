"""Many items shared among processes that were begun together by `torchrun`.

Each process, a rank, does its share of the items; what it makes of one does not depend on how
many ranks there are.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Any, Protocol, TypeVar

from wavegen.errors import ConfigError, WavegenError

T = TypeVar("T")
R = TypeVar("R")

# How long one rank waits for another. What has ended is noticed at once; milliseconds must fit
# in 32 bits.
_PATIENCE = timedelta(days=20)

# What `torchrun` and SLURM tell each of the processes that they begin, and the least it can be.
_TOLD = {
    "RANK": 0,
    "LOCAL_RANK": 0,
    "WORLD_SIZE": 1,
    "SLURM_PROCID": 0,
    "SLURM_LOCALID": 0,
    "SLURM_NODEID": 0,
    "SLURM_NTASKS": 1,
}


def rank() -> int:
    """This process's number among those begun together; 0 if it is alone."""
    return told("RANK")


def ranks() -> int:
    """How many processes were begun together."""
    return told("WORLD_SIZE")


def told(name: str) -> int:
    """The number in an environment variable; the least there can be where it is not set.

    Raises:
        ConfigError: it is no such number.
    """
    least = _TOLD[name]
    text = os.environ.get(name, str(least))
    # `int` would take signs, spaces and underscores too.
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) >= least):
        raise ConfigError(
            f"the environment variable {name} is '{text}': it must be a whole number from {least}; "
            "torchrun and SLURM set it, elsewhere unset it"
        )
    return int(text)


def check() -> None:
    """`ConfigError` where what this process was told of the others cannot be."""
    for name in _TOLD:
        told(name)
    if rank() >= ranks() and "WORLD_SIZE" in os.environ:
        raise ConfigError(
            f"the environment variable RANK is {rank()}: it must be below WORLD_SIZE, {ranks()}"
        )


def share(items: Sequence[T], sizes: Sequence[float] | None = None) -> list[T]:
    """Those of the items that are this rank's to do, in their order.

    The largest are dealt out first, each to the rank that has least to do: all ranks have
    about as much. Items of one size, or of none given, are dealt out in turn.
    """
    loads = [0.0] * ranks()
    mine = []
    sizes = sizes or [1.0] * len(items)
    for number in sorted(range(len(items)), key=lambda number: -sizes[number]):
        least = loads.index(min(loads))
        loads[least] += sizes[number]
        if least == rank():
            mine.append(number)
    return [items[number] for number in sorted(mine)]


class Kept(Protocol):
    """Results that outlive a process."""

    def get(self, item: Any) -> Any | None:
        """What was made of an item before, if it was."""
        ...

    def add(self, item: Any, result: Any) -> None:
        """Keep what was made of an item."""
        ...


def by_ranks(
    items: Sequence[T],
    work: Callable[[Sequence[T]], Iterable[R]],
    size: Callable[[T], float],
    kept: Kept | None = None,
) -> Iterable[R] | None:
    """What all ranks make of some items, in their order.

    The first rank gets it, once all are done; others get None. All must call this. A process
    that is alone gets results as they come.

    Args:
        items: the same for all ranks.
        work: makes a result of each of some of them, in their order.
        size: of an item, about the time that it takes; the same for all ranks.
        kept: results are looked up there before they are made, and added as they come.

    Raises:
        WavegenError: another process has ended too soon.
    """
    if ranks() == 1:
        return work(items)
    import torch.distributed as dist

    # Before the work, for which one rank may take hours longer than another.
    dist.init_process_group("gloo", timeout=_PATIENCE)
    try:
        found: dict[int, R] = {}
        numbers = share(range(len(items)), [size(each) for each in items])
        if kept is not None:
            known = ((number, kept.get(items[number])) for number in numbers)
            found = {number: result for number, result in known if result is not None}
        left = [number for number in numbers if number not in found]
        results = work([items[number] for number in left])
        for number, result in zip(left, results, strict=True):
            found[number] = result
            if kept is not None:
                kept.add(items[number], result)
        shares: list[dict[int, R]] | None = [{}] * ranks() if rank() == 0 else None
        try:
            dist.gather_object(found, shares)
        except RuntimeError as error:
            raise WavegenError(
                "another process ended before its share was done: its own message says why; "
                "run the same again"
            ) from error
    finally:
        dist.destroy_process_group()
    if shares is None:
        return None
    together = {number: result for each in shares for number, result in each.items()}
    return [together[number] for number in range(len(items))]


def largest(numbers: Sequence[float]) -> list[float]:
    """The largest of each number over all processes that train together; all must call this.

    The numbers go from memory to memory, and no process waits for its device.
    """
    import torch
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return list(numbers)
    together = torch.tensor(numbers, dtype=torch.float64)
    dist.all_reduce(together, dist.ReduceOp.MAX, group=_beside(dist.group.WORLD))
    return together.tolist()


@lru_cache(maxsize=1)
def _beside(world: Any) -> Any:
    """A group of all processes that sends what is in memory; begun when first asked for."""
    import torch.distributed as dist

    return world if dist.get_backend(world) == "gloo" else dist.new_group(backend="gloo")
