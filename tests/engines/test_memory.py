"""What is counted is what is taken, and no more is done at once than fits."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from small import LABELS

from wavegen.distributions.sampling import Sampling
from wavegen.engines import memory
from wavegen.engines.gpu.cuda_graph import GraphQueue
from wavegen.engines.reference_scorer import TorchScorer, chunk_for
from wavegen.generation.generate import Stream, rounds
from wavegen.models.condition import Condition
from wavegen.models.config import WaveNetConfig
from wavegen.models.wavenet import WaveNet


class Sizes(SimpleNamespace):
    """Takes itself for a WaveNet."""

    @property
    def __class__(self) -> type:
        return WaveNet


@pytest.fixture
def on_a_gpu(monkeypatch):
    """Makes what has the sizes of a network, on a GPU with so many bytes free."""

    def make(free: float, **fields: int) -> SimpleNamespace:
        config = WaveNetConfig(**fields)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free), 0))
        return Sizes(
            config=config,
            history=config.receptive_field - 1,
            receptive_field=config.receptive_field,
            device=torch.device("cuda"),
        )

    return make


@pytest.mark.parametrize(
    ("free", "sizes"), [(140e9, [4096, 904]), (8e9, [1758, 1758, 1484]), (1e5, [1] * 5000)]
)
def test_what_does_not_fit_is_done_in_rounds(on_a_gpu, free: float, sizes: list[int]) -> None:
    network = on_a_gpu(free, layers=20, stacks=2, residual_channels=64)
    streams = [Stream(index=index) for index in range(5000)]
    assert [len(part) for part in rounds(streams, network)] == sizes
    assert {len(part) for part in rounds(streams[:100], network, 50)} <= {1, 50}


def test_a_gpu_scores_more_at_a_time_where_it_fits(on_a_gpu, make_network) -> None:
    sizes = {"layers": 30, "stacks": 3, "residual_channels": 128, "gate_channels": 256}
    assert chunk_for(on_a_gpu(80e9, **sizes)) == 1 << 18
    assert chunk_for(on_a_gpu(8e9, **sizes)) == 1 << 16
    assert chunk_for(on_a_gpu(0, **sizes)) == 1 << 14
    network = make_network()
    assert TorchScorer(network, Condition(torch.zeros((1, 0), dtype=torch.int64)))._chunk == 1 << 14


PASS = """
from pathlib import Path
import torch
from wavegen.models.config import WaveNetConfig
from wavegen.engines.memory import of_streams
from wavegen.engines.reference import TorchQueue
from wavegen.distributions.sampling import Sampling
from wavegen.models.wavenet import WaveNet

def peak():
    # Unlike getrusage, this knows nothing of the process that began this one.
    (line,) = (line for line in Path("/proc/self/status").open() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])

torch.set_num_threads(1)
network = WaveNet(WaveNetConfig(10, 1, 2, 64, 128, 16)).requires_grad_(False).eval()
streams = 256
prompt = torch.randint(0, 256, (streams, network.history))
bias = network.conditioning(network.unspecified(streams))
engine = TorchQueue(network)
engine.start(bias[:1], Sampling(), prompt=prompt[:1])
before = peak()
engine.start(bias, Sampling(), prompt=prompt)
taken = peak() - before
each, besides = of_streams(network)
print(taken / (streams * each + besides), taken / besides)
"""


@pytest.mark.slow
def test_a_pass_takes_the_memory_that_is_counted_for_it() -> None:
    """Of 256 prompts, which are gone through in two parts."""
    done = subprocess.run([sys.executable, "-c", PASS], capture_output=True, text=True, check=True)
    of_all, of_pass = map(float, done.stdout.split())
    assert of_all < 1
    assert of_pass > 0.7


@pytest.mark.gpu
def test_a_gpu_holds_what_is_counted(make_network) -> None:
    network = make_network(
        layers=20, residual_channels=64, gate_channels=128, skip_channels=128, labels=LABELS
    ).cuda()
    streams = 600
    labels = torch.stack([torch.arange(streams) % 4, torch.arange(streams) % 3], 1).cuda()
    prompt = torch.randint(0, 256, (streams, network.history), device="cuda")
    engine = GraphQueue(network)
    bias, noise = (
        network.conditioning(Condition(labels)),
        torch.full((streams, 4), 0.5, dtype=torch.float64),
    )
    engine.start(bias[:1], Sampling())
    engine.generate(noise[:1])
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    engine.start(bias, Sampling(guidance=2), unspecified=0.5 * bias, prompt=prompt)
    engine.generate(noise)
    each, besides = memory.of_streams(network)
    assert torch.cuda.max_memory_allocated() - before < streams * each + besides
