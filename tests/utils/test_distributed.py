"""Items shared among processes: each done once, and the same as by one alone."""

import json
import os
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch.distributed as dist
from conftest import write_tones
from small import network as small_network

from wavegen.commands.main import main
from wavegen.errors import ConfigError
from wavegen.models.serialization import save_model
from wavegen.utils import distributed


def shares(monkeypatch, items: list, ranks_: int, sizes: list[float] | None = None) -> list[list]:
    seen = []
    monkeypatch.setenv("WORLD_SIZE", str(ranks_))
    for number in range(ranks_):
        monkeypatch.setenv("RANK", str(number))
        seen.append(distributed.share(items, sizes))
    monkeypatch.delenv("RANK")
    monkeypatch.delenv("WORLD_SIZE")
    return seen


def test_every_item_is_of_one_rank(monkeypatch) -> None:
    items = list(range(7))
    assert shares(monkeypatch, items, 3) == [[0, 3, 6], [1, 4], [2, 5]]
    assert distributed.share(items) == items
    made = iter("ab")
    assert distributed.by_ranks([1, 2], lambda some: made, float) is made


def test_every_rank_has_about_as_much_to_do(monkeypatch) -> None:
    sizes = [1.0, 100, 2, 0, 50, 3, 51, 0]
    seen = shares(monkeypatch, list(range(8)), 2, sizes)
    assert sorted(chain(*seen)) == list(range(8))
    assert all(each == sorted(each) for each in seen)
    loads = [sum(sizes[number] for number in each) for each in seen]
    assert max(loads) <= 104


