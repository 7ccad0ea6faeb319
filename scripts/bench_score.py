"""The speed of scoring, compared with a textbook network and with the best of the machine.

python scripts/bench_score.py [--quick] [--json FILE]

Random codes, as many short recordings and as one long one, are scored by a textbook network of
`Conv1d`, file by file; by wavegen's network in torch, file by file; and by the scorer of
`wavegen score`. All three have the same weights, and their bits are compared first. The ceiling
is the rate of float32 matrix products, measured in the same run.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from machine import json_file, machine, run
from measure import NETWORKS, SAMPLE_RATE, best, matrix_rate
from textbook import Textbook

from wavegen.engines.precision import products
from wavegen.models.wavenet import WaveNet
from wavegen.scoring.likelihood import scorer
from wavegen.utils.files import write_json

Recordings = Sequence[np.ndarray]


@dataclass(frozen=True)
class Row:
    """One measurement, as it is written to JSON."""

    scorer: str
    network: str
    recordings: str
    samples_per_second: float
    times_real_time: float
    ratio_to_textbook: float
    ceiling_fraction: float


@torch.inference_mode()
def by_textbook(network: Textbook, recordings: Recordings) -> list[float]:
    """Total bits of each recording, one after another."""
    total = []
    for recording in recordings:
        codes = torch.from_numpy(recording)[None]
        nats = F.cross_entropy(network(codes), codes, reduction="none")
        total.append(nats.double().sum().item() / math.log(2))
    return total


@torch.inference_mode()
def by_network(network: WaveNet, recordings: Recordings) -> list[float]:
    """The same, by wavegen's network in torch."""
    total = []
    for recording in recordings:
        codes = torch.from_numpy(recording)[None]
        nats = F.cross_entropy(network(codes)[0], codes[0], reduction="none")
        total.append(nats.double().sum().item() / math.log(2))
    return total


def by_scorer(network: WaveNet, recordings: Recordings) -> list[float]:
    """The same, by the scorer of `wavegen score`."""
    return [float(bits.sum()) for bits in scorer(network, [{}]).surprisals(recordings)]


def random_network(name: str) -> WaveNet:
    """A network whose logits are not all alike, as those of a fresh network are."""
    network = WaveNet(NETWORKS[name]).requires_grad_(False).eval()
    torch.nn.init.normal_(network.output.weight, std=0.1)
    return network


def main() -> int:
    """Measure, print and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="one network, few recordings")
    parser.add_argument("--json", type=json_file, metavar="FILE", help="write the rows there")
    options = parser.parse_args()
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    seconds = 1.0 if options.quick else 5.0
    about = machine()
    rows: list[Row] = []
    lengths = rng.integers(1500, 6000, 16 if options.quick else 64)
    sets = {
        f"{len(lengths)} of 1,500 to 6,000 samples": [rng.integers(0, 256, n) for n in lengths],
        "one of 100,000 samples": [rng.integers(0, 256, 100_000)],
    }
    if options.quick:
        sets.popitem()
    for name in list(NETWORKS)[: 1 if options.quick else None]:
        network = random_network(name)
        textbook = Textbook.of(network)
        ways: dict[str, Callable[[Recordings], list[float]]] = {
            "textbook Conv1d": lambda some, net=textbook: by_textbook(net, some),
            "network in torch": lambda some, net=network: by_network(net, some),
            "wavegen score": lambda some, net=network: by_scorer(net, some),
        }
        rate = matrix_rate(1.0)
        about[f"multiply-adds a second, before {name}"] = rate
        ceiling = rate / sum(weight.numel() for weight, _ in products(network))
        for kind, recordings in sets.items():
            expected = ways["textbook Conv1d"](recordings)
            first: float | None = None
            for way, work in ways.items():
                assert np.allclose(work(recordings), expected, rtol=1e-6), way
                spent = best(lambda work=work, some=recordings: work(some), seconds)
                speed = sum(map(len, recordings)) / spent
                first = first or speed
                row = Row(
                    way, name, kind, speed, speed / SAMPLE_RATE, speed / first, speed / ceiling
                )
                rows.append(row)
                print(
                    f"{name:<16}{kind:<32}{way:<18}{speed:>10,.0f} samples/s"
                    f"{row.times_real_time:>7.1f} x real time"
                    f"{row.ratio_to_textbook:>6.2f} x textbook"
                    f"{row.ceiling_fraction:>6.2f} of the ceiling",
                    flush=True,
                )
    if options.json:
        write_json(options.json, {"machine": about, "rows": [asdict(row) for row in rows]})
    return 0


if __name__ == "__main__":
    run(main)
