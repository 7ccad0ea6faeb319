"""How long a training takes and how often it validates, and what Lightning would fail on later."""

import os
from importlib.util import find_spec
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Timer
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from wavegen.errors import ConfigError


def check_nodes(trainer: Trainer) -> None:
    """`ConfigError` where nobody has begun the other nodes: this one would wait for ever."""
    alone = isinstance(getattr(trainer.strategy, "cluster_environment", None), LightningEnvironment)
    if trainer.num_nodes > 1 and alone and not {"NODE_RANK", "GROUP_RANK"} & os.environ.keys():
        raise ConfigError(
            f"--trainer.num_nodes is {trainer.num_nodes}, and nothing says which node this is: "
            "begin training on each by torchrun or srun, or take 1"
        )


def check_limits(asked: Any) -> None:
    """`ConfigError` for values that Lightning takes, and on which it fails later."""
    if not 1 <= asked.accumulate_grad_batches < 2**31:
        raise ConfigError(
            f"--trainer.accumulate_grad_batches is {asked.accumulate_grad_batches}: it must be "
            "above 0 and below 2^31"
        )
    # Lightning's own refusal comes with a traceback of its half-made profiler.
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
    """How long to train and how often to validate, where the user has not said."""
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
    # An interval counted in epochs, or in parts of one, leaves no room for another.
    by_epoch = asked.check_val_every_n_epoch != 1 or isinstance(asked.val_check_interval, float)
    return limits if by_epoch else {**limits, **often}


class Clock(Timer):
    """The limit on the time of training; `LitModel` looks at it, for all processes at once."""

    @property
    def state_key(self) -> str:
        """The name in checkpoints, whose time goes on."""
        return Timer.__qualname__

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        """Send no message of its own, as a Timer does at every step."""

    def on_train_epoch_end(self, *_: Any, **__: Any) -> None:
        """Likewise: epochs may be short."""
