"""Commands that are run from a checkout."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("command", ["train", "generate"])
def test_a_script_is_the_command(command: str, tmp_path: Path) -> None:
    script = ROOT / "scripts" / f"{command}.py"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, script, "--help"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.startswith(f"usage: wavegen {command}")
