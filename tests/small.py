"""A small network, options of a short training, and where real recordings may lie."""

from collections.abc import Sequence
from pathlib import Path

import torch

from wavegen.models.config import WaveNetConfig
from wavegen.models.wavenet import WaveNet

FSDD = Path(__file__).resolve().parents[2] / "shared" / "data" / "fsdd"
LABELS = {"digit": ("0", "1", "2"), "speaker": ("ann", "bob")}
# Eight numbers a frame.
FEATURES = (
    {"kind": "loudness", "sample_rate": 8000, "hop_length": 16, "floor": -80.0},
    {"kind": "position", "sample_rate": 8000, "hop_length": 16},
)

TINY = [
    "--model.network.layers=8",
    "--model.network.stacks=2",
    "--model.network.residual_channels=12",
    "--model.network.gate_channels=24",
    "--model.network.skip_channels=24",
    "--model.learning_rate=0.01",
    "--model.warmup_steps=5",
    "--data.crop=400",
    "--data.batch_size=4",
    "--trainer.precision=32-true",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
]

# Options of a training of two steps.
SHORT = [
    "--model.network.layers=4",
    "--model.network.stacks=2",
    "--model.network.residual_channels=4",
    "--model.network.gate_channels=8",
    "--model.network.skip_channels=6",
    "--data.crop=50",
    "--data.batch_size=1",
    "--trainer.precision=32-true",
    "--trainer.accelerator=cpu",
    "--trainer.logger=false",
    "--trainer.enable_progress_bar=false",
    "--trainer.max_steps=2",
    "--trainer.val_check_interval=2",
    # A timer keeps its time in the checkpoint.
    "--trainer.max_time=00:01:00:00",
]


def network(seed: int = 0, **fields: object) -> WaveNet:
    """A small network whose weights are all random, also those of the output."""
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
        if network.frame_encoder is not None:
            torch.nn.init.normal_(network.frame_encoder.unspecified)
    return network.requires_grad_(False).eval()


def train(*options: object, sizes: Sequence[str] = TINY) -> int:
    from wavegen.commands.main import main

    return main(["train", *map(str, options), *sizes])
