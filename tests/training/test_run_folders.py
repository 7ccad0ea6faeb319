"""One training at a time in a run folder."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import write_tones
from small import SHORT

from wavegen.commands.main import main
from wavegen.errors import ConfigError, ModelError
from wavegen.models.serialization import best_figures
from wavegen.training.run_folder import CONFIG
from wavegen.training.run_folders import only_training
from wavegen.utils.files import appearing_whole

# Has a folder for itself, and a worker that outlives it.
HOLDER = """
import os, sys, time
from pathlib import Path
from wavegen.training.run_folders import only_training
with only_training(Path(sys.argv[1]), fresh=False):
    worker = os.fork()
    if worker == 0:
        time.sleep(60)
    print(worker, flush=True)
    time.sleep(60)
"""


def test_a_run_is_of_one_training_until_that_is_killed(tmp_path: Path, capsys) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-c", HOLDER, str(run)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    worker = int(holder.stdout.readline())
    (run / CONFIG).write_text("x")
    try:
        with pytest.raises(ConfigError, match="another training uses it"):
            only_training(run, fresh=False).__enter__()
        holder.kill()
        holder.wait()
        os.kill(worker, 0)
        with only_training(run, fresh=False), pytest.raises(ConfigError, match="another training"):
            only_training(run, fresh=True).__enter__()
        with only_training(run, fresh=False):
            pass
    finally:
        holder.kill()
        os.kill(worker, signal.SIGKILL)


def test_a_second_training_is_one_line(tone_folder: Path, tmp_path: Path, capsys) -> None:
    run = tmp_path / "run"
    options = ["--run", str(run), "--trainer.max_steps=1", "--trainer.accelerator=cpu"]
    options += ["--model.network.layers=4", "--trainer.limit_val_batches=0"]
    run.mkdir()
    with only_training(run, fresh=True):
        assert main(["train", str(tone_folder), *options]) == 2
        (line,) = capsys.readouterr().err.splitlines()[-1:]
        assert line == f"wavegen: {run}: another training uses it; wait for it, or stop it first"
        assert not any(run.iterdir())
    assert main(["train", str(tone_folder), *options]) == 0
    before = (run / CONFIG).read_text()
    with only_training(run, fresh=False):
        assert main(["train", "--resume", str(run), "--trainer.max_steps=2"]) == 2
    assert "another training uses it" in capsys.readouterr().err
    assert (run / CONFIG).read_text() == before


def test_beginning_leaves_alone_what_others_write_there(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    debris = [tmp_path / ".a.wav.01234567.part", out / ".b.wav.4711.part"]
    for path in debris:
        path.write_text("half")
    with appearing_whole(out / "c.wav") as file:
        file.write(b"whole")
        with only_training(tmp_path, fresh=False):
            assert not any(path.exists() for path in debris)
    assert (out / "c.wav").read_bytes() == b"whole"


@pytest.mark.parametrize("name", ["metrics.csv", "model", "tensorboard/hparams.yaml"])
@pytest.mark.parametrize("there", [True, False])
def test_nothing_is_written_through_a_link(tmp_path: Path, name: str, there: bool) -> None:
    run, link = tmp_path / "run", tmp_path / "run" / name
    link.parent.mkdir(parents=True)
    (run / "last.ckpt").write_text("x")
    (run / "best.ckpt").symlink_to("last.ckpt")
    if there:
        (tmp_path / "victim").write_text("years")
    link.symlink_to(tmp_path / "victim")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ModelError, match=f"{name}: a symbolic link that leads out of the run"):
        only_training(run, fresh=False).__enter__()
    assert sorted(tmp_path.rglob("*")) == before
    link.unlink()
    # The run itself may be elsewhere, and what it links to in itself stays.
    (tmp_path / "other").symlink_to(run)
    with only_training(tmp_path / "other", fresh=False):
        assert (run / "best.ckpt").is_symlink()


def test_a_run_goes_on_with_its_own_recordings(tone_folder: Path, tmp_path: Path, capsys) -> None:
    run = tmp_path / "run"
    options = ["--run", str(run), "--trainer.max_steps=1", *SHORT[:-3]]
    assert main(["train", str(tone_folder), *options]) == 0
    before = {
        name: (run / name).read_text() for name in ("best.json", "model/training.json", CONFIG)
    }
    best = best_figures(run)
    resume = ["train", "--resume", str(run)]
    # The same recordings may be elsewhere by now.
    moved = tone_folder.rename(tmp_path / "moved")
    assert main([*resume, str(moved), "--trainer.max_steps=1"]) == 0
    before[CONFIG] = (run / CONFIG).read_text()
    # Only the noise is different: the names, the labels and the lengths are the same.
    write_tones(tmp_path / "noise", seed=1)
    capsys.readouterr()
    assert main([*resume, str(tmp_path / "noise"), "--trainer.max_steps=1"]) == 2
    assert "train: the same clips with other sound" in capsys.readouterr().err
    assert {name: (run / name).read_text() for name in before} == before
    write_tones(tmp_path / "other", seed=1)
    (tmp_path / "other" / "low" / "0.wav").rename(tmp_path / "other" / "low" / "more.wav")
    for where, change in ((tmp_path / "other", "train"), (moved, "validation")):
        if where == moved:
            for path in moved.rglob("*.wav"):
                shutil.copy(path, path.with_stem(f"{path.stem}-more"))
        capsys.readouterr()
        assert main([*resume, str(where), "--trainer.max_steps=1"]) == 2
        (line,) = [each for each in capsys.readouterr().err.splitlines() if "wavegen: " in each]
        assert f"{run}: the recordings are not those that it was trained on" in line
        assert f"{change}: " in line
        assert "--accept_changed_data" in line
        assert {name: (run / name).read_text() for name in before} == before
    assert main([*resume, str(moved), "--accept_changed_data", "--trainer.max_steps=2"]) == 0
    # What was best on other clips is forgotten.
    assert best_figures(run)["step"] == 2 > best["step"]
    assert main([*resume, "--trainer.max_steps=3"]) == 0
