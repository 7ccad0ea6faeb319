"""Weights averaged over the last steps of training; validation and the saved model use them."""

from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from wavegen.errors import ConfigError


class ExponentialMovingAverage(Callback):
    """Averages the weights over about the last 1 / (1 - decay) steps.

    At first the horizon is a tenth of the steps taken, so that the random initial weights do not
    remain in the average. The averages are kept on the device of the weights, and no step waits
    for the device.

    A checkpoint holds the averages under `state_dict`, the weights being trained under
    `current_model_state`, and the number of steps under `averaging_state`, as Lightning's
    `WeightAveraging` does.

    Args:
        decay: share of the average that each step keeps.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(f"the decay of the average is {decay}: it must be from 0 to below 1")
        self._decay = decay
        # Keys are the names of the parameters; it is empty outside of training.
        self._averages: dict[str, Tensor] = {}
        self._steps = self._latest = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with the current weights, or with the averages of a checkpoint."""
        # Lightning has moved the module to its device before this hook.
        self._averages = {
            name: torch.empty_like(weight).copy_(self._averages.get(name, weight))
            for name, weight in _weights(pl_module).items()
        }

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        """Add the weights of a step of the optimiser to the average."""
        # Gradients of several batches may make up one step.
        if trainer.global_step > self._latest:
            self._latest = trainer.global_step
            kept = min(self._decay, (1 + self._steps) / (10 + self._steps)) if self._steps else 0.0
            averages, weights = self._averages.values(), _weights(pl_module).values()
            torch._foreach_lerp_(list(averages), list(weights), 1 - kept)
            self._steps += 1

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Swap the averages in, and keep the weights."""
        self._swap(pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Swap the weights back in."""
        self._swap(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the averages in the module after training."""
        for name, weight in _weights(pl_module).items():
            weight.copy_(self._averages[name])

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Drop the averages: after training the module holds them."""
        self._averages = {}

    def _swap(self, module: LightningModule) -> None:
        if self._averages:
            for name, weight in _weights(module).items():
                held = weight.clone()
                weight.copy_(self._averages[name])
                self._averages[name].copy_(held)

    def state_dict(self) -> dict[str, Any]:
        """The number of the last step in the average."""
        return {"latest_update_step": self._latest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `state_dict`."""
        self._latest = state_dict["latest_update_step"]

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write the averages as the weights of the checkpoint, and the weights besides them."""
        if self._averages:
            checkpoint["current_model_state"] = checkpoint["state_dict"]
            checkpoint["state_dict"] = {**checkpoint["state_dict"], **self._averages}
            checkpoint["averaging_state"] = {"n_averaged": torch.tensor(self._steps)}

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Read what `on_save_checkpoint` wrote; without it a new average begins.

        Raises:
            ValueError: the number of steps is not valid.
        """
        if {"current_model_state", "averaging_state"} <= checkpoint.keys():
            names = _weights(pl_module).keys()
            self._averages = {name: checkpoint["state_dict"][name] for name in names}
            self._steps = int(checkpoint["averaging_state"]["n_averaged"])
            if self._steps < 0:
                raise ValueError(f"an average of {self._steps} steps")
            pl_module.load_state_dict(checkpoint["current_model_state"])


def _weights(module: LightningModule) -> dict[str, Tensor]:
    """Parameters by name, without their gradients."""
    return {name: weight.detach() for name, weight in module.named_parameters()}
