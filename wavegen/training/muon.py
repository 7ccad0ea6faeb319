"""Muon: an optimiser that gives the update of a matrix the same size in every direction.

Sources: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; Liu et
al. 2025, "Muon is Scalable for LLM Training", for the scale of an update. torch's own version
takes one matrix at a time. This one computes all matrices of one shape together, and also takes
kernels with several taps.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# From Jordan et al.: few steps bring singular values near to 1, but not exactly to it.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_STEPS = 5
# Smaller entries, compared with the norm of the matrix, are set to 0. They come from dead units and
# do not matter, but their products are denormal numbers, which take a CPU a hundred times as long.
_NOTHING = 1e-9
_MOMENTUM = 0.95
# Entries of an update are then about as large as those of AdamW, so both use one learning rate.
_ROOT_MEAN_SQUARE = 0.2


class Muon(torch.optim.AdamW):
    """Muon for groups of parameters with `orthogonal=True`, AdamW for the others.

    Args:
        groups: groups of parameters, as in torch. Those of an orthogonal group are matrices
            (outputs, inputs), or kernels (taps, outputs, inputs), which are treated as matrices
            (outputs, taps * inputs).
        options: options of AdamW; Muon uses `lr` and `weight_decay`.
    """

    def __init__(self, groups: list[dict[str, Any]], **options: Any) -> None:
        super().__init__([{"orthogonal": False, **group} for group in groups], **options)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; the gradients of orthogonal groups are overwritten."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group["orthogonal"]:
                self._step(group)
        super().step()
        return loss

    @torch.no_grad()
    def _step(self, group: dict[str, Any]) -> None:
        parameters = [each for each in group["params"] if each.grad is not None]
        if not parameters:
            return
        gradients = [each.grad for each in parameters]
        for each in parameters:
            if not self.state[each]:
                # With the names of AdamW, whose `load_state_dict` expects them.
                self.state[each] = {"step": torch.zeros(()), "exp_avg": torch.zeros_like(each)}
        averages = [self.state[each]["exp_avg"] for each in parameters]
        torch._foreach_lerp_(averages, gradients, 1 - _MOMENTUM)
        # Nesterov's momentum: the average after another gradient like this one.
        ahead = torch._foreach_lerp(gradients, averages, _MOMENTUM)
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        alike: defaultdict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for parameter, update in zip(parameters, ahead, strict=True):
            alike[update.shape].append((parameter, update))
        for members in alike.values():
            updates = torch.stack([update for _, update in members])
            # (N, outputs, taps, inputs), one tap for a matrix.
            taps = updates.view(len(members), -1, *updates.shape[-2:]).transpose(1, 2)
            matrices = orthogonal(taps.flatten(2))
            scale = _ROOT_MEAN_SQUARE * max(matrices.shape[1:]) ** 0.5
            back = matrices.view(taps.shape).transpose(1, 2).view_as(updates)
            for (parameter, _), update in zip(members, back, strict=True):
                parameter.add_(update, alpha=-group["lr"] * scale)
        for each in parameters:
            # AdamW skips parameters without a gradient.
            each.grad = None


def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices (N, rows, columns) with their singular values moved to about 1 (0.7 to 1.2).

    Singular values near 0, which square matrices have, stay smaller.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    # The products have the size of the smaller side.
    x = matrices.transpose(1, 2) if tall else matrices
    x = F.hardshrink(x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7), _NOTHING)
    first, second, third = _COEFFICIENTS
    for _ in range(_STEPS):
        square = x @ x.transpose(1, 2)
        x = first * x + (second * square + third * square @ square) @ x
    return x.transpose(1, 2) if tall else x
