"""The residual block of training on a GPU, as one step of autograd by Triton kernels."""

import logging
import os
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from wavegen.models.wavenet_block import Block

_logger = logging.getLogger(__name__)


class FusedBlock(torch.autograd.Function):
    """The same as `wavegen.models.wavenet_block.Block`, in few kernels.

    Sums are float32, whatever the dtype of the tensors. A product of float32 is computed as three
    products of TensorFloat-32, which together are about as exact; or as one if
    `torch.get_float32_matmul_precision` allows this for the products of torch, too.
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
        """See `Block.forward`."""
        from wavegen.models import wavenet_block_kernels

        stream, bias, kernel = stream.contiguous(), _rows(bias), kernel.contiguous()
        lost = 0 if beginning else (len(kernel) - 1) * dilation
        following = stream[lost:]
        time, batch, _ = following.shape
        gate = stream.new_empty(time, batch, kernel.shape[1] // 2)
        if weight is not None:
            weight, following = weight.contiguous(), torch.empty_like(following)
        sizes = {"TIME": time, "BATCH": batch, "LOST": lost, "DILATION": dilation}
        sizes |= _compiled_for(kernel)
        # Triton launches on the current device, which may not be that of the network.
        with torch.cuda.device_of(stream):
            wavenet_block_kernels.forward[(_tiles(time, sizes) * batch,)](
                stream,
                bias,
                kernel,
                weight,
                projection_bias,
                gate,
                following,
                BIAS_STRIDE=bias.stride(0),
                TANH=gate_kind == "tanh",
                **sizes,
            )
        ctx.save_for_backward(stream, bias, kernel, weight, gate)
        ctx.sizes, ctx.gate_kind = sizes, gate_kind
        return following, gate

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_following: Tensor, of_gate: Tensor) -> tuple[Tensor | None, ...]:
        """See `Block.backward`."""
        from wavegen.models import wavenet_block_kernels

        stream, bias, kernel, weight, gate = ctx.saved_tensors
        sizes = ctx.sizes
        time, batch, half = gate.shape
        of_following, of_gate = of_following.contiguous(), _rows(of_gate.flatten(0, 1))
        tiles = _tiles(time, sizes)
        of_total = stream.new_empty(time, batch, 2 * half)
        of_bias = of_total.new_empty((tiles, batch, 2 * half), dtype=torch.float32)
        of_stream = torch.empty_like(stream)
        shapes = [kernel.shape]
        if weight is not None:
            shapes += [weight.shape, weight.shape[:1]]
        jobs = len(kernel) + (weight is not None)
        per = _rows_of_a_part(time * batch * jobs // _programs(stream), sizes["TILE"])
        parts = -(-time * batch // per)
        lengths = [shape.numel() for shape in shapes]
        of_weights = of_bias.new_empty(parts, sum(lengths))
        with torch.cuda.device_of(stream):
            wavenet_block_kernels.of_sums[(tiles * batch,)](
                stream,
                bias,
                kernel,
                weight,
                of_following,
                of_gate,
                of_total,
                of_bias,
                BIAS_STRIDE=bias.stride(0),
                STRIDE=of_gate.stride(0),
                TANH=ctx.gate_kind == "tanh",
                **sizes,
            )
            wavenet_block_kernels.of_stream[(_tiles(len(stream), sizes) * batch,)](
                of_total, of_following, kernel, of_stream, **sizes
            )
            wavenet_block_kernels.of_weights[(parts * jobs,)](
                stream,
                None if weight is None else gate,
                of_total,
                of_following,
                of_weights,
                PER=per,
                **sizes,
            )
        # Parts are added in a fixed order, so that the sums are always the same.
        found = of_weights.sum(0).to(stream.dtype).split(lengths)
        found = [each.view(shape) for each, shape in zip(found, shapes, strict=True)]
        found += [None] * (3 - len(found))
        return of_stream, of_bias.sum(0).to(stream.dtype), *found, None, None, None


def block_for(stream: Tensor, kernel: Tensor, gate_kind: str) -> type[torch.autograd.Function]:
    """`FusedBlock` if it runs with such tensors; else `Block`, with a warning.

    Args:
        stream: (T, B, R).
        kernel: (K, G, R).
        gate_kind: as in `Block`.
    """
    runs = _runs(stream.device, stream.dtype, tuple(kernel.shape), gate_kind)
    return FusedBlock if runs else Block


@cache
def _runs(
    device: torch.device, dtype: torch.dtype, kernel: tuple[int, int, int], gate_kind: str
) -> bool:
    """Whether the smallest block of these types runs forward and backward; if not, warn."""
    taps, gates, residual = kernel
    try:
        # The interpreter of Triton, which tests use, needs no GPU.
        if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
            raise ValueError(f"it needs an NVIDIA GPU, and this is {device.type}")
        with torch.enable_grad():
            for last in (False, True):
                shapes = [(taps, 1, residual), (1, gates), kernel, (residual, gates // 2)]
                given = [
                    torch.zeros(shape, dtype=dtype, device=device, requires_grad=True)
                    for shape in (*shapes, (residual,))
                ]
                following, gate = FusedBlock.apply(
                    *given[:3], *((None, None) if last else given[3:]), 1, False, gate_kind
                )
                (following.sum() + gate.sum()).backward()
    except Exception as error:  # after any error the other block still runs
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        _logger.warning("training without --model.fused, which cannot run here (%s)", reason)
        return False
    return True


def _rows(matrix: Tensor) -> Tensor:
    """The matrix with contiguous columns."""
    return matrix if matrix.stride(1) == 1 else matrix.contiguous()


def _tiles(time: int, sizes: dict[str, Any]) -> int:
    return -(-time // sizes["TILE"])


def _compiled_for(kernel: Tensor) -> dict[str, Any]:
    """The constants that the kernels are compiled for."""
    taps, gates, residual = kernel.shape
    padded = [max(16, 1 << (each - 1).bit_length()) for each in (residual, gates // 2)]
    widest, most = max(padded), 64 if kernel.dtype == torch.float32 else 128
    if widest > most:
        dtype = str(kernel.dtype).removeprefix("torch.")
        raise ValueError(
            f"in {dtype} no more than {most} residual and {2 * most} gate channels fit on chip"
        )
    # The largest tile whose values fit into the registers of a program.
    tile, precision = 128 if widest <= 64 else 64, None
    if kernel.dtype == torch.float32:
        exact = torch.get_float32_matmul_precision() == "highest"
        tile, precision = (32, "tf32x3") if exact else (64, "tf32")
    return {
        "K": taps,
        "R": residual,
        "H": gates // 2,
        **dict(zip(("RP", "HP"), padded, strict=True)),
        "TILE": tile,
        "PRECISION": precision,
        "num_warps": 8,
    }


def _rows_of_a_part(rows: int, tile: int) -> int:
    """Rows of a part: at most `rows`, or one tile; powers of two, to compile few kernels."""
    return max(tile, 1 << max(rows, 1).bit_length() - 1)


def _programs(stream: Tensor) -> int:
    """Number of programs that share the rows of a sum: two for each multiprocessor."""
    if not stream.is_cuda:
        return 8
    return 2 * torch.cuda.get_device_properties(stream.device).multi_processor_count
