"""The contract of a network; the rest of the package knows networks only by it.

From the codes before a sample, and a condition, a network computes the parameters of the
distribution of the code of that sample. Before the first code of a recording it gets a learned
start symbol.

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
    """The base class of networks: a parallel pass over known codes, and single steps with a state.

    A subclass has its own config, is registered by `wavegen.models.registry.register`, and defines
    `bias_shape`, `conditioning`, `initial_state` and `step`. A recurrent network that can process
    many steps at once also defines `advance`. A network with a receptive field defines `predict`.

    Args:
        config: the architecture, the codec and the labels.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.distribution: Distribution = Categorical(config.quantization_channels)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return next(self.parameters()).dtype

    @property
    def start_symbol(self) -> int:
        """The input before the beginning of a recording; it is no code."""
        return self.config.codec.codes

    @property
    def receptive_field(self) -> int | None:
        """Number of past codes that can influence a prediction; None if there is no limit."""
        return self.config.receptive_field

    @property
    def hop(self) -> int | None:
        """Samples of a frame of a condition; None if the network takes labels only."""
        return None

    @property
    def margin(self) -> int:
        """Number of frames on each side of a frame that its bias depends on."""
        return 0

    @property
    def feature_mean(self) -> Tensor | None:
        """The mean (D,) of `fit_features`; None if the network does not know it."""
        return None

    def fit_features(self, mean: Tensor, deviation: Tensor) -> None:
        """Set the mean and standard deviation, (D,), by which a network normalises features.

        It has no effect on a network that has been fitted before, or takes labels only.
        """

    @property
    @abstractmethod
    def bias_shape(self) -> tuple[int, ...]:
        """The shape of the result of `conditioning` for one frame of one stream."""

    def unspecified(self, streams: int = 1) -> Condition:
        """The condition of B streams in which everything is unspecified."""
        shape = (streams, len(self.config.labels))
        return Condition(torch.zeros(shape, dtype=torch.int64, device=self.device))

    def hidden_matrices(self) -> set[str]:
        """Names of the parameters that Muon trains: matrices from one hidden layer to another.

        By default these are all matrices except embeddings, which are tables, and those of a module
        `output`, whose rows are parameters of the distribution.
        """
        tables = {id(each.weight) for each in self.modules() if isinstance(each, nn.Embedding)}
        return {
            name
            for name, weight in self.named_parameters()
            if weight.ndim > 1 and id(weight) not in tables and not name.startswith("output.")
        }

    def fuse(self) -> None:
        """Use fused kernels in training; `ConfigError` if the network has none."""
        raise ConfigError(f"--model.fused: the network '{self.config.network}' has no such kernels")

    @abstractmethod
    def conditioning(self, condition: Condition) -> Tensor:
        """Compute the bias by which a condition influences the network.

        Args:
            condition: condition of B streams.

        Returns:
            (B, F, *bias_shape), where F is 1 for labels alone, which do not change with time.
        """

    @abstractmethod
    def initial_state(self, bias: Tensor, first: Tensor | None = None) -> Any:
        """The state of B streams before their first input, which is the start symbol.

        Args:
            bias: (B, F, ...), result of `conditioning`.
            first: as in `predict`.
        """

    @abstractmethod
    def step(self, inputs: Tensor, state: Any) -> Tensor:
        """Process one input of each stream; the state is changed in place.

        Args:
            inputs: int64 (B,), codes or start symbols.
            state: state of the same streams.

        Returns:
            Parameters (B, P) of the next codes.
        """

    def extend(self, state: Any, bias: Tensor) -> None:
        """Append frames to the state of running streams.

        Args:
            state: the state, which is changed in place.
            bias: (B, F, ...), result of `conditioning`.

        Raises:
            ValueError: the network takes labels only.
        """
        raise ValueError(f"the network '{self.config.network}' takes labels only")

    def advance(self, inputs: Tensor, state: Any) -> Tensor:
        """Process inputs (B, T); return parameters (B, T, P) of the code after each."""
        return torch.stack([self.step(each, state) for each in inputs.t()], dim=1)

    def state_after(self, bias: Tensor, prompt: Tensor) -> Any:
        """The state of streams after a prompt; the next input is the last code of the prompt.

        Args:
            bias: (B, F, ...), result of `conditioning`; its frames start with the prompt.
            prompt: int64 codes (B, T). If T is 0, the next input is the start symbol.
        """
        state = self.initial_state(bias)
        if prompt.shape[1]:
            self.advance(self.inputs(prompt), state)
        return state

    def inputs(self, codes: Tensor) -> Tensor:
        """The inputs (B, T) for predicting codes (B, T) from their beginning."""
        start = codes.new_full((codes.shape[0], 1), self.start_symbol)
        return torch.cat([start, codes], dim=1)[:, :-1]

    def forward(
        self, codes: Tensor, labels: Tensor | None = None, frames: Tensor | None = None
    ) -> Tensor:
        """Predict whole recordings from their beginning.

        Args:
            codes: int64 (B, T).
            labels: int64 (B, A), see `Condition`; by default unspecified.
            frames: float32 (B, F, D), see `Condition`.

        Returns:
            Parameters (B, T, P); those at t predict `codes[:, t]` from the codes before t.
        """
        condition = self.unspecified(len(codes)) if labels is None else Condition(labels)
        bias = self.conditioning(replace(condition, frames=frames))
        return self.predict(self.inputs(codes), bias, beginning=True)

    def predict(
        self,
        inputs: Tensor,
        bias: Tensor,
        beginning: bool = False,
        first: Tensor | None = None,
    ) -> Tensor:
        """The parallel pass: predict the code that follows each input.

        Args:
            inputs: int64 (B, N), codes or start symbols.
            bias: (B, F, ...), result of `conditioning`.
            beginning: whether the first input is the start of a recording. Otherwise a network
                with a receptive field R predicts only codes after R inputs or more.
            first: int64 (B,), the number of the sample after the first input, counted from the
                beginning of the first frame of `bias`; 0 by default. The first frame is also
                used for earlier samples, and the last one for later samples.

        Returns:
            Parameters (B, T, P) of the codes after the last T inputs. T = N from the beginning
            of a recording, and for every network without a limit to its receptive field.
        """
        return self.advance(inputs, self.initial_state(bias, first))
