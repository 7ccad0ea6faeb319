"""Progress of a run: a bar on a terminal, and a line every half a minute elsewhere."""

import math
import sys
import time
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ProgressBar
from tqdm import tqdm

from wavegen.training.lightning_module import LitModel
from wavegen.utils.progress import on_terminal

# Seconds between two lines in a log, and steps between two readings of the loss, each of which
# waits for the device.
_BETWEEN_LINES = 30.0
_REFRESH = 20


class RunProgress(ProgressBar):
    """Shows which share of the run is done, its bits per sample, and the time left.

    The time left is until the first limit, which is a time, a step or an epoch. It is an estimate
    from the speed since training began or was resumed. The output goes to standard error.
    """

    def __init__(self) -> None:
        super().__init__()
        self._bar: tqdm[Any] | None = None
        self._best = math.inf

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock and the bar."""
        self._began = self._said = time.monotonic()
        self._first = _share(trainer, pl_module)
        if on_terminal():
            self._bar = tqdm(
                total=1.0,
                initial=self._first,
                bar_format="{percentage:3.0f}%|{bar}| {desc}",
                dynamic_ncols=True,
            )

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Update the bar every few steps, or write a line every half a minute."""
        if self._bar is not None:
            if trainer.global_step % _REFRESH == 0:
                self._move(trainer, pl_module)
        elif time.monotonic() - self._said >= _BETWEEN_LINES:
            self._said = time.monotonic()
            share = _share(trainer, pl_module)
            print(f"{share:4.0%}  {self._text(trainer, share)}", file=sys.stderr, flush=True)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show that a validation is running."""
        if self._bar is not None:
            self._bar.set_description_str("validating")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the best figure."""
        bits = trainer.callback_metrics.get("val_bits")
        if bits is not None:
            self._best = min(self._best, bits.item())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar, and leave it visible."""
        self._close(trainer, pl_module)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Close the bar, so that the error message has a line of its own."""
        self._close(trainer, pl_module)

    def _close(self, trainer: Trainer, module: LightningModule) -> None:
        if self._bar is not None:
            self._move(trainer, module)
            self._bar.close()
            self._bar = None

    def _move(self, trainer: Trainer, module: LightningModule) -> None:
        assert self._bar is not None
        share = _share(trainer, module)
        self._bar.n = share
        self._bar.set_description_str(self._text(trainer, share))

    def _text(self, trainer: Trainer, share: float) -> str:
        parts = [f"step {trainer.global_step:,}"]
        bits = trainer.callback_metrics.get("train_bits")
        if bits is not None:
            parts.append(f"{bits.item():.3f} bits")
        if math.isfinite(self._best):
            parts.append(f"best held-out {self._best:.3f}")
        if share > self._first:
            elapsed = time.monotonic() - self._began
            left = elapsed * (1 - share) / (share - self._first)
            parts.append(f"{duration(left)} left")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """A duration as text: `45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def _share(trainer: Trainer, module: LightningModule) -> float:
    assert isinstance(module, LitModel)
    return module.progress(trainer.global_step)
