"""The speed that training keeps when other programs use the same cores.

python scripts/bench_busy.py [--quick] [--json FILE]

The same steps are timed on an idle machine, with a program that keeps one core busy, and with
another training of lower priority (nice 10). They are timed in two ways: with the threads of
wavegen, which do not spin while other programs want the cores (`wavegen/training/openmp.py`), and
with the defaults of OpenMP. The two ways take turns of some seconds, and each figure is a median
over steps. Nothing else should run on the machine.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import torch
from bench_train import batches_of, corpus_of
from machine import json_file, machine, run
from measure import NETWORKS

from wavegen.training.lightning_module import LitWaveNet
from wavegen.training.openmp import Cores
from wavegen.utils.files import write_json

NETWORK, CROP, ROWS = "L20 R32 S128", 4096, 2
OWN, DEFAULT = "as wavegen trains", "threads left alone"


@dataclass(frozen=True)
class Row:
    """One measurement, as it is written to JSON."""

    way: str
    beside: str
    seconds_a_step: float
    kept: float  # of the speed on an idle machine, threads left alone


class Steps:
    """A process that trains on request, with the threads of wavegen or with those of OpenMP."""

    def __init__(self, way: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", way],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.take(0.1)

    def begin(self, seconds: float) -> None:
        """Ask for steps for some seconds."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()

    def take(self, seconds: float) -> float:
        """Train for some seconds, and return the median time of a step in seconds."""
        assert self.process.stdout is not None
        self.begin(seconds)
        return float(self.process.stdout.readline())


def serve(way: str) -> int:
    """Train for the seconds on each line of standard input, and print the median time of a step."""
    config = NETWORKS[NETWORK]
    dtype = torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
    with tempfile.TemporaryDirectory() as folder:
        corpus = corpus_of(Path(folder) / "clips", config, CROP / config.sample_rate, 40)
        torch.manual_seed(0)
        training = LitWaveNet(config)
        optimizer = training.configure_optimizers()["optimizer"]
        batches = batches_of(corpus, CROP, ROWS)
        cores = Cores()
        for line in sys.stdin:
            times = [time.perf_counter()]
            while times[-1] - times[0] < float(line):
                with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                    value = training.loss(next(batches))
                value.backward()
                torch.nn.utils.clip_grad_norm_(training.network.parameters(), 1.0, foreach=True)
                optimizer.step()
                optimizer.zero_grad()
                if way == OWN:
                    cores.look()
                times.append(time.perf_counter())
            print(statistics.median(b - a for a, b in pairwise(times)), flush=True)
    return 0


@contextmanager
def busy_loop() -> Iterator[None]:
    """A program that keeps one core busy."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as loop:
        try:
            yield
        finally:
            loop.kill()


@contextmanager
def training_beside(way: str) -> Iterator[None]:
    """Another training in the same way, at lower priority."""
    other = Steps(way)
    try:
        for thread in Path(f"/proc/{other.process.pid}/task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(thread.name), 10)
        other.begin(1e9)
        yield
    finally:
        other.process.kill()
        other.process.wait()


def measure(turn: float, turns: int) -> list[Row]:
    """Rows of both ways, alone and with other programs.

    Args:
        turn: seconds of training in one way, before the other way has its turn.
        turns: number of turns of each way.
    """
    times: dict[tuple[str, str], list[float]] = {}
    with ExitStack() as stack:
        steps = {way: Steps(way) for way in (DEFAULT, OWN)}
        for each in steps.values():
            stack.callback(each.process.kill)
        for _ in range(turns):
            for way in steps:
                for name, beside in {
                    "nothing": nullcontext(),
                    "a busy loop": busy_loop(),
                    "a training of lower priority": training_beside(way),
                }.items():
                    with beside:
                        times.setdefault((way, name), []).append(steps[way].take(turn))
    medians = {key: statistics.median(each) for key, each in times.items()}
    idle = medians[DEFAULT, "nothing"]
    return [Row(*key, median, idle / median) for key, median in medians.items()]


def main() -> int:
    """Measure, print and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="within a minute")
    parser.add_argument("--json", type=json_file, metavar="FILE", help="write the rows there")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve)
    rows = measure(4.0, 1) if options.quick else measure(8.0, 3)
    for row in rows:
        print(
            f"{row.way:<20}beside {row.beside:<30}{row.seconds_a_step * 1e3:>7.0f} ms a step"
            f"{row.kept:>7.2f} of the speed of an idle machine"
        )
    if options.json:
        about = {**machine(), "network": NETWORK, "rows": ROWS, "crop": CROP}
        write_json(options.json, {"machine": about, "rows": [asdict(row) for row in rows]})
    return 0


if __name__ == "__main__":
    run(main)
