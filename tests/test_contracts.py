"""The contracts of networks, codecs, distributions and engines: a new one joins the lists.

C1 chain rule, C2 one likelihood, C3 one codec, C4 randomness is data, C5 engine equals network,
C5b also with frames that change at every hop.
"""

from typing import Any

import numpy as np
import pytest
import small
import torch
from tiny_gru import TinyGRU, TinyGRUConfig
from tiny_logistic import TinyLogistic

from wavegen.codecs.codec import Codec
from wavegen.codecs.mulaw import MuLaw
from wavegen.codecs.windows import IGNORED, total
from wavegen.data.labels import label_ids
from wavegen.distributions.categorical import Categorical
from wavegen.distributions.sampling import Sampling, stream_noise
from wavegen.engines.base import Engine
from wavegen.engines.choice import choose_scorer
from wavegen.engines.cpu.wavenet_engine import NumbaCPU
from wavegen.engines.gpu.cuda_graph import GraphQueue
from wavegen.engines.gpu.wavenet_triton import TritonGPU
from wavegen.engines.reference import TorchQueue
from wavegen.errors import DataError
from wavegen.models.base import Network
from wavegen.models.condition import Condition, FramesOf

KINDS = [{"digit": "1", "speaker": "bob"}, {}]


def tiny_gru(**fields: object) -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = TinyGRU(TinyGRUConfig(sample_rate=8000, labels=small.LABELS, **fields))
    return network.requires_grad_(False).eval()


NETWORKS = {
    "wavenet": lambda: small.network(labels=small.LABELS),
    "wavenet, 3 taps, tanh": lambda: small.network(labels=small.LABELS, kernel_size=3, gate="tanh"),
    "wavenet, frames": lambda: small.network(labels=small.LABELS, features=small.FEATURES),
    "tiny_gru": tiny_gru,
    "tiny_gru, frames": lambda: tiny_gru(hop=16, frame_size=8),
    "tiny_gru, logistic": lambda: tiny_gru(logistic=True),
}
DISTRIBUTIONS = [Categorical(64), Categorical(300), TinyLogistic(64)]
CODECS = [MuLaw(2), MuLaw(256), MuLaw(300)]
ENGINES = [
    *((name, engine) for name in ("wavenet", "wavenet, 3 taps, tanh", "wavenet, frames")
      for engine in (TorchQueue, NumbaCPU, GraphQueue)),
    # Not for all: without a GPU it is interpreted, which is slow.
    *((name, TritonGPU) for name in ("wavenet, 3 taps, tanh", "wavenet, frames")),
    *((name, TorchQueue) for name in ("tiny_gru", "tiny_gru, frames", "tiny_gru, logistic")),
]  # fmt: skip


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Network:
    return NETWORKS[request.param]()


FRAMED = [pair for pair in ENGINES if "frames" in pair[0]]


def name_of(pair: Any) -> str:
    return f"{pair[0]}-{pair[1].__name__}"


@pytest.fixture(params=ENGINES, ids=name_of)
def engine(request: pytest.FixtureRequest) -> Engine:
    name, kind = request.param
    return kind(NETWORKS[name]())


