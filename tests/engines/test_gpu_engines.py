"""The engines of the GPU: `test_engines` holds them to the network, here is what is theirs alone.

Without a GPU the kernel runs under Triton's interpreter, and the graph's step is called.
"""

import os
import subprocess
import sys
from contextlib import nullcontext
from threading import Event, Thread
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from small import LABELS
from torch.utils._python_dispatch import TorchDispatchMode

from wavegen.distributions.sampling import Sampling, distribution, draw, stream_noise
from wavegen.engines import choice
from wavegen.engines.choice import choose
from wavegen.engines.gpu import cuda_graph
from wavegen.engines.gpu.cuda_graph import GraphQueue
from wavegen.engines.gpu.wavenet_triton import LAYOUTS, MOST_CODES, MOST_SKIP, TritonGPU
from wavegen.engines.gpu.wavenet_triton_kernel import _draw
from wavegen.engines.reference import TorchQueue
from wavegen.errors import ConfigError
from wavegen.generation.generate import generate
from wavegen.models.condition import Condition
from wavegen.models.config import WaveNetConfig
from wavegen.models.wavenet import WaveNet

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

SAMPLINGS = [
    Sampling(),
    Sampling(temperature=0),
    Sampling(temperature=0.3),
    Sampling(temperature=1.7, top_k=5),
    Sampling(top_p=0.6),
    Sampling(temperature=0.8, top_k=40, top_p=0.9),
    Sampling(guidance=3.0, top_k=1000, top_p=1.0),
    Sampling(temperature=0.7, guidance=0.0, top_p=0.95),
]


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
@pytest.mark.parametrize("kind", [GraphQueue, TritonGPU])
def test_equal_noise_gives_the_codes_of_the_reference(make_network, kind, sampling) -> None:
    network = make_network(labels=LABELS).to(DEVICE)
    labels = torch.tensor([[1, 1], [3, 2], [0, 0]], device=DEVICE)
    prompt = torch.randint(0, 256, (3, 30), device=DEVICE)
    noise = torch.from_numpy(stream_noise(1, range(3), 0, 40))
    drawn = []
    for engine in (TorchQueue(network), kind(network)):
        engine.start(
            network.conditioning(Condition(labels)),
            sampling,
            unspecified=network.conditioning(network.unspecified(3)),
            prompt=prompt,
        )
        parts = [engine.generate(noise[:, :7]), engine.generate(noise[:, 7:])]
        drawn.append(torch.cat(parts, dim=1).cpu())
    assert torch.equal(*drawn)


@triton.jit
def _draw_rows(
    logits,
    noise,
    codes,
    temperature,
    top_k,
    top_p,
    CODES: tl.constexpr,
    Q: tl.constexpr,
    GREEDY: tl.constexpr,
    TOP_K: tl.constexpr,
    TOP_P: tl.constexpr,
):
    row, q = tl.arange(0, 16), tl.arange(0, Q)
    values = tl.load(logits + row[:, None] * CODES + q[None, :], mask=(q < CODES)[None, :])
    number = tl.load(noise + row)
    code = _draw(values, number, temperature, top_k, top_p, CODES, Q, 16, GREEDY, TOP_K, TOP_P)
    tl.store(codes + row, code)


