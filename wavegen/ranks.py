"""Many items shared among processes that were begun together by `torchrun`.

Each process, a rank, does every n-th item; what it makes of one does not depend on how many
ranks there are.
"""

import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain, zip_longest
from typing import Any, TypeVar

from wavegen.errors import ConfigError

T = TypeVar("T")

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


def share(items: Sequence[T]) -> Sequence[T]:
    """Those of the items that are this rank's to do."""
    return items[rank() :: ranks()]


def gather(results: Iterable[T]) -> Iterable[T] | None:
    """What all ranks have made of their shares, in the order of the items.

    The first rank gets them, once all are done; others get None. All must call this. A
    process that is alone gets them as they come.
    """
    if ranks() == 1:
        return results
    import torch.distributed as dist

    mine = list(results)
    dist.init_process_group("gloo")
    try:
        shares: list[list[T]] | None = [[]] * ranks() if rank() == 0 else None
        dist.gather_object(mine, shares)
    finally:
        dist.destroy_process_group()
    if shares is None:
        return None
    missing = object()
    in_turn = chain.from_iterable(zip_longest(*shares, fillvalue=missing))
    return [each for each in in_turn if each is not missing]  # type: ignore[misc]


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
