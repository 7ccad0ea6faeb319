"""The precision that training multiplies in: weights cast together, and settings of a GPU."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


def cast(weights: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """The weights, all of one dtype, in another; gradients flow back to them in their own.

    One operation casts them all, and one their gradients: one by one they are as many launches
    on a GPU as there are weights, each way.
    """
    return _Cast.apply(dtype, *weights)


class _Cast(torch.autograd.Function):
    """See `cast`."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.dtype = weights[0].dtype
        ctx.set_materialize_grads(False)
        return _copies(weights, dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        found = iter(_copies([each for each in gradients if each is not None], ctx.dtype))
        return None, *(None if each is None else next(found) for each in gradients)


def _copies(tensors: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, ...]:
    copies = tuple(torch.empty_like(each, dtype=dtype) for each in tensors)
    torch._foreach_copy_(copies, list(tensors))
    return copies


@contextmanager
def training_products() -> Iterator[None]:
    """How a GPU multiplies in training; what comes after is as it was before.

    Float32 is rounded to TF32, which the units for matrices take. Sums of bfloat16 products are
    kept in float32 to their end: the gradient of a weight is a sum over 100,000 of them.
    """
    matmul = torch.backends.cuda.matmul
    tf32, reduced = matmul.allow_tf32, matmul.allow_bf16_reduced_precision_reduction
    matmul.allow_tf32, matmul.allow_bf16_reduced_precision_reduction = True, False
    try:
        yield
    finally:
        matmul.allow_tf32, matmul.allow_bf16_reduced_precision_reduction = tf32, reduced
