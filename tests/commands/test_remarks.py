"""Remarks: through `logging` in a program, as lines on standard error in a command."""

import logging
import subprocess
import sys
from pathlib import Path

from wavegen.commands.remarks import remarks_as_lines

PACKAGE = Path(__file__).parents[2] / "wavegen"


def test_a_command_shows_them_on_standard_error(capsys) -> None:
    logger = logging.getLogger("wavegen.engines.choice")
    before = logging.getLogger("wavegen").handlers.copy()
    with remarks_as_lines():
        logger.info("%s: resampled", "a.wav")
        logger.warning("generating\x1b[2J with another engine")
    assert logging.getLogger("wavegen").handlers == before
    captured = capsys.readouterr()
    assert captured.err == "a.wav: resampled\nwavegen: generating\\x1b[2J with another engine\n"
    assert not captured.out
    with remarks_as_lines():
        logging.getLogger("wavegen.training.train").info("done: %s\nhear it", "runs/x")
    assert capsys.readouterr().out == "done: runs/x\nhear it\n"
    logger.info("after the command")
    assert not capsys.readouterr().err


def test_a_program_decides_what_becomes_of_them() -> None:
    """Python shows warnings on standard error and nothing else, unless it is told otherwise."""
    program = """
import logging, sys
{setup}
from wavegen.engines import choice
choice._say_once("the slower engine")
choice._logger.info("preparing")
"""

    def said(setup: str) -> str:
        command = [sys.executable, "-c", program.format(setup=setup)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stderr

    assert said("") == "the slower engine\n"
    assert said("logging.getLogger('wavegen').setLevel(logging.ERROR)") == ""
    name = "wavegen.engines.choice"
    shown = f"WARNING:{name}:the slower engine\nINFO:{name}:preparing\n"
    assert said("logging.basicConfig(level=logging.INFO)") == shown
