"""Contracts C4 and C5: every engine equals the network, and a stream its neighbours or none."""

import numpy as np
import pytest
import torch
from small import LABELS
from small import network as small_network

from wavegen.distributions.sampling import Sampling, guide, stream_noise
from wavegen.engines.cpu.wavenet_engine import NumbaCPU
from wavegen.engines.gpu.cuda_graph import GraphQueue
from wavegen.engines.gpu.wavenet_triton import TritonGPU
from wavegen.engines.precision import rounded
from wavegen.engines.reference import TorchQueue
from wavegen.errors import ModelError
from wavegen.models.condition import Condition
from wavegen.models.wavenet import WaveNet

ENGINES = ["torch", "graph", "float32", "bfloat16", "int8"]


# Slow where Triton's interpreter runs it: only what takes a few steps.
ALL = [*ENGINES, "triton"]


def engine_of(kind: str, network):
    """The engine, and the network with the weights that it computes with."""
    if kind == "triton":
        return TritonGPU(network), network
    if kind == "torch":
        return TorchQueue(network), network
    if kind == "graph":
        return GraphQueue(network), network
    return NumbaCPU(network, kind), rounded(network, kind)


STACKS = [
    {"layers": 6, "stacks": 2},
    {"layers": 5, "stacks": 1, "gate": "tanh"},
    {"layers": 4, "stacks": 4},
]


@pytest.mark.parametrize("prompt", [0, 1, 7, 150])
@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("stacks", STACKS)
@pytest.mark.parametrize("kernel_size", [2, 3])
@pytest.mark.parametrize("kind", ENGINES)
def test_forced_codes_give_the_logits_of_the_parallel_pass(
    make_network, kind, kernel_size, stacks, batch, labelled, prompt
) -> None:
    network = make_network(kernel_size=kernel_size, labels=LABELS if labelled else {}, **stacks)
    engine, network = engine_of(kind, network)
    torch.manual_seed(0)
    codes = torch.randint(0, 256, (batch, prompt + 140))
    labels = torch.stack([torch.arange(batch) % 4, torch.arange(batch) % 3], 1)
    labels = labels if labelled else labels[:, :0]
    expected = network(codes, labels)
    engine.start(network.conditioning(Condition(labels)), Sampling(), prompt=codes[:, :prompt])
    got = torch.cat(
        [engine.force(codes[:, prompt : prompt + 60]), engine.force(codes[:, prompt + 60 :])], 1
    )
    error = (got - expected[:, prompt:]).abs().max() / expected.abs().max()
    assert error < 1e-4


@pytest.mark.parametrize(
    "channels",
    [
        {"residual_channels": 33, "gate_channels": 90, "skip_channels": 130},
        {"residual_channels": 1, "gate_channels": 2, "skip_channels": 1, "layers": 1, "stacks": 1},
        {
            "residual_channels": 72,
            "gate_channels": 264,
            "skip_channels": 20,
            "kernel_size": 4,
            "gate": "tanh",
        },
    ],
)
@pytest.mark.parametrize("codes", [2, 100, 300])
@pytest.mark.parametrize("kind", ENGINES)
def test_channels_need_not_fit_the_machine(make_network, kind, codes, channels) -> None:
    network = make_network(quantization_channels=codes, **channels)
    engine, network = engine_of(kind, network)
    torch.manual_seed(0)
    given = torch.randint(0, codes, (4, 90))
    engine.start(network.conditioning(network.unspecified(4)), Sampling(), prompt=given[:, :20])
    expected = network(given)
    error = (engine.force(given[:, 20:]) - expected[:, 20:]).abs().max() / expected.abs().max()
    assert error < 1e-4


