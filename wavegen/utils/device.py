"""Where torch computes: every `--device` and every argument `device` comes through here."""

from typing import TYPE_CHECKING

from wavegen.errors import ConfigError
from wavegen.utils.distributed import told

if TYPE_CHECKING:
    import torch


def pick_device(device: "str | torch.device | None" = None) -> "torch.device":
    """A device that is there.

    Args:
        device: `cpu`, `cuda`, `cuda:1` or another of torch's; if not given this rank's GPU, or
            the CPU where there is none.

    Raises:
        ConfigError: torch knows no such device, or cannot compute on it here.
    """
    import torch

    if device is None:
        gpu = torch.device("cuda", told("LOCAL_RANK"))
        return gpu if torch.cuda.is_available() else torch.device("cpu")
    try:
        picked = torch.device(device)
        # Some devices hold shapes but no numbers.
        torch.zeros(1, device=picked).item()
    except (RuntimeError, AssertionError, ImportError, TypeError) as error:
        raise ConfigError(f"device '{device}' is not there: say cpu or leave it out") from error
    return picked


def free_memory(device: "torch.device") -> int:
    """Bytes of a GPU that are free, or that torch keeps for what comes next."""
    import torch

    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept
