"""The averaged weights: the same as Lightning's, on the device, in the checkpoints of both."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback, WeightAveraging
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from wavegen.training.averaging import ExponentialMovingAverage


class Line(LightningModule):
    """Two layers that learn a line, the same one in every test."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 1))

    def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
        return (self.layers(batch) - batch.sum(1, keepdim=True)).square().mean()

    def validation_step(self, batch: torch.Tensor, _: int) -> None:
        self.validated = self.layers[0].weight.detach().clone()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 0.1)


def lightnings(decay: float) -> Callback:
    """Lightning's own average, as runs before this class have it; their checkpoints name it so."""

    def average(averaged: list, current: list, steps: torch.Tensor) -> None:
        kept = min(decay, (1 + int(steps)) / (10 + int(steps)))
        torch._foreach_lerp_(averaged, current, 1 - kept)

    kind = type("ExponentialMovingAverage", (WeightAveraging,), {})
    return kind(multi_avg_fn=average)


class Saves(Callback):
    """Saves before the average takes the place of the weights, as a run folder does."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def on_train_end(self, trainer: Trainer, *_: object) -> None:
        if self.path is not None:
            trainer.save_checkpoint(self.path)


def fit(average: Callback, steps: int, begin: Path | None = None, save: Path | None = None) -> Line:
    data = [torch.randn(8, 3, generator=torch.Generator().manual_seed(n)) for n in range(60)]
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False}
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        accumulate_grad_batches=2,
        callbacks=[Saves(save), average],
        enable_checkpointing=False,
        enable_model_summary=False,
        val_check_interval=2 * steps,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        **quiet,
    )
    module = Line()
    batches = DataLoader(data, batch_size=None)
    trainer.fit(
        module, batches, DataLoader(data[:1], batch_size=None), ckpt_path=begin, weights_only=True
    )
    return module


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.999])
def test_the_average_is_lightnings_and_is_validated_and_left_in_the_module(decay: float) -> None:
    ours = fit(ExponentialMovingAverage(decay), 20)
    theirs = fit(lightnings(decay), 20)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(ours.validated, ours.layers[0].weight)
    assert torch.equal(ours.validated, theirs.validated)


def test_a_checkpoint_of_lightnings_average_goes_on_and_ours_has_the_same_names(
    tmp_path: Path,
) -> None:
    checkpoints = []
    for name, average in (("theirs", lightnings(0.9)), ("ours", ExponentialMovingAverage(0.9))):
        fit(average, 7, save=tmp_path / name)
        checkpoints.append(torch.load(tmp_path / name, weights_only=True))
    theirs, ours = checkpoints
    for part in ("state_dict", "current_model_state", "averaging_state"):
        assert theirs[part].keys() == ours[part].keys()
        assert all(torch.equal(ours[part][name], value) for name, value in theirs[part].items())
    assert theirs["callbacks"] == ours["callbacks"]
    weight = "layers.0.weight"
    assert not torch.equal(ours["state_dict"][weight], ours["current_model_state"][weight])
    resumed, expected = (
        fit(average, 15, begin=tmp_path / "theirs")
        for average in (ExponentialMovingAverage(0.9), lightnings(0.9))
    )
    for one, other in zip(resumed.parameters(), expected.parameters(), strict=True):
        assert torch.equal(one, other)


class Operations(TorchDispatchMode):
    """Counts what is done to tensors by name."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_a_step_is_one_operation_on_the_device_of_the_weights() -> None:
    """The meta device stands for one whose numbers cannot be had without waiting for it."""
    module, average = Line(), ExponentialMovingAverage()
    trainer = SimpleNamespace(global_step=0)
    average.setup(trainer, module, "fit")
    # Lightning moves a module after the setup of its callbacks.
    module.to("meta")
    average.on_fit_start(trainer, module)
    for step in range(1, 4):
        trainer.global_step = step
        with Operations() as operations:
            average.on_train_batch_end(trainer, module, None, None, step)
        assert [name for name in operations.names if name != "detach"] == ["_foreach_lerp_"]
    checkpoint = {"state_dict": module.state_dict()}
    average.on_save_checkpoint(trainer, module, checkpoint)
    assert all(each.device.type == "meta" for each in checkpoint["state_dict"].values())
    assert checkpoint["averaging_state"]["n_averaged"] == 3


def test_the_average_forgets_the_start_and_then_has_its_horizon() -> None:
    module, average = Line(), ExponentialMovingAverage(0.9)
    trainer = SimpleNamespace(global_step=0)
    average.on_fit_start(trainer, module)
    means = []
    for step in range(1, 1011):
        torch.nn.init.constant_(module.layers[1].bias, float(step > 1000))
        trainer.global_step = step
        average.on_train_batch_end(trainer, module, None, None, step)
        checkpoint = {"state_dict": {}}
        average.on_save_checkpoint(trainer, module, checkpoint)
        means.append(checkpoint["state_dict"]["layers.1.bias"].item())
    assert means[999] == 0
    assert means[1009] == pytest.approx(1 - 0.9**10)
