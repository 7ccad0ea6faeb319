"""Progress bars that do not flood a log."""

import sys
from typing import Any

from tqdm import tqdm

# Seconds between two lines of a bar if standard error is no terminal.
_IN_A_LOG = 30.0


def on_terminal() -> bool:
    """Whether standard error is a terminal."""
    return sys.stderr.isatty()


def progress_bar(**options: Any) -> "tqdm[Any]":
    """A tqdm bar; if standard error is no terminal it writes at most two lines a minute."""
    if not on_terminal():
        options = {"mininterval": _IN_A_LOG, "maxinterval": _IN_A_LOG, **options}
    return tqdm(**options)
