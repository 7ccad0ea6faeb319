"""Checks of the arguments of all engines, which use codes as indices without further checks."""

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
    """Raise `ValueError` if arguments of `Engine.start` are invalid."""
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
    """Raise `ValueError` if noise is not float64 (streams, time) in [0, 1)."""
    _check_rows("noise", noise, streams, torch.float64)
    if noise.numel() and not (noise.min() >= 0 and noise.max() < 1):
        raise ValueError("noise must be at least 0 and below 1")


def check_codes(codes: Tensor, streams: int, network: Network) -> None:
    """Raise `ValueError` if codes are not int64 (streams, time) from 0 to Q - 1."""
    _check_rows("codes", codes, streams, torch.int64)
    most = network.start_symbol - 1
    if codes.numel() and not (codes.min() >= 0 and codes.max() <= most):
        raise ValueError(f"codes must be from 0 to {most}")


def check_drawn(codes: Tensor, network: Network) -> Tensor:
    """Return drawn codes (B, T); raise `ModelError` if some could not be drawn.

    This is checked once for each chunk: if parameters are not finite, an engine draws the start
    symbol, which is no code but a valid input.
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
