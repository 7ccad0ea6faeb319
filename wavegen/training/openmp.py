"""Training that shares its cores with other programs: its threads then stop spinning.

The threads of torch synchronise several hundred times in a training step. Those that arrive first
spin for some milliseconds, since most waits are shorter than the time to wake a thread. On an idle
machine this is twice as fast as sleeping. Next to another busy program it is twenty times slower:
spinning uses up a thread's share of its core, so the thread is interrupted in the middle of its
work, and all others wait for it. Neither setting is good for both cases
(`scripts/bench_busy.py` measures them).

libgomp, the OpenMP library of torch, has a rule for this: while a process has more OpenMP threads
than there are cores, they hardly spin (GCC's libgomp manual, GOMP_SPINCOUNT). So one more thread,
which has a team of its own and sleeps, switches spinning off. When it ends, spinning is on again.
The threads that compute stay the same, and so do their sums, to the last bit.
"""

import threading
import time
from contextlib import suppress
from pathlib import Path

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

# Share of its time that a thread waits for a core: from the first on, spinning is switched off,
# and below the second it is switched on again.
_BUSY, _IDLE = 0.2, 0.1
_SECONDS = 1.0
# Elements of an operation that torch divides among all threads.
_SHARED = 1 << 20


class SharedCores(Callback):
    """Switches spinning off while other programs are busy, and on again.

    It does nothing on a GPU, or if the system does not report how long threads wait.
    """

    def __init__(self) -> None:
        self._cores = Cores()
        self._used = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find out whether training runs on the CPU."""
        self._used = trainer.strategy.root_device.type == "cpu"

    def on_train_batch_end(self, *_: object) -> None:
        """Look at the machine, once in a second."""
        if self._used:
            self._cores.look()

    def on_validation_batch_end(self, *_: object) -> None:
        """Look at the machine, once in a second."""
        if self._used:
            self._cores.look()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Switch spinning on again."""
        self._cores.spin()


class Cores:
    """Measures how long the threads of this process wait for a core, and switches spinning.

    Attributes:
        spinning: whether OpenMP threads spin as they do by default.
    """

    def __init__(self) -> None:
        self.spinning = True
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._looked = time.monotonic()
        self._waited = waiting_seconds()

    def look(self) -> None:
        """Switch spinning according to the waiting time since the last look."""
        elapsed = time.monotonic() - self._looked
        if elapsed < _SECONDS:
            return
        before, self._waited = self._waited, waiting_seconds()
        self._looked += elapsed
        waits = [each - before[thread] for thread, each in self._waited.items() if thread in before]
        share = max(waits, default=0.0) / elapsed
        if share > _BUSY:
            self.sleep()
        elif share < _IDLE:
            self.spin()

    def sleep(self) -> None:
        """Let threads that wait for others sleep at once."""
        if not self.spinning:
            return
        ready = threading.Event()

        def stand_by() -> None:
            torch.zeros(_SHARED).add_(1)
            ready.set()
            self._done.wait()

        self._done.clear()
        self._thread = threading.Thread(target=stand_by, name="wavegen-openmp", daemon=True)
        self._thread.start()
        ready.wait()
        self.spinning = False

    def spin(self) -> None:
        """Let threads that wait for others spin, which is the default."""
        if self._thread is not None:
            self._done.set()
            self._thread.join()
        self._thread, self.spinning = None, True


def waiting_seconds() -> dict[str, float]:
    """Seconds that each thread of this process has waited for a core since it began.

    Empty if the system does not report it.
    """
    waited = {}
    with suppress(OSError):  # not Linux
        for thread in Path("/proc/self/task").iterdir():
            with suppress(OSError, IndexError):  # a thread that has ended meanwhile
                nanoseconds = (thread / "schedstat").read_text().split()[1]
                waited[thread.name] = int(nanoseconds) / 1e9
    return waited
