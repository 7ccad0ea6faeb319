"""Writes a calibration and shards of an earlier commit, which tests/test_old_formats.py reads.

It is run after `make.py`, in the same way but with `PYTHONPATH=/tmp/ff5da60:.../tests`.
The calibration is of the run `classes`.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from old.make import RATE, run_command, write_recordings, write_scored, write_wave

# The least number of recordings for a calibration.
NORMAL = 40


def write_normal(folder: Path) -> Path:
    """Normal recordings: `NORMAL` low tones with noise, 500 samples each."""
    rng = np.random.default_rng(1)
    for number in range(NORMAL):
        tone = 0.5 * np.sin(2 * np.pi * 200 * np.arange(500) / RATE + number)
        write_wave(folder / f"{number}.wav", tone + 0.01 * rng.standard_normal(500))
    return folder


def judged(run: Path, *recordings: Path) -> list[dict[str, Any]]:
    """The rows of `wavegen detect` for some recordings."""
    paths = map(str, recordings)
    options = ("--format=jsonl", "--device=cpu", "--false-alarms=0.05")
    rows = run_command("detect", str(run), *paths, *options, status=1)
    return [json.loads(row) for row in rows]


if __name__ == "__main__":
    target = Path(sys.argv[1])
    run = target / "classes"
    with tempfile.TemporaryDirectory(prefix="old-runs-") as home:
        normal = write_normal(Path(home) / "normal")
        scored = write_scored(Path(home) / "scored.wav")
        run_command("detect", "--calibrate", str(run), str(normal), "--device=cpu")
        rows = judged(run, normal / "0.wav", scored)
        recordings = write_recordings("classes", Path(home) / "recordings")
        run_command("prepare", str(recordings), "--shards", str(target / "shards"))
    kept = [{name: row[name] for name in ("normal", "p_value", "raised_by")} for row in rows]
    (target / "judged.json").write_text(json.dumps(kept) + "\n")