@pytest.mark.parametrize("codes", [2, 100, 256])
@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0])
@pytest.mark.parametrize("sampling", SAMPLINGS[:6], ids=str)
def test_the_kernel_draws_as_the_sampler_does(
    sampling: Sampling, spread: float, codes: int
) -> None:
    """On random logits with ties among them; where they differ the noise is on a bin's edge."""
    rng = torch.Generator().manual_seed(codes)
    for _ in range(4):
        logits = (spread * torch.randn((16, codes), generator=rng)).round(decimals=1)
        noise = torch.rand(16, dtype=torch.float64, generator=rng)
        got = torch.zeros(16, dtype=torch.int32, device=DEVICE)
        _draw_rows[(1,)](
            logits.to(DEVICE), noise.to(DEVICE), got,
            float(sampling.temperature or 1), float(sampling.top_k or 0),
            float(sampling.top_p or 1), CODES=codes, Q=max(16, triton.next_power_of_2(codes)),
            GREEDY=sampling.temperature == 0,
            TOP_K=sampling.top_k is not None and sampling.top_k < codes,
            TOP_P=sampling.top_p is not None,
        )  # fmt: skip
        got = got.cpu().long()
        expected = draw(logits, noise, sampling)
        if sampling.temperature == 0:
            rows = torch.arange(16)
            assert torch.equal(logits[rows, got], logits[rows, expected])
            continue
        probabilities = distribution(logits, sampling)
        assert (probabilities[torch.arange(16), got] > 0).all(), "never a code that is left out"
        edges = probabilities.cumsum(-1)
        near = ((edges - noise[:, None]).abs() < 1e-6).any(-1)
        assert torch.equal(got[~near], expected[~near])
        assert near.sum() < 2


@pytest.mark.parametrize(("streams", "tile"), [(5, 32), (20, 16), (40, 32)])
def test_streams_need_not_fill_a_tile(make_network, streams: int, tile: int) -> None:
    network = make_network(labels=LABELS).to(DEVICE)
    codes = torch.randint(0, 256, (streams, 12), device=DEVICE)
    labels = torch.stack([torch.arange(streams) % 4, torch.arange(streams) % 3], 1).to(DEVICE)
    engine = TritonGPU(network, tile=tile)
    engine.start(network.conditioning(Condition(labels)), Sampling())
    expected = network(codes, labels)
    error = (engine.force(codes) - expected).abs().max() / expected.abs().max()
    assert error < 1e-4


@pytest.mark.parametrize("prompt", [0, 1, 150])
@pytest.mark.parametrize(
    "stacks", [{"layers": 6, "stacks": 2}, {"layers": 4, "stacks": 4, "gate": "tanh"}]
)
@pytest.mark.parametrize("kernel_size", [2, 3])
def test_the_kernel_gives_the_logits_of_the_parallel_pass(
    make_network, kernel_size: int, stacks: dict, prompt: int
) -> None:
    network = make_network(kernel_size=kernel_size, labels=LABELS, **stacks).to(DEVICE)
    codes = torch.randint(0, 256, (5, prompt + 40), device=DEVICE)
    labels = torch.stack([torch.arange(5) % 4, torch.arange(5) % 3], 1).to(DEVICE)
    expected = network(codes, labels)[:, prompt:]
    engine = TritonGPU(network)
    engine.start(network.conditioning(Condition(labels)), Sampling(), prompt=codes[:, :prompt])
    parts = codes[:, prompt:].split([1, 39], dim=1)
    got = torch.cat([engine.force(part) for part in parts], dim=1)
    assert (got - expected).abs().max() / expected.abs().max() < 1e-4
    # Loaded, or swapped for their average: weights are read at every start.
    other = make_network(seed=9, kernel_size=kernel_size, labels=LABELS, **stacks).to(DEVICE)
    network.load_state_dict(other.state_dict())
    engine.start(network.conditioning(Condition(labels)), Sampling())
    expected = other(codes[:, :5], labels)
    assert (engine.force(codes[:, :5]) - expected).abs().max() / expected.abs().max() < 1e-4


@pytest.mark.parametrize(
    "channels",
    [
        {"residual_channels": 33, "gate_channels": 90, "skip_channels": 130},
        {"residual_channels": 1, "gate_channels": 2, "skip_channels": 1, "layers": 1, "stacks": 1},
        {"residual_channels": 20, "gate_channels": 40, "skip_channels": 20, "kernel_size": 4},
    ],
)
@pytest.mark.parametrize("count", [2, 300])
def test_channels_need_not_fit_the_kernel(make_network, count: int, channels: dict) -> None:
    network = make_network(quantization_channels=count, **channels).to(DEVICE)
    codes = torch.randint(0, count, (4, 30), device=DEVICE)
    engine = TritonGPU(network)
    engine.start(network.conditioning(network.unspecified(4)), Sampling(), prompt=codes[:, :10])
    expected = network(codes)[:, 10:]
    assert (engine.force(codes[:, 10:]) - expected).abs().max() / expected.abs().max() < 1e-4