def test_the_largest_numbers_are_had_without_the_device(monkeypatch, tmp_path: Path) -> None:
    """Beside processes that speak to each other by way of their devices they speak directly."""
    assert distributed.largest([3, -0.5]) == [3, -0.5]
    if dist.is_initialized():
        # Lightning leaves the group of an earlier test's training.
        dist.destroy_process_group()
    dist.init_process_group("gloo", f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        groups = []
        reduce = dist.all_reduce
        monkeypatch.setattr(
            dist, "all_reduce", lambda *given, group: groups.append(group) or reduce(*given, group)
        )
        assert distributed.largest([3, -0.5]) == [3, -0.5]
        assert groups == [dist.group.WORLD]
        with monkeypatch.context() as patch:
            # There is no NCCL without a GPU.
            patch.setattr(dist, "get_backend", lambda _: "nccl")
            distributed._beside.cache_clear()
            assert [distributed.largest([step, 1e-9]) for step in range(3)] == [
                [step, 1e-9] for step in range(3)
            ]
        assert groups[1] is not dist.group.WORLD
        assert groups[1:] == [groups[1]] * 3
        assert dist.get_backend(groups[1]) == "gloo"
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("LOCAL_RANK", value)
            for value in ("x", "", "-1", "1.0", " 1", "1_0", "9" * 20, "\u0663")
        ),
        ("RANK", "x"),
        ("WORLD_SIZE", "x"),
        ("WORLD_SIZE", "0"),
        ("SLURM_PROCID", "x"),
        ("SLURM_NTASKS", "0"),
    ],
)
def test_a_number_of_a_process_that_is_none_is_one_line(
    name: str, value: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setenv(name, value)
    commands = [["train", str(tmp_path)]]
    if not name.startswith("SLURM"):
        save_model(small_network(), tmp_path / "model")
        commands.append(["generate", str(tmp_path / "model"), "--out", str(tmp_path / "out")])
    for command in commands:
        assert main([*command]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"environment variable {name} is '{value}': it must be a whole number" in line
    assert not (tmp_path / "out").exists()


def test_a_process_beyond_the_last_is_refused(monkeypatch) -> None:
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="RANK is 2: it must be below WORLD_SIZE, 2"):
        distributed.check()
    monkeypatch.setenv("RANK", "1")
    distributed.check()


def wavegen(processes: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    several = ["torch.distributed.run", f"--nproc-per-node={processes}", "-m"]
    command = [sys.executable, "-m", *(several if processes > 1 else []), "wavegen"]
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True)


@pytest.mark.slow
def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    save_model(small_network(labels={"label": ("a", "b", "c")}), tmp_path / "model")
    rng = np.random.default_rng(0)
    (tmp_path / "audio").mkdir()
    for number in range(45):
        wave = 0.1 * rng.standard_normal(rng.integers(50, 900))
        soundfile.write(tmp_path / "audio" / f"{number:02}.wav", wave, 8000)
    (tmp_path / "audio" / "bad.wav").write_text("")
    model, audio = tmp_path / "model", tmp_path / "audio"
    assert wavegen(1, "detect", "--calibrate", model, audio).returncode == 0
    for command in (
        ["score", model, audio, "--format", "jsonl", "--per-sample"],
        ["classify", model, audio, "--format", "csv"],
        ["detect", model, audio, "--false-alarms", "0.1"],
        ["generate", model, "--each", "label", "--count", "3", "--seconds", "0.05", "--out"],
    ):
        done, files = [], []
        for processes in (1, 2):
            out = tmp_path / f"{command[0]}{processes}"
            writes = [out] if command[-1] in ("--per-sample", "--out") else []
            done.append(wavegen(processes, *command, *writes))
            files.append({path.name: path.read_bytes() for path in sorted(out.glob("*.[nw]*"))})
        assert done[0].returncode in (0, 1)
        # torchrun says 1 for whatever failed; that something was found is no failure.
        assert done[1].returncode == done[0].returncode, done[1].stderr[-2000:]
        assert len(files[0]) == {"score": 45, "generate": 9}.get(command[0], 0)
        assert files[0].keys() == files[1].keys()
        if command[0] != "generate":
            assert done[1].stdout == done[0].stdout
        for name, data in files[0].items():
            if name.endswith(".wav"):
                assert files[1][name] == data
        if command[0] == "score":
            rows = [json.loads(line) for line in done[1].stdout.splitlines()]
            assert sum(row["error"] is not None for row in rows) == 1


@pytest.mark.slow
def test_two_processes_evaluate_as_one_does(tmp_path: Path) -> None:
    for seed, split in enumerate(("train", "validation", "test")):
        write_tones(tmp_path / "data" / split, seed)
    save_model(small_network(labels={"label": ("high", "low")}), tmp_path / "model")
    reports = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        done = wavegen(processes, "evaluate", tmp_path / "model", tmp_path / "data", "--out", out)
        assert done.returncode == 0, done.stderr[-2000:]
        reports.append(json.loads((out / "report.json").read_text()))
    for part in ("clips", "likelihood", "classification_by_likelihood", "samples"):
        assert reports[0][part] == reports[1][part]


# Scores as `wavegen score` does, and says which files it works on; one of two processes is told to
# die at its third file or to be late.
DRIVER = """
import os, sys, time
from datetime import timedelta
import torch.distributed as dist
from wavegen.commands import main
from wavegen.scoring.sample_files import SampleFiles
from wavegen.utils.distributed import rank

what, log, *arguments = sys.argv[1:]
begin, write, count = dist.init_process_group, SampleFiles.write, 0

def impatient(*words, **options):
    return begin(*words, **{"timeout": timedelta(seconds=2), **options})

def noted(files, target, each):
    global count
    count += 1
    if rank() == 1 and what == "die" and count == 3:
        os._exit(3)
    if rank() == 1 and what == "late" and count == 1:
        time.sleep(5)
    with open(log, "a") as file:
        file.write(target + "\\n")
    return write(files, target, each)

dist.init_process_group, SampleFiles.write = impatient, noted
sys.exit(main.main(arguments))
"""


@pytest.mark.slow
def test_what_is_done_outlives_a_rank_that_dies_and_one_that_is_late_is_waited_for(
    tmp_path: Path,
) -> None:
    save_model(small_network(), tmp_path / "model")
    (tmp_path / "audio").mkdir()
    rng = np.random.default_rng(0)
    for number in range(20):
        wave = 0.1 * rng.standard_normal(500)
        soundfile.write(tmp_path / "audio" / f"{number:02}.wav", wave, 8000)
    (tmp_path / "driver.py").write_text(DRIVER)
    plots = tmp_path / "plots"
    command = ["score", tmp_path / "model", tmp_path / "audio", "--format", "csv", "--plot", plots]

    def two(what: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        log = tmp_path / f"{what}.log"
        several = ["-m", "torch.distributed.run", "--nproc-per-node=2", tmp_path / "driver.py"]
        run = [sys.executable, *several, what, log, *command]
        done = subprocess.run(list(map(str, run)), capture_output=True, text=True)
        return done, log.read_text().split()

    unfinished = Path(os.environ["WAVEGEN_CACHE"]) / "unfinished"
    done, first = two("die")
    assert done.returncode != 0
    assert done.stdout.count("\n") <= 1
    assert len(list(unfinished.iterdir())) == 1
    # A picture that is gone is drawn again.
    lost = first[0]
    (plots / f"{lost}.png").unlink()
    done, second = two("late")
    assert done.returncode == 0, done.stderr[-2000:]
    # Each line is on disk as soon as its file is done; at most one of each rank was not yet.
    assert set(first) | set(second) == {f"{number:02}.wav" for number in range(20)}
    assert lost in second
    assert len(set(first) & set(second)) <= 1 + 2
    assert not list(unfinished.iterdir())
    assert done.stdout == wavegen(1, *command).stdout