@pytest.mark.parametrize("change", ["load", "optimiser", "swap"])
@pytest.mark.parametrize("kind", ENGINES)
def test_a_change_of_weights_is_seen_at_the_next_start(make_network, kind, change) -> None:
    """Loaded, trained on, or swapped for their moving average."""
    network, other = make_network(seed=1), make_network(seed=2)
    engine, _ = engine_of(kind, network)
    codes = torch.randint(0, 256, (2, 50))
    engine.start(network.conditioning(network.unspecified(2)), Sampling())
    before = engine.force(codes)
    if change == "load":
        network.load_state_dict(other.state_dict())
    elif change == "optimiser":
        network.requires_grad_(True)
        network(codes).square().mean().backward()
        torch.optim.AdamW(network.parameters(), lr=0.05).step()
        network.requires_grad_(False)
    else:
        for old, new in zip(network.parameters(), other.parameters(), strict=True):
            old.data = new.data
    _, expected = engine_of(kind, network)
    engine.start(network.conditioning(network.unspecified(2)), Sampling())
    after = engine.force(codes)
    torch.testing.assert_close(after, expected(codes), rtol=1e-4, atol=1e-4)
    assert (after - before).abs().max() > 0.1


def generated(network, labels, streams, chunks, sampling=None, kind="torch") -> np.ndarray:
    sampling = sampling or Sampling()
    engine, _ = engine_of(kind, network)
    batch = labels.shape[0]
    engine.start(
        network.conditioning(Condition(labels)),
        sampling,
        unspecified=network.conditioning(network.unspecified(batch)),
    )
    start, parts = 0, []
    for count in chunks:
        parts.append(engine.generate(torch.from_numpy(stream_noise(5, streams, start, count))))
        start += count
    return torch.cat(parts, 1).numpy()


@pytest.mark.parametrize("kind", ENGINES)
def test_a_stream_is_the_same_alone_or_in_a_batch_in_one_chunk_or_in_many(
    make_network, kind
) -> None:
    network = make_network(labels=LABELS)
    _, exact = engine_of(kind, network)
    labels = torch.tensor([[1, 1], [3, 2], [0, 0]])
    together = generated(network, labels, [0, 1, 2], [400], kind=kind)
    again = generated(network, labels, [0, 1, 2], [1, 99, 300], kind=kind)
    assert np.array_equal(again, together)
    for row in range(3):
        alone = generated(network, labels[row : row + 1], [row], [200, 200], kind=kind)[0]
        assert flips(exact, labels[row : row + 1], alone, together[row], row) == 0
    assert not np.array_equal(together[0], together[2])


def flips(network, labels, one, other, stream) -> int:
    """Codes that differ by more than rounding explains; both must agree up to the first.

    At the first difference the noise must lie within 1e-5 of the edge between the two
    codes, or the streams differ for another reason.
    """
    different = np.flatnonzero(one != other)
    if not len(different):
        return 0
    time = int(different[0])
    logits = network(torch.from_numpy(one[None]), labels)[0, time].double()
    edges = torch.cat([torch.zeros(1), logits.softmax(-1).cumsum(-1)])
    noise = stream_noise(5, [stream], time, 1)[0, 0]
    edge = edges[max(one[time], other[time])].item()
    return int(abs(edge - noise) > 1e-5)


@pytest.mark.parametrize("kind", ENGINES)
def test_nothing_is_generated_from_nothing(make_network, kind) -> None:
    network = make_network()
    engine, exact = engine_of(kind, network)
    engine.start(network.conditioning(network.unspecified(2)), Sampling())
    assert engine.generate(torch.empty((2, 0), dtype=torch.float64)).shape == (2, 0)
    nothing = torch.empty((2, 0), dtype=torch.int64)
    assert engine.force(nothing).shape == exact(nothing).shape == (2, 0, 256)


