"""A second network, which the package does not know: a few lines of GRU."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from tiny_logistic import TinyLogistic
from torch import Tensor, nn

from wavegen.models.base import Network
from wavegen.models.condition import Condition
from wavegen.models.config import ModelConfig
from wavegen.models.registry import register


@dataclass(frozen=True)
class TinyGRUConfig(ModelConfig):
    """A GRU of some width; `frame_size` numbers a frame; two parameters if `logistic`."""

    network: ClassVar[str] = "tiny_gru"
    width: int = 16
    hop: int = 0
    frame_size: int = 0
    logistic: bool = False


@dataclass
class Hidden:
    """The bias (B, F, width) of all frames, the hidden vectors (B, width), and the time."""

    bias: Tensor
    values: Tensor
    first: Tensor | None
    time: int = 0


@register(TinyGRUConfig)
class TinyGRU(Network):
    """Codes through a GRU; labels and frames are added to its inputs."""

    config: TinyGRUConfig

    def __init__(self, config: TinyGRUConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.quantization_channels + 1, config.width)
        self.labels = nn.ModuleList(
            nn.Embedding(len(classes) + 1, config.width) for classes in config.labels.values()
        )
        if config.hop:
            self.frames = nn.Linear(config.frame_size, config.width)
        self.recurrent = nn.GRU(config.width, config.width, batch_first=True)
        if config.logistic:
            self.distribution = TinyLogistic(config.quantization_channels)
        self.output = nn.Linear(config.width, self.distribution.parameters)

    @property
    def hop(self) -> int | None:
        return self.config.hop or None

    @property
    def bias_shape(self) -> tuple[int]:
        return (self.config.width,)

    def conditioning(self, condition: Condition) -> Tensor:
        labels = condition.labels
        rows = [embedding(labels[:, at]) for at, embedding in enumerate(self.labels)]
        none = torch.zeros((len(labels), self.config.width), dtype=self.dtype, device=self.device)
        bias = sum(rows, none)[:, None]
        return bias if condition.frames is None else bias + self.frames(condition.frames)

    def initial_state(self, bias: Tensor, first: Tensor | None = None) -> Hidden:
        return Hidden(bias, torch.zeros_like(bias[:, 0]), first)

    def extend(self, state: Hidden, bias: Tensor) -> None:
        state.bias = torch.cat([state.bias, bias], dim=1)

    def step(self, inputs: Tensor, state: Hidden) -> Tensor:
        return self.advance(inputs[:, None], state)[:, 0]

    def advance(self, inputs: Tensor, state: Hidden) -> Tensor:
        samples = state.time + torch.arange(inputs.shape[1]) + torch.zeros(len(inputs), 1).long()
        if state.first is not None:
            samples = samples + state.first[:, None]
        frames = (samples // (self.config.hop or 1)).clamp(0, state.bias.shape[1] - 1)
        bias = state.bias[torch.arange(len(inputs))[:, None], frames]
        outputs, last = self.recurrent(self.embedding(inputs) + bias, state.values[None])
        state.values, state.time = last[0], state.time + inputs.shape[1]
        return self.output(outputs)
