"""The contracts that every network keeps, and every engine for it: a new one joins the lists.

C1 chain rule, C2 one likelihood, C4 randomness is data, C5 engine equals network.
"""

import math

import numpy as np
import pytest
import small
import torch
from tiny_gru import TinyGRU, TinyGRUConfig

from wavegen.codecs.windows import total
from wavegen.data.labels import label_ids
from wavegen.distributions.sampling import Sampling, stream_noise
from wavegen.engines.base import Engine
from wavegen.engines.cpu.wavenet_engine import NumbaCPU
from wavegen.engines.gpu.cuda_graph import GraphQueue
from wavegen.engines.reference import TorchQueue
from wavegen.models.base import Network
from wavegen.models.condition import Condition
from wavegen.scoring.likelihood import scorer

KINDS = [{"digit": "1", "speaker": "bob"}, {}]


def tiny_gru() -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = TinyGRU(TinyGRUConfig(sample_rate=8000, labels=small.LABELS))
    return network.requires_grad_(False).eval()


NETWORKS = {
    "wavenet": lambda: small.network(labels=small.LABELS),
    "wavenet, 3 taps, tanh": lambda: small.network(labels=small.LABELS, kernel_size=3, gate="tanh"),
    "tiny_gru": tiny_gru,
}
ENGINES = [
    *((name, engine) for name in ("wavenet", "wavenet, 3 taps, tanh")
      for engine in (TorchQueue, NumbaCPU, GraphQueue)),
    ("tiny_gru", TorchQueue),
]  # fmt: skip


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Network:
    return NETWORKS[request.param]()


@pytest.fixture(params=ENGINES, ids=lambda pair: f"{pair[0]}-{pair[1].__name__}")
def engine(request: pytest.FixtureRequest) -> Engine:
    name, kind = request.param
    return kind(NETWORKS[name]())


def condition_of(network: Network, kinds: list[dict[str, str]] = KINDS) -> Condition:
    return Condition(label_ids(kinds, network.config.labels))


def codes_of(network: Network, batch: int, time: int) -> torch.Tensor:
    chance = torch.Generator().manual_seed(batch)
    return torch.randint(0, network.config.quantization_channels, (batch, time), generator=chance)


def test_c1_a_code_changes_no_prediction_at_or_before_it(network: Network) -> None:
    codes = codes_of(network, 1, 90)
    expected = network(codes)
    for place in (0, 1, 40, 88):
        flipped = codes.clone()
        flipped[0, place] = (codes[0, place] + 100) % network.config.quantization_channels
        changed = (network(flipped) - expected).abs().amax(-1)[0]
        assert changed[: place + 1].max() < 1e-5
        assert changed[place + 1] > 1e-4


def test_c1_the_first_prediction_depends_on_the_labels_alone(network: Network) -> None:
    labels = condition_of(network).labels
    first = network(codes_of(network, 2, 5), labels)[:, 0]
    torch.testing.assert_close(first, network(codes_of(network, 2, 5).flip(1), labels)[:, 0])
    assert (first[0] - first[1]).abs().max() > 1e-4


@pytest.mark.parametrize("cuts", [[], [1], [7, 8, 300], [256]])
def test_c2_bits_do_not_depend_on_cuts_or_neighbours(network: Network, cuts: list[int]) -> None:
    codes, labels = codes_of(network, 2, 400), condition_of(network).labels
    scoring = scorer(network, KINDS)
    logs = torch.stack([network(codes, each.expand(2, -1)) for each in labels]).log_softmax(-1)
    places = codes.expand(2, -1, -1)[..., None]
    expected = -logs.gather(-1, places)[..., 0].transpose(0, 1).numpy() / math.log(2)
    together = scoring.surprisals([codes[0].numpy(), codes[1, :30].numpy()])
    np.testing.assert_allclose(together[0], expected[0], atol=2e-4)
    np.testing.assert_allclose(together[1], expected[1, :, :30], atol=2e-4)
    blocks = np.split(codes[0].numpy(), cuts)
    sums, bits = zip(*scoring.blocks(blocks), strict=True)
    np.testing.assert_allclose(np.concatenate(bits), expected[0, 0], atol=2e-4)
    np.testing.assert_allclose(total(np.concatenate(sums, 1)), expected[0].sum(1), rtol=1e-5)


def test_c4_a_stream_is_the_same_alone_in_a_batch_and_in_chunks(engine: Engine) -> None:
    bias = engine.network.conditioning(condition_of(engine.network, [KINDS[0]] * 3))
    noise = torch.from_numpy(stream_noise(5, range(3), 0, 60))
    engine.start(bias, Sampling())
    together = engine.generate(noise)
    engine.start(bias[1:2], Sampling())
    parts = [engine.generate(noise[1:2, begin : begin + 7]) for begin in range(0, 60, 7)]
    assert torch.equal(torch.cat(parts, 1), together[1:2])
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize("prompt", [0, 1, 50])
def test_c5_steps_give_the_parameters_of_the_parallel_pass(network: Network, prompt: int) -> None:
    codes, bias = codes_of(network, 2, 80), network.conditioning(condition_of(network))
    expected = network(codes, condition_of(network).labels)
    state = network.state_after(bias, codes[:, :prompt])
    inputs = network.inputs(codes)[:, prompt:]
    got = torch.stack([network.step(each, state) for each in inputs.t()], dim=1)
    assert (got - expected[:, prompt:]).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize("prompt", [0, 1, 50])
def test_c5_engines_give_the_parameters_of_the_parallel_pass(engine: Engine, prompt: int) -> None:
    network = engine.network
    codes, labels = codes_of(network, 2, 80), condition_of(network).labels
    expected = network(codes, labels)
    engine.start(network.conditioning(Condition(labels)), Sampling(), prompt=codes[:, :prompt])
    got = torch.cat([engine.force(codes[:, prompt:60]), engine.force(codes[:, 60:])], dim=1)
    assert (got - expected[:, prompt:]).abs().max() < 1e-4 * expected.abs().max()
