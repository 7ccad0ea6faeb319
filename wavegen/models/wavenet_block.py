"""A residual block as one step of autograd, forward and backward written out.

By itself autograd would keep the activations of a block several times. For the taps, which are
slices of the stream, it would allocate and add gradients as long as the whole stream. With this
code a training step of the default network takes a sixth less time on a CPU.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Parts of a sum over time that a CPU computes in parallel, since the result is too small to divide.
_PARTS = 8


class Block(torch.autograd.Function):
    """`ResidualBlock`: one dilated causal convolution, its gate, its residual projection.

    Shapes: T time, B batch, R residual and G gate channels, K taps, T' computed steps. All tensors
    have the same dtype. By default only steps whose taps are all in the stream are computed, so
    T' = T - (K - 1) * dilation. From the beginning of a recording all steps are computed, so
    T' = T, and the first step represents all steps before it.
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
        rows: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The input of the next block, and the gate.

        Args:
            ctx: context of autograd.
            stream: (T, B, R).
            bias: (B, G); with `rows` (N, G).
            kernel: (K, G, R), the oldest tap first.
            weight: (R, G / 2), weight of the projection; None in the last block.
            projection_bias: (R,), bias of the projection; None in the last block.
            dilation: distance between the taps.
            beginning: whether the first step represents all steps before it.
            gate_kind: activation of the signal, `linear` or `tanh`.
            rows: int64 (T' * B,), the row of `bias` for each computed step of each stream, if the
                bias changes with time.

        Returns:
            (T', B, R), in the last block the newest steps of `stream`; and (T', B, G / 2).
        """
        batch = stream.shape[1]
        delays = [tap * dilation for tap in reversed(range(len(kernel)))]
        newest = stream if beginning else stream[delays[0] :]
        time = len(newest)
        # addmm adds the product of each tap to the sum, without another pass over it.
        total = bias.repeat(time, 1) if rows is None else bias.index_select(0, rows)
        total.addmm_(newest.flatten(0, 1), kernel[-1].t())
        for delay, part in zip(delays[:-1], kernel[:-1], strict=True):
            before, delayed = _delayed(stream, delay, time, beginning)
            total[before * batch :].addmm_(delayed.flatten(0, 1), part.t())
            if before:
                total[: before * batch].view(before, batch, len(part)).add_(stream[0] @ part.t())
        kept, gate = _gated(total, gate_kind)
        following = newest
        if weight is not None and projection_bias is not None:
            # On a GPU the product adds the bias when it stores its result.
            following = torch.addmm(projection_bias, gate, weight.t()).view_as(newest).add_(newest)
        ctx.save_for_backward(stream, kernel, weight, gate, rows, *kept)
        ctx.biases = len(bias)
        ctx.delays, ctx.beginning, ctx.gate_kind = delays, beginning, gate_kind
        return following, gate.view(time, batch, gate.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the arguments of `forward`, from those of its results."""
        following, gate_gradient = gradients
        stream, kernel, weight, gate, rows, *kept = ctx.saved_tensors
        time, batch = following.shape[:2]
        of_following, gate_gradient = following.flatten(0, 1), gate_gradient.flatten(0, 1)
        of_weight = of_projection_bias = None
        if weight is not None:
            gate_gradient = torch.addmm(gate_gradient, of_following, weight)
            of_weight = _over_time(of_following, gate)
            of_projection_bias = of_following.sum(0)
        of_total = _through_gate(gate_gradient, kept, ctx.gate_kind)
        if rows is None:
            of_bias = of_total.view(time, batch, of_total.shape[1]).sum(0)
        else:
            # In float32, for a frame has hundreds of steps.
            of_bias = of_total.new_zeros(ctx.biases, of_total.shape[1], dtype=torch.float32)
            of_bias = of_bias.index_add_(0, rows, of_total.float()).to(of_total.dtype)
        newest = stream[len(stream) - time :]
        lost = following.new_zeros(len(stream) - time, *following.shape[1:])
        of_stream = torch.cat([lost, following])
        of_stream[len(lost) :].flatten(0, 1).addmm_(of_total, kernel[-1])
        of_kernel = []
        for delay, part in zip(ctx.delays[:-1], kernel[:-1], strict=True):
            before, delayed = _delayed(stream, delay, time, ctx.beginning)
            early, late = of_total[: before * batch], of_total[before * batch :]
            of_part = _over_time(late, delayed.flatten(0, 1))
            first = 0 if ctx.beginning else ctx.delays[0] - delay
            of_stream[first:][: len(delayed)].view(len(late), stream.shape[2]).addmm_(late, part)
            if before:
                of_first = early.view(before, batch, early.shape[1]).sum(0)
                of_stream[0].addmm_(of_first, part)
                of_part = of_part.addmm_(of_first.t(), stream[0])
            of_kernel.append(of_part)
        of_kernel.append(_over_time(of_total, newest.flatten(0, 1)))
        found = of_stream, of_bias, torch.stack(of_kernel), of_weight, of_projection_bias
        return *found, None, None, None, None


def _gated(total: Tensor, kind: str) -> tuple[list[Tensor], Tensor]:
    """Tensors for the backward pass, and the gate (N, G / 2), from sums (N, G), overwritten."""
    if _on_cpu(total):
        # On a CPU tanh and sigmoid are several times slower on halves of rows.
        signal, opening = (half.contiguous() for half in total.chunk(2, dim=1))
        signal, opening = signal.tanh_() if kind == "tanh" else signal, opening.sigmoid_()
        return [signal, opening], signal * opening
    if kind == "tanh":
        total.chunk(2, dim=1)[0].tanh_()
    return [total], F.glu(total, dim=1)


def _through_gate(gradient: Tensor, kept: list[Tensor], kind: str) -> Tensor:
    """The gradient of the sums (N, G), from that of the gate (N, G / 2) of `_gated`."""
    if len(kept) == 2:
        signal, opening = kept
        of_signal = gradient * opening
        if kind == "tanh":
            of_signal = torch.ops.aten.tanh_backward(of_signal, signal)
        of_opening = torch.ops.aten.sigmoid_backward(gradient * signal, opening)
        return torch.cat([of_signal, of_opening], dim=1)
    (total,) = kept
    of_total = torch.ops.aten.glu_backward(gradient, total, 1)
    if kind == "tanh":
        of_signal, signal = of_total.chunk(2, dim=1)[0], total.chunk(2, dim=1)[0]
        of_signal.copy_(torch.ops.aten.tanh_backward(of_signal, signal))
    return of_total


def _on_cpu(tensor: Tensor) -> bool:
    """Whether many small operations on parts of a sum are faster than few on all of it."""
    return tensor.device.type == "cpu"


def _delayed(stream: Tensor, delay: int, time: int, beginning: bool) -> tuple[int, Tensor]:
    """The number of computed steps less than `delay` from the beginning, and the inputs of the
    other steps at this delay, in order."""
    if beginning:
        before = min(delay, time)
        return before, stream[: time - before]
    return 0, stream[len(stream) - time - delay :][:time]


def _over_time(one: Tensor, other: Tensor) -> Tensor:
    """The transpose of one (N, I) times other (N, J)."""
    parts = math.gcd(len(one), _PARTS) if _on_cpu(one) else 1
    if parts == 1:
        return one.t() @ other
    one, other = (each.view(parts, len(each) // parts, each.shape[1]) for each in (one, other))
    return torch.bmm(one.transpose(1, 2), other).sum(0)
