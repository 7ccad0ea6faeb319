"""The held-out bits per sample of a recipe with one change at a time, in equal time.

python scripts/ablation.py FOLDER [--config configs/digits.yaml] [--minutes 5] [--seeds 0 1]
    [--only NAME ...] [--json FILE]

Every run has one core to itself, and all cores are used at once. `changes.py` lists the changes.
They apply to `configs/digits.yaml` or a recipe with as many layers.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any

from changes import CHANGES
from machine import json_file, machine, run

from wavegen.utils.files import write_json


def main() -> int:
    """Train every change with every seed, and list the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--config", type=Path, default=Path("configs/digits.yaml"))
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", choices=CHANGES, default=list(CHANGES), metavar="NAME")
    parser.add_argument("--json", type=json_file, metavar="FILE")
    options = parser.parse_args()
    cores: SimpleQueue[int] = SimpleQueue()
    for core in os.sched_getaffinity(0):
        cores.put(core)
    about = {"minutes": options.minutes, "config": options.config.name, "cores_a_run": 1}
    rows: list[dict[str, Any]] = []
    writing = Lock()

    def one(asked: tuple[str, int]) -> None:
        name, seed = asked
        figures = trained(options, name, seed)
        with writing:
            rows.append({"change": name, "seed": seed, **figures})
            found = (
                "failed: {failed}" if "failed" in figures else "{val_bits:.4f} bits, {steps} steps"
            )
            print(f"{CHANGES[name].about:<45} seed {seed}  {found.format(**figures)}", flush=True)
            if options.json:
                write_json(options.json, {"machine": machine(), **about, "runs": rows})

    def pinned() -> None:
        # A child process inherits the core of its thread.
        os.sched_setaffinity(0, {cores.get()})

    with ThreadPoolExecutor(cores.qsize(), initializer=pinned) as pool:
        list(pool.map(one, [(name, seed) for seed in options.seeds for name in options.only]))
    return int(all("failed" in row for row in rows))


def trained(options: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """Figures of one run on one core."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "figures.json"
        minutes, seconds = divmod(round(60 * options.minutes), 60)
        command = [
            *(sys.executable, Path(__file__).with_name("changes.py"), name, result, options.folder),
            *("--config", options.config, "--run", Path(folder) / "run"),
            *("--trainer.max_time", f"00:{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}"),
            # Nothing but training until the time is up.
            *("--trainer.val_check_interval", 10**9, "--trainer.logger", False),
            *("--seed_everything", seed, "--data.seed", seed),
        ]
        finished = subprocess.run(
            [str(each) for each in command],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if not result.exists():
            # Such as a network that diverges.
            said = finished.stderr.strip().rpartition("\n")[2]
            return {"failed": said or f"exit status {finished.returncode}"}
        return json.loads(result.read_text())


if __name__ == "__main__":
    run(main)
