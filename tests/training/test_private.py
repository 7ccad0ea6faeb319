"""Each private part does what it is there for, with the versions that are installed."""

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.demos.boring_classes import BoringModel

from wavegen.training import private

QUIET = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}


def test_the_seconds_between_validations() -> None:
    every = Trainer(val_check_interval="00:00:01:30", check_val_every_n_epoch=None, **QUIET)
    assert private.validation_seconds(every) == 90
    assert private.validation_seconds(Trainer(val_check_interval=5, **QUIET)) is None


def test_validation_comes_when_it_is_due_and_not_by_another_clock() -> None:
    steps = []

    class Told(BoringModel):
        def on_train_batch_end(self, *_: object) -> None:
            private.set_validation_due(self.trainer, self.trainer.global_step == 3)

        def on_validation_start(self) -> None:
            steps.append(self.trainer.global_step)

    trainer = Trainer(
        max_steps=6, val_check_interval="00:00:00:01", check_val_every_n_epoch=None,
        num_sanity_val_steps=0, enable_progress_bar=False, enable_model_summary=False, **QUIET,
    )  # fmt: skip
    trainer.fit(Told())
    assert steps == [3]


def test_no_message_is_sent_at_every_step() -> None:
    trainer = Trainer(max_steps=1, **QUIET)
    loop = trainer.fit_loop.epoch_loop
    assert callable(loop._broadcast_sigterm_tensor)
    private.ignore_signals_of_others(trainer)
    assert loop._broadcast_sigterm_tensor() is None


@pytest.mark.parametrize("has", [True, False])
def test_the_cpu_says_whether_it_has_bfloat16(monkeypatch, has: bool) -> None:
    assert isinstance(private.cpu_has_bfloat16(), bool)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has)
    assert private.cpu_has_bfloat16() is has
