"""Weights cast together: the same numbers as one by one, in few operations."""

import pytest
import torch
from test_averaging import Operations

from wavegen.data.corpus import Batch
from wavegen.models.config import WaveNetConfig
from wavegen.training.lightning_module import LitWaveNet
from wavegen.training.precision import cast, training_products


def test_weights_and_their_gradients_are_cast_in_one_operation_each_way() -> None:
    weights = [torch.randn(size, requires_grad=True) for size in ((3, 4), (5,), (2, 3, 4))]
    with Operations() as forward:
        halves = cast(weights, torch.bfloat16)
    assert all(torch.equal(a, b.bfloat16()) for a, b in zip(halves, weights, strict=True))
    # The second takes no part.
    total = halves[0].square().sum() + halves[2].sum()
    with Operations() as backward:
        total.backward()
    assert weights[0].grad.dtype == torch.float32
    assert torch.equal(weights[0].grad, (2 * halves[0]).float())
    assert weights[1].grad is None
    for operations in (forward, backward):
        assert operations.names.count("_foreach_copy_") == 1
        assert "_to_copy" not in operations.names


def training(layers: int) -> tuple[LitWaveNet, Batch]:
    torch.manual_seed(0)
    config = WaveNetConfig(
        layers=layers, stacks=1, residual_channels=8, gate_channels=12, skip_channels=10,
        labels={"a": ("x", "y")},
    )  # fmt: skip
    module = LitWaveNet(config)
    torch.nn.init.normal_(module.network.output.weight)
    inputs = torch.randint(0, 256, (2, 40))
    labels = torch.tensor([[1], [2]])
    return module, {
        "inputs": inputs,
        "targets": inputs.roll(-1, 1),
        "labels": labels,
        "clips": torch.arange(2),
        "beginning": True,
    }


def test_a_step_in_bfloat16_casts_no_weight_by_itself_and_changes_no_number() -> None:
    counts = []
    for layers in (3, 6):
        module, batch = training(layers)
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            logits = module(batch)
            expected = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1).float(), batch["targets"].t().flatten()
            )
        gradients = torch.autograd.grad(expected, list(module.parameters()))
        with Operations() as operations:
            with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
                loss = module.loss(batch)
            loss.backward()
        assert torch.equal(loss, expected)
        for weight, gradient in zip(module.parameters(), gradients, strict=True):
            assert torch.equal(weight.grad, gradient)
        counts.append(operations.names.count("_to_copy"))
        assert operations.names.count("_foreach_copy_") == 2
    # Those that are left are of activations.
    assert counts[0] == counts[1] <= 16


def test_products_are_as_before_after_training_however_it_ends() -> None:
    matmul = torch.backends.cuda.matmul

    def settings() -> tuple[bool, bool]:
        return matmul.allow_tf32, matmul.allow_bf16_reduced_precision_reduction

    def fail() -> None:
        with training_products():
            assert settings() == (True, False)
            raise ValueError("ends")

    before = settings()
    with pytest.raises(ValueError, match="ends"):
        fail()
    assert settings() == before
    assert not matmul.allow_tf32
