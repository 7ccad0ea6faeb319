"""The time and the memory that `wavegen prepare` takes.

python scripts/bench_prepare.py [--hours H] [--json FILE]

Makes H hours of FLACs of ten seconds at 16 kHz (links to a hundred different ones), and runs
`wavegen prepare` on them: into the store that training on a folder reads, and into shards.
Each takes about 4 bytes a sample on the disk: 23 GB for 100 hours.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from machine import json_file, machine, run

from wavegen.errors import WavegenError
from wavegen.utils.files import write_json

RATE, SECONDS, DIFFERENT = 16_000, 10, 100
# Measures CPU seconds and peak kilobytes of a command. It runs as a small process of its own,
# because the system counts the memory of the parent at the fork as part of the peak of the child.
WATCH = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
sys.exit(status)
"""


def recordings(folder: Path, hours: float) -> int:
    """Write recordings that compress like speech, and return their number."""
    rng = np.random.default_rng(0)
    count = max(1, round(hours * 3600 / SECONDS))
    for number in range(count):
        path = folder / f"{number // 1000:03d}" / f"{number:06d}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number >= DIFFERENT:
            first = number % DIFFERENT
            os.link(folder / "000" / f"{first:06d}.flac", path)
            continue
        # A voice-like tone that comes and goes, with a little noise.
        time_of = np.arange(RATE * SECONDS) / RATE
        loud = np.clip(np.sin(2 * np.pi * rng.uniform(0.5, 2) * time_of), 0, 1)
        voice = np.sin(2 * np.pi * rng.uniform(90, 250) * time_of) ** 9
        wave = 0.3 * loud * voice + 0.002 * rng.standard_normal(len(time_of))
        soundfile.write(path, wave, RATE)
    return count


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--json", type=json_file, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as place:
        count = recordings(Path(place) / "recordings", options.hours)
        for kind, option in {"store": "--data.store", "shards": "--shards"}.items():
            command = [sys.executable, "-m", "wavegen", "prepare", f"{place}/recordings"]
            command += [option, f"{place}/{kind}"]
            began = time.perf_counter()
            done = subprocess.run([sys.executable, "-c", WATCH, *command], capture_output=True)
            spent = time.perf_counter() - began
            if done.returncode:
                raise WavegenError(done.stderr.decode().strip().rpartition("\n")[2])
            busy, peak = map(float, done.stdout.split())
            hours = count * SECONDS / 3600
            rows.append(
                {
                    "kind": kind,
                    "hours": hours,
                    "seconds": spent,
                    "times_real_time": hours * 3600 / spent,
                    "cores_used": busy / spent,
                    "peak_megabytes": peak / 1e3,
                }
            )
            print(", ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
            subprocess.run(["rm", "-rf", f"{place}/{kind}"], check=True)
    if options.json:
        write_json(options.json, {"machine": machine(), "rows": rows})
    return 0


if __name__ == "__main__":
    run(main)
