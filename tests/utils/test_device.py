"""Devices: one line for those that are not there, whoever asks."""

from pathlib import Path

import pytest
import torch
from small import network as small_network

import wavegen
from wavegen.commands.main import main
from wavegen.errors import ConfigError
from wavegen.generation.generate import Stream
from wavegen.generation.wav_files import generate_files
from wavegen.models.serialization import load_model, load_with_fingerprint, save_model
from wavegen.scoring.detect import calibrate, detect
from wavegen.utils.device import pick_device


def test_a_device_is_one_that_holds_numbers() -> None:
    assert pick_device("cpu") == pick_device(torch.device("cpu")) == torch.device("cpu")
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("tpu9", "meta", "hpu", "cpu:-1", "", ["cpu"], "cuda:77"):
        with pytest.raises(ConfigError, match="give cpu or leave it out"):
            pick_device(name)


def test_several_processes_have_a_gpu_each(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert pick_device() == torch.device("cuda", 3)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_model(small_network(), tmp_path / "model")
    return tmp_path / "model"


def test_every_command_refuses_it_in_one_line(model, tone_folder, tmp_path, capsys) -> None:
    out = ["--out", tmp_path / "out"]
    commands = (
        ["generate", model, *out],
        ["evaluate", model, tone_folder, *out],
        ["score", model, tone_folder],
        ["classify", model, tone_folder],
        ["detect", model, tone_folder],
        ["detect", "--calibrate", model, tone_folder],
    )
    for command in commands:
        assert main([*map(str, command), "--device", "tpu9"]) == 2
        line = "wavegen: there is no device 'tpu9': give cpu or leave it out\n"
        assert capsys.readouterr().err == line, command
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "use",
    [
        wavegen.load,
        load_model,
        load_with_fingerprint,
        lambda model, device: calibrate(model, model, device=device),
        lambda model, device: detect(model, model, device=device),
        lambda model, device: generate_files(
            model, [Stream()], 0.01, model / "out", device=device, progress=False
        ),
    ],
)
def test_every_function_refuses_it_too(model, use) -> None:
    with pytest.raises(ConfigError, match="there is no device 'tpu9'"):
        use(model, device="tpu9")