def condition_of(network: Network, kinds: list[dict[str, str]] = KINDS) -> Condition:
    """Labels and, if the network takes them, frames for 80 samples; the last one is repeated."""
    labels = label_ids(kinds, network.config.labels)
    if network.hop is None:
        return Condition(labels)
    chance = torch.Generator().manual_seed(7)
    frames = torch.randn((len(kinds), 80 // network.hop, 8), generator=chance)
    return Condition(labels, frames)


def predicted(network: Network, codes: torch.Tensor, condition: Condition) -> torch.Tensor:
    return network(codes, condition.labels, condition.frames)


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
    codes, condition = codes_of(network, 2, 5), condition_of(network)
    first = predicted(network, codes, condition)[:, 0]
    other = predicted(network, codes.flip(1), condition)[:, 0]
    torch.testing.assert_close(first, other)
    assert (first[0] - first[1]).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["tiny_gru, frames", "wavenet, frames"])
def test_c1_a_frame_changes_nothing_before_its_samples(name: str) -> None:
    network = NETWORKS[name]()
    codes, condition = codes_of(network, 2, 80), condition_of(network)
    expected = predicted(network, codes, condition)
    changed = condition.frames.clone()
    changed[:, 3] += 1
    difference = (network(codes, condition.labels, changed) - expected).abs().amax((0, 2))
    # A frame also reaches the frames before it that look ahead as far.
    first = (3 - network.margin) * network.hop
    assert difference[:first].max() < 1e-5
    assert difference[first] > 1e-4


@pytest.mark.parametrize("cuts", [[], [1], [7, 8, 300], [256]])
def test_c2_bits_do_not_depend_on_cuts_or_neighbours(network: Network, cuts: list[int]) -> None:
    codes, conditions = codes_of(network, 2, 400), condition_of(network)
    # Frames belong to the recordings, labels are tried on each of them.
    frames = conditions.frames
    given = None if frames is None else [FramesOf(each.numpy()) for each in frames]
    scoring = choose_scorer(network, Condition(conditions.labels))
    both = [Condition(each.expand(2, -1), frames) for each in conditions.labels]
    parameters = [predicted(network, codes, each) for each in both]
    bits_of = network.distribution.bits
    # Recordings, conditions, time.
    expected = torch.stack([bits_of(each, codes) for each in parameters], dim=1).numpy()
    together = scoring.surprisals([codes[0].numpy(), codes[1, :30].numpy()], 0, given)
    np.testing.assert_allclose(together[0], expected[0], atol=2e-4)
    np.testing.assert_allclose(together[1], expected[1, :, :30], atol=2e-4)
    blocks = np.split(codes[0].numpy(), cuts)
    sums, bits = zip(*scoring.blocks(blocks, given and given[0]), strict=True)
    np.testing.assert_allclose(np.concatenate(bits), expected[0, 0], atol=2e-4)
    np.testing.assert_allclose(total(np.concatenate(sums, 1)), expected[0].sum(1), rtol=1e-5)


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_c3_all_codes_survive_decoding_and_encoding(codec: Codec) -> None:
    codes = np.arange(codec.codes)
    waveform = codec.decode(codes)
    assert (waveform.dtype, codec.encode(waveform).dtype) == (np.float32, np.int64)
    assert np.array_equal(codec.encode(waveform), codes)
    assert torch.equal(codec.encode(codec.decode(torch.from_numpy(codes))), torch.from_numpy(codes))
    assert codec.encode(np.array([-3.0, 3.0])).tolist() == [0, codec.codes - 1]
    with pytest.raises(DataError, match="NaN or infinity"):
        codec.encode(np.array([np.nan]))


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=repr)
def test_a_distribution_is_normalised_and_draws_what_its_bits_say(distribution: Any) -> None:
    chance = torch.Generator().manual_seed(1)
    parameters = torch.randn((3, distribution.parameters), generator=chance)
    codes = torch.arange(getattr(distribution, "codes", distribution.parameters)).expand(3, -1)
    wide = parameters[:, None].expand(-1, codes.shape[1], -1)
    chances = 2 ** -distribution.bits(wide, codes)
    torch.testing.assert_close(chances.sum(1), torch.ones(3).double(), atol=1e-6, rtol=0)
    flat = distribution.loss(wide.flatten(0, 1), codes.flatten())
    assert float(flat) == pytest.approx(-float(chances.log().mean()), rel=1e-5)
    ignored = codes.clone()
    ignored[:, 1:] = IGNORED
    assert distribution.bits(wide, ignored)[:, 1:].abs().max() == 0
    only = distribution.loss(wide.flatten(0, 1), ignored.flatten())
    assert float(only) == pytest.approx(-float(chances[:, 0].log().mean()), rel=1e-5)
    # Noise in even steps meets every code as often as it is likely.
    steps = 20_000
    noise = (torch.arange(steps).double() + 0.5) / steps
    for row in range(3):
        drawn = distribution.draw(parameters[row].expand(steps, -1), noise, Sampling())
        shares = torch.bincount(drawn, minlength=codes.shape[1]) / steps
        assert (shares - chances[row]).abs().max() < 2 / steps


