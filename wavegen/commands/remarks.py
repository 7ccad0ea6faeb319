"""What the package remarks while it works, as lines on standard error.

How a training goes is what its command prints, on standard output. Everywhere else a remark goes
to a logger below `wavegen`: a program that imports the package decides what becomes of it.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from wavegen.utils.text import display


class _Lines(logging.Handler):
    """Writes the lines of each record, around a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        text = "\n".join(map(display, record.getMessage().split("\n")))
        stream = sys.stderr
        if record.levelno >= logging.WARNING:
            text = f"wavegen: {text}"
        elif record.name.startswith("wavegen.training"):
            stream = sys.stdout
        tqdm.write(text, file=stream)
        stream.flush()


@contextmanager
def remarks_as_lines() -> Iterator[None]:
    """Show the remarks of the package while the block runs: it is a command."""
    logger = logging.getLogger("wavegen")
    before = logger.level, logger.propagate
    lines = _Lines()
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    # Libraries give the root logger handlers of their own.
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(lines)
        logger.level, logger.propagate = before
