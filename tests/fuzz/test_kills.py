"""`kill -9` at any moment: nothing is torn, and the same command run again does all as if it had
never been killed. For `train` see training/test_survival.py."""

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import audio_files as odd
import pytest
from processes import Nursery

from wavegen.models.serialization import save_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    made = Nursery(tmp_path_factory.mktemp("temporary"))
    yield made
    made.close()


@pytest.fixture
def home(make_network, tmp_path: Path) -> Path:
    """A folder with a model, and ten recordings for training and as many held out."""
    save_model(make_network(labels={"label": ("0", "1", "2")}), tmp_path / "model")
    for number in range(20):
        split = tmp_path / "data" / ("train" if number % 2 else "validation")
        odd.save(split / str(number % 3) / f"{number}.wav", odd.noise(0.5, seed=number))
    return tmp_path


def command(name: str, home: Path, out: Path) -> list[object]:
    """What is run, so that its files lie in `out`."""
    model, data, store = home / "model", home / "data", ["--data.store", home / "store"]
    return {
        "generate": ["generate", model, "--each", "label", "--seconds", 2, "--out", out],
        "prepare": ["prepare", data, "--data.store", out],
        "shards": ["prepare", data, *store, "--shards", out],
        "score": ["score", model, data / "train" / "1", "--per-sample", out, "--plot", out],
        "evaluate": ["evaluate", model, data, *store, "--count", 8, "--seconds", 0.1, "--out", out],
    }[name]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("name", ["generate", "prepare", "shards", "score", "evaluate"])
def test_killed_four_times(nursery: Nursery, home: Path, name: str) -> None:
    chance = random.Random(0)
    whole, out = home / "whole", home / "out"
    # The first time compiles what it needs.
    for _ in range(2):
        shutil.rmtree(whole, ignore_errors=True)
        began = time.monotonic()
        nursery.begin(*command(name, home, whole))
        assert nursery.end() == 0
        longest = time.monotonic() - began
    expected = contents(whole)
    killed = 0
    for _ in range(15):
        child = nursery.begin(*command(name, home, out))
        time.sleep(chance.uniform(0, longest))
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        if nursery.end() == -signal.SIGKILL:
            killed += 1
            # Whatever bears its name is whole.
            found = contents(out)
            for path in found.keys() & expected.keys():
                assert found[path] == expected[path]
            if killed == 4:
                break
        else:  # it had ended before
            shutil.rmtree(out)
            longest /= 2
    assert killed == 4
    nursery.begin(*command(name, home, out))
    assert nursery.end() == 0
    assert contents(out) == expected
