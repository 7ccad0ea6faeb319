"""The speed of a model with features on one core: in a batch path, and frame by frame.

python scripts/bench_vocoder.py MODEL RECORDING [--seconds 10] [--repeats 5] [--json FILE]

The recording is generated again from its features: once from all of them, and once as a stream
whose frames arrive one after another. The samples must be equal. The same network without features
is timed too, in turns with the one that has them.
"""

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from machine import json_file, machine, run

import wavegen
from wavegen.engines.choice import choose
from wavegen.generation.generate import Stream, whole_streams
from wavegen.models.wavenet import WaveNet
from wavegen.utils.files import write_json


def main() -> int:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("model")
    parser.add_argument("recording", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=json_file, metavar="FILE")
    options = parser.parse_args()
    # Threads that start later inherit the core.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    model = wavegen.load(options.model, device="cpu")
    figures = measured(model, options.recording, options.seconds, options.repeats)
    for name, value in figures.items():
        print(f"{name:<45}{value:>12.3f}" if isinstance(value, float) else f"{name}: {value}")
    if options.json:
        write_json(options.json, {"machine": machine(), **figures})
    return int(not figures["stream_equals_batch"])


def measured(
    model: wavegen.Model, recording: Path, seconds: float, repeats: int
) -> dict[str, object]:
    """The figures of a model with features on one recording."""
    rate, network = model.sample_rate, model.network
    features = model.features(recording)
    hop = network.hop
    count = min(len(features), max(1, round(seconds * rate / hop)))
    features = features[:count]
    samples = count * hop
    without = WaveNet(replace(network.config, features=())).requires_grad_(False).eval()
    without.load_state_dict(network.state_dict(), strict=False)
    engine, plain = choose(network, streams=1), choose(without, streams=1)

    def whole() -> np.ndarray:
        return whole_streams(engine, [Stream()], samples, frames=[features])

    def plainly() -> np.ndarray:
        return whole_streams(plain, [Stream()], samples)

    def streamed() -> tuple[np.ndarray, list[float]]:
        moments, chunks = [time.perf_counter()], []
        for chunk in model.stream(features=iter(features)):
            chunks.append(chunk.samples)
            moments.append(time.perf_counter())
        return np.concatenate(chunks), np.diff(moments).tolist()

    # Compiled and warm before anything is timed.
    for each in (whole, plainly, streamed):
        each()
    taken: dict[str, list[float]] = {"whole": [], "plainly": [], "streamed": []}
    for _ in range(repeats):
        for name, each in (("whole", whole), ("plainly", plainly)):
            began = time.perf_counter()
            each()
            taken[name].append(time.perf_counter() - began)
        made, gaps = streamed()
        taken["streamed"].append(sum(gaps))
    begun = time.perf_counter()
    model.features(recording)
    computing = time.perf_counter() - begun
    real, best = samples / rate, {name: min(each) for name, each in taken.items()}
    ratios = [a / b for a, b in zip(taken["whole"], taken["plainly"], strict=True)]
    return {
        "network": network.config.describe().splitlines()[0],
        "features": network.config.feature_set.name,
        "seconds": real,
        "whole_times_real_time": real / best["whole"],
        "streamed_times_real_time": real / best["streamed"],
        "without_features_times_real_time": real / best["plainly"],
        "with_features_over_without_time": float(np.median(ratios)),
        "computing_features_seconds": computing,
        "latency_milliseconds": 1000 * model.latency,
        "longest_chunk_milliseconds": 1000 * max(gaps),
        "hop_milliseconds": 1000 * hop / rate,
        "stream_equals_batch": bool(np.array_equal(made, whole()[0])),
    }


if __name__ == "__main__":
    run(main)
