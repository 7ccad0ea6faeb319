import pytest
import torch
from small import network as small_network

from wavegen.engines.precision import products, quantise, rounded


def test_products_are_all_weights_of_a_step_once() -> None:
    network = small_network(kernel_size=3)
    seen = sum(weight.numel() for weight, _ in products(network))
    layers = [network.skip, network.hidden, network.output]
    layers += [block.projection for block in network.blocks if block.projection is not None]
    expected = sum(layer.weight.numel() for layer in layers)
    assert seen == expected + sum(block.kernel.numel() for block in network.blocks)
    for weight, _ in products(network):
        weight.zero_()
    assert all(not layer.weight.any() for layer in layers)


def test_float32_is_the_network_itself() -> None:
    network = small_network()
    assert rounded(network, "float32") is network


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_rounding_errors_are_half_a_step_and_the_original_stays(precision) -> None:
    network, untouched = small_network(), small_network()
    for (weight, _), (new, _) in zip(
        products(network), products(rounded(network, precision)), strict=True
    ):
        if precision == "bfloat16":
            assert torch.equal(new, weight.bfloat16().float())
        else:
            step = weight.abs().amax(dim=1, keepdim=True) / 127
            assert ((new - weight).abs() <= 0.5001 * step).all()
            assert not torch.equal(new, weight)
    for one, other in zip(network.parameters(), untouched.parameters(), strict=True):
        assert torch.equal(one, other)


def test_int8_uses_all_of_its_range_and_takes_zeros() -> None:
    stored, scale = quantise(torch.tensor([[0.0, 0.0], [-0.254, 0.1]]), "int8")
    assert stored.tolist() == [[0, 0], [-127, 50]]
    assert scale.tolist() == pytest.approx([1, 0.002])
