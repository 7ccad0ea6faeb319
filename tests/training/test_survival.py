"""What a training survives: kill -9 at any moment, a full disk, a hostile checkpoint."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from conftest import write_tones
from processes import Nursery

from wavegen.commands.main import main
from wavegen.models.serialization import load_model
from wavegen.training.checkpoints import WholeCheckpoints
from wavegen.training.run_folder import LAST_CHECKPOINT

# Large enough that a checkpoint takes a while to write, and quick to train.
SIZES = [
    "--model.network.layers=10",
    "--model.network.stacks=2",
    "--model.network.residual_channels=64",
    "--model.network.gate_channels=128",
    "--model.network.skip_channels=256",
    "--data.crop=50",
    "--data.batch_size=1",
    "--trainer.precision=32-true",
    "--trainer.accelerator=cpu",
    "--trainer.limit_val_batches=1",
    "--trainer.logger=false",
    "--trainer.enable_progress_bar=false",
]


# Forks a process that trains for each line it is sent, so that only one has to import.
@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    """With its temporary folder on another file system than the runs, where there is one."""
    memory = Path("/dev/shm")
    made = Nursery(memory if memory.is_dir() else tmp_path)
    yield made
    made.close()


@pytest.mark.slow
def test_a_run_goes_on_after_fifty_kills(nursery: Nursery, tmp_path: Path, monkeypatch) -> None:
    """Half of them while a checkpoint is being written."""
    monkeypatch.setenv("WAVEGEN_CACHE", str(tmp_path / "cache"))
    write_tones(tmp_path / "tones")
    run = tmp_path / "run"
    limits = ["--trainer.max_steps=100000", "--trainer.val_check_interval=3"]
    first = ["train", tmp_path / "tones", "--run", run, *limits, *SIZES]
    chance = random.Random(0)
    last, during, newer = run / LAST_CHECKPOINT, 0, 0
    step = 0
    for number in range(50):
        before = last.stat().st_mtime_ns if last.exists() else 0
        child = nursery.begin(*(first if number == 0 else ["train", "--resume", run]))
        deadline = time.monotonic() + 60
        if number % 2:
            # One checkpoint is whole; the next has been begun.
            while time.monotonic() < deadline:
                whole = last.exists() and last.stat().st_mtime_ns != before
                if whole and any(last.parent.glob(".*.part")):
                    break
        else:
            time.sleep(chance.uniform(0, 2))
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        assert nursery.end() == -signal.SIGKILL
        during += any(run.rglob(".*.part"))
        if last.exists():
            stored = WholeCheckpoints().load_checkpoint(last)
            newer += stored["global_step"] > step
            assert stored["global_step"] >= step
            step = stored["global_step"]
            load_model(run)
    assert during >= 20
    assert newer >= 25
    # And to its end, leaving nothing of the killed behind.
    assert main(["train", "--resume", str(run), f"--trainer.max_steps={step + 4}"]) == 0
    assert WholeCheckpoints().load_checkpoint(last)["global_step"] == step + 4
    assert not list(run.rglob("*.part"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no mount here")
    if done.returncode:
        pytest.skip("only root can mount")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_one_line_and_leaves_the_last_checkpoint(
    small_disk: Path, tmp_path: Path, capsys
) -> None:
    write_tones(tmp_path / "tones")
    run = small_disk / "run"
    limits = ["--trainer.max_steps=4", "--trainer.val_check_interval=2"]
    assert main(["train", str(tmp_path / "tones"), "--run", str(run), *limits, *SIZES]) == 2
    captured = capsys.readouterr()
    (line,) = [line for line in captured.err.splitlines() if line.startswith("wavegen:")]
    assert "cannot be written (No space left on device); free some space" in line
    assert "Traceback" not in captured.err
    assert not list(run.rglob("*.part"))
    assert (run / LAST_CHECKPOINT).is_file()
    for path in (run / "checkpoints").iterdir():
        assert WholeCheckpoints().load_checkpoint(path)["global_step"] > 0


@pytest.fixture(scope="module")
def short_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("short")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WAVEGEN_CACHE", str(home / "cache"))
        write_tones(home / "tones")
        options = ["--run", str(home / "run"), "--trainer.max_steps=2"]
        assert main(["train", str(home / "tones"), *options, *SIZES]) == 0
    return home / "run"


class Evil:
    """Touches a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.canary,))


def test_resuming_runs_no_code_of_a_checkpoint(short_run: Path, tmp_path: Path, capsys) -> None:
    canary = tmp_path / "canary"
    last = short_run / LAST_CHECKPOINT
    good = torch.load(last, weights_only=True)
    call = f"__import__('pathlib').Path({str(canary)!r}).touch()"
    hostile = {
        "_instantiator": "builtins.exec",
        "_class_path": "pathlib.Path.touch",
        "class_path": "subprocess.run",
        "init_args": {"args": ["touch", str(canary)]},
        "learning_rate": call,
        "code": call,
    }
    resume = ["train", "--resume", str(short_run), "--trainer.max_steps=3"]
    for changed in (
        {**good, "evil": Evil(canary)},
        {**good, "hyper_parameters": Evil(canary)},
        {**good, "state_dict": {}},
        {**good, "state_dict": {k: v[..., :1] for k, v in good["state_dict"].items()}},
        {k: v for k, v in good.items() if k != "optimizer_states"},
        {**good, "loops": {}},
        {**good, "loops": None},
        {"pytorch-lightning_version": "2.6.6"},
        {},
    ):
        torch.save(changed, last)
        assert main(resume) == 2
        captured = capsys.readouterr()
        (line,) = [line for line in captured.err.splitlines() if line.startswith("wavegen:")]
        assert "last.ckpt" in line
        assert not canary.exists()
    last.write_bytes(b"PK\x03\x04" + bytes(100))
    assert main(resume) == 2
    capsys.readouterr()
    torch.save({**good, "hyper_parameters": hostile, "hparams_name": "kwargs"}, last)
    main(resume)
    assert not canary.exists()


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(
    short_run: Path, tmp_path: Path, capsys
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    assert main(["train", "--resume", str(run)]) == 2
    assert "no config.yaml to resume from" in capsys.readouterr().err
    (run / "config.yaml").write_text((short_run / "config.yaml").read_text())
    assert main(["train", "--resume", str(run), "--trainer.max_steps=1"]) == 0
    assert (run / LAST_CHECKPOINT).is_file()
