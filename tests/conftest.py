"""What several test files share: small networks and a small labelled data set."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import small
import soundfile
import torch

from wavegen.models.wavenet import WaveNet

if not torch.cuda.is_available():
    # Read when a kernel is defined: Triton's interpreter runs it on the CPU.
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests that need a GPU where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no GPU"))


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep decoded clips out of the user's cache."""
    monkeypatch.setenv("WAVEGEN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def make_network() -> Callable[..., WaveNet]:
    """Makes small networks: `small.network`."""
    return small.network


@pytest.fixture
def tone_folder(tmp_path: Path) -> Path:
    """A folder made by `write_tones`."""
    write_tones(tmp_path / "tones")
    return tmp_path / "tones"


@pytest.fixture(scope="session")
def short_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps on the tones, with the options `small.SHORT`; not to be changed."""
    home = tmp_path_factory.mktemp("short")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WAVEGEN_CACHE", str(home / "cache"))
        write_tones(home / "tones")
        assert small.train(home / "tones", "--run", home / "run", sizes=small.SHORT) == 0
    return home / "run"


def write_tones(folder: Path, seed: int = 0) -> None:
    """Two classes of six short recordings at 8 kHz: a low tone and a high one, with noise."""
    rng = np.random.default_rng(seed)
    for name, hertz in {"low": 200, "high": 900}.items():
        (folder / name).mkdir(parents=True)
        for number in range(6):
            time = np.arange(1200 + 100 * number) / 8000
            tone = 0.5 * np.sin(2 * np.pi * hertz * time) + 0.01 * rng.standard_normal(len(time))
            soundfile.write(folder / name / f"{number}.wav", tone, 8000)
