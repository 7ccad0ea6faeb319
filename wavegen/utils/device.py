"""The device of torch: every option `--device` and every argument `device` is checked here."""

from typing import TYPE_CHECKING

from wavegen.errors import ConfigError
from wavegen.utils.distributed import told

if TYPE_CHECKING:
    import torch


def pick_device(device: "str | torch.device | None" = None) -> "torch.device":
    """Choose a device, and check that torch can use it.

    Args:
        device: `cpu`, `cuda`, `cuda:1` or another device of torch; by default the GPU of this
            rank, or the CPU if there is no GPU.

    Raises:
        ConfigError: there is no such device, or torch cannot compute on it.
    """
    import torch

    if device is None:
        gpu = torch.device("cuda", told("LOCAL_RANK"))
        return gpu if torch.cuda.is_available() else torch.device("cpu")
    try:
        picked = torch.device(device)
        # Some devices, such as `meta`, hold no data.
        torch.zeros(1, device=picked).item()
    except (RuntimeError, AssertionError, ImportError, TypeError) as error:
        raise ConfigError(f"there is no device '{device}': give cpu or leave it out") from error
    return picked


def free_memory(device: "torch.device") -> int:
    """Bytes of a GPU that are free, including those that torch has reserved but not used."""
    import torch

    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept
