"""The speed of training, compared with a textbook network and with the best of the machine.

python scripts/bench_train.py [--quick] [--json FILE] [--data FOLDER --steps N]

A step is a training step: a batch of crops, forward, backward, gradient clipping, and Muon with
AdamW, or AdamW alone for the textbook network. Only predicted samples count. In the middle of a
long recording, wavegen's network also processes the history before each crop, where the textbook
network pads with zeros. Whole clips have no history. The ceiling is three times the weights of a
sample at the rate of matrix products in the same precision, measured in the same run. With
`--data`, the script also compares the bits on held-out clips after the same steps in each
precision.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from machine import json_file, machine, run
from measure import NETWORKS, matrix_rate
from textbook import Textbook
from torch import Tensor, nn

from wavegen.data.batches import TrainingCrops
from wavegen.data.clips import find_clips
from wavegen.data.corpus import Batch, Corpus
from wavegen.data.store import open_store
from wavegen.engines.precision import products
from wavegen.errors import WavegenError
from wavegen.models.config import WaveNetConfig
from wavegen.models.wavenet import WaveNet
from wavegen.training.lightning_module import LitWaveNet
from wavegen.training.precision import training_products
from wavegen.utils.files import write_json

CROPS = (2048, 8192, 32768)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Row:
    """One measurement, as it is written to JSON."""

    form: str
    precision: str
    device: str
    network: str
    crops: str
    crop: int
    batch_size: int
    samples_per_second: float
    ratio_to_textbook: float
    ceiling_fraction: float
    data_wait_share: float


def textbook_loss(network: Textbook, batch: Batch) -> Tensor:
    """Mean nats of the crops, from zeros on."""
    codes = batch["inputs"][:, -batch["targets"].shape[1] :]
    return F.cross_entropy(network(codes).float(), batch["targets"])


def train(
    network: nn.Module,
    loss_of: Callable[[Any, Batch], Tensor],
    batches: Iterator[Batch],
    precision: str,
    optimizer: torch.optim.Optimizer,
    seconds: float,
) -> tuple[float, float]:
    """Samples a second, and the share of the time spent waiting for batches."""
    device = next(network.parameters()).device
    waited = samples = 0.0
    began = time.perf_counter()
    step, warm = 0, 3
    while step < warm + 3 or time.perf_counter() - began < seconds:
        if step == warm:
            _synchronise(device)
            began, waited, samples = time.perf_counter(), 0.0, 0.0
        start = time.perf_counter()
        batch = {
            name: each.to(device, non_blocking=True) if isinstance(each, Tensor) else each
            for name, each in next(batches).items()
        }
        waited += time.perf_counter() - start
        half = precision != "float32"
        with training_products():
            with torch.autocast(device.type, DTYPES[precision]) if half else nullcontext():
                value = loss_of(network, batch)
            value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad()
        samples += batch["targets"].numel()
        step += 1
    _synchronise(device)
    spent = time.perf_counter() - began
    return samples / spent, waited / spent


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def corpus_of(folder: Path, config: WaveNetConfig, seconds: float, count: int) -> Corpus:
    """Clips of noise, decoded as for training."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(count):
        noise = 0.1 * rng.standard_normal(round(seconds * config.sample_rate))
        soundfile.write(folder / f"{number}.wav", noise, config.sample_rate)
    clips = find_clips(folder).clips
    store = open_store(clips, config.sample_rate, folder=folder / "store", progress=False)
    ids = np.zeros((len(clips), 0), np.int64)
    return Corpus(store, ids, config.receptive_field, config.codec)


def batches_of(corpus: Corpus, crop: int, size: int) -> Iterator[Batch]:
    """Crops without end."""
    crops = TrainingCrops(corpus, np.arange(len(corpus.store)), crop, size)
    number = 0
    while True:
        yield crops[divmod(number, len(crops))]
        number += 1