def test_c4_a_stream_is_the_same_alone_in_a_batch_and_in_chunks(engine: Engine) -> None:
    bias = engine.network.conditioning(condition_of(engine.network, [KINDS[0]] * 3))
    noise = torch.from_numpy(stream_noise(5, range(3), 0, 25))
    engine.start(bias, Sampling())
    together = engine.generate(noise)
    engine.start(bias[1:2], Sampling())
    parts = [engine.generate(noise[1:2, begin : begin + 7]) for begin in range(0, 25, 7)]
    assert torch.equal(torch.cat(parts, 1), together[1:2])
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize("prompt", [0, 1, 50])
def test_c5_steps_give_the_parameters_of_the_parallel_pass(network: Network, prompt: int) -> None:
    codes, bias = codes_of(network, 2, 80), network.conditioning(condition_of(network))
    expected = predicted(network, codes, condition_of(network))
    state = network.state_after(bias, codes[:, :prompt])
    inputs = network.inputs(codes)[:, prompt:]
    got = torch.stack([network.step(each, state) for each in inputs.t()], dim=1)
    assert (got - expected[:, prompt:]).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize("prompt", [0, 1, 50])
def test_c5_engines_give_the_parameters_of_the_parallel_pass(engine: Engine, prompt: int) -> None:
    network = engine.network
    codes, condition = codes_of(network, 2, 80), condition_of(network)
    expected = predicted(network, codes, condition)
    engine.start(network.conditioning(condition), Sampling(), prompt=codes[:, :prompt])
    got = torch.cat([engine.force(codes[:, prompt:60]), engine.force(codes[:, 60:])], dim=1)
    assert (got - expected[:, prompt:]).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize(("prompt", "guidance"), [(0, 1.0), (50, 2.0)])
@pytest.mark.parametrize("engine", FRAMED, indirect=True, ids=name_of)
def test_c5b_frames_that_arrive_later_give_the_parameters_of_the_parallel_pass(
    engine: Engine, prompt: int, guidance: float
) -> None:
    network = engine.network
    codes, condition = codes_of(network, 2, 90), condition_of(network)
    expected, without = predicted(network, codes, condition), network(codes)
    expected = network.distribution.guide(expected, without, guidance)
    bias = network.conditioning(condition)
    unspecified = network.conditioning(network.unspecified(2)).expand_as(bias)
    sampling = Sampling(guidance=guidance)
    # The first frames reach to sample 64, and the last one is for all later samples.
    engine.start(bias[:, :4], sampling, unspecified=unspecified[:, :4], prompt=codes[:, :prompt])
    got = [engine.force(codes[:, prompt:61])]
    engine.extend(bias[:, 4:], unspecified[:, 4:])
    got += [engine.force(codes[:, 61:62]), engine.force(codes[:, 62:])]
    difference = torch.cat(got, dim=1) - expected[:, prompt:]
    assert difference.abs().max() < 2e-4 * expected.abs().max()


@pytest.mark.parametrize("kind", [TorchQueue, NumbaCPU, GraphQueue, TritonGPU])
def test_frames_that_do_not_fit_are_refused(kind: Any) -> None:
    for name, problem in (("wavenet", "labels only"), ("wavenet, frames", "they must be")):
        engine = kind(NETWORKS[name]())
        bias = engine.network.conditioning(condition_of(engine.network))
        engine.start(bias, Sampling())
        with pytest.raises(ValueError, match=problem):
            engine.extend(bias[:1])
