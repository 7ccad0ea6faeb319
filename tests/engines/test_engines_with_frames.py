"""Engines and scorers with conditions that change with time."""

from typing import Any

import numpy as np
import pytest
import small
import torch

from wavegen.distributions.sampling import Sampling, stream_noise
from wavegen.engines.cpu.wavenet_engine import NumbaCPU
from wavegen.engines.cpu.wavenet_scorer import NumbaScorer
from wavegen.engines.gpu.cuda_graph import GraphQueue
from wavegen.engines.reference import TorchQueue
from wavegen.engines.reference_scorer import TorchScorer
from wavegen.models.condition import Condition, FramesOf

TIME = 200


def condition() -> Condition:
    """Labels of three streams, and frames for 208 samples."""
    frames = torch.randn((3, 13, 8), generator=torch.Generator().manual_seed(1))
    return Condition(torch.tensor([[1, 2], [0, 0], [2, 1]]), frames)


@pytest.mark.parametrize(
    "make",
    [GraphQueue, lambda net: NumbaCPU(net, threads=1), lambda net: NumbaCPU(net, threads=3)],
    ids=["graph", "numba, 1 thread", "numba, 3 threads"],
)
def test_codes_are_those_of_the_reference(make: Any) -> None:
    """In chunks that are no multiples of the hop."""
    network = small.network(labels=small.LABELS, features=small.FEATURES)
    bias = network.conditioning(condition())
    noise = torch.from_numpy(stream_noise(5, range(3), 0, TIME))
    reference, engine = TorchQueue(network), make(network)
    reference.start(bias, Sampling())
    expected = reference.generate(noise)
    engine.start(bias, Sampling())
    parts = [engine.generate(noise[:, at : at + 33]) for at in range(0, TIME, 33)]
    assert (torch.cat(parts, 1) == expected).float().mean() > 0.98
    # The frames matter: other ones give other codes.
    engine.start(bias.flip(1), Sampling())
    assert (engine.generate(noise) == expected).float().mean() < 0.5


@pytest.mark.parametrize("make", [TorchScorer, NumbaScorer])
@pytest.mark.parametrize("piece", [1 << 14, 100, 37])
def test_scorers_take_the_frames_of_each_recording(make: Any, piece: int) -> None:
    network = small.network(labels=small.LABELS, features=small.FEATURES, kernel_size=3)
    given = condition()
    codes = torch.randint(0, 256, (3, TIME), generator=torch.Generator().manual_seed(2))
    scorer = make(network, Condition(given.labels), piece)
    recordings = [each.numpy() for each in codes]
    frames = [FramesOf(each.numpy()) for each in given.frames]
    found = scorer.surprisals(recordings, 0, frames)
    totals = scorer.totals(recordings, 0, frames)
    for number in range(3):
        own, rows = given.frames[number : number + 1], codes[number : number + 1]
        for kind in range(3):
            parameters = network(rows, given.labels[kind : kind + 1], own)
            expected = network.distribution.bits(parameters, rows)[0].numpy()
            np.testing.assert_allclose(found[number][kind], expected, atol=3e-4)
        np.testing.assert_allclose(totals[number][0].sum(1), found[number].sum(1), rtol=1e-5)
    # A part of a recording with its context, and only the frames from 32 samples on.
    part = FramesOf(given.frames[0, 2:].numpy(), first=60 - 32)
    (late,) = scorer.surprisals([recordings[0][60:]], 60, [part])
    np.testing.assert_allclose(late, found[0][:, 120:], atol=3e-4)