def measure(options: argparse.Namespace, folder: Path) -> list[Row]:
    """Rows of every form, precision and network."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    gpu = device.type == "cuda"
    whole, parts = "whole clips", "of long recordings"
    shapes = [(16384, 32, parts), (16384, 32, whole)]
    if not gpu:
        shapes = [(4096, 2, whole), (4096, 2, parts), (16384, 2, parts)]
    seconds = 3.0 if options.quick else 8.0
    forms = [
        ("textbook Conv1d", "float32", False),
        ("wavegen", "float32", False),
        ("wavegen", "bfloat16", False),
    ]
    if not options.quick:
        forms += [("textbook Conv1d", "bfloat16", False), ("wavegen, compiled", "bfloat16", True)]
    if gpu:
        forms += [("wavegen, fused", "bfloat16", False)]
    rows: list[Row] = []
    names = list(NETWORKS)[:2]
    for name in names[:1] if options.quick else names:
        config = NETWORKS[name]
        base: dict[tuple[int, str], float] = {}
        each = list(product(shapes[: 1 if options.quick else None], forms))
        for (crop, size, kind), (form, precision, compiled) in each:
            place = folder / f"{name}-{crop}-{kind}"
            if not place.exists():
                seconds_each = crop / config.sample_rate if kind == whole else 25.0
                corpus = corpus_of(place, config, seconds_each, 100 if kind == whole else 4)
            torch.manual_seed(0)
            training = LitWaveNet(config, fused="fused" in form).to(device)
            network: Any = training
            optimizer = training.configure_optimizers()["optimizer"]
            if "textbook" in form:
                network = Textbook(config).to(device)
                optimizer = torch.optim.AdamW(network.parameters(), 1e-3, foreach=True)
            weights = sum(weight.numel() for weight, _ in products(WaveNet(config)))
            of = textbook_loss if "textbook" in form else LitWaveNet.loss
            batches = batches_of(corpus, crop, size)
            if compiled:
                of = torch.compile(of, dynamic=False)
            rate, waiting = train(network, of, batches, precision, optimizer, seconds)
            multiply = matrix_rate(
                0.5, 4096 if gpu else 1024, dtype=DTYPES[precision], device=device
            )
            base.setdefault((crop, kind), rate)
            fraction = rate * 3 * weights / multiply
            row = Row(
                form,
                precision,
                str(device),
                name,
                kind,
                crop,
                size,
                rate,
                rate / base[crop, kind],
                fraction,
                waiting,
            )
            rows.append(row)
            print(
                f"{name:<16}{size:>4} x {crop:<6}{kind:<20}{form:<18}{precision:<10}"
                f"{rate:>12,.0f} samples/s"
                f"{row.ratio_to_textbook:>7.2f} x textbook{fraction:>7.3f} of the ceiling"
                f"{waiting:>8.2%} waiting",
                flush=True,
            )
    return rows


def peak_memory(crop: int) -> int:
    """Peak memory of a step on two crops of this length, in bytes, beyond that without them."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    training = LitWaveNet(next(iter(NETWORKS.values()))).to(device)

    def step(time: int) -> None:
        history = (training.network.receptive_field or 1) - 1
        inputs = torch.zeros((2, history + time), dtype=torch.int64, device=device)
        batch: Batch = {
            "inputs": inputs,
            "targets": inputs[:, -time:],
            "labels": torch.zeros((2, 0), dtype=torch.int64, device=device),
            "clips": torch.zeros(2, dtype=torch.int64),
            "beginning": False,
        }
        with torch.autocast(device.type, torch.bfloat16):
            training.loss(batch).backward()

    step(1)
    if device.type == "cuda":
        before = torch.cuda.memory_allocated()
        step(crop)
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _memory("VmRSS")
    step(crop)
    return _memory("VmHWM") - before


def _memory(what: str) -> int:
    """Bytes of this process, as Linux counts them."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) * 1024
    raise WavegenError(f"the system does not say {what}")


def bits_after(folder: str, steps: int, precision: str, place: Path) -> float:
    """Bits per held-out sample after so many steps of the default training."""
    command = [sys.executable, "-m", "wavegen", "train", folder, "--run", str(place / precision)]
    flags = [
        f"--trainer.max_steps={steps}",
        f"--trainer.precision={'bf16-mixed' if precision == 'bfloat16' else '32-true'}",
        "--trainer.enable_progress_bar=false",
    ]
    subprocess.run([*command, *flags], check=True, stdout=subprocess.DEVNULL)
    return float(json.loads((place / precision / "best.json").read_text())["val_bits"])


def main() -> int:
    """Measure, print and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="one network, within two minutes")
    parser.add_argument("--json", type=json_file, metavar="FILE", help="write the rows there")
    parser.add_argument("--data", metavar="FOLDER", help="compare bits on these recordings")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--peak-of-crop", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of_crop:
        print(peak_memory(options.peak_of_crop))
        return 0
    if options.data and not Path(options.data).is_dir():
        parser.error(f"--data {options.data}: no such folder")
    about = machine()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(options, Path(folder))
        memory = {}
        for crop in CROPS:
            # In a process for each, because the peak of a process never falls.
            command = [sys.executable, __file__, "--peak-of-crop", str(crop)]
            memory[crop] = int(subprocess.run(command, capture_output=True, check=True).stdout)
            print(f"two crops of {crop:>6} samples take {memory[crop] / 1e6:,.0f} MB in bfloat16")
        bits = {}
        for precision in DTYPES if options.data else ():
            bits[precision] = bits_after(options.data, options.steps, precision, Path(folder))
            print(f"{precision}: {bits[precision]:.4f} bits after {options.steps} steps")
    if options.json:
        write_json(
            options.json,
            {
                "machine": about,
                "rows": [asdict(row) for row in rows],
                "peak_bytes_of_two_crops": memory,
                "bits_after_steps": {"steps": options.steps, **bits} if bits else None,
            },
        )
    return 0


if __name__ == "__main__":
    run(main)