@pytest.mark.parametrize("kind", ENGINES)
def test_codes_follow_the_probabilities_of_the_parallel_pass(make_network, kind) -> None:
    """Drawing again from the network's own logits gives the codes that the engine drew."""
    network = make_network(labels=LABELS)
    labels = torch.tensor([[2, 1]])
    codes = generated(network, labels, [7], [300], kind=kind)
    _, exact = engine_of(kind, network)
    edges = exact(torch.from_numpy(codes), labels)[0].double().softmax(-1).cumsum(-1)
    noise = torch.from_numpy(stream_noise(5, [7], 0, 300)[0])
    again = torch.searchsorted(edges, noise[:, None])[:, 0].numpy()
    near_an_edge = ((edges - noise[:, None]).abs() < 1e-5).any(dim=1).numpy()
    assert np.array_equal(again[~near_an_edge], codes[0][~near_an_edge])
    assert near_an_edge.mean() < 0.02


@pytest.mark.parametrize("kind", ENGINES)
def test_guidance_mixes_logits_with_and_without_labels(make_network, kind) -> None:
    network = make_network(labels=LABELS)
    engine, network = engine_of(kind, network)
    labels = torch.tensor([[1, 2], [2, 0]])
    codes = torch.randint(0, 256, (2, 100))
    engine.start(
        network.conditioning(Condition(labels)),
        Sampling(guidance=2.5),
        unspecified=network.conditioning(network.unspecified(2)),
        prompt=codes[:, :40],
    )
    expected = guide(network(codes, labels), network(codes), 2.5)[:, 40:]
    torch.testing.assert_close(engine.force(codes[:, 40:]), expected, rtol=1e-4, atol=1e-4)
    guided = Sampling(guidance=2.5)
    assert generated(network, labels, [0, 1], [20], guided, kind).shape == (2, 20)


NOISE = torch.full((3, 4), 0.5, dtype=torch.float64)
CODES = torch.full((3, 4), 7)


@pytest.mark.parametrize(
    ("noise", "says"),
    [
        (NOISE[:2], r"noise must be \(3, time\), but are \(2, 4\)"),
        (NOISE[0], r"noise must be \(3, time\), but are \(4,\)"),
        (NOISE.float(), "noise must be torch.float64, but are torch.float32"),
        (NOISE - 0.6, "noise must be at least 0 and below 1"),
        (NOISE + 0.5, "noise must be at least 0 and below 1"),
        (NOISE.index_fill(1, torch.tensor(2), torch.nan), "noise must be at least 0 and below 1"),
    ],
    ids=["rows", "shape", "dtype", "below 0", "1", "NaN"],
)
@pytest.mark.parametrize("kind", ALL)
def test_noise_that_is_none_is_refused_by_all_alike(make_network, kind, noise, says) -> None:
    network = make_network()
    engine, _ = engine_of(kind, network)
    engine.start(network.conditioning(network.unspecified(3)), Sampling())
    with pytest.raises(ValueError, match=says):
        engine.generate(noise)
    assert engine.generate(NOISE).shape == (3, 4), "goes on as if it had not been asked"


@pytest.mark.parametrize(
    ("codes", "says"),
    [
        (CODES[:1], r"codes must be \(3, time\), but are \(1, 4\)"),
        (CODES[..., None], r"codes must be \(3, time\), but are \(3, 4, 1\)"),
        (CODES.int(), "codes must be torch.int64, but are torch.int32"),
        (CODES - 8, "codes must be from 0 to 255"),
        (CODES + 249, "codes must be from 0 to 255"),
    ],
    ids=["rows", "shape", "dtype", "below 0", "the start symbol"],
)
@pytest.mark.parametrize("kind", ALL)
def test_codes_that_are_none_are_refused_by_all_alike(make_network, kind, codes, says) -> None:
    network = make_network()
    engine, _ = engine_of(kind, network)
    bias = network.conditioning(network.unspecified(3))
    with pytest.raises(ValueError, match=says):
        engine.start(bias, Sampling(), prompt=codes)
    engine.start(bias, Sampling())
    with pytest.raises(ValueError, match=says):
        engine.force(codes)
    assert engine.force(CODES).shape == (3, 4, 256)


