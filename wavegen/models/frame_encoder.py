"""The frame encoder: from the frames of a condition to an input of the conditioning."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavegen.models.config import WaveNetConfig

# Frames on each side of each of the two convolutions.
_SIDE = WaveNetConfig.look_ahead // 2


class FrameEncoder(nn.Module):
    """Two convolutions over frames of normalised features.

    Args:
        features: number of values D in a frame.
        channels: number of output channels C.
        column: number of the value that is a pitch as log2(Hz).
        waves: number of waves over the octave of that value; the convolutions also get their sines
            and cosines, in which small differences are large.
    """

    # Number of frames on each side that a frame of the result depends on.
    margin = WaveNetConfig.look_ahead

    def __init__(self, features: int, channels: int, column: int = 0, waves: int = 0) -> None:
        super().__init__()
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self._column, self._waves = column, waves
        self.first = nn.Conv1d(features + 2 * waves, channels, 2 * _SIDE + 1)
        self.second = nn.Conv1d(channels, channels, 2 * _SIDE + 1)
        self.unspecified = nn.Parameter(torch.zeros(channels))

    @property
    def fitted(self) -> bool:
        """Whether `fit` has been called."""
        return bool(self.mean.any()) or bool((self.scale != 1).any())

    @torch.no_grad()
    def fit(self, mean: Tensor, deviation: Tensor) -> None:
        """Set the mean and the standard deviation of each feature in the training data, (D,)."""
        self.mean.copy_(mean)
        # A constant feature must not give huge values if it changes later.
        self.scale.copy_(torch.where(deviation > 1e-5, deviation, 1.0))

    def forward(self, frames: Tensor | None, streams: int) -> Tensor:
        """Encode frames (B, F, D) as (B, F, C); None is unspecified and gives (B, 1, C).

        A stream with NaN in its frames is unspecified. The first and the last frame are repeated
        beyond both ends.
        """
        if frames is None:
            return self.unspecified.expand(streams, 1, -1)
        known = ~frames.isnan().flatten(1).any(1)
        scaled = (frames - self.mean) / self.scale
        if self._waves:
            octaves = torch.arange(self._waves, device=frames.device).exp2()
            angles = 2 * torch.pi * octaves * frames[..., self._column, None]
            scaled = torch.cat([scaled, angles.sin(), angles.cos()], dim=-1)
        scaled = scaled.where(known[:, None, None], 0.0)
        padded = F.pad(scaled.transpose(1, 2), (self.margin, self.margin), mode="replicate")
        values = self.second(F.silu(self.first(padded))).transpose(1, 2)
        return values.where(known[:, None, None], self.unspecified)
