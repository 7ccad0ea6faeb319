"""The precision of products in training: casting weights together, and settings of a GPU."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


def cast(weights: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Cast weights, all of one dtype, to another; their gradients are cast back.

    One operation casts all weights, and one all gradients. Casting them one by one would take as
    many kernel launches on a GPU as there are weights, in each direction.
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
    """Set the precision of products on a GPU while the block runs, and restore it afterwards.

    Float32 is rounded to TF32, which tensor cores multiply. Sums of bfloat16 products are kept in
    float32 to the end, since the gradient of a weight is a sum of 100,000 of them.
    """
    matmul = torch.backends.cuda.matmul
    tf32, reduced = matmul.allow_tf32, matmul.allow_bf16_reduced_precision_reduction
    matmul.allow_tf32, matmul.allow_bf16_reduced_precision_reduction = True, False
    try:
        yield
    finally:
        matmul.allow_tf32, matmul.allow_bf16_reduced_precision_reduction = tf32, reduced
