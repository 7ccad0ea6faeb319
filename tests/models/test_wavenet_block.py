"""The residual block's written-out gradients against autograd's own."""

from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from wavegen.models import wavenet_block
from wavegen.models.config import GATES
from wavegen.models.wavenet_block import Block


def plain(stream, bias, kernel, weight, projection_bias, dilation, beginning=False, gate="linear"):
    """The same wavenet_block, left to autograd."""
    if beginning:
        repeated = stream[:1].expand((len(kernel) - 1) * dilation, -1, -1)
        stream = torch.cat([repeated, stream])
    time = stream.shape[0] - (len(kernel) - 1) * dilation
    taps = [stream[tap * dilation :][:time] for tap in range(len(kernel))]
    total = bias + sum(tap @ part.t() for tap, part in zip(taps, kernel, strict=True))
    signal, opening = total.chunk(2, dim=-1)
    gate = (signal.tanh() if gate == "tanh" else signal) * opening.sigmoid()
    if weight is None:
        return taps[-1], gate
    return taps[-1] + gate @ weight.t() + projection_bias, gate


@settings(max_examples=80, deadline=None)
@given(
    time=st.integers(1, 20),
    batch=st.integers(1, 4),
    taps=st.integers(2, 3),
    dilation=st.sampled_from([1, 2, 8]),
    last=st.booleans(),
    beginning=st.booleans(),
    gate=st.sampled_from(GATES),
    on_cpu=st.booleans(),
)
def test_gradients_are_those_of_autograd(
    time, batch, taps, dilation, last, beginning, gate, on_cpu
) -> None:
    """By the steps of a CPU and by those of a GPU."""
    torch.manual_seed(0)
    before = 0 if beginning else (taps - 1) * dilation
    shapes = [(time + before, batch, 5), (batch, 6), (taps, 6, 5), (5, 3), (5,)]
    given = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    arguments = [*given[:3], *((None, None) if last else given[3:]), dilation, beginning, gate]
    before = [each.detach().clone() for each in given]
    used = given[:3] if last else given
    with patch.object(wavenet_block, "_on_cpu", lambda _: on_cpu):
        one, other = Block.apply(*arguments), plain(*arguments)
        pull = [torch.randn_like(each) for each in other]
        gradients = [torch.autograd.grad(each, used, pull) for each in (one, other)]
    assert all(map(torch.equal, before, given)), "what is given stays as it is"
    for got, expected in zip(one, other, strict=True):
        torch.testing.assert_close(got, expected)
    for got, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(got, expected)


def test_gradients_pass_where_only_one_result_is_used(make_network) -> None:
    """As in the last wavenet_block, whose stream no one hears, and in one without a skip."""
    stream = torch.randn(9, 2, 5, dtype=torch.float64, requires_grad=True)
    rest = [torch.randn(s, dtype=torch.float64) for s in ((2, 6), (2, 6, 5), (5, 3), (5,))]
    for chosen in (0, 1):
        got = torch.autograd.grad(
            Block.apply(stream, *rest, 4, False, "linear")[chosen].sum(), stream
        )[0]
        expected = torch.autograd.grad(plain(stream, *rest, 4)[chosen].sum(), stream)[0]
        torch.testing.assert_close(got, expected)


class Traffic(TorchDispatchMode):
    """Counts the elements that the steps between read and write."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if not func.is_view and "empty" not in func.name():
            tensors = torch.utils._pytree.tree_leaves((args, kwargs, result))
            self.elements += sum(each.numel() for each in tensors if torch.is_tensor(each))
        return result


@pytest.mark.parametrize("beginning", [False, True])
def test_a_gpu_moves_less_memory(beginning) -> None:
    """Its gate is one step each way, over rows as they are."""
    counts = {}
    shapes = [(300, 2, 64), (2, 128), (2, 128, 64), (64, 64), (64,)]
    given = [torch.randn(shape, requires_grad=True) for shape in shapes]
    for on_cpu in (True, False):
        with (
            patch.object(wavenet_block, "_on_cpu", lambda _, on_cpu=on_cpu: on_cpu),
            Traffic() as traffic,
        ):
            following, gate = Block.apply(*given, 4, beginning, "linear")
            torch.autograd.grad((following, gate), given, (following, gate))
        counts[on_cpu] = traffic.elements / len(following) / 2
    assert counts[False] < 0.8 * counts[True]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_whole_network_trains_in_either_precision(make_network, dtype) -> None:
    network = make_network().requires_grad_(True)
    codes = torch.randint(0, 256, (3, 300))
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        logits = network(codes)
    assert logits.dtype == dtype
    torch.nn.functional.cross_entropy(logits.float().transpose(1, 2), codes).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32
        assert torch.isfinite(parameter.grad).all()
