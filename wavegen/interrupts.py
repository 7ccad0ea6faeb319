"""Ctrl-C and SIGTERM end training after the batch at hand, and nothing of it is lost."""

import signal
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from wavegen.errors import Stopped
from wavegen.ranks import largest

# Processes that train together look for a signal to any of them once in so many steps:
# it costs a message.
_TOGETHER = 10


class StopOnSignal(Callback):
    """Ends training where it can go on as if it had never stopped; `received` says by what.

    Training then ends as by a limit on its steps, so that its end is what saves. A second
    signal ends it at once.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the place of Lightning's handlers, which come in just before."""
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._note)
            except ValueError:  # not the main thread: whoever began this sees to signals
                return
        # With several processes Lightning asks at every step whether its own was called, and
        # waits for the device.
        loop: Any = trainer.fit_loop.epoch_loop
        loop._broadcast_sigterm_tensor = lambda: None

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.received:
            raise Stopped(number)
        self.received = number

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        """Stop if told to, and without a validation: who sends SIGTERM may not wait long."""
        if trainer.world_size > 1:
            if trainer.global_step % _TOGETHER:
                return
            self.received = int(largest([self.received])[0])
        if self.received:
            trainer.limit_val_batches = 0
            trainer.should_stop = True

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the signals back."""
        while self._before:
            signal.signal(*self._before.popitem())
