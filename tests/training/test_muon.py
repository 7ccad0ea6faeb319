"""The optimiser: what it does to matrices, to kernels and to all else."""

import copy
import time

import torch

from wavegen.training.muon import Muon, orthogonal


def parameters(*shapes: tuple[int, ...]) -> list[torch.nn.Parameter]:
    torch.manual_seed(0)
    made = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    for each in made:
        each.grad = torch.randn(each.shape)
    return made


def test_every_direction_moves_as_far() -> None:
    torch.manual_seed(0)
    # Square ones of chance have directions of nearly nothing, which stay behind.
    for rows, columns in ((64, 96), (32, 128), (128, 32), (5, 1)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(3, rows, columns)))
        assert values.min() > 0.6
        assert values.max() < 1.25


def test_an_update_keeps_the_directions_of_its_gradient() -> None:
    torch.manual_seed(0)
    gradient = torch.randn(1, 8, 24)
    left, _, right = torch.linalg.svd(gradient[0], full_matrices=False)
    diagonal = left.T @ orthogonal(gradient)[0] @ right.T
    assert (diagonal - diagonal.diagonal().diag()).abs().max() < 1e-4
    assert diagonal.diagonal().min() > 0.6


def test_matrices_are_stepped_as_torch_does() -> None:
    shapes = ((32, 32), (32, 32), (16, 48), (48, 16))
    ours, theirs = parameters(*shapes), parameters(*shapes)
    settings = {"lr": 0.01, "weight_decay": 0.1}
    one = Muon([{"params": ours, "orthogonal": True}], **settings)
    other = torch.optim.Muon(theirs, adjust_lr_fn="match_rms_adamw", **settings)
    before = [each.detach().clone() for each in ours]
    for _ in range(3):
        gradients = [torch.randn(each.shape) for each in ours]
        for each, gradient in zip((*ours, *theirs), gradients * 2, strict=True):
            each.grad = gradient.clone()
        one.step()
        other.step()
    for a, b, start in zip(ours, theirs, before, strict=True):
        moved = (b - start).norm()
        # torch multiplies in bfloat16.
        assert (a - b).norm() < 0.03 * moved


def test_a_kernel_is_the_matrix_of_all_its_taps() -> None:
    (kernel,) = parameters((3, 6, 4))
    matrix = torch.nn.Parameter(kernel.detach().permute(1, 0, 2).flatten(1).clone())
    matrix.grad = kernel.grad.permute(1, 0, 2).flatten(1).clone()
    for each in (kernel, matrix):
        Muon([{"params": [each], "orthogonal": True}], lr=0.1).step()
    torch.testing.assert_close(kernel.detach().permute(1, 0, 2).flatten(1), matrix.detach())


def test_all_else_is_stepped_as_adamw_does() -> None:
    ours, theirs = parameters((3, 2), (5,)), parameters((3, 2), (5,))
    (hidden,) = parameters((4, 4))
    one = Muon([{"params": [hidden], "orthogonal": True}, {"params": ours}], lr=0.1)
    other = torch.optim.AdamW(theirs, lr=0.1)
    for _ in range(3):
        one.step()
        other.step()
        assert hidden.grad is None
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)


def test_a_loaded_state_goes_on_as_if_nothing_had_happened() -> None:
    def made() -> tuple[list[torch.nn.Parameter], Muon]:
        hidden, bias = parameters((2, 8, 4), (8,))
        groups = [{"params": [hidden], "orthogonal": True}, {"params": [bias]}]
        return [hidden, bias], Muon(groups, lr=0.1)

    def run(weights: list[torch.nn.Parameter], optimiser: Muon, seed: int) -> None:
        torch.manual_seed(seed)
        for each in weights:
            each.grad = torch.randn(each.shape)
        optimiser.step()

    weights, optimiser = made()
    run(weights, optimiser, seed=1)
    state = copy.deepcopy(optimiser.state_dict())
    kept = [each.detach().clone() for each in weights]
    run(weights, optimiser, seed=2)

    again, resumed = made()
    resumed.load_state_dict(state)
    for each, value in zip(again, kept, strict=True):
        each.data.copy_(value)
    run(again, resumed, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(weights, again, strict=True))


def test_dead_units_take_no_longer_than_others() -> None:
    """What is left of their gradients decays until products of it are below what floats hold."""
    torch.manual_seed(0)
    alive = torch.randn(1, 256, 256)
    dying = alive.clone()
    dying[:, ::2] *= 1e-22
    spent = {}
    for name, matrices in {"alive": alive, "dying": dying}.items():
        times = []
        for _ in range(5):
            began = time.perf_counter()
            orthogonal(matrices)
            times.append(time.perf_counter() - began)
        spent[name] = min(times)
    assert spent["dying"] < 5 * spent["alive"]
    assert torch.equal(orthogonal(dying)[:, ::2], torch.zeros(1, 128, 256))
    assert torch.allclose(orthogonal(dying)[:, 1::2], orthogonal(alive[:, 1::2]), atol=1e-4)
