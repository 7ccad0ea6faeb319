"""A residual block as one step of autograd, forward and backward written out.

Left to itself, autograd keeps the activations of a block several times over and, for the
slices that are its taps, fills and adds up gradients as long as the whole stream. Written out,
a training step of the default network takes a sixth less time on a CPU.
"""

import math
from typing import Any

import torch
from torch import Tensor

# Parts of a sum over time that a CPU works on at once: their result is too small to share.
_PARTS = 8


class Block(torch.autograd.Function):
    """`ResidualBlock`: one dilated causal convolution, its gate, its residual projection.

    Shapes: T time, B batch, R residual and G gate channels, K taps; T' = T - (K - 1) *
    dilation. All of one dtype.
    """

    @staticmethod
    def forward(
        ctx: Any,
        stream: Tensor,
        bias: Tensor,
        kernel: Tensor,
        weight: Tensor | None,
        projection_bias: Tensor | None,
        dilation: int,
    ) -> tuple[Tensor, Tensor]:
        """The next block's input and the gate.

        Args:
            ctx: of autograd.
            stream: (T, B, R).
            bias: (B, G).
            kernel: (K, G, R), the oldest tap first.
            weight: (R, G / 2) of the projection; None where no block follows.
            projection_bias: (R,), likewise.
            dilation: between taps.

        Returns:
            (T', B, R), the newest of `stream` where no block follows; and (T', B, G / 2).
        """
        taps = _taps(stream, len(kernel), dilation)
        time, batch = len(taps[0]), stream.shape[1]
        # addmm adds each tap's product to the sum as it goes: no pass of its own.
        total = bias.expand(time, -1, -1).flatten(0, 1)
        for tap, part in zip(taps, kernel, strict=True):
            total = torch.addmm(total, tap.flatten(0, 1), part.t())
        # On a CPU tanh and sigmoid are several times slower over halves of rows.
        signal, opening = (half.contiguous() for half in total.chunk(2, dim=1))
        signal, opening = signal.tanh_(), opening.sigmoid_()
        gate = signal * opening
        following = taps[-1]
        if weight is not None and projection_bias is not None:
            following = torch.addmm(following.flatten(0, 1), gate, weight.t())
            following = following.add_(projection_bias).view_as(taps[-1])
        ctx.save_for_backward(stream, kernel, weight, signal, opening, gate)
        ctx.dilation = dilation
        return following, gate.view(time, batch, gate.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of what `forward` was given, from those of what it returned."""
        following, gate_gradient = gradients
        stream, kernel, weight, signal, opening, gate = ctx.saved_tensors
        taps = _taps(stream, len(kernel), ctx.dilation)
        following, gate_gradient = following.flatten(0, 1), gate_gradient.flatten(0, 1)
        of_weight = of_projection_bias = None
        if weight is not None:
            gate_gradient = torch.addmm(gate_gradient, following, weight)
            of_weight = _over_time(following, gate)
            of_projection_bias = following.sum(0)
        of_total = torch.cat(
            [
                torch.ops.aten.tanh_backward(gate_gradient * opening, signal),
                torch.ops.aten.sigmoid_backward(gate_gradient * signal, opening),
            ],
            dim=1,
        )
        of_kernel = torch.stack([_over_time(of_total, tap.flatten(0, 1)) for tap in taps])
        of_bias = of_total.view(*taps[0].shape[:2], of_total.shape[1]).sum(0)
        of_stream = torch.zeros_like(stream)
        parts = _taps(of_stream, len(kernel), ctx.dilation)
        parts[-1].copy_(torch.addmm(following, of_total, kernel[-1]).view_as(parts[-1]))
        for part, matrix in zip(parts[:-1], kernel[:-1], strict=True):
            part.view(len(of_total), part.shape[2]).addmm_(of_total, matrix)
        return of_stream, of_bias, of_kernel, of_weight, of_projection_bias, None


def _taps(stream: Tensor, count: int, dilation: int) -> list[Tensor]:
    """A stream (T, B, R) as each tap sees it, oldest first: (T', B, R) each."""
    time = stream.shape[0] - (count - 1) * dilation
    return [stream[tap * dilation :][:time] for tap in range(count)]


def _over_time(one: Tensor, other: Tensor) -> Tensor:
    """The transpose of one (N, I) times other (N, J)."""
    parts = math.gcd(len(one), _PARTS) if one.device.type == "cpu" else 1
    if parts == 1:
        return one.t() @ other
    one, other = (each.view(parts, len(each) // parts, each.shape[1]) for each in (one, other))
    return torch.bmm(one.transpose(1, 2), other).sum(0)
