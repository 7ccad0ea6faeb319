"""What every engine refuses, in the same words: an engine trusts what it is given as indices."""

import torch
from torch import Tensor

from wavegen.distributions.sampling import Sampling
from wavegen.errors import ModelError
from wavegen.models.base import Network


def check_start(
    network: Network,
    bias: Tensor,
    sampling: Sampling,
    unspecified: Tensor | None,
    prompt: Tensor | None,
) -> None:
    """`ValueError` where `Engine.start` is given what no streams can begin from."""
    moves = network.hop is not None
    frames = bias.shape[1] if bias.ndim > 1 and moves else 1
    if not bias.numel() or bias.shape[1:] != (frames, *network.bias_shape):
        listed = ", ".join(map(str, ("frames" if moves else 1, *network.bias_shape)))
        raise ValueError(f"bias is {tuple(bias.shape)}: it must be (streams, {listed})")
    if sampling.guided and unspecified is None:
        raise ValueError("guidance needs the bias without labels: give unspecified")
    if unspecified is not None and unspecified.shape != bias.shape:
        raise ValueError(
            f"unspecified is {tuple(unspecified.shape)}, but bias is {tuple(bias.shape)}"
        )
    if prompt is not None:
        check_codes(prompt, len(bias), network)


def check_noise(noise: Tensor, streams: int) -> None:
    """`ValueError` where noise is not float64 (streams, time) in [0, 1)."""
    _check_rows("noise", noise, streams, torch.float64)
    if noise.numel() and not (noise.min() >= 0 and noise.max() < 1):
        raise ValueError("noise must be at least 0 and below 1")


def check_codes(codes: Tensor, streams: int, network: Network) -> None:
    """`ValueError` where codes are not int64 (streams, time) from 0 to Q - 1."""
    _check_rows("codes", codes, streams, torch.int64)
    most = network.start_symbol - 1
    if codes.numel() and not (codes.min() >= 0 and codes.max() <= most):
        raise ValueError(f"codes must be from 0 to {most}")


def check_drawn(codes: Tensor, network: Network) -> Tensor:
    """Drawn codes (B, T) as they are; `ModelError` where some could not be drawn.

    Looked for once a chunk: from parameters that are not finite an engine draws the start symbol,
    which is no code but a valid input.
    """
    if (codes == network.start_symbol).any():
        raise ModelError(
            "the network's logits are not finite numbers: its weights are damaged or the guidance "
            "is too strong; take an earlier model or less --guidance"
        )
    return codes


def _check_rows(name: str, given: Tensor, streams: int, dtype: torch.dtype) -> None:
    if given.dtype != dtype:
        raise ValueError(f"{name} must be {dtype}, but are {given.dtype}")
    if given.ndim != 2 or len(given) != streams:
        raise ValueError(f"{name} must be ({streams}, time), but are {tuple(given.shape)}")
