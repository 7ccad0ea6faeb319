"""Common parts of the benchmarks: networks, times, and the rate of matrix products."""

import time
from collections.abc import Callable

import torch

from wavegen.models.config import WaveNetConfig

SAMPLE_RATE = 16_000
NETWORKS = {
    f"L{layers} R{residual} S{skip}": WaveNetConfig(
        layers=layers,
        stacks=layers // 10,
        residual_channels=residual,
        gate_channels=2 * residual,
        skip_channels=skip,
    )
    for layers, residual, skip in ((20, 64, 256), (20, 32, 128), (30, 128, 256))
}


def best(work: Callable[[], object], seconds: float, gpu: bool = False) -> float:
    """The shortest time of the work in seconds, of at least three runs.

    Args:
        work: called again and again; it need not wait for a GPU.
        seconds: approximate time of the measurement.
        gpu: time the work by events of the GPU, from its first kernel to its last.
    """
    timed = _by_events if gpu else _by_clock
    began, least, times = time.perf_counter(), float("inf"), 0
    while times < 3 or time.perf_counter() - began < seconds:
        least = min(least, timed(work))
        times += 1
    return least


def _by_clock(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _by_events(work: Callable[[], object]) -> float:
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    work()
    stop.record()
    stop.synchronize()
    return start.elapsed_time(stop) / 1e3


def matrix_rate(seconds: float, size: int = 1024, **kind: object) -> float:
    """Multiply-adds a second of torch.

    Args:
        seconds: approximate time of the measurement.
        size: rows and columns of the matrices.
        kind: dtype and device of the matrices; float32 on the CPU by default.
    """
    a, b = (torch.randn(size, size).to(**kind) for _ in range(2))  # type: ignore[call-overload]
    return size**3 / best(lambda: a @ b, seconds, gpu=a.is_cuda)
