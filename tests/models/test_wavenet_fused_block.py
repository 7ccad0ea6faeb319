"""The fused layer against the one of torch, under Triton's interpreter where there is no GPU."""

import os
import subprocess
import sys
from functools import partial

import pytest
import torch
from small import LABELS

from wavegen.models import wavenet, wavenet_fused_block
from wavegen.models.config import WaveNetConfig
from wavegen.models.wavenet import WaveNet
from wavegen.models.wavenet_block import Block
from wavegen.models.wavenet_fused_block import FusedBlock, block_for
from wavegen.training.lightning_module import LitWaveNet

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# Of the largest value; three products of TensorFloat-32 are a little less exact than float32.
CLOSE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def compare(sizes, dilation, beginning, gate, last=False, dtype=torch.float32, device=DEVICE):
    """Results and gradients of the fused layer against those of `Block` in float64.

    `sizes` are the steps computed, the batch, residual and gate channels and the taps.
    """
    time, batch, residual, gates, taps = sizes
    rng = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, generator=rng)
    before = 0 if beginning else (taps - 1) * dilation
    shapes = [(time + before, batch, residual), (batch, gates), (taps, gates, residual)]
    shapes += [(residual, gates // 2), (residual,)]
    values = [(0.5 * draw(shape)).to(device, dtype) for shape in shapes[: 3 if last else 5]]
    pull = [(0.5 * draw(time, batch, each)).to(device, dtype) for each in (residual, gates // 2)]
    found = []
    for kind, exact in ((Block, True), (FusedBlock, False)):
        given = [(each.double() if exact else each).requires_grad_() for each in values]
        weights = (None, None) if last else given[3:]
        results = kind.apply(*given[:3], *weights, dilation, beginning, gate)
        towards = [each.to(results[0].dtype) for each in pull]
        found.append([*results, *torch.autograd.grad(results, given, towards)])
    for expected, got in zip(*found, strict=True):
        assert got.dtype == dtype
        close(got, expected)


def close(got, expected):
    """Whether all is within what the dtype allows of the largest value."""
    most = CLOSE[got.dtype] * expected.abs().max().item()
    torch.testing.assert_close(got.double(), expected.double(), rtol=0, atol=most)


@pytest.mark.parametrize("beginning", [False, True])
@pytest.mark.parametrize(
    ("sizes", "dilation", "gate", "last", "dtype"),
    [
        # Tiles of 32 steps, the last ones not full; delays of less than a tile, and of more.
        ((75, 2, 5, 12, 2), 8, "linear", False, torch.float32),
        ((75, 1, 5, 12, 2), 64, "tanh", False, torch.float32),
        ((33, 3, 5, 12, 3), 1, "tanh", False, torch.float32),
        ((40, 2, 17, 34, 3), 32, "linear", True, torch.float32),
        # A delay longer than what is computed.
        ((5, 2, 1, 2, 3), 4, "linear", False, torch.float32),
        ((1, 1, 16, 32, 2), 512, "linear", True, torch.float32),
        ((140, 2, 5, 12, 2), 16, "linear", False, torch.float16),
        ((20, 2, 16, 32, 3), 4, "tanh", True, torch.float16),
    ],
)
def test_it_equals_the_block(sizes, dilation, beginning, gate, last, dtype) -> None:
    compare(sizes, dilation, beginning, gate, last, dtype)


def test_gradients_may_lie_anywhere_in_memory() -> None:
    """As those of the gates, which are columns of a wider tensor, or of a sum, all one number."""
    torch.manual_seed(0)
    shapes = [(9, 2, 5), (2, 4, 12), (2, 12, 5), (5, 6), (5,)]
    values = [torch.randn(shape, device=DEVICE) for shape in shapes]
    found: list[list[torch.Tensor]] = []
    for kind in (Block, FusedBlock):
        given = [each.clone().requires_grad_() for each in values]
        following, gate = kind.apply(given[0], given[1][:, 2], *given[2:], 2, True, "linear")
        loss = (torch.cat([gate, gate], dim=2) ** 2).sum() + following.sum()
        found.append([*torch.autograd.grad(loss, given, retain_graph=True)])
        # Only one of the two is used.
        for each in (following, gate):
            found[-1] += torch.autograd.grad(each.sum(), given[0], retain_graph=True)
    for expected, got in zip(*found, strict=True):
        close(got, expected)


def test_a_network_trains_by_it_and_validates_without(monkeypatch) -> None:
    config = WaveNetConfig(
        layers=2, stacks=1, residual_channels=5, gate_channels=12, skip_channels=7, labels=LABELS
    )
    torch.manual_seed(0)
    codes = torch.randint(0, 256, (2, 30), device=DEVICE)
    used = []

    def counted(*arguments):
        used.append(block_for(*arguments))
        return used[-1]

    monkeypatch.setattr(wavenet, "block_for", counted)
    found = []
    for fused in (False, True):
        torch.manual_seed(0)
        network = LitWaveNet(config, fused=fused).to(DEVICE).network
        torch.nn.init.normal_(network.output.weight)
        network(codes).square().mean().backward()
        found.append([parameter.grad for parameter in network.parameters()])
    assert used == [FusedBlock] * 2
    for expected, got in zip(*found, strict=True):
        close(got, expected)
    network.eval()(codes)
    assert len(used) == 2
    # It is a way to train, and no part of what a model is.
    assert "fused" not in network.config.to_json()
    assert network.state_dict().keys() == WaveNet(config).state_dict().keys()


@pytest.mark.parametrize("why", ["no GPU", "no Triton", "too wide", "a compiler's error"])
def test_what_cannot_run_falls_back_and_says_why(why, monkeypatch, caplog) -> None:
    wavenet_fused_block._runs.cache_clear()
    stream, kernel = torch.zeros(9, 1, 5, device=DEVICE), torch.zeros(2, 12, 5, device=DEVICE)
    reason = {
        "no GPU": "it needs an NVIDIA GPU, and this is cpu",
        "no Triton": "import of wavegen.models.wavenet_block_kernels halted",
        "too wide": "in float32 no more than 64 residual and 128 gate channels fit on chip",
        "a compiler's error": "out of registers in line 5",
    }[why]
    if why == "no GPU":
        stream, kernel = stream.cpu(), kernel.cpu()
        monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    elif why == "no Triton":
        monkeypatch.setitem(sys.modules, "wavegen.models.wavenet_block_kernels", None)
        monkeypatch.delattr("wavegen.models.wavenet_block_kernels", raising=False)
    elif why == "too wide":
        kernel = torch.zeros(2, 200, 5, device=DEVICE)
    else:

        def broken(*_):
            raise RuntimeError("out of registers\n  in line 5")

        monkeypatch.setattr(FusedBlock, "apply", broken)
    assert block_for(stream, kernel, "linear") is Block
    assert block_for(stream, kernel, "linear") is Block
    (said,) = caplog.messages
    assert said.startswith("training without --model.fused, which cannot run here (")
    assert reason in said
    wavenet_fused_block._runs.cache_clear()


# Launches as training does, on a GPU that is not there: kernels are compiled, and then not run.
COMPILE = """
import re, subprocess, sys, types
from pathlib import Path
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

driver.set_active(types.SimpleNamespace(
    get_current_device=lambda: 0, get_current_stream=lambda *_: 0,
    get_current_target=lambda: GPUTarget("cuda", {capability}, 32),
))
kernels, run = dict(), JITFunction.run

def compiled(self, *arguments, warmup, **options):
    kernel = run(self, *arguments, warmup=True, **options)
    kernels[kernel.hash] = self.fn.__name__, kernel

JITFunction.run = compiled
torch.set_float32_matmul_precision("{float32}")
from wavegen.models.wavenet_fused_block import FusedBlock

for gate in ("linear", "tanh"):
    for last in (False, True):
        shapes = [(300, 2, 64), (2, 128), (2, 128, 64), (64, 64), (64,)][: 3 if last else 5]
        given = [torch.zeros(shape, dtype=torch.{dtype}, requires_grad=True) for shape in shapes]
        weights = (None, None) if last else given[3:]
        results = FusedBlock.apply(*given[:3], *weights, 4, False, gate)
        torch.autograd.grad(results, given, [torch.zeros_like(each) for each in results])
assembler = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
for name, kernel in kernels.values():
    text = kernel.asm["ptx"]
    Path("kernel.ptx").write_text(text)
    architecture = re.search(r"[.]target (sm_[0-9]+a?)", text).group(1)
    command = [assembler, "-v", "--gpu-name", architecture, "kernel.ptx", "-o", "kernel.cubin"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    spills = int(re.search(r"([0-9]+) bytes spill stores", said).group(1))
    registers = int(re.search(r"Used ([0-9]+) registers", said).group(1))
    assert "mma" in text, "no matrix units"
    print(name, spills, kernel.metadata.shared, registers)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "float32"), [("bfloat16", "highest"), ("float32", "highest"), ("float32", "high")]
)
@pytest.mark.parametrize("capability", [80, 90])
def test_it_compiles_without_spills_for_gpus_that_are_not_here(
    capability, dtype, float32, tmp_path
) -> None:
    """For one of 2020 and one of 2022, within the shared memory of each."""
    code = COMPILE.format(capability=capability, dtype=dtype, float32=float32)
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "TRITON_INTERPRET": "0", "PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    kernels = [line.split() for line in done.stdout.splitlines()]
    assert {name for name, *_ in kernels} == {"forward", "of_sums", "of_stream", "of_weights"}
    for name, spills, shared, _ in kernels:
        assert int(spills) == 0, name
        assert int(shared) <= {80: 163, 90: 227}[capability] << 10, name


@pytest.mark.gpu
@pytest.mark.parametrize("beginning", [False, True])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    ("residual", "dtype"), [(64, "bfloat16"), (64, "float32"), (128, "bfloat16")]
)
def test_at_full_size(residual, dtype, last, beginning) -> None:
    sizes = (5000, 8, residual, 2 * residual, 2)
    compare(sizes, 512, beginning, "linear", last, getattr(torch, dtype))


@pytest.mark.gpu
def test_gradients_are_equal_to_the_last_bit_again() -> None:
    shapes = [(5000, 8, 64), (8, 128), (2, 128, 64), (64, 64), (64,)]
    given = [torch.randn(shape, device="cuda", requires_grad=True) for shape in shapes]
    found = []
    for _ in range(3):
        results = FusedBlock.apply(*given, 512, True, "linear")
        found.append(torch.autograd.grad(results, given, [each.detach() for each in results]))
    for again in found[1:]:
        assert all(map(torch.equal, found[0], again))
