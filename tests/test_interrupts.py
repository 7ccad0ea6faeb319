"""What looking for signals costs where several processes train together."""

from pathlib import Path

import torch
import torch.distributed as dist
from pytorch_lightning import Trainer
from test_averaging import Line
from torch.utils.data import DataLoader

from wavegen.interrupts import StopOnSignal


def test_processes_ask_each_other_in_ten_steps_once_and_no_device(
    monkeypatch, tmp_path: Path
) -> None:
    """One that takes itself for two, and counts what it sends."""
    sent = []
    for name in ("broadcast", "all_reduce"):
        send = getattr(dist, name)
        monkeypatch.setattr(
            dist, name, lambda *given, n=name, s=send, **more: sent.append(n) or s(*given, **more)
        )
    dist.init_process_group("gloo", f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        monkeypatch.setattr(Trainer, "world_size", 2)
        trainer = Trainer(
            accelerator="cpu",
            max_steps=30,
            callbacks=[StopOnSignal()],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        trainer.fit(Line(), DataLoader([torch.zeros(2, 3)] * 40, batch_size=None))
    finally:
        dist.destroy_process_group()
    assert trainer.global_step == 30
    # The loop of Lightning that is told not to ask has the part that is replaced.
    assert sent == ["all_reduce"] * 3
