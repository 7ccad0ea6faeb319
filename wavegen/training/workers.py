"""The worker processes of a DataLoader: signals, and their end."""

import atexit
import multiprocessing
import signal
from functools import lru_cache


def ignore_signals(_worker: int) -> None:
    """Let only the main process act on signals, which terminals and SLURM send to all processes.

    A worker ends by itself when the main process has ended.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


@lru_cache(maxsize=1)
def end_workers_at_exit() -> None:
    """End the workers before Python does at exit.

    Python would send SIGTERM, which they ignore, and wait for them for ever. Workers of a
    completed training have ended before.
    """
    atexit.register(_end_workers)


def _end_workers() -> None:
    # Otherwise torch would report each of them as a failure.
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for worker in multiprocessing.active_children():
        if worker.daemon:
            worker.kill()
