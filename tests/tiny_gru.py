"""A second network, which the package does not know: a few lines of GRU."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from wavegen.models.base import Network
from wavegen.models.config import ModelConfig
from wavegen.models.registry import register


@dataclass(frozen=True)
class TinyGRUConfig(ModelConfig):
    """A GRU of some width."""

    network: ClassVar[str] = "tiny_gru"
    width: int = 16


@dataclass
class Hidden:
    """What the GRU has heard: (B, width), from its bias (B, width) on."""

    bias: Tensor
    values: Tensor


@register(TinyGRUConfig)
class TinyGRU(Network):
    """Codes through a GRU; labels are added to its inputs."""

    config: TinyGRUConfig

    def __init__(self, config: TinyGRUConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.quantization_channels + 1, config.width)
        self.labels = nn.ModuleList(
            nn.Embedding(len(classes) + 1, config.width) for classes in config.labels.values()
        )
        self.recurrent = nn.GRU(config.width, config.width, batch_first=True)
        self.output = nn.Linear(config.width, config.quantization_channels)

    def conditioning(self, labels: Tensor | None, batch: int = 1) -> Tensor:
        if labels is None:
            labels = torch.zeros((batch, len(self.labels)), dtype=torch.int64, device=self.device)
        rows = [embedding(labels[:, at]) for at, embedding in enumerate(self.labels)]
        none = torch.zeros((len(labels), self.config.width), dtype=self.dtype, device=self.device)
        return sum(rows, none)

    def initial_state(self, bias: Tensor) -> Hidden:
        return Hidden(bias, torch.zeros_like(bias))

    def step(self, inputs: Tensor, state: Hidden) -> Tensor:
        return self.advance(inputs[:, None], state)[:, 0]

    def advance(self, inputs: Tensor, state: Hidden) -> Tensor:
        heard = self.embedding(inputs) + state.bias[:, None]
        outputs, last = self.recurrent(heard, state.values[None])
        state.values = last[0]
        return self.output(outputs)
