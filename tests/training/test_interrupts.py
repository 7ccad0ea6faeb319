"""Signals to a training, to its whole group as terminals and SLURM send them."""

import os
import pty
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import write_tones
from pytorch_lightning import Callback, Trainer
from small import SHORT

from wavegen.training.run_folder import LAST_CHECKPOINT

OPTIONS = [option for option in SHORT if not option.startswith(("--trainer.max_", "--trainer.val"))]


class Tells(Callback):
    """Writes into a file what training is doing, and takes its time."""

    def __init__(self, file: str) -> None:
        self.file = Path(file)

    def _say(self, what: str) -> None:
        with self.file.open("a") as file:
            file.write(what)
        time.sleep(0.02)

    def on_train_batch_start(self, trainer: Trainer, *_: object) -> None:
        self._say("t")

    def on_validation_batch_start(self, trainer: Trainer, *_: object) -> None:
        self._say("v")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tones, and as much to hold out as makes some hundred batches."""
    folder = tmp_path_factory.mktemp("interrupts") / "data"
    write_tones(folder / "train")
    (folder / "validation" / "low").mkdir(parents=True)
    noise = 0.1 * np.random.default_rng(0).standard_normal(2**15 * 150)
    soundfile.write(folder / "validation" / "low" / "long.wav", noise, 8000)
    return folder


def begin(data: Path, home: Path, *options: object, **arguments: object) -> subprocess.Popen[str]:
    """A training that says in `home / "said"` what it does, in a process group of its own."""
    tells = [f"--trainer.callbacks+={__name__}.Tells", f"--trainer.callbacks.file={home / 'said'}"]
    command = [sys.executable, "-m", "wavegen", "train", data, "--run", home / "run", *options]
    places = [*map(str, Path(__file__).parents[:2]), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        list(map(str, [*command, "--trainer.max_steps=100000", *OPTIONS, *tells])),
        stderr=arguments.pop("stderr", subprocess.PIPE),
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
        **arguments,
    )


def wait_for(what: str, home: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    said = home / "said"
    while not (said.exists() and what in said.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children(process: int) -> list[int]:
    """All processes below one."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            # The name may hold anything, so count from its end.
            state = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            parents[int(folder.name)] = int(state[1])
    found, new = [], [process]
    while new:
        new = [each for each, parent in parents.items() if parent in new]
        found += new
    return found


def gone(processes: list[int], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        states = [Path(f"/proc/{each}/stat") for each in processes]
        if not any(state.exists() and ") Z " not in state.read_text() for state in states):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize(
    ("number", "phase", "processes"),
    [
        (signal.SIGINT, "training", 1),
        (signal.SIGTERM, "validation", 1),
        pytest.param(signal.SIGHUP, "training", 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, "training", 2, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, "validation", 2, marks=pytest.mark.slow),
    ],
)
def test_a_signal_to_all_processes_ends_training_whole(
    data: Path, tmp_path: Path, number: int, phase: str, processes: int
) -> None:
    often = 8 if phase == "validation" else 50_000
    options = [f"--trainer.val_check_interval={often}", "--data.num_workers=2"]
    if processes > 1:
        options.append(f"--trainer.devices={processes}")
    process = begin(data, tmp_path, *options)
    try:
        wait_for("vv" if phase == "validation" else "t" * 15, tmp_path, process)
        workers = children(process.pid)
        assert len(workers) >= 2
        os.killpg(process.pid, number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + number, errors
    assert f"stopped; resume by --resume {tmp_path / 'run'}" in errors
    assert "Traceback" not in errors
    stored = torch.load(tmp_path / "run" / LAST_CHECKPOINT, weights_only=True)
    said = (tmp_path / "said").read_text()
    if processes == 1:
        assert stored["global_step"] == said.count("t")
    assert stored["global_step"] > 0
    # Of the 150 batches of a validation only some more were gone through.
    assert said.count("v") < 60 * processes
    assert not (tmp_path / "run" / "best.json").exists()
    assert not (tmp_path / "run" / "samples").exists()
    assert gone(workers, 20)


@pytest.mark.slow
def test_workers_end_with_a_killed_training(data: Path, tmp_path: Path) -> None:
    process = begin(data, tmp_path, "--data.num_workers=2", "--trainer.limit_val_batches=0")
    try:
        wait_for("tt", tmp_path, process)
        workers = children(process.pid)
        assert len(workers) == 2
    finally:
        process.kill()
        process.communicate()
    assert gone(workers, 20)


@pytest.mark.slow
def test_a_terminal_that_closes_ends_training_whole(data: Path, tmp_path: Path) -> None:
    import fcntl
    import termios

    ours, theirs = pty.openpty()
    process = begin(
        data,
        tmp_path,
        "--trainer.limit_val_batches=0",
        "--trainer.enable_progress_bar=true",
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    try:
        deadline = time.monotonic() + 120
        said = tmp_path / "said"
        while not (said.exists() and said.read_text().count("t") > 20):
            assert process.poll() is None
            assert time.monotonic() < deadline
            os.set_blocking(ours, False)
            try:
                os.read(ours, 2**16)
            except BlockingIOError:
                time.sleep(0.05)
        os.close(ours)
        process.wait(60)
    finally:
        process.kill()
    assert process.returncode == 128 + signal.SIGHUP
    stored = torch.load(tmp_path / "run" / LAST_CHECKPOINT, weights_only=True)
    assert stored["global_step"] == said.read_text().count("t")


def test_lightning_still_asks_for_signals_where_it_is_kept_from_it() -> None:
    """A private part: by another name Lightning would ask at every step again."""
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    assert callable(trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor)


def test_a_program_that_trains_has_its_handlers_back(tone_folder: Path, tmp_path: Path) -> None:
    from wavegen.training.train import train

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    train([str(tone_folder), "--run", str(tmp_path / "run"), "--trainer.max_steps=1", *OPTIONS])
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_is_ignored_stays_ignored(
    tone_folder: Path, tmp_path: Path, monkeypatch, number: int
) -> None:
    from wavegen.training.train import train

    def send(*_: object) -> None:
        os.kill(os.getpid(), number)

    run = tmp_path / "run"
    monkeypatch.setattr("wavegen.training.run_folder.RunFolder.on_train_batch_start", send)
    before = signal.signal(number, signal.SIG_IGN)
    try:
        options = ["--trainer.max_steps=3", "--trainer.limit_val_batches=0", *OPTIONS]
        train([str(tone_folder), "--run", str(run), *options])
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)
    assert torch.load(run / LAST_CHECKPOINT, weights_only=True)["global_step"] == 3
