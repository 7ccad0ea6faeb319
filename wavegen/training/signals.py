"""SIGTERM and SIGHUP end a command as Ctrl-C does, without leaving partial files."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from wavegen.errors import Stopped

# Windows has no SIGHUP.
_NUMBERS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def stopping_on_signals() -> Iterator[None]:
    """In this block SIGTERM and SIGHUP raise `Stopped`; a second SIGTERM ends the process at once.

    A signal that is ignored, such as SIGHUP under `nohup`, or that has a handler already, is left
    as it is. Only the main thread can install handlers; in other threads nothing changes.
    """
    ours = []
    if threading.current_thread() is threading.main_thread():
        ours = [number for number in _NUMBERS if signal.getsignal(number) is signal.SIG_DFL]

    def stop(number: int, _frame: FrameType | None) -> None:
        for each in ours:
            # A terminal that closes may send SIGHUP twice.
            signal.signal(each, signal.SIG_DFL if each == signal.SIGTERM else signal.SIG_IGN)
        raise Stopped(number)

    try:
        for number in ours:
            signal.signal(number, stop)
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
