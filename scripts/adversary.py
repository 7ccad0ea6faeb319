"""Recordings changed slightly to deceive a classifier."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from wavegen.evaluation.label_classifier import Classifier, padded

_BATCH = 32


def attacked(
    classifier: Classifier,
    waves: Sequence[np.ndarray],
    targets: np.ndarray,
    strength: float,
    steps: int = 20,
) -> list[np.ndarray]:
    """The waveforms, each sample changed by at most `strength` so that the classifier errs.

    Projected gradient descent within the L-infinity ball (Madry et al. 2018, "Towards deep
    learning models resistant to adversarial attacks"), from a random point of it.
    """
    result: list[np.ndarray] = []
    generator = torch.Generator().manual_seed(0)
    for part in np.array_split(np.arange(len(waves)), -(-len(waves) // _BATCH)):
        clean = padded([waves[n] for n in part])
        inside = padded([np.ones(len(waves[n])) for n in part])
        change = strength * (2 * torch.rand(clean.shape, generator=generator) - 1)
        for _ in range(steps):
            change.requires_grad_(True)
            # The padding after the end of a recording is not changed.
            logits = classifier((clean + change * inside).clamp(-1, 1))
            loss = F.cross_entropy(logits, torch.from_numpy(targets[part]))
            (gradient,) = torch.autograd.grad(loss, change)
            change = change.detach() + 4 * strength / steps * gradient.sign()
            change = change.clamp(-strength, strength)
        moved = (clean + change).clamp(-1, 1).numpy()
        result += [moved[row, : len(waves[n])] for row, n in enumerate(part)]
    return result
