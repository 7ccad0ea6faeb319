"""Ctrl-C, SIGTERM and SIGHUP end training after the present batch, and no work is lost."""

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

# Processes that train together ask one another for signals only once in this many steps, since
# each time costs a message.
_TOGETHER = 10
# Windows has none.
_HANGUP = getattr(signal, "SIGHUP", None)
_NUMBERS = [number for number in (signal.SIGINT, signal.SIGTERM, _HANGUP) if number is not None]


class StopOnSignal(Callback):
    """Ends training at a signal so that it can be resumed as if it had never stopped.

    Training ends as it does at its last step, which also saves it. A validation ends after its
    present batch, and its figures are not used. A second signal ends the process at once.
    `received` is the number of the signal.

    This callback must come before the one that writes the run folder.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the present handlers, before Lightning installs its own."""
        self._original = {number: signal.getsignal(number) for number in _NUMBERS}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace the handlers of Lightning."""
        self._data: AudioDataModule = trainer.datamodule  # type: ignore[attr-defined]
        for number in _NUMBERS:
            # An ignored signal stays ignored: SIGHUP under nohup, and SIGINT of a training that
            # a script has started with `&`.
            ignored = self._original[number] is signal.SIG_IGN
            try:
                signal.signal(number, signal.SIG_IGN if ignored else self._note)
            except ValueError:  # only the main thread can install handlers
                return
            self._before[number] = self._original[number]
        # With several processes Lightning asks at every step whether its own handler was called,
        # and waits for the device.
        ignore_signals_of_others(trainer)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number == _HANGUP:
            _leave_closed_terminals()
            # SIGHUP comes a second time when the shell ends.
            signal.signal(number, signal.SIG_IGN)
        if self.received:
            raise Stopped(number)
        self.received = number
        self._data.stopping = True
        # The signal may have interrupted a call of `print`, which must not be called again.
        with suppress(OSError):
            os.write(2, b"\nwavegen: stopping after this batch; a second signal stops at once\n")

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        """Stop if a signal has come, without a validation: after SIGTERM there may be no time."""
        if trainer.world_size == 1 or trainer.global_step % _TOGETHER == 0:
            self._stop_if_told(trainer)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep every callback from using the figures of an incomplete validation."""
        assert isinstance(pl_module, LitModel)
        if self._before:
            self._stop_if_told(trainer)
            pl_module.interrupted = bool(self.received)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop if a signal has come while samples were generated."""
        if self._before:
            self._stop_if_told(trainer)

    def _stop_if_told(self, trainer: Trainer) -> None:
        self.received = int(largest([self.received])[0])
        if self.received:
            trainer.limit_val_batches = 0
            trainer.should_stop = True

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the handlers of before training; Lightning has removed its own by now."""
        while self._before:
            signal.signal(*self._before.popitem())


def _leave_closed_terminals() -> None:
    """Write no more to a closed terminal, which would fail before everything is saved."""
    polled = select.poll()
    for descriptor in (1, 2):
        polled.register(descriptor, 0)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor, events in polled.poll(0):
        if events & (select.POLLHUP | select.POLLERR):
            os.dup2(nowhere, descriptor)
    os.close(nowhere)
