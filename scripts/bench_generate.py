"""The speed of every engine, compared with the best that the machine could do.

python scripts/bench_generate.py [--quick] [--json FILE]

All figures are samples a second of all streams together, the best of a few short runs.
The ceiling of a row is the smaller of two rates measured in the same run: that of float32
matrix products, and that of reading the memory of the weights once for every step. The engines
need a little less than one reading per step (see `AHEAD` in the kernel), so a fraction above 1
is possible.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace

import numba
import numpy as np
import torch
from machine import json_file, machine, run
from measure import NETWORKS, SAMPLE_RATE, best, matrix_rate

from wavegen.distributions.sampling import Sampling, draw, stream_noise
from wavegen.engines.base import Engine
from wavegen.engines.cpu.wavenet_engine import NumbaCPU, compile_kernel
from wavegen.engines.cpu.wavenet_packing import in_huge_pages, members_of_a_team
from wavegen.engines.gpu.cuda_graph import GraphQueue
from wavegen.engines.gpu.wavenet_triton import TritonGPU
from wavegen.engines.precision import PRECISIONS, products
from wavegen.engines.reference import TorchQueue
from wavegen.models.config import GATES, WaveNetConfig
from wavegen.models.wavenet import WaveNet
from wavegen.utils.files import write_json

# The same layers and channels, with receptive fields from 15 to 16,384 samples.
STACKS = (14, 7, 2, 1)


@dataclass(frozen=True)
class Row:
    """One measurement, as it is written to JSON."""

    engine: str
    precision: str
    network: str
    streams: int
    threads: int
    samples_per_second: float
    ratio_to_torch_queue: float
    ceiling_fraction: float


class Bench:
    """Measures rows and prints each at once.

    Args:
        seconds: approximate time of a measurement.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.rows: list[Row] = []
        self.torch_queue: dict[str, float] = {}
        self.ceilings: dict[tuple[object, ...], float] = {}

    def best(self, work: Callable[[], object]) -> float:
        """The shortest time of the work, in seconds."""
        return best(work, self.seconds)

    def ceiling(self, network: WaveNet, precision: str, streams: int, threads: int) -> float:
        """The ceiling in samples a second, from the rates of the machine."""
        weights = sum(weight.numel() for weight, _ in products(network))
        # A thread reads all weights, or its share of them where two work on one stream.
        members = members_of_a_team(network, precision, threads // streams)
        size = weights * PRECISIONS[precision] // members
        reading = size / self.read_rate(size, threads)
        multiplying = streams * weights / self.matrix_rate(threads)
        return streams / max(reading, multiplying)

    @staticmethod
    def together(work: Callable[[int], object], threads: int) -> Callable[[], object]:
        """The work on every thread at once."""
        if threads == 1:
            return lambda: work(0)
        pool = ThreadPoolExecutor(threads)
        return lambda: list(pool.map(work, range(threads)))

    def matrix_rate(self, threads: int) -> float:
        """Multiply-adds a second of torch in float32, all threads together."""
        return self._once(("multiply-adds, threads", threads), lambda: self._matrix_rate(threads))

    def _matrix_rate(self, threads: int) -> float:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        rate = matrix_rate(self.seconds)
        torch.set_num_threads(before)
        return rate

    def read_rate(self, size: int, threads: int) -> float:
        """Bytes a second that each thread reads of an array of this many bytes."""
        return self._once(
            ("bytes read of", size, "by each of threads", threads),
            lambda: self._read_rate(size, threads),
        )

    def _read_rate(self, size: int, threads: int) -> float:
        arrays = [in_huge_pages([np.ones(size // 4, np.float32)]) for _ in range(threads)]
        repeats = max(1, 50_000_000 // size)
        work = self.together(lambda thread: _sum(arrays[thread], repeats), threads)
        return size * repeats / self.best(work)

    def _once(self, key: tuple[object, ...], measure: Callable[[], float]) -> float:
        if key not in self.ceilings:
            self.ceilings[key] = measure()
        return self.ceilings[key]

    def gpu_ceiling(self, network: WaveNet, precision: str, streams: int) -> float:
        """The ceiling in samples a second, from the rates of the GPU."""
        config, dtype = network.config, getattr(torch, precision)
        weights = sum(weight.numel() for weight, _ in products(network))
        rings = config.layers * config.kernel_size * config.residual_channels
        tiles = -(-streams // 32)
        size = dtype.itemsize * (weights * tiles + rings * streams)
        multiply = self._once(
            ("multiply-adds, GPU", precision),
            lambda: matrix_rate(self.seconds, 8192, dtype=dtype, device="cuda"),
        )
        copied = self._once(("bytes read, GPU",), self._copy_rate)
        return streams / max(size / copied, streams * weights / multiply)

    def _copy_rate(self) -> float:
        """Bytes a second that the GPU reads while it writes as many."""
        source = torch.zeros(2**30, dtype=torch.uint8, device="cuda")
        target = torch.empty_like(source)
        return len(source) / best(lambda: target.copy_(source), self.seconds, gpu=True)

    def add(
        self, name: str, engine: Engine, precision: str, network: str, streams: int, threads: int
    ) -> None:
        """Measure an engine and print its row."""
        bias = engine.network.conditioning(engine.network.unspecified(streams))
        engine.start(bias, Sampling())
        gpu = bias.is_cuda
        noise = torch.from_numpy(stream_noise(0, range(streams), 0, 4096)).to(bias.device)
        engine.generate(noise[:, :1])  # compilation and capture are not measured
        # Double the steps until they take a tenth of the time.
        steps, spent = 1, 0.0
        while spent < self.seconds / 10 and steps < 4096:
            steps *= 2
            start = time.perf_counter()
            engine.generate(noise[:, :steps]).cpu()
            spent = time.perf_counter() - start
        spent = best(lambda: engine.generate(noise[:, :steps]), self.seconds, gpu)
        rate = streams * steps / spent
        self.torch_queue.setdefault(network, rate)  # it comes first, with one stream
        ratio = rate / self.torch_queue[network]
        if gpu:
            ceiling = self.gpu_ceiling(engine.network, precision, streams)
        else:
            ceiling = self.ceiling(engine.network, precision, streams, threads)
        fraction = rate / ceiling
        row = Row(name, precision, network, streams, threads, rate, ratio, fraction)
        self.rows.append(row)
        print(
            f"{name:<8}{precision:<10}{streams:>4} streams {threads:>2} threads"
            f"{rate:>12,.0f} samples/s {rate / SAMPLE_RATE:>8.2f} x real time"
            f"{ratio:>8.2f} x torch{fraction:>7.2f} of the ceiling",
            flush=True,
        )


@numba.njit(nogil=True, fastmath=True)
def _sum(array: np.ndarray, repeats: int) -> float:
    total = np.float32(0)
    for _ in range(repeats):
        for place in range(array.size):
            total += array[place]
        array[0] = total * np.float32(1e-9)  # so that no repetition is optimised away
    return total


class NaiveRecompute:
    """Runs the whole receptive field again for every sample, as a plain implementation does."""

    name = "naive"

    def __init__(self, network: WaveNet) -> None:
        self.network = network

    def start(self, bias: torch.Tensor, sampling: Sampling) -> None:
        """Begin with a window of start symbols."""
        self._bias, self._sampling = bias, sampling
        shape = (bias.shape[0], self.network.history + 1)
        self._window = torch.full(shape, self.network.start_symbol)

    @torch.inference_mode()
    def generate(self, noise: torch.Tensor) -> torch.Tensor:
        """See `Engine.generate`."""
        for column in noise.t():
            logits = self.network.predict(self._window, self._bias)[:, -1]
            code = draw(logits, column, self._sampling)
            self._window = torch.cat([self._window[:, 1:], code[:, None]], dim=1)
        return self._window[:, -noise.shape[1] :]


def engines(network: WaveNet, quick: bool) -> Iterator[tuple[str, object, str, int, int]]:
    """The measurements of one network: name, engine, precision, streams and threads."""
    most = torch.get_num_threads()
    yield "torch", TorchQueue(network), "float32", 1, 1
    yield "naive", NaiveRecompute(network), "float32", 1, 1
    for streams in (16,) if quick else (16, 64):
        yield "torch", TorchQueue(network), "float32", streams, 1
    for precision in PRECISIONS:
        for streams in (1, 32) if quick else (1, 2, 4, 8, 16, 32, 64):
            yield "numba", NumbaCPU(network, precision, 1), precision, streams, 1
        if most > 1:
            for streams in (1, 32):
                yield "numba", NumbaCPU(network, precision, most), precision, streams, most


def gpu_engines(network: WaveNet, quick: bool) -> Iterator[tuple[str, object, str, int, int]]:
    """The measurements of one network on a GPU."""
    yield "torch", TorchQueue(network), "float32", 1, 1
    sweep = (1, 1024) if quick else (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
    for streams in sweep:
        yield "graph", GraphQueue(network), "float32", streams, 1
    for precision in ("bfloat16",) if quick else ("bfloat16", "float32"):
        for streams in sweep if precision == "bfloat16" else (1, 64, 1024):
            yield "triton", TritonGPU(network, precision), precision, streams, 1


def main() -> int:
    """Measure, print and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="one network, within a minute")
    parser.add_argument("--json", type=json_file, metavar="FILE", help="write the rows there")
    options = parser.parse_args()
    torch.manual_seed(0)
    most = torch.get_num_threads()
    bench = Bench(0.3 if options.quick else 1.0)
    about = machine()
    print(*(f"{name}: {value}" for name, value in about.items()), sep="\n")
    for name, config in list(NETWORKS.items())[: 1 if options.quick else None]:
        if torch.cuda.is_available():
            on_gpu = WaveNet(config).requires_grad_(False).eval().cuda()
            print(f"\n{name}, on {torch.cuda.get_device_name()}")
            for kind, engine, precision, streams, threads in gpu_engines(on_gpu, options.quick):
                bench.add(kind, engine, precision, f"{name}, GPU", streams, threads)
    for precision in PRECISIONS:
        compile_kernel(precision)
    for name, config in list(NETWORKS.items())[: 1 if options.quick else None]:
        network = WaveNet(config).requires_grad_(False).eval()
        print(f"\n{name}: {sum(weight.numel() for weight, _ in products(network)):,} weights")
        for kind, engine, precision, streams, threads in engines(network, options.quick):
            torch.set_num_threads(threads)
            bench.add(kind, engine, precision, name, streams, threads)
    torch.set_num_threads(1)
    print("\nreceptive field, at 14 layers of R64 S256, float32, one stream")
    costs = {}
    for stacks in STACKS[:: 3 if options.quick else 1]:
        config = WaveNetConfig(14, stacks, 2, 64, 128, 256)
        network = WaveNet(config).requires_grad_(False).eval()
        name = f"L14 R64 S256, receptive field {config.receptive_field}"
        bench.add("torch", TorchQueue(network), "float32", name, 1, 1)
        bench.add("numba", NumbaCPU(network, threads=1), "float32", name, 1, 1)
        costs[config.receptive_field] = 1 / bench.rows[-1].samples_per_second
    low, high = min(costs), max(costs)
    print(
        f"cost of {high:,} over {low:,} samples of receptive field: {costs[high] / costs[low]:.2f}"
    )
    print("\ngates, float32, one stream")
    name, config = next(iter(NETWORKS.items()))
    for gate in GATES:
        network = WaveNet(replace(config, gate=gate)).requires_grad_(False).eval()
        which = f"{name}, {gate} gates"
        bench.add("torch", TorchQueue(network), "float32", which, 1, 1)
        bench.add("numba", NumbaCPU(network, threads=1), "float32", which, 1, 1)
    torch.set_num_threads(most)
    print("\nceilings")
    for key, rate in bench.ceilings.items():
        what = " ".join(map(str, key))
        print(f"{what:<48}{rate / 1e9:8.1f} G/s")
        about[what] = rate
    if options.json:
        write_json(options.json, {"machine": about, "rows": [asdict(row) for row in bench.rows]})
    return 0


if __name__ == "__main__":
    run(main)
