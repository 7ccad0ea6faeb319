"""Ctrl-C, SIGTERM and SIGHUP end training after the batch at hand, and nothing of it is lost."""

import os
import select
import signal
from contextlib import suppress
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from wavegen.errors import Stopped
from wavegen.training.data_module import AudioDataModule
from wavegen.training.lightning_module import LitModel
from wavegen.training.private import ignore_signals_of_others
from wavegen.utils.distributed import largest

# Processes that train together look for a signal to any of them once in so many steps:
# it costs a message.
_TOGETHER = 10
# Windows has none.
_HANGUP = getattr(signal, "SIGHUP", None)
_NUMBERS = [number for number in (signal.SIGINT, signal.SIGTERM, _HANGUP) if number is not None]


class StopOnSignal(Callback):
    """Ends training where it can go on as if it had never stopped; `received` says by what.

    Training then ends as by a limit on its steps, so that its end is what saves. A validation
    ends with the batch at hand, and its figures are not used. A second signal ends all at once.

    It must stand before the callback that writes the run folder.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the handlers that there are, before Lightning puts in its own."""
        self._original = {number: signal.getsignal(number) for number in _NUMBERS}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the place of Lightning's handlers."""
        self._data: AudioDataModule = trainer.datamodule  # type: ignore[attr-defined]
        for number in _NUMBERS:
            # Under nohup a training outlives its terminal; begun by a script with `&` it is not
            # meant by Ctrl-C.
            ignored = self._original[number] is signal.SIG_IGN
            try:
                signal.signal(number, signal.SIG_IGN if ignored else self._note)
            except ValueError:  # not the main thread: whoever began this sees to signals
                return
            self._before[number] = self._original[number]
        # With several processes Lightning asks at every step whether its own was called, and
        # waits for the device.
        ignore_signals_of_others(trainer)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number == _HANGUP:
            _leave_closed_terminals()
            # It comes once more when the shell ends.
            signal.signal(number, signal.SIG_IGN)
        if self.received:
            raise Stopped(number)
        self.received = number
        self._data.stopping = True
        # Printing could be interrupted in the middle of printing.
        with suppress(OSError):
            os.write(2, b"\nwavegen: stopping after this batch; a second signal stops at once\n")

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        """Stop if told to, and without a validation: who sends SIGTERM may not wait long."""
        if trainer.world_size == 1 or trainer.global_step % _TOGETHER == 0:
            self._stop_if_told(trainer)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Have the figures of a validation that was not gone through left alone, by all."""
        assert isinstance(pl_module, LitModel)
        if self._before:
            self._stop_if_told(trainer)
            pl_module.interrupted = bool(self.received)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop if told to while samples were made."""
        if self._before:
            self._stop_if_told(trainer)

    def _stop_if_told(self, trainer: Trainer) -> None:
        self.received = int(largest([self.received])[0])
        if self.received:
            trainer.limit_val_batches = 0
            trainer.should_stop = True

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the signals back: Lightning has given them back already, so not its own."""
        while self._before:
            signal.signal(*self._before.popitem())


def _leave_closed_terminals() -> None:
    """Write no more to a terminal that is gone: that would be an error before all is saved."""
    polled = select.poll()
    for descriptor in (1, 2):
        polled.register(descriptor, 0)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor, events in polled.poll(0):
        if events & (select.POLLHUP | select.POLLERR):
            os.dup2(nowhere, descriptor)
    os.close(nowhere)
