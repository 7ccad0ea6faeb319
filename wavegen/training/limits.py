"""Limits of a training and its validation, and checks of options before Lightning uses them."""

import os
from importlib.util import find_spec
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Timer
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from wavegen.errors import ConfigError


def check_nodes(trainer: Trainer) -> None:
    """Raise `ConfigError` if the other nodes were not started: this one would wait for ever."""
    alone = isinstance(getattr(trainer.strategy, "cluster_environment", None), LightningEnvironment)
    if trainer.num_nodes > 1 and alone and not {"NODE_RANK", "GROUP_RANK"} & os.environ.keys():
        raise ConfigError(
            f"--trainer.num_nodes is {trainer.num_nodes}, but the number of this node is not "
            "known: start training on each node by torchrun or srun, or use 1"
        )


def check_limits(asked: Any) -> None:
    """Raise `ConfigError` for values that Lightning accepts, and that make it fail later."""
    if not 1 <= asked.accumulate_grad_batches < 2**31:
        raise ConfigError(
            f"--trainer.accumulate_grad_batches is {asked.accumulate_grad_batches}: it must be "
            "above 0 and below 2^31"
        )
    # Lightning's own error comes with a traceback from the destructor of its profiler.
    if asked.profiler == "xla" and find_spec("torch_xla") is None:
        raise ConfigError(
            "--trainer.profiler is xla: it needs the package torch_xla, which is not installed"
        )
    if asked.log_every_n_steps is not None and asked.log_every_n_steps < 0:
        raise ConfigError(
            f"--trainer.log_every_n_steps is {asked.log_every_n_steps}: it must be 0 or above"
        )
    if asked.val_check_interval == 0:
        raise ConfigError("--trainer.val_check_interval is 0: it must be above 0")
    for name in ("max_time", "val_check_interval"):
        if isinstance(time := asked[name], str | dict):
            try:
                remaining = Timer(time).time_remaining()
            except (OverflowError, TypeError, MisconfigurationException) as error:
                raise ConfigError(
                    f"--trainer.{name} is {time}: it must be like 00:12:00:00, days first"
                ) from error
            if remaining is not None and remaining < 0:
                raise ConfigError(f"--trainer.{name} is {time}: it must not be negative")


def limits_of(asked: Any, steps: int) -> dict[str, Any]:
    """Default limits of training, and default intervals of validation."""
    limits: dict[str, Any] = {}
    often: dict[str, Any] = {"trainer.check_val_every_n_epoch": None}
    if asked.max_time is not None:
        seconds = Timer(asked.max_time).time_remaining() or 0.0
        limits["trainer.max_steps"] = -1
        often["trainer.val_check_interval"] = f"00:00:00:{max(1, round(seconds / 8)):02d}"
    elif asked.max_epochs is not None:
        limits["trainer.max_steps"] = -1
        often["trainer.check_val_every_n_epoch"] = max(1, asked.max_epochs // 10)
    else:
        steps = asked.max_steps if asked.max_steps > 0 else steps
        often["trainer.val_check_interval"] = max(1, steps // 10)
    # With an interval in epochs, or parts of an epoch, Lightning takes no interval in steps.
    by_epoch = asked.check_val_every_n_epoch != 1 or isinstance(asked.val_check_interval, float)
    return limits if by_epoch else {**limits, **often}


class Clock(Timer):
    """The limit on the time of training; `LitModel` checks it for all processes together."""

    @property
    def state_key(self) -> str:
        """Key in checkpoints, which keep the elapsed time."""
        return Timer.__qualname__

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        """Do not stop here: a Timer sends a message to all processes at every step."""

    def on_train_epoch_end(self, *_: Any, **__: Any) -> None:
        """Do not stop here either, since epochs may be as short as a step."""
