"""Sharing many items among processes that `torchrun` has started together.

Each process, a rank, processes its share of the items. The result of an item does not depend on
the number of ranks.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Any, Protocol, TypeVar

from wavegen.errors import ConfigError, WavegenError

T = TypeVar("T")
R = TypeVar("R")

# How long one rank waits for another: as long as fits in 32 bits as milliseconds, since the end of
# a process is noticed at once.
_PATIENCE = timedelta(days=20)

# Environment variables that `torchrun` and SLURM set for each process, with their least values.
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
    """The number of this process among those started together; 0 for a single process."""
    return told("RANK")


def ranks() -> int:
    """The number of processes started together."""
    return told("WORLD_SIZE")


def told(name: str) -> int:
    """The number in an environment variable; its least value if the variable is not set.

    Raises:
        ConfigError: the value is not such a number.
    """
    least = _TOLD[name]
    text = os.environ.get(name, str(least))
    # `int` would accept signs, spaces and underscores too.
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) >= least):
        raise ConfigError(
            f"the environment variable {name} is '{text}': it must be a whole number from {least}; "
            "torchrun and SLURM set it, elsewhere unset it"
        )
    return int(text)


def check() -> None:
    """Raise `ConfigError` if the environment variables contradict each other."""
    for name in _TOLD:
        told(name)
    if rank() >= ranks() and "WORLD_SIZE" in os.environ:
        raise ConfigError(
            f"the environment variable RANK is {rank()}: it must be below WORLD_SIZE, {ranks()}"
        )


def share(items: Sequence[T], sizes: Sequence[float] | None = None) -> list[T]:
    """The share of this rank in the items, in their order.

    The largest items are assigned first, each to the rank with the least work, so that all ranks
    have similar work. Items of equal size, or without sizes, are assigned in turn.
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
        """The kept result of an item; None if there is none."""
        ...

    def add(self, item: Any, result: Any) -> None:
        """Keep the result of an item."""
        ...


def by_ranks(
    items: Sequence[T],
    work: Callable[[Sequence[T]], Iterable[R]],
    size: Callable[[T], float],
    kept: Kept | None = None,
) -> Iterable[R] | None:
    """Process items on all ranks, and return the results in the order of the items.

    All ranks must call this. The first rank returns the results when all are complete; the others
    return None. A single process yields results one by one.

    Args:
        items: the items, the same on all ranks.
        work: yields the results of some of the items, in their order.
        size: returns the size of an item, about its time; the same on all ranks.
        kept: results that are found here are not computed again; new ones are added.

    Raises:
        WavegenError: another process has ended too early.
    """
    if ranks() == 1:
        return work(items)
    import torch.distributed as dist

    # The ranks connect before the work, since one may take hours longer than another.
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
                "another process ended before its share was complete: its own message says why; "
                "run the same command again"
            ) from error
    finally:
        dist.destroy_process_group()
    if shares is None:
        return None
    together = {number: result for each in shares for number, result in each.items()}
    return [together[number] for number in range(len(items))]


def largest(numbers: Sequence[float]) -> list[float]:
    """The largest of each number over all processes that train together; all must call this.

    The numbers are sent from memory to memory, so that no process waits for its device.
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
    """A group of all processes that sends tensors in memory; made at the first call."""
    import torch.distributed as dist

    return world if dist.get_backend(world) == "gloo" else dist.new_group(backend="gloo")
