"""Contract C1: logits[:, t] follow from the codes before t, and from nothing else."""

import math

import pytest
import torch
import torch.nn.functional as F
from small import LABELS

from wavegen.models.condition import Condition
from wavegen.models.config import GATES, WaveNetConfig
from wavegen.models.wavenet import WaveNet

FORMS = [
    {"kernel_size": 2, "layers": 6, "stacks": 2},
    {"kernel_size": 3, "layers": 4, "stacks": 1},
    {"kernel_size": 5, "layers": 3, "stacks": 3},
]


@pytest.mark.parametrize("form", FORMS)
def test_flipping_a_code_changes_no_logits_at_or_before_it(make_network, form) -> None:
    network = make_network(**form, labels=LABELS)
    codes = torch.randint(0, 256, (2, 90))
    before = network(codes)
    for time in (0, 1, 40, 89):
        flipped = codes.clone()
        flipped[:, time] = (flipped[:, time] + 100) % 256
        after = network(flipped)
        assert torch.equal(after[:, : time + 1], before[:, : time + 1])
        if time + 1 < 90:
            assert not torch.equal(after[:, time + 1], before[:, time + 1])


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_reaches_back_the_receptive_field_and_no_further(make_network, form) -> None:
    network = make_network(**form)
    field = network.config.receptive_field
    inputs = torch.randint(0, 256, (1, field + 20))
    # The embedding's output stands for the codes, which have no gradient.
    seen: list[torch.Tensor] = []

    def keep(module, args, output):
        seen.append(output.detach().requires_grad_())
        return seen[-1]

    network.embedding.register_forward_hook(keep)
    logits = network.predict(inputs, network.conditioning(network.unspecified()))
    assert logits.shape[1] == 21
    for time in (0, 10, 20):
        (gradient,) = torch.autograd.grad(logits[0, time].sum(), seen[0], retain_graph=True)
        reached = gradient[:, 0].abs().sum(-1).nonzero().flatten().tolist()
        assert reached[0] == time
        assert reached[-1] == time + field - 1


def test_the_first_sample_is_predicted_from_the_start_symbol(make_network) -> None:
    network = make_network()
    first = network(torch.randint(0, 256, (3, 5)))[:, 0]
    # Some libraries round the rows of a product by their place.
    torch.testing.assert_close(first[0], first[1], rtol=0, atol=1e-5)
    with torch.no_grad():
        network.embedding.weight[network.start_symbol] += 1
    changed = network(torch.zeros(1, 5, dtype=torch.int64))[0, 0]
    assert (changed - first[0]).abs().max() > 1e-2


@pytest.mark.parametrize("gate", GATES)
def test_it_is_the_textbook_network(make_network, gate: str) -> None:
    """The same weights through zero-free textbook Conv1d layers and summed skips."""
    network = make_network(kernel_size=3, layers=4, stacks=2, labels=LABELS, gate=gate)
    config = network.config
    labels = torch.tensor([[2, 1], [0, 2]])
    codes = torch.randint(0, 256, (2, 50))
    start = torch.full((2, config.receptive_field), network.start_symbol)
    stream = network.embedding(torch.cat([start, codes[:, :-1]], 1)).transpose(1, 2)
    embedded = sum(e(labels[:, a]) for a, e in enumerate(network.label_embeddings))
    mixed = network.mixing[2](F.silu(network.mixing[0](embedded)))
    bias = network.gate_bias(embedded + mixed).view(2, config.layers, config.gate_channels)
    skip_weights = network.skip.weight.split(config.gate_channels // 2, dim=1)
    skip = network.skip.bias[None, :, None]
    for layer, (block, dilation) in enumerate(zip(network.blocks, config.dilations, strict=True)):
        total = F.conv1d(stream, block.kernel.permute(1, 2, 0), dilation=dilation)
        signal, opening = (total + bias[:, layer, :, None]).chunk(2, dim=1)
        z = (torch.tanh(signal) if gate == "tanh" else signal) * torch.sigmoid(opening)
        skip = skip + F.conv1d(z[..., -50:], skip_weights[layer][..., None])
        if layer < config.layers - 1:
            projected = F.conv1d(z, block.projection.weight[..., None], block.projection.bias)
            stream = stream[..., -z.shape[-1] :] + projected
    hidden = F.relu(network.hidden(F.relu(skip).transpose(1, 2)))
    expected = network.output(hidden)
    torch.testing.assert_close(network(codes, labels), expected, rtol=1e-4, atol=1e-4)


def test_labels_reach_every_gate_and_can_be_left_unspecified(make_network) -> None:
    network = make_network(labels=LABELS)
    one, other = (network.conditioning(Condition(torch.tensor([[i, 1]]))) for i in (1, 2))
    assert one.shape == (1, 1, 6, 12)
    assert (one != other).all(dim=-1).all()
    unspecified = network.conditioning(Condition(torch.tensor([[0, 0]])))
    assert torch.equal(network.conditioning(network.unspecified()), unspecified)
    codes = torch.randint(0, 256, (1, 20))
    assert not torch.equal(
        network(codes, torch.tensor([[1, 1]])), network(codes, torch.tensor([[2, 1]]))
    )


def test_every_parameter_takes_part(make_network) -> None:
    network = make_network(labels=LABELS).requires_grad_()
    network(torch.randint(0, 256, (2, 40)), torch.tensor([[1, 1], [2, 2]])).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_a_fresh_network_needs_log2_q_bits() -> None:
    network = WaveNet(WaveNetConfig(layers=2, stacks=1))
    codes = torch.randint(0, 256, (2, 30))
    nats = F.cross_entropy(network(codes).transpose(1, 2), codes)
    assert nats.item() / math.log(2) == pytest.approx(8.0, abs=1e-5)


@pytest.mark.parametrize("kernel_size", [2, 3])
@pytest.mark.parametrize("time", [1, 5, 40, 200])
def test_one_start_symbol_stands_for_all(make_network, kernel_size: int, time: int) -> None:
    """From the beginning of a recording: the same with its whole history and without, also
    where the recording is shorter than a dilation."""
    network = make_network(kernel_size=kernel_size).double()
    codes = torch.randint(0, 256, (2, time))
    before = torch.full((2, network.history + 1), network.start_symbol)
    inputs = torch.cat([before, codes[:, :-1]], dim=1)
    bias = network.conditioning(network.unspecified(2))
    expected = network.predict(inputs, bias)
    torch.testing.assert_close(network(codes), expected, rtol=0, atol=1e-12)
    begun = inputs[:, network.history :]
    torch.testing.assert_close(network.predict(begun, bias, True), expected, rtol=0, atol=1e-12)
    # A rank without a share of the validation has no rows at all.
    assert network.predict(begun[:0], bias[:0], True).shape == (0, time, 256)
