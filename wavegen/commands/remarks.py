"""Log records of the package as lines: those of training on standard output, others on error.

Modules log to loggers below `wavegen`, so that a program that imports the package can configure
them. Only the command line uses this module.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from wavegen.utils.text import display


class _Lines(logging.Handler):
    """Writes the lines of each record without breaking a progress bar."""

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
    """Print the log records of the package while the block runs."""
    logger = logging.getLogger("wavegen")
    before = logger.level, logger.propagate
    lines = _Lines()
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    # Libraries add handlers of their own to the root logger.
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(lines)
        logger.level, logger.propagate = before
