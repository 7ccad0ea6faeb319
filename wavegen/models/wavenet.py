"""The network: dilated causal convolutions over mu-law codes, conditioned on labels.

Source: van den Oord et al. 2016, "WaveNet: A Generative Model for Raw Audio".

Letters used for shapes: B batch, T time, C channels, Q codes, L layers, G gate
channels, H = receptive_field - 1 (the history that a prediction needs besides the
newest code), A label attributes, F conditioning frames (1 for labels).

All inputs before the first code of a recording are a learned start symbol: the history of the
first sample is H + 1 start symbols. So every prediction, including the first one, is the same
computation on a full window of inputs. Training crops, blocks of a long recording and the start of
a generated one need no padding rules. If the inputs begin with the recording, a single start symbol
represents all of them, since the output of a block for them is the same at every step.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavegen.errors import ConfigError
from wavegen.models.base import Network
from wavegen.models.condition import Condition
from wavegen.models.config import WaveNetConfig
from wavegen.models.frame_encoder import FrameEncoder
from wavegen.models.wavenet_block import Block
from wavegen.models.wavenet_fused_block import block_for
from wavegen.models.wavenet_state import WaveNetState

# Initial gains of the amplitude in the last channels of the embedding, and their limit.
_GAINS, _MOST = (8, 32, 128), 6.0


class WaveNet(Network):
    """WaveNet: logits of every code of a sequence, given the codes before it.

    Args:
        config: the architecture.
        fused: whether to train by `wavegen.models.wavenet_fused_block`, if it runs here.
    """

    config: WaveNetConfig

    def __init__(self, config: WaveNetConfig, fused: bool = False) -> None:
        super().__init__(config)
        residual, gate = config.residual_channels, config.gate_channels
        # The last row is the start symbol.
        self.embedding = nn.Embedding(config.quantization_channels + 1, residual)
        # Row 0 of each is "unspecified".
        self.label_embeddings: Iterable[nn.Embedding] = nn.ModuleList(  # type: ignore[assignment]
            nn.Embedding(len(classes) + 1, residual) for classes in config.labels.values()
        )
        # Combines labels: how a speaker says a digit is more than the sum of both embeddings.
        self.mixing = nn.Sequential(nn.Linear(residual, gate), nn.SiLU(), nn.Linear(gate, residual))
        self.frame_encoder = None
        if config.feature_set is not None:
            column = config.feature_set.column("pitch")
            waves = 0 if column is None else config.pitch_waves
            size = config.feature_set.size
            self.frame_encoder = FrameEncoder(size, residual, column or 0, waves)
        # One projection for all layers; its bias is the bias of the gates.
        self.gate_bias = nn.Linear(residual, config.layers * gate)
        self.blocks: Sequence[ResidualBlock] = nn.ModuleList(  # type: ignore[assignment]
            ResidualBlock(config, dilation, last=layer == config.layers - 1)
            for layer, dilation in enumerate(config.dilations)
        )
        # One product over the gates of all layers equals the sum of their skip projections.
        self.skip = nn.Linear(config.layers * (gate // 2), config.skip_channels)
        self.hidden = nn.Linear(config.skip_channels, config.skip_channels)
        self.output = nn.Linear(config.skip_channels, config.quantization_channels)
        self._initialise()
        if fused:
            self.fuse()

    @torch.no_grad()
    def _initialise(self) -> None:
        # Neighbouring codes have similar initial embeddings: cosine expansions of their places in
        # the range. With random rows the network must learn their order, which takes long: on
        # spoken digits this cost 1.0 bit at equal steps early in training.
        codes = self.config.quantization_channels
        places = (torch.arange(codes) + 0.5) / codes
        waves = torch.arange(1, self.config.residual_channels + 1)
        self.embedding.weight[:codes] = 4 * 2**0.5 * torch.cos(torch.pi * places[:, None] * waves)
        # The last few channels start as the amplitude itself with increasing gains, since the next
        # sample of a recording is nearly linear in it.
        amplitude = torch.from_numpy(self.config.codec.decode(np.arange(codes)))
        for channel, gain in zip(
            range(self.config.residual_channels - 1, 0, -1), _GAINS, strict=False
        ):
            self.embedding.weight[:codes, channel] = (gain * amplitude).clamp(-_MOST, _MOST)
        for linear in (self.skip, self.hidden):
            nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
            nn.init.zeros_(linear.bias)
        # An initial network gives all codes equal probability, so training starts at log2 Q bits.
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    @property
    def history(self) -> int:
        """H, the number of inputs before the newest one that a prediction depends on."""
        return self.config.receptive_field - 1

    def hidden_matrices(self) -> set[str]:
        """See `Network.hidden_matrices`; the matrices that are applied to every sample."""
        inside = ("blocks", "skip", "hidden")
        names = super().hidden_matrices()
        return {name for name in names if name.partition(".")[0] in inside}

    def fuse(self) -> None:
        """See `Network.fuse`; blocks use plain torch if the kernels do not run here."""
        if self.config.features:
            raise ConfigError("--model.fused: its kernels take no features: leave one of them out")
        for block in self.blocks:
            block.fused = True

    def initial_state(self, bias: Tensor, first: Tensor | None = None) -> WaveNetState:
        """See `Network.initial_state`."""
        return WaveNetState(self, bias)

    def state_after(self, bias: Tensor, prompt: Tensor) -> WaveNetState:
        """See `Network.state_after`; one pass over the end of the prompt."""
        return WaveNetState(self, bias, prompt)

    def extend(self, state: WaveNetState, bias: Tensor) -> None:
        """See `Network.extend`."""
        state.frames.extend(bias)

    def step(self, inputs: Tensor, state: WaveNetState) -> Tensor:
        """See `Network.step`."""
        return state.step(self, inputs)

    @property
    def hop(self) -> int | None:
        """See `Network.hop`: that of the features."""
        features = self.config.feature_set
        return None if features is None else features.hop_length

    @property
    def feature_mean(self) -> Tensor | None:
        """See `Network.feature_mean`."""
        encoder = self.frame_encoder
        return encoder.mean if encoder is not None and encoder.fitted else None

    def fit_features(self, mean: Tensor, deviation: Tensor) -> None:
        """See `Network.fit_features`."""
        if self.frame_encoder is not None and not self.frame_encoder.fitted:
            self.frame_encoder.fit(mean, deviation)

    @property
    def margin(self) -> int:
        """See `Network.margin`."""
        return 0 if self.frame_encoder is None else WaveNetConfig.look_ahead

    @property
    def bias_shape(self) -> tuple[int, int]:
        """See `Network.bias_shape`: (L, G)."""
        return self.config.layers, self.config.gate_channels

    def conditioning(self, condition: Condition) -> Tensor:
        """Compute a bias on every gate from labels.

        Args:
            condition: condition of B streams.

        Returns:
            (B, F, L, G), where F is 1 without frames, since labels are constant.

        Raises:
            ConfigError: the condition has frames, and the network takes labels only.
        """
        if condition.frames is not None and self.frame_encoder is None:
            raise ConfigError("this network takes labels only: leave the frames out")
        labels = condition.labels
        total = self.gate_bias.weight.new_zeros(labels.shape[0], self.config.residual_channels)
        for attribute, embedding in enumerate(self.label_embeddings):
            total = total + embedding(labels[:, attribute])
        frames = 1
        if self.frame_encoder is not None:
            added = self.frame_encoder(condition.frames, len(labels))
            frames = added.shape[1]
            total = (total[:, None] + added).flatten(0, 1)
        total = total + self.mixing(total)
        return self.gate_bias(total).view(len(labels), frames, *self.bias_shape)

    def predict(
        self,
        inputs: Tensor,
        bias: Tensor,
        beginning: bool = False,
        first: Tensor | None = None,
    ) -> Tensor:
        """Predict the code after each full window of inputs.

        Args:
            inputs: int64 (B, H + T), codes or start symbols; (B, T) from the beginning.
            bias: (B, F, L, G) from `conditioning`.
            beginning: whether the first input is the start symbol of a recording, which
                represents all start symbols before it.
            first: int64 (B,), see `Network.predict`.

        Returns:
            Logits (B, T, Q); `logits[:, t]` is for the code after `inputs[:, : H + t + 1]`, or from
            the beginning of a recording after `inputs[:, : t + 1]`.
        """
        gates = [gate for _, gate in self.activations(inputs, bias, beginning, first)]
        # The gates of the last block have as many steps as there are predictions.
        time = len(gates[-1])
        gates = [gate[len(gate) - time :] for gate in gates]
        return self.head(torch.cat(gates, dim=-1)).transpose(0, 1)

    def activations(
        self,
        inputs: Tensor,
        bias: Tensor,
        beginning: bool = False,
        first: Tensor | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Run the blocks over inputs (B, N) and yield the input and gate of each, (time, B, C).

        From the beginning of a recording, time is N for all blocks. Otherwise N >= H, and every
        block drops (kernel_size - 1) * dilation steps, since only full windows are computed.
        """
        # Time is the first dimension, so that the taps of a convolution are contiguous slices.
        stream = self.embedding(inputs.t())
        dtype = stream.dtype
        if torch.is_autocast_enabled(stream.device.type):
            dtype = torch.get_autocast_dtype(stream.device.type)
        stream, biases = stream.to(dtype), bias.to(dtype).flatten(0, 1).unbind(1)
        rows = self._rows(bias, inputs.shape[1], first)
        for block, own in zip(self.blocks, biases, strict=True):
            following, gate = block(stream, own, beginning, rows)
            yield stream, gate
            stream = following

    def _rows(self, bias: Tensor, time: int, first: Tensor | None) -> Tensor | None:
        """Which of the B * F frames of a bias holds at each step, int64 (time, B)."""
        streams, frames = bias.shape[:2]
        if self.hop is None:
            return None
        samples = torch.arange(time, device=bias.device)[:, None]
        if first is not None:
            samples = samples + first
        own = (samples // self.hop).clamp(0, frames - 1)
        return own + frames * torch.arange(streams, device=bias.device)

    def head(self, gates: Tensor) -> Tensor:
        """Logits (..., Q) from the concatenated gates of all layers (..., L * G / 2)."""
        return self.output(F.relu(self.hidden(F.relu(self.skip(gates)))))


class ResidualBlock(nn.Module):
    """One dilated causal convolution, its gate and its residual projection.

    Args:
        config: the architecture.
        dilation: distance between the taps, in samples.
        last: whether this is the last block, which has no residual projection.
    """

    def __init__(self, config: WaveNetConfig, dilation: int, last: bool) -> None:
        super().__init__()
        self.dilation = dilation
        self.gate = config.gate
        self.fused = False
        shape = (config.kernel_size, config.gate_channels, config.residual_channels)
        # Oldest tap first; the bias is in `WaveNet.gate_bias`.
        self.kernel = nn.Parameter(torch.empty(shape))
        bound = (config.kernel_size * config.residual_channels) ** -0.5
        nn.init.uniform_(self.kernel, -bound, bound)
        self.projection = (
            None if last else nn.Linear(config.gate_channels // 2, config.residual_channels)
        )

    def forward(
        self, stream: Tensor, bias: Tensor, beginning: bool = False, rows: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The input of the next block (T', B, C), and the gate (T', B, G / 2).

        T' = T - (kernel_size - 1) * dilation, or T from the beginning (see `Block`). The
        computation has the dtype of `stream` (T, B, C), whatever that of the parameters.
        With `rows`, int64 (N, B) with N >= T', the last N steps of each stream use these rows of
        the bias (rows, G).
        """
        own: list[Tensor | None] = [self.kernel, None, None]
        if self.projection is not None:
            own[1:] = self.projection.weight, self.projection.bias
        cast = (None if each is None else each.to(stream.dtype) for each in own)
        fused = self.fused and self.training
        if rows is not None:
            lost = 0 if beginning else (len(self.kernel) - 1) * self.dilation
            rows = rows[len(rows) - len(stream) + lost :].flatten()
        kind = block_for(stream, self.kernel, self.gate) if fused else Block
        # The fused block takes no bias that changes with time.
        more = () if rows is None else (rows,)
        with torch.autocast(stream.device.type, enabled=False):
            return kind.apply(stream, bias, *cast, self.dilation, beginning, self.gate, *more)

    def residual(self, stream: Tensor, gate: Tensor) -> Tensor:
        """The input of the next block for one step, from the newest input and gate: (B, C)."""
        return stream if self.projection is None else stream + self.projection(gate)

    def gated(self, total: Tensor) -> Tensor:
        """The gate (..., G / 2) from the sums of the taps (..., G)."""
        signal, opening = total.chunk(2, dim=-1)
        return (torch.tanh(signal) if self.gate == "tanh" else signal) * torch.sigmoid(opening)
