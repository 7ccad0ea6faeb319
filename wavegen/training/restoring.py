"""Checking a checkpoint before a training continues from it.

A checkpoint holds only tensors and plain values, but may be damaged or come from another training.
So it is compared with what this training itself would write, before any of it is used. Otherwise
the difference would appear in the middle of training, or not at all.
"""

import math
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
# Larger than any count of a training; all smaller counts are exact in every type.
_MOST = 2**53
# Larger than any useful learning rate; still larger ones overflow in float32 in an optimiser.
_FASTEST = 1e30


def check_checkpoint(checkpoint: dict[str, Any], module: LightningModule) -> None:
    """Compare a checkpoint with a training that has been set up, and remove what must not be used.

    The settings of the optimiser come from this training, not from the checkpoint. The state of
    a `ModelCheckpoint` that names files outside of its own folder is dropped, since Lightning
    would remove these files.

    Raises:
        ValueError: a part is missing, or is not what this training would write.
    """
    trainer: Any = module.trainer
    parts = ("state_dict", "optimizer_states", "lr_schedulers", "loops")
    missing = [part for part in parts if not checkpoint.get(part)]
    # A training may have no callbacks with a state.
    missing += ["callbacks"] if "callbacks" not in checkpoint else []
    if missing:
        raise ValueError(f"it has no {', '.join(missing)}")
    for name in ("state_dict", "current_model_state"):
        if name in checkpoint:
            _compare(checkpoint[name], module.state_dict(), name)
    _require(
        ("current_model_state" in checkpoint) == ("averaging_state" in checkpoint),
        "current_model_state",
    )
    if "averaging_state" in checkpoint:
        _compare(checkpoint["averaging_state"], {"n_averaged": torch.tensor(0)}, "averaging_state")
    _compare(
        _dictionary(checkpoint["loops"], "loops").get("fit_loop"),
        trainer.fit_loop.state_dict(),
        "loops.fit_loop",
    )
    _check_optimiser(checkpoint, module)
    _check_callbacks(_dictionary(checkpoint["callbacks"], "callbacks"), trainer)
    plugin = trainer.precision_plugin
    if (name := type(plugin).__qualname__) in checkpoint:
        _compare(checkpoint[name], plugin.state_dict(), name)


def _check_optimiser(checkpoint: dict[str, Any], module: LightningModule) -> None:
    fresh: Any = module.configure_optimizers()
    optimizer, schedule = fresh["optimizer"], fresh["lr_scheduler"]["scheduler"]
    name = "optimizer_states"
    states = checkpoint[name]
    _require(isinstance(states, list) and len(states) == 1, name)
    groups = optimizer.state_dict()["param_groups"]
    stored: Any = _dictionary(states[0], name).get("param_groups")
    _require(isinstance(stored, list) and len(stored) == len(groups), f"{name}.param_groups")
    for group, values in zip(groups, stored, strict=True):
        values = _dictionary(values, f"{name}.param_groups")
        _require(values.get("params") == group["params"], f"{name}.param_groups")
        for rate in ("lr", "initial_lr"):
            _compare(values.get(rate), group[rate], f"{name}.{rate}")
            _require(values[rate] <= _FASTEST, f"{name}.{rate}")
            group[rate] = values[rate]
    states[0]["param_groups"] = groups
    kept = _dictionary(states[0].get("state"), f"{name}.state")
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    orthogonal = [group.get("orthogonal") for group in groups for _ in group["params"]]
    for number, state in kept.items():
        where = f"{name}.state.{number}"
        _require(type(number) is int and 0 <= number < len(weights), where)
        weight = weights[number].detach()
        like = {"step": torch.zeros(()), "exp_avg": weight, "exp_avg_sq": weight}
        if orthogonal[number]:
            del like["exp_avg_sq"]
        _compare(state, like, where)
        _require(state["step"] >= 0, where)
    schedules = checkpoint["lr_schedulers"]
    _require(isinstance(schedules, list) and len(schedules) == 1, "lr_schedulers")
    _compare(schedules[0], schedule.state_dict(), "lr_schedulers")
    for rate in ("base_lrs", "_last_lr"):
        _require(max(schedules[0][rate]) <= _FASTEST, f"lr_schedulers.{rate}")


def _check_callbacks(states: dict[str, Any], trainer: Trainer) -> None:
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    for callback in callbacks:
        if (key := callback.state_key) not in states:
            continue
        if isinstance(callback, ModelCheckpoint):
            if not _names_only_its_own(_dictionary(states[key], key), callback):
                del states[key]
        elif expected := callback.state_dict():
            _compare(states[key], expected, f"callbacks.{type(callback).__name__}", counts=False)


def _names_only_its_own(state: dict[str, Any], callback: ModelCheckpoint) -> bool:
    """Whether all files that the state of a `ModelCheckpoint` names are in its folder."""
    expected = callback.state_dict()
    scores = state.get("best_k_models")
    if state.keys() != expected.keys() or not isinstance(scores, dict):
        return False
    ranked = [*scores.values(), state["kth_value"]]
    both = (state["best_model_score"], state["current_score"])
    ranked += [score for score in both if score is not None]
    if not all(isinstance(score, Tensor) and score.ndim == 0 for score in ranked):
        return False
    last = state["kth_best_model_path"]
    paths = [last, state["best_model_path"], state["last_model_path"], *scores]
    if not all(isinstance(path, str) for path in paths) or (scores and last not in scores):
        return False
    folder = Path(str(callback.dirpath)).resolve()
    return all(Path(path).resolve().parent == folder for path in paths if path)


def _compare(value: Any, expected: Any, name: str, counts: bool = True) -> None:
    """Raise `ValueError`, with the name, if a value does not have the form of the expected one.

    Without `counts`, a fraction is accepted where an integer is expected, and so is infinity,
    which is a score before the first validation.
    """
    if isinstance(expected, dict):
        _require(isinstance(value, dict) and value.keys() == expected.keys(), name)
        for key, each in expected.items():
            _compare(value[key], each, f"{name}.{key}", counts)
    elif isinstance(expected, list | tuple):
        _require(isinstance(value, list | tuple) and len(value) == len(expected), name)
        for each, other in zip(value, expected, strict=True):
            _compare(each, other, name, counts)
    elif isinstance(expected, Tensor):
        _require(isinstance(value, Tensor) and value.shape == expected.shape, name)
        _require(value.layout == torch.strided and not value.is_meta, name)
        if expected.is_floating_point():
            _require(value.dtype in _FLOATS, name)
            _require(not counts or torch.isfinite(value).all(), name)
        else:
            _require(value.dtype == torch.int64 and bool((value >= 0).all()), name)
    elif isinstance(expected, bool | str):
        _require(type(value) is type(expected), name)
    elif isinstance(expected, int) and counts:
        _require(type(value) is int and 0 <= value < _MOST, name)
    elif isinstance(expected, int | float):
        _require(type(value) in (int, float) and 0 <= value < math.inf, name)


def _dictionary(value: Any, name: str) -> dict[Any, Any]:
    _require(isinstance(value, dict), name)
    return value


def _require(holds: bool | Tensor, name: str) -> None:
    if not holds:
        raise ValueError(f"its '{name}' is not what this training would write")