@pytest.mark.parametrize("precision", ["float16", pytest.param("bfloat16", marks=pytest.mark.gpu)])
def test_half_precision_is_near_the_network(make_network, precision: str) -> None:
    network = make_network(residual_channels=32, gate_channels=64, skip_channels=64).to(DEVICE)
    codes = torch.randint(0, 256, (3, 60), device=DEVICE)
    engine = TritonGPU(network, precision)
    engine.start(network.conditioning(network.unspecified(3)), Sampling())
    expected = network(codes)
    error = (engine.force(codes) - expected).abs().mean() / expected.abs().mean()
    assert 1e-6 < error < {"float16": 5e-3, "bfloat16": 4e-2}[precision]


def test_candidates_by_device_and_precision() -> None:
    assert choice._candidates("cuda", "auto", "float32") == ["graph", "torch"]
    assert choice._candidates("cuda", "auto", "bfloat16") == ["triton"]
    assert choice._candidates("cuda", "triton", "float32") == ["triton"]
    assert choice._candidates("cpu", "auto", "int8") == ["numba"]
    assert choice._candidates("mps", "auto", "float32") == ["torch"]
    for arguments, message in {
        ("cuda", "auto", "int8"): "--precision int8: only with --engine numba --device cpu",
        ("cuda", "numba", "float32"): "--engine numba: only with --device cpu",
        ("cpu", "graph", "float32"): "--engine graph: only with --device cuda",
        ("cuda", "graph", "bfloat16"): "--engine triton --device cuda",
    }.items():
        with pytest.raises(ConfigError, match=message):
            choice._candidates(*arguments)


def test_what_cannot_run_falls_back_and_says_why(make_network, monkeypatch, caplog) -> None:
    """As on a GPU whose driver refuses graphs, or where Triton cannot compile."""

    def broken(network, *_):
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    network = make_network()
    choice._say_once.cache_clear()
    monkeypatch.setattr(GraphQueue, "start", broken)
    monkeypatch.setitem(choice._TRIED, "cpu", ("graph", "torch"))
    assert isinstance(choose(network), TorchQueue)
    (said,) = caplog.messages
    assert (
        "slower torch engine: graph cannot run (RuntimeError: operation not permitted when" in said
    )
    with pytest.raises(ConfigError, match=r"graph cannot run here .*: take --engine torch"):
        choose(network, "graph")


@pytest.mark.skipif(DEVICE == "cuda", reason="with a GPU the interpreter is off")
def test_a_whole_request_under_the_interpreter(make_network) -> None:
    network = make_network(labels=LABELS)
    kinds = [{"digit": "1"}, {"speaker": "bob"}]
    waveforms = [
        generate(network, kinds, count=2, seconds=0.004, seed=3, engine=name)
        for name in ("torch", "triton")
    ]
    assert waveforms[0].shape == (4, 32)
    assert np.array_equal(*waveforms)


