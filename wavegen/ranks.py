"""Many items shared among processes that were begun together by `torchrun`.

Each process, a rank, does every n-th item; what it makes of one does not depend on how many
ranks there are.
"""

import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain, zip_longest
from typing import Any, TypeVar

T = TypeVar("T")


def rank() -> int:
    """This process's number among those begun together; 0 if it is alone."""
    return int(os.environ.get("RANK", "0"))


def ranks() -> int:
    """How many processes were begun together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


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
