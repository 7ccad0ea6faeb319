"""Private parts of Lightning and torch that a training needs: here and nowhere else.

Another version of either may lack them. `tests/training/test_private.py` says which one is gone.
"""

import math
from typing import Any

import torch
from pytorch_lightning import Trainer


def validation_seconds(trainer: Any) -> float | None:
    """Seconds from one validation to the next; None where they are counted in steps or epochs."""
    every: float | None = trainer._val_check_time_interval
    return every


def set_validation_due(trainer: Any, due: bool) -> None:
    """Have Lightning validate after this step, or not yet, whatever its own clock says."""
    # It compares the seconds since this time.
    trainer._last_val_time = -math.inf if due else math.inf


def ignore_signals_of_others(trainer: Trainer) -> None:
    """Have Lightning send no message at every step to learn whether another process was stopped."""
    loop: Any = trainer.fit_loop.epoch_loop
    loop._broadcast_sigterm_tensor = lambda: None


def cpu_has_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16: without them it is slower than float32."""
    return bool(torch.cpu._is_avx512_bf16_supported())
