"""What the package remarks while it works, as lines on standard error.

Everywhere else a remark goes to a logger below `wavegen`: a program that imports the package
decides by itself what becomes of it.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from wavegen.utils.text import display


class _Lines(logging.Handler):
    """Writes a line for each record, around a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        prefix = "wavegen: " if record.levelno >= logging.WARNING else ""
        tqdm.write(display(prefix + record.getMessage()), file=sys.stderr)


@contextmanager
def remarks_on_stderr() -> Iterator[None]:
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