@pytest.mark.parametrize("kind", ALL)
def test_what_streams_cannot_begin_from_is_refused_by_all_alike(make_network, kind) -> None:
    network = make_network()
    engine, _ = engine_of(kind, network)
    bias, guided = network.conditioning(network.unspecified(3)), Sampling(guidance=2)
    for wrong in (bias[0], bias[:0], bias.expand(3, 2, -1, -1), bias[:, :, :1]):
        with pytest.raises(ValueError, match=r"bias is .*: it must be \(streams, 1, 6, 12\)"):
            engine.start(wrong, Sampling())
    with pytest.raises(ValueError, match="give unspecified"):
        engine.start(bias, guided)
    with pytest.raises(ValueError, match=r"unspecified is \(1, 1, 6, 12\), but bias is"):
        engine.start(bias, guided, unspecified=bias[:1])


def with_a_broken_logit() -> WaveNet:
    network = small_network()
    network.output.bias[3] = torch.nan
    return network


def with_weights_that_overflow() -> WaveNet:
    network = small_network()
    for each in (network.hidden, network.output):
        each.weight.copy_(3e38 * each.weight.sign())
    return network


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numpy, which interprets Triton
@pytest.mark.parametrize("broken", [with_a_broken_logit, with_weights_that_overflow])
@pytest.mark.parametrize(
    "sampling",
    [Sampling(), Sampling(temperature=0), Sampling(top_k=5, top_p=0.5), Sampling(guidance=3.0)],
    ids=["plain", "greedy", "filtered", "guided"],
)
@pytest.mark.parametrize("kind", ALL)
def test_logits_that_are_not_finite_end_every_engine_alike(kind, sampling, broken) -> None:
    network = broken()
    engine, _ = engine_of(kind, network)
    bias = network.conditioning(network.unspecified(3))
    engine.start(bias, sampling, unspecified=bias)
    with pytest.raises(ModelError, match="logits are not finite numbers: its weights are damaged"):
        engine.generate(NOISE)


def test_weights_that_only_bfloat16_makes_infinite_end_alike_too(make_network) -> None:
    """Its largest number is a little below that of float32."""
    network = make_network()
    network.skip.weight.fill_(3.4e38)
    engine = NumbaCPU(network, "bfloat16")
    engine.start(network.conditioning(network.unspecified()), Sampling())
    with pytest.raises(ModelError, match="logits are not finite"):
        engine.generate(NOISE[:1])


def test_a_torch_step_never_runs_the_receptive_field_again(make_network) -> None:
    """Counts the rows that go through the layers: one a sample, however far they hear."""
    rows = []
    for layers in (4, 9):
        network = make_network(layers=layers, stacks=1)
        engine = TorchQueue(network)
        engine.start(network.conditioning(network.unspecified()), Sampling())
        seen = 0

        def count(module, inputs, output):
            nonlocal seen
            seen += inputs[0].numel() // inputs[0].shape[-1]

        for block in network.blocks[:-1]:
            block.projection.register_forward_hook(count)
        engine.generate(torch.from_numpy(stream_noise(0, [0], 0, 50)))
        rows.append(seen / (layers - 1))
    assert rows == [50, 50]


@pytest.mark.gpu
def test_on_a_gpu_it_equals_the_network_too(make_network) -> None:
    network = make_network(kernel_size=3, labels=LABELS)
    codes, labels = torch.randint(0, 256, (3, 200)), torch.tensor([[1, 1], [3, 2], [0, 0]])
    expected = network(codes, labels)
    network = network.cuda()
    engine = TorchQueue(network)
    bias = network.conditioning(Condition(labels.cuda()))
    engine.start(bias, Sampling(), prompt=codes[:, :50].cuda())
    error = (engine.force(codes[:, 50:].cuda()).cpu() - expected[:, 50:]).abs().max()
    assert error / expected.abs().max() < 1e-4
    engine.start(bias, Sampling())
    noise = torch.from_numpy(stream_noise(0, range(3), 0, 100))
    assert engine.generate(noise).shape == (3, 100)
