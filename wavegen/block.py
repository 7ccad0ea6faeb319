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

    Shapes: T time, B batch, R residual and G gate channels, K taps, T' the steps computed. All
    of one dtype. Either only those steps are computed whose taps are all in the stream, and T'
    = T - (K - 1) * dilation; or the stream begins where a recording does: then all are, T' =
    T, and the first step stands for every one before it.
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
        beginning: bool,
        gate_kind: str,
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
            beginning: whether the first step stands for all before it.
            gate_kind: `linear` or `tanh`, of the signal.

        Returns:
            (T', B, R), the newest of `stream` where no block follows; and (T', B, G / 2).
        """
        batch = stream.shape[1]
        delays = [tap * dilation for tap in reversed(range(len(kernel)))]
        newest = stream if beginning else stream[delays[0] :]
        time = len(newest)
        # addmm adds each tap's product to the sum as it goes: no pass of its own.
        total = bias.expand(time, -1, -1).flatten(0, 1)
        total = torch.addmm(total, newest.flatten(0, 1), kernel[-1].t())
        for delay, part in zip(delays[:-1], kernel[:-1], strict=True):
            before, heard = _heard(stream, delay, time, beginning)
            total[before * batch :].addmm_(heard.flatten(0, 1), part.t())
            if before:
                total[: before * batch].view(before, batch, len(part)).add_(stream[0] @ part.t())
        # On a CPU tanh and sigmoid are several times slower over halves of rows.
        signal, opening = (half.contiguous() for half in total.chunk(2, dim=1))
        signal, opening = signal.tanh_() if gate_kind == "tanh" else signal, opening.sigmoid_()
        gate = signal * opening
        following = newest
        if weight is not None and projection_bias is not None:
            following = torch.addmm(newest.flatten(0, 1), gate, weight.t())
            following = following.add_(projection_bias).view_as(newest)
        ctx.save_for_backward(stream, kernel, weight, signal, opening, gate)
        ctx.delays, ctx.beginning, ctx.gate_kind = delays, beginning, gate_kind
        return following, gate.view(time, batch, gate.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of what `forward` was given, from those of what it returned."""
        following, gate_gradient = gradients
        stream, kernel, weight, signal, opening, gate = ctx.saved_tensors
        time, batch = following.shape[:2]
        following, gate_gradient = following.flatten(0, 1), gate_gradient.flatten(0, 1)
        of_weight = of_projection_bias = None
        if weight is not None:
            gate_gradient = torch.addmm(gate_gradient, following, weight)
            of_weight = _over_time(following, gate)
            of_projection_bias = following.sum(0)
        of_signal = gate_gradient * opening
        if ctx.gate_kind == "tanh":
            of_signal = torch.ops.aten.tanh_backward(of_signal, signal)
        of_opening = torch.ops.aten.sigmoid_backward(gate_gradient * signal, opening)
        of_total = torch.cat([of_signal, of_opening], dim=1)
        of_bias = of_total.view(time, batch, of_total.shape[1]).sum(0)
        newest = stream[len(stream) - time :]
        of_newest = torch.addmm(following, of_total, kernel[-1]).view_as(newest)
        if ctx.beginning:
            of_stream = of_newest
        else:
            of_stream = torch.zeros_like(stream)
            of_stream[len(stream) - time :] = of_newest
        of_kernel = [_over_time(of_total, newest.flatten(0, 1))]
        for delay, part in zip(reversed(ctx.delays[:-1]), reversed(kernel[:-1]), strict=True):
            before, heard = _heard(stream, delay, time, ctx.beginning)
            early, late = of_total[: before * batch], of_total[before * batch :]
            of_part = _over_time(late, heard.flatten(0, 1))
            first = 0 if ctx.beginning else ctx.delays[0] - delay
            of_stream[first:][: len(heard)].view(len(late), stream.shape[2]).addmm_(late, part)
            if before:
                of_first = early.view(before, batch, early.shape[1]).sum(0)
                of_stream[0].addmm_(of_first, part)
                of_part = of_part.addmm_(of_first.t(), stream[0])
            of_kernel.insert(0, of_part)
        found = of_stream, of_bias, torch.stack(of_kernel), of_weight, of_projection_bias
        return *found, None, None, None


def _heard(stream: Tensor, delay: int, time: int, beginning: bool) -> tuple[int, Tensor]:
    """How many of the computed steps are less than `delay` from the beginning; and what the
    others hear at this delay, in order."""
    if beginning:
        before = min(delay, time)
        return before, stream[: time - before]
    return 0, stream[len(stream) - time - delay :][:time]


def _over_time(one: Tensor, other: Tensor) -> Tensor:
    """The transpose of one (N, I) times other (N, J)."""
    parts = math.gcd(len(one), _PARTS) if one.device.type == "cpu" else 1
    if parts == 1:
        return one.t() @ other
    one, other = (each.view(parts, len(each) // parts, each.shape[1]) for each in (one, other))
    return torch.bmm(one.transpose(1, 2), other).sum(0)