COMPILE = """
import re, subprocess, tempfile, types
from pathlib import Path
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import MockTensor as T

driver.set_active(types.SimpleNamespace(
    get_current_device=lambda: 0, get_current_stream=lambda *_: 0,
    get_current_target=lambda: GPUTarget("cuda", {capability}, 32),
))
from wavegen.engines.gpu.wavenet_triton import layout_for
from wavegen.engines.gpu.wavenet_triton_kernel import run

exact, half = torch.float32, torch.{dtype}
R = {channels}
layout = layout_for(half, 2, R, R, {skip}, {codes})
assert {tile} in layout.tiles
parts = [exact, half, half, exact, half, exact, half, exact, half, exact]
kernel = run.warmup(
    T(torch.int32), T(torch.float64), T(torch.int64), T(exact), tuple(map(T, parts)), T(exact),
    T(half), T(torch.int64), T(torch.int32), *map(T, (half, half, half, exact)),
    5, 7, 9, 64, 0.9, 40.0, 0.9, 2.0,
    LAYERS=20, K=2, R=R, H=R, S={skip}, Q={codes}, CODES={codes}, TILE={tile}, PART=layout.part,
    COLUMNS=min({skip}, layout.columns), WIDE=min({codes}, layout.columns), DRAWN=layout.drawn,
    STAGES=layout.stages, PRECISION="ieee" if half == exact else None, GUIDED={guided},
    FORCED={forced}, GREEDY=False, TOP_K=True, TOP_P=True, TANH={tanh}, num_warps=8, grid=(1,),
)
assert "mma" in kernel.asm["ptx"] or half == exact, "no matrix units"
assert ("cp.async" in kernel.asm["ptx"]) == (layout.stages > 1), "weights are fetched ahead"
with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
    file.write(kernel.asm["cubin"])
    file.flush()
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    usage = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True).stdout
print(kernel.metadata.shared, re.search(r"STACK:(\\d+)", usage)[1])
"""

