"""What every network offers, and the only thing that the rest of the package knows of one.

A network turns the codes before a sample, and a condition, into the parameters of the
distribution of that sample's code. Before a recording's first code stands a learned start symbol.

Letters used for shapes: B batch or streams, T time, F frames, D features, A label attributes,
P parameters of the distribution.
"""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from wavegen.distributions.categorical import Categorical
from wavegen.distributions.distribution import Distribution
from wavegen.errors import ConfigError
from wavegen.models.condition import Condition
from wavegen.models.config import ModelConfig


class Network(nn.Module, ABC):
    """The base of all networks: one parallel pass for known codes, and single steps with a state.

    A subclass has a config of its own, is registered by `wavegen.models.registry.register`, and
    defines `bias_shape`, `conditioning`, `initial_state` and `step`. If it has a parallel pass, a
    recurrent network defines `advance` too. A network with a receptive field defines `predict`.

    Args:
        config: the architecture, the codec and the labels.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.distribution: Distribution = Categorical(config.quantization_channels)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return next(self.parameters()).dtype

    @property
    def start_symbol(self) -> int:
        """The input that stands for "before the recording"; it is no code."""
        return self.config.codec.codes

    @property
    def receptive_field(self) -> int | None:
        """Number of past codes that can influence a prediction; None if there is no limit."""
        return self.config.receptive_field

    @property
    def hop(self) -> int | None:
        """Samples that a frame of a condition holds for; None if the network takes labels only."""
        return None

    @property
    @abstractmethod
    def bias_shape(self) -> tuple[int, ...]:
        """The shape of what `conditioning` makes of one frame of one stream."""

    def unspecified(self, streams: int = 1) -> Condition:
        """The condition that leaves everything unspecified, for B streams."""
        shape = (streams, len(self.config.labels))
        return Condition(torch.zeros(shape, dtype=torch.int64, device=self.device))

    def hidden_matrices(self) -> set[str]:
        """Names of the parameters that Muon trains: matrices from one hidden layer to another.

        By default all matrices but those of embeddings, which are tables, and of a module `output`,
        whose rows are parameters of the distribution.
        """
        tables = {id(each.weight) for each in self.modules() if isinstance(each, nn.Embedding)}
        return {
            name
            for name, weight in self.named_parameters()
            if weight.ndim > 1 and id(weight) not in tables and not name.startswith("output.")
        }

    def fuse(self) -> None:
        """Train by fused kernels from now on; `ConfigError` if the network has none."""
        raise ConfigError(f"--model.fused: the network '{self.config.network}' has no such kernels")

    @abstractmethod
    def conditioning(self, condition: Condition) -> Tensor:
        """What conditions the network, as a bias.

        Args:
            condition: of B streams.

        Returns:
            (B, F, *bias_shape): F is 1 for labels alone, which hold for ever.
        """

    @abstractmethod
    def initial_state(self, bias: Tensor) -> Any:
        """The state of B streams before their first input, which is the start symbol.

        Args:
            bias: (B, F, ...) of `conditioning`.
        """

    @abstractmethod
    def step(self, inputs: Tensor, state: Any) -> Tensor:
        """Take one input of each stream into the state, which is changed in place.

        Args:
            inputs: int64 (B,), codes or start symbols.
            state: of the same streams.

        Returns:
            Parameters (B, P) of the codes that follow.
        """

    def advance(self, inputs: Tensor, state: Any) -> Tensor:
        """Take inputs (B, T) into the state; parameters (B, T, P) of the code after each."""
        return torch.stack([self.step(each, state) for each in inputs.t()], dim=1)

    def state_after(self, bias: Tensor, prompt: Tensor) -> Any:
        """The state of streams that go on from a prompt; the next input is its last code.

        Args:
            bias: (B, F, ...) of `conditioning`; its frames begin with the prompt.
            prompt: int64 codes (B, T); T may be 0, and then the next input is the start symbol.
        """
        state = self.initial_state(bias)
        if prompt.shape[1]:
            self.advance(self.inputs(prompt), state)
        return state

    def inputs(self, codes: Tensor) -> Tensor:
        """What a network is given to predict codes (B, T) from their beginning: (B, T)."""
        start = codes.new_full((codes.shape[0], 1), self.start_symbol)
        return torch.cat([start, codes], dim=1)[:, :-1]

    def forward(
        self, codes: Tensor, labels: Tensor | None = None, frames: Tensor | None = None
    ) -> Tensor:
        """Predict whole recordings from their beginning.

        Args:
            codes: int64 (B, T).
            labels: int64 (B, A) as of `Condition`; None leaves all unspecified.
            frames: float32 (B, F, D) as of `Condition`.

        Returns:
            Parameters (B, T, P); those at t predict `codes[:, t]` from the codes before t.
        """
        condition = self.unspecified(len(codes)) if labels is None else Condition(labels)
        bias = self.conditioning(replace(condition, frames=frames))
        return self.predict(self.inputs(codes), bias, beginning=True)

    def predict(self, inputs: Tensor, bias: Tensor, beginning: bool = False) -> Tensor:
        """The parallel pass: predict the code that follows each input.

        Args:
            inputs: int64 (B, N), codes or start symbols.
            bias: (B, F, ...) of `conditioning`.
            beginning: whether nothing comes before the first input. Otherwise a network
                with a receptive field R predicts only what follows R inputs or more.

        Returns:
            Parameters (B, T, P) of the last T of the codes that follow: T = N from the
            beginning, and for every network without a limit to its receptive field.
        """
        return self.advance(inputs, self.initial_state(bias))
