"""Private parts of Lightning and torch that training needs; no other module uses any.

Another version of either may lack them. `tests/training/test_private.py` shows which is missing.
"""

import math
from typing import Any

import torch
from pytorch_lightning import Trainer


def validation_seconds(trainer: Any) -> float | None:
    """Seconds from one validation to the next; None if the interval is in steps or epochs."""
    every: float | None = trainer._val_check_time_interval
    return every


def set_validation_due(trainer: Any, due: bool) -> None:
    """Let Lightning validate after this step, or not yet, independently of its own clock."""
    # Lightning compares the interval with the seconds since this time.
    trainer._last_val_time = -math.inf if due else math.inf


def ignore_signals_of_others(trainer: Trainer) -> None:
    """Keep Lightning from asking all processes at every step whether one of them was stopped."""
    loop: Any = trainer.fit_loop.epoch_loop
    loop._broadcast_sigterm_tensor = lambda: None


def cpu_has_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16, without which it is slower than float32."""
    return bool(torch.cpu._is_avx512_bf16_supported())
