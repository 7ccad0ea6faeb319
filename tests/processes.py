"""Processes that tests kill."""

import json
import os
import subprocess
import sys
from pathlib import Path

NURSERY = """
import json, os, sys
import wavegen.training.train, wavegen.engines.cpu.wavenet_engine
from wavegen.commands.main import main
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(main(json.loads(line)))
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Nursery:
    """Begins trainings, each in a process of its own."""

    def __init__(self, temporary: Path) -> None:
        environment = {**os.environ, "TMPDIR": str(temporary)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", NURSERY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def begin(self, *arguments: object) -> int:
        """The number of a process that runs `wavegen` with these arguments."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(list(map(str, arguments))) + "\n")
        self._process.stdin.flush()
        return self._line()

    def end(self) -> int:
        """Wait for it: its exit status, or minus the signal that killed it."""
        return self._line()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def _line(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())
