"""A textbook WaveNet: one `Conv1d` after another over (batch, channels, time)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavegen.models.config import WaveNetConfig
from wavegen.models.wavenet import WaveNet
from wavegen.models.wavenet_state import fill_queues


class Textbook(nn.Module):
    """Logits of every code given those before it, without labels.

    Args:
        config: the architecture.
    """

    def __init__(self, config: WaveNetConfig) -> None:
        super().__init__()
        self.config = config
        residual, gate, skip = config.residual_channels, config.gate_channels, config.skip_channels
        codes, taps = config.quantization_channels, config.kernel_size
        self.embedding = nn.Embedding(codes + 1, residual)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(residual, gate, taps, dilation=dilation) for dilation in config.dilations
        )
        self.skips = nn.ModuleList(nn.Conv1d(gate // 2, skip, 1) for _ in config.dilations)
        self.residuals = nn.ModuleList(nn.Conv1d(gate // 2, residual, 1) for _ in config.dilations)
        self.hidden = nn.Conv1d(skip, skip, 1)
        self.output = nn.Conv1d(skip, codes, 1)
        # The inputs of every layer before the first sample.
        self.register_buffer("start", torch.zeros(config.layers, residual, 1))

    @classmethod
    @torch.no_grad()
    def of(cls, network: WaveNet) -> "Textbook":
        """A textbook network with the same logits as `network` without labels."""
        self = cls(network.config)
        bias = network.conditioning(network.unspecified())
        self.embedding.weight.copy_(network.embedding.weight)
        width = network.config.gate_channels // 2
        for layer, block in enumerate(network.blocks):
            self.convolutions[layer].weight.copy_(block.kernel.permute(1, 2, 0))
            self.convolutions[layer].bias.copy_(bias[0, 0, layer])
            self.skips[layer].weight.copy_(
                network.skip.weight[:, layer * width : (layer + 1) * width, None]
            )
            self.skips[layer].bias.copy_(network.skip.bias / network.config.layers)
            if block.projection is not None:
                self.residuals[layer].weight.copy_(block.projection.weight[..., None])
                self.residuals[layer].bias.copy_(block.projection.bias)
        for name in ("hidden", "output"):
            linear, convolution = getattr(network, name), getattr(self, name)
            convolution.weight.copy_(linear.weight[..., None])
            convolution.bias.copy_(linear.bias)
        rings = fill_queues(network, bias, None)
        self.start.copy_(torch.stack([ring[0].t() for ring in rings]))
        return self.requires_grad_(False).eval()

    def forward(self, codes: Tensor) -> Tensor:
        """Logits (B, Q, T) of int64 codes (B, T)."""
        first = codes.new_full((codes.shape[0], 1), self.config.quantization_channels)
        x = self.embedding(torch.cat([first, codes[:, :-1]], dim=1)).transpose(1, 2)
        total: Tensor | float = 0.0
        for layer, dilation in enumerate(self.config.dilations):
            back = (self.config.kernel_size - 1) * dilation
            past = self.start[layer].expand(x.shape[0], -1, back)
            filtered, gate = self.convolutions[layer](torch.cat([past, x], dim=2)).chunk(2, dim=1)
            if self.config.gate == "tanh":
                filtered = torch.tanh(filtered)
            gated = filtered * torch.sigmoid(gate)
            total = total + self.skips[layer](gated)
            x = x + self.residuals[layer](gated)
        return self.output(F.relu(self.hidden(F.relu(total))))