OFFERED = [
    (str(dtype).removeprefix("torch."), tile, layout.channels)
    for dtype, layouts in LAYOUTS.items()
    if dtype != torch.float16
    for layout in layouts
    for tile in layout.tiles
]


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(
    "options",
    [
        {"skip": 256, "codes": 256, "guided": True, "forced": False, "tanh": False},
        {"skip": MOST_SKIP, "codes": MOST_CODES, "guided": False, "forced": True, "tanh": True},
    ],
    ids=["usual", "largest"],
)
@pytest.mark.parametrize(("dtype", "tile", "channels"), OFFERED)
def test_the_kernel_compiles_for_gpus_that_are_not_here(
    dtype: str, tile: int, channels: int, options: dict, capability: int
) -> None:
    """For one of 2020 and one of 2022: within their shared memory, and nothing spills."""
    code = COMPILE.format(
        capability=capability, dtype=dtype, tile=tile, channels=channels, **options
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "TRITON_INTERPRET": "0"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    shared, stack = map(int, done.stdout.split())
    assert shared <= 160 << 10
    assert stack == 0


@pytest.mark.parametrize(
    "sizes",
    [
        {"residual_channels": 256, "gate_channels": 512, "skip_channels": 512},
        {"quantization_channels": 2048},
        {"skip_channels": 1030},
    ],
)
def test_what_does_not_fit_on_the_chip_is_said_before_it_is_launched(
    make_network, sizes: dict
) -> None:
    network = make_network(layers=2, stacks=1, **sizes)
    engine = TritonGPU(network, "bfloat16")
    with pytest.raises(ConfigError, match="does not fit on the chip, in bfloat16 128 residual"):
        engine.start(network.conditioning(network.unspecified()), Sampling())


class Operations(TorchDispatchMode):
    """What a step does but for looking at memory in another way; on a GPU about a kernel each."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not func.is_view:
            self.done.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("gate", "most"), [("linear", 3), ("tanh", 4)])
@pytest.mark.parametrize("kernel_size", [2, 3])
def test_a_layer_of_the_graph_is_its_two_products_and_its_gate(
    make_network, kernel_size: int, gate: str, most: int
) -> None:
    """Places in rings, earlier taps and what is kept are done for all layers at once."""
    counts = []
    for layers in (4, 9):
        network = make_network(layers=layers, stacks=1, kernel_size=kernel_size, gate=gate)
        engine = GraphQueue(network.to(DEVICE))
        engine.start(network.conditioning(network.unspecified(3)), Sampling())
        with torch.inference_mode(), Operations() as operations:
            engine._advance(drawing=True)
        counts.append(len(operations.done))
    assert counts[1] - counts[0] <= 5 * most, operations.done
    assert counts[0] - 4 * most <= 32, operations.done


def test_a_graph_is_captured_whatever_other_threads_do(make_network, monkeypatch) -> None:
    """Training pins memory in a thread: captured in "global" mode that is an error."""
    modes = []

    def graph(graph, stream, capture_error_mode="global"):
        modes.append(capture_error_mode)
        return nullcontext()

    stream = SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(cuda_graph, "_side_stream", lambda device: stream)
    for name, fake in {
        "graph": graph,
        "CUDAGraph": object,
        "device": lambda device: nullcontext(),
        "stream": lambda stream: nullcontext(),
        "current_stream": lambda: stream,
    }.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    network = make_network()
    engine, again = GraphQueue(network), GraphQueue(network)
    for each in (engine, again):
        each.start(network.conditioning(network.unspecified(3)), Sampling())
    with torch.inference_mode():
        engine._captured(drawing=True)
    assert modes == ["thread_local"]
    noise = torch.from_numpy(stream_noise(1, range(3), 0, 40))
    assert torch.equal(engine.generate(noise), again.generate(noise)), "capturing changes nothing"


@pytest.mark.gpu
def test_a_graph_is_captured_beside_a_thread_that_pins_memory(make_network) -> None:
    network, done = make_network().cuda(), Event()

    def pin() -> None:
        while not done.is_set():
            torch.empty(1 << 20).pin_memory()

    thread = Thread(target=pin)
    thread.start()
    try:
        for _ in range(20):
            engine = GraphQueue(network)
            engine.start(network.conditioning(network.unspecified(3)), Sampling())
            engine.generate(torch.full((3, 4), 0.5, dtype=torch.float64))
    finally:
        done.set()
        thread.join()


def test_noise_comes_in_blocks(make_network, monkeypatch) -> None:
    monkeypatch.setattr(cuda_graph, "_BLOCK", 16)
    network = make_network().to(DEVICE)
    noise = torch.from_numpy(stream_noise(1, range(3), 0, 40))
    drawn = []
    for engine in (TorchQueue(network), GraphQueue(network)):
        engine.start(network.conditioning(network.unspecified(3)), Sampling())
        drawn.append(torch.cat([engine.generate(noise[:, :20]), engine.generate(noise[:, 20:])], 1))
    assert torch.equal(drawn[0], drawn[1])


@pytest.mark.gpu
@pytest.mark.parametrize("streams", [1, 64, 700])
@pytest.mark.parametrize(
    ("kind", "tile"),
    [("graph", 0), ("float32", 16), ("bfloat16", 16), ("bfloat16", 32)],
)
def test_at_full_size(kind: str, tile: int, streams: int) -> None:
    """L30 R64 S256 with random weights: forced logits, and codes as the reference draws them."""
    torch.manual_seed(0)
    config = WaveNetConfig(
        layers=30, stacks=3, residual_channels=64, gate_channels=128, skip_channels=256
    )
    network = WaveNet(config).requires_grad_(False).eval()
    torch.nn.init.normal_(network.output.weight, std=0.1)
    network = network.cuda()
    engine = GraphQueue(network) if kind == "graph" else TritonGPU(network, kind, tile)
    codes = torch.randint(0, 256, (streams, 80), device="cuda")
    engine.start(network.conditioning(network.unspecified(streams)), Sampling())
    expected = network(codes)
    error = (engine.force(codes) - expected).abs().mean() / expected.abs().mean()
    assert error < (3e-2 if kind == "bfloat16" else 1e-4)
    reference = TorchQueue(network)
    noise = torch.from_numpy(stream_noise(0, range(streams), 0, 50))
    for each in (reference, engine):
        each.start(network.conditioning(network.unspecified(streams)), Sampling())
    drawn = engine.generate(noise)
    # What the reference would have drawn after the same codes: rounding moves one over a bin's
    # edge now and then.
    logits = reference.force(drawn).flatten(0, 1)
    expected = draw(logits, noise.flatten().cuda(), Sampling()).view_as(drawn)
    assert (drawn == expected).float().mean() > (0.9 if kind == "bfloat16" else 0.99)
