"""Progress bars that do not flood a log."""

import sys
from typing import Any

from tqdm import tqdm

# Seconds between two states of a bar where standard error is no terminal.
_IN_A_LOG = 30.0


def on_terminal() -> bool:
    """Whether somebody may be looking at standard error."""
    return sys.stderr.isatty()


def progress_bar(**options: Any) -> "tqdm[Any]":
    """A tqdm bar; where standard error is no terminal it is written twice a minute at most."""
    if not on_terminal():
        options = {"mininterval": _IN_A_LOG, "maxinterval": _IN_A_LOG, **options}
    return tqdm(**options)
