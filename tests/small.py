"""A small network, and where real recordings may lie."""

from pathlib import Path

import torch

from wavegen.config import WaveNetConfig
from wavegen.wavenet import WaveNet

FSDD = Path(__file__).resolve().parents[2] / "shared" / "data" / "fsdd"
LABELS = {"digit": ("0", "1", "2"), "speaker": ("ann", "bob")}


def network(seed: int = 0, **fields: object) -> WaveNet:
    """A small network whose weights are all random, the output's too."""
    small = {
        "layers": 6,
        "stacks": 2,
        "residual_channels": 8,
        "gate_channels": 12,
        "skip_channels": 10,
        "sample_rate": 8000,
        **fields,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = WaveNet(WaveNetConfig(**small))  # type: ignore[arg-type]
        torch.nn.init.normal_(network.output.weight)
        torch.nn.init.normal_(network.output.bias)
    return network.requires_grad_(False).eval()
